//! What the tests of our own convolutions (`native/own_conv.h`) share: cases, and whether this process has them.

use tch::{Device, Kind, Tensor};

use super::{ConvBy, conv};

/// Images, height, width, channels in and out.
pub(super) type Sizes = [i64; 5];

/// Errors that these convolutions may have, in the measure of [`apart`].
pub(super) const LIMITS: [(Kind, f64); 2] = [(Kind::Float, 5e-5), (Kind::BFloat16, 0.08)];

/// A convolution with zeros around, `kernel` wide, in a number format.
pub(super) struct Case {
    pub(super) x: Tensor,
    pub(super) weight: Tensor,
    pub(super) dy: Tensor,
    stride: i64,
    padding: i64,
}

impl Case {
    pub(super) fn new(sizes: Sizes, kernel: i64, stride: i64, kind: Kind) -> Self {
        let [images, height, width, input, output] = sizes;
        tch::manual_seed(3);
        let noise = |sizes: [i64; 4]| Tensor::randn(sizes, (Kind::Float, Device::Cpu)).to_kind(kind);
        // As activations are: channels_last in memory, and not around 0.
        let pixels = |height: i64, width: i64, channels: i64| {
            (noise([images, height, width, channels]) + 0.5).permute([0, 3, 1, 2])
        };
        let behind = |side: i64| (side + stride - 1) / stride;
        Self {
            x: pixels(height, width, input),
            weight: noise([output, input, kernel, kernel]) * 0.1,
            dy: pixels(behind(height), behind(width), output),
            stride,
            padding: kernel / 2,
        }
    }

    /// y, dx and dw of another convolution of it.
    pub(super) fn by(&self, kind: Kind, conv: impl Fn(&Tensor, &Tensor) -> Tensor) -> [Tensor; 3] {
        let leaf = |tensor: &Tensor| tensor.to_kind(kind).detach().set_requires_grad(true);
        let (x, weight) = (leaf(&self.x), leaf(&self.weight));
        let y = conv(&x, &weight);
        let loss = (&y * self.dy.to_kind(kind)).sum(kind);
        let mut gradients = Tensor::run_backward(&[loss], &[&x, &weight], false, false);
        let dw = gradients.pop().unwrap();
        [y.detach(), gradients.pop().unwrap(), dw]
    }

    fn conv<'a>(&self, weight: &'a Tensor) -> ConvBy<'a> {
        ConvBy { weight, stride: self.stride, padding: self.padding }
    }

    pub(super) fn ours(&self, threads: i32) -> [Tensor; 3] {
        tch::set_num_threads(threads);
        self.by(self.x.kind(), |x, weight| conv(x, self.conv(weight)).unwrap())
    }

    pub(super) fn libtorchs(&self, x: &Tensor, weight: &Tensor) -> Tensor {
        x.conv2d(weight, None::<&Tensor>, [self.stride; 2], [self.padding; 2], [1, 1], 1)
    }

    /// In float64.
    pub(super) fn exact(&self) -> [Tensor; 3] {
        self.by(Kind::Double, |x, weight| self.libtorchs(x, weight))
    }

    /// The same with its images in the other layout of memory.
    pub(super) fn rows_first(self) -> Self {
        Self { x: self.x.contiguous(), ..self }
    }

    /// Which of y, dx and dw have other bits than libtorch's, on one thread, where `conv` leaves to libtorch what is not ours.
    pub(super) fn differs(&self) -> [bool; 3] {
        let ours = self.ours(1);
        let libtorchs = self.by(self.x.kind(), |x, weight| self.libtorchs(x, weight));
        [0, 1, 2].map(|at| ours[at] != libtorchs[at])
    }
}

/// Of the largest difference, the share of the values' root mean square: a single wrong pixel is as large as that.
pub(super) fn apart(got: &Tensor, exact: &Tensor) -> f64 {
    let square = (exact * exact).mean(Kind::Double).double_value(&[]);
    (got.to_kind(Kind::Double) - exact).abs().max().double_value(&[]) / square.sqrt()
}

/// y, dx and dw of every case within the limits.
pub(super) fn assert_exact(sizes: &[Sizes], kernel: i64, stride: i64) {
    for (kind, limit) in LIMITS {
        for &sizes in sizes {
            let case = Case::new(sizes, kernel, stride, kind);
            for (what, (got, exact)) in ["y", "dx", "dw"].into_iter().zip(case.ours(2).iter().zip(&case.exact())) {
                assert_eq!(got.kind(), kind);
                assert_eq!(got.size(), exact.size(), "{what} of {sizes:?}");
                let apart = apart(got, exact);
                assert!(apart < limit, "{what} of {sizes:?}, kernel {kernel}, in {kind:?}: {apart:e}");
            }
        }
    }
}

/// The bits of y and dx depend on no thread and on no other image, those of dw on the number of threads alone. oneDNN promises no such thing.
pub(super) fn assert_repeatable(sizes: &[Sizes], kernel: i64, stride: i64, is_used: impl Fn(Kind) -> bool) {
    for kind in [Kind::Float, Kind::BFloat16].into_iter().filter(|&kind| is_used(kind)) {
        for &sizes in sizes {
            let case = Case::new(sizes, kernel, stride, kind);
            let one = case.ours(1);
            for threads in [2, 3, 64] {
                let (more, again) = (case.ours(threads), case.ours(threads));
                assert_eq!(more[..2], one[..2], "{sizes:?}, {kind:?}, {threads} threads");
                assert_eq!(more, again, "{sizes:?}, {kind:?}, {threads} threads, a second time");
            }
            let last = case.x.narrow(0, sizes[0] - 1, 1);
            let _no_grad = tch::no_grad_guard();
            let alone = conv(&last, case.conv(&case.weight)).unwrap();
            assert_eq!(alone, one[0].narrow(0, sizes[0] - 1, 1), "{sizes:?}, {kind:?}: the last image alone");
        }
    }
}

/// Whether this process on this processor has our products for `kind`, in float32 under the kernels `least` and more, and `switch` is not 0.
pub(in crate::nn) fn is_used(kind: Kind, switch: &str, least: &str) -> bool {
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    let has = |flag: &str| flags.lines().any(|line| line.starts_with("flags") && line.split(' ').any(|f| f == flag));
    let off = std::env::var(switch).is_ok_and(|said| said == "0");
    let kernels = std::env::var("MIXMATCH_KERNELS").unwrap_or("v4_bf16".to_owned());
    !off && match kind {
        Kind::Float => kernels.as_str() >= least && has("fma") && has(if least == "v3" { "avx2" } else { "avx512bw" }),
        _ => kernels == "v4_bf16" && has("avx512bw") && has("avx512_bf16") && !has("amx_bf16"),
    }
}

/// Runs tests of a module in processes of their own under older instruction sets than this processor's.
pub(super) fn under_instruction_sets(versions: &[&str], module: &str, names: &[&str]) {
    for (version, name) in versions.iter().flat_map(|version| names.iter().map(move |name| (version, name))) {
        crate::own_process::run(&format!("nn::shim::{module}::{name}"), &[("MIXMATCH_KERNELS", version)]);
    }
}

/// Runs `name`, a test, in processes of its own in which `switch` is 0 or the processor has less: what is decided once in a process gets one
/// for each decision.
pub(super) fn switched_off(name: &str, switch: &str) {
    for (variable, value) in
        [(switch, "0"), ("MIXMATCH_KERNELS", "v1"), ("MIXMATCH_KERNELS", "v3"), ("MIXMATCH_KERNELS", "v4")]
    {
        crate::own_process::run(name, &[(variable, value)]);
    }
}
