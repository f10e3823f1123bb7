//! Winograd's convolution (`native/winograd.h`) against libtorch's in float64, and where it is used.

use tch::{Device, Kind, Tensor};

use super::{ConvNumbers, conv, conv_pack, conv_pack_winograd, conv_plus, conv_run};

/// Images, height, width, channels in and out.
type Sizes = [i64; 5];

const FITTING: [Sizes; 9] = [
    [1, 2, 4, 16, 16],
    [3, 6, 8, 16, 48],
    [5, 8, 8, 32, 32],
    [2, 4, 20, 48, 64],
    [2, 36, 36, 64, 16], // a row of 18 tiles, more than a block has
    [7, 12, 12, 80, 32],
    [2, 10, 12, 128, 96],
    [9, 8, 8, 128, 256],
    [40, 32, 32, 16, 32], // several blocks of tiles for each thread
];

struct Case {
    x: Tensor,
    weight: Tensor,
    dy: Tensor,
}

impl Case {
    fn new([images, height, width, input, output]: Sizes, kind: Kind) -> Self {
        tch::manual_seed(3);
        let noise = |sizes: [i64; 4]| Tensor::randn(sizes, (Kind::Float, Device::Cpu)).to_kind(kind);
        // As activations are: channels_last in memory, and not around 0.
        let pixels = |channels| (noise([images, height, width, channels]) + 0.5).permute([0, 3, 1, 2]);
        Self { x: pixels(input), weight: noise([output, input, 3, 3]) * 0.1, dy: pixels(output) }
    }

    /// y, dx and dw.
    fn by(&self, kind: Kind, conv: impl Fn(&Tensor, &Tensor) -> Tensor) -> [Tensor; 3] {
        let leaf = |tensor: &Tensor| tensor.to_kind(kind).detach().set_requires_grad(true);
        let (x, weight) = (leaf(&self.x), leaf(&self.weight));
        let y = conv(&x, &weight);
        let loss = (&y * self.dy.to_kind(kind)).sum(kind);
        let mut gradients = Tensor::run_backward(&[loss], &[&x, &weight], false, false);
        let dw = gradients.pop().unwrap();
        [y.detach(), gradients.pop().unwrap(), dw]
    }

    fn ours(&self, threads: i32) -> [Tensor; 3] {
        tch::set_num_threads(threads);
        self.by(self.x.kind(), |x, weight| conv(x, weight, 1, 1).unwrap())
    }
}

fn libtorchs(x: &Tensor, weight: &Tensor) -> Tensor {
    x.conv2d(weight, None::<&Tensor>, [1, 1], [1, 1], [1, 1], 1)
}

/// Of the largest difference, the share of the values' root mean square: a single wrong pixel is as large as that.
fn apart(got: &Tensor, exact: &Tensor) -> f64 {
    let square = (exact * exact).mean(Kind::Double).double_value(&[]);
    (got.to_kind(Kind::Double) - exact).abs().max().double_value(&[]) / square.sqrt()
}

#[test]
fn every_pixel_and_gradient_is_the_convolutions() {
    for (kind, limit) in [(Kind::Float, 5e-5), (Kind::BFloat16, 0.08)] {
        for sizes in FITTING {
            let case = Case::new(sizes, kind);
            let exact = case.by(Kind::Double, libtorchs);
            for (what, (got, exact)) in ["y", "dx", "dw"].into_iter().zip(case.ours(2).iter().zip(&exact)) {
                assert_eq!(got.kind(), kind);
                let apart = apart(got, exact);
                assert!(apart < limit, "{what} of {sizes:?} in {kind:?}: {apart:e}");
            }
        }
    }
}

/// oneDNN promises no such thing.
#[test]
fn the_bits_depend_on_no_thread_and_on_no_other_image() {
    for kind in [Kind::Float, Kind::BFloat16].into_iter().filter(|&kind| is_used(kind)) {
        for sizes in FITTING {
            let case = Case::new(sizes, kind);
            let one = case.ours(1);
            for threads in [2, 3, 64] {
                let (more, again) = (case.ours(threads), case.ours(threads));
                assert_eq!(more[..2], one[..2], "{sizes:?}, {kind:?}, {threads} threads");
                assert_eq!(more, again, "{sizes:?}, {kind:?}, {threads} threads, a second time");
            }
            let last = case.x.narrow(0, sizes[0] - 1, 1);
            let _no_grad = tch::no_grad_guard();
            let alone = conv(&last, &case.weight, 1, 1).unwrap();
            assert_eq!(alone, one[0].narrow(0, sizes[0] - 1, 1), "{sizes:?}, {kind:?}: the last image alone");
        }
    }
}

/// y = conv(x) + plus, as a block of a network ends in training, and the gradients of all three.
#[test]
fn what_a_block_adds_to_a_convolution_is_added_on_its_way_out() {
    for (kind, limit) in [(Kind::Float, 5e-5), (Kind::BFloat16, 0.08)].into_iter().filter(|&(kind, _)| is_used(kind)) {
        for sizes in FITTING {
            let case = Case::new(sizes, kind);
            let plus = case.dy.flip([0i64]) * 0.7;
            let by = |kind: Kind, sum: &dyn Fn(&Tensor, &Tensor, &Tensor) -> Tensor| {
                let leaves =
                    [&case.x, &case.weight, &plus].map(|one| one.to_kind(kind).detach().set_requires_grad(true));
                let [x, weight, plus] = &leaves;
                let y = sum(x, weight, plus);
                let loss = (&y * case.dy.to_kind(kind)).sum(kind);
                let mut all = Tensor::run_backward(&[loss], &leaves, false, false);
                all.push(y.detach());
                all
            };
            let before = plus.copy();
            let ours = by(kind, &|x, weight, plus| conv_plus(x, weight, plus, 1, 1).unwrap().unwrap());
            assert_eq!(plus, before, "it is somebody else's, too");
            let exact = by(Kind::Double, &|x, weight, plus| libtorchs(x, weight) + plus);
            for (what, (got, exact)) in ["dx", "dw", "dplus", "y"].into_iter().zip(ours.iter().zip(&exact)) {
                assert_eq!(got.kind(), kind);
                let apart = apart(got, exact);
                assert!(apart < limit, "{what} of {sizes:?} in {kind:?}: {apart:e}");
            }
            let _no_grad = tch::no_grad_guard();
            assert_eq!(conv_plus(&case.x, &case.weight, &plus, 1, 1).unwrap().unwrap(), ours[3], "{sizes:?}, {kind:?}");
        }
    }
}

#[test]
fn what_is_not_as_the_answer_is_not_added_on_the_way() {
    let _no_grad = tch::no_grad_guard();
    for kind in [Kind::Float, Kind::BFloat16] {
        let other = if kind == Kind::Float { Kind::BFloat16 } else { Kind::Float };
        let Case { x, weight, dy } = Case::new([3, 6, 8, 16, 48], kind);
        let is_added = |plus: &Tensor, stride| conv_plus(&x, &weight, plus, stride, 1).unwrap().is_some();
        assert_eq!(is_added(&dy, 1), is_used(kind), "{kind:?}");
        let unlike = [dy.contiguous(), dy.to_kind(other), dy.narrow(0, 0, 2), dy.narrow(2, 0, 1).narrow(3, 0, 1)];
        for plus in unlike {
            assert!(!is_added(&plus, 1), "{kind:?}: {plus:?}");
        }
        assert!(!is_added(&dy, 2));
    }
}

/// Whether `conv` has other bits than libtorch's, forward.
fn differs(x: &Tensor, weight: &Tensor, stride: i64) -> bool {
    let _no_grad = tch::no_grad_guard();
    let plain = x.conv2d(weight, None::<&Tensor>, [stride; 2], [1, 1], [1, 1], 1);
    conv(x, weight, stride, 1).unwrap() != plain
}

/// Whether this process on this processor has it for `kind`.
fn is_used(kind: Kind) -> bool {
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    let has = |flag: &str| flags.lines().any(|line| line.starts_with("flags") && line.split(' ').any(|f| f == flag));
    let off = std::env::var("MIXMATCH_WINOGRAD").is_ok_and(|said| said == "0");
    let kernels = std::env::var("MIXMATCH_KERNELS").unwrap_or("v4_bf16".to_owned());
    let float = !off && kernels.starts_with("v4") && has("avx512bw");
    match kind {
        Kind::Float => float,
        _ => float && kernels == "v4_bf16" && has("avx512_bf16") && !has("amx_bf16"),
    }
}

#[test]
fn it_is_used_where_it_fits_and_nowhere_else() {
    for kind in [Kind::Float, Kind::BFloat16] {
        let fits = is_used(kind);
        for sizes in FITTING {
            let Case { x, weight, .. } = Case::new(sizes, kind);
            assert_eq!(differs(&x, &weight, 1), fits, "{sizes:?}, {kind:?}");
            assert!(!differs(&x, &weight, 2), "stride 2 of {sizes:?}, {kind:?}");
            let rows_first = x.contiguous();
            assert!(!differs(&rows_first, &weight, 1), "not channels_last: {sizes:?}");
        }
        let unfit: [Sizes; 6] = [
            [2, 8, 6, 16, 16],
            [2, 7, 8, 16, 16],
            [2, 8, 8, 8, 16],
            [2, 8, 8, 16, 24],
            [1, 8, 8, 272, 16],
            [1, 8, 8, 16, 272],
        ];
        for sizes in unfit {
            let Case { x, weight, .. } = Case::new(sizes, kind);
            assert!(!differs(&x, &weight, 1), "{sizes:?}, {kind:?}");
        }
    }
}

/// What is decided once in a process gets one for each decision.
#[test]
fn it_can_be_switched_off_and_needs_avx_512() {
    let name = "nn::shim::winograd_tests::it_is_used_where_it_fits_and_nowhere_else";
    for (variable, value) in [("MIXMATCH_WINOGRAD", "0"), ("MIXMATCH_KERNELS", "v3"), ("MIXMATCH_KERNELS", "v4")] {
        crate::own_process::run(name, &[(variable, value)]);
    }
}

/// y = lrelu(conv(x) + bias + onto), as a served network computes it.
#[test]
fn what_follows_a_convolution_is_done_on_its_way_out() {
    let _no_grad = tch::no_grad_guard();
    for (kind, limit) in [(Kind::Float, 5e-5), (Kind::BFloat16, 0.08)] {
        for sizes in FITTING {
            let Case { x, weight, dy: before } = Case::new(sizes, kind);
            let bias = Tensor::randn([sizes[4]], (Kind::Float, Device::Cpu)).to_kind(kind);
            let (packed, winograd) =
                (conv_pack(&weight, [16, sizes[3], 8, 8], 1, 1).unwrap(), conv_pack_winograd(&weight, 1, 1).unwrap());
            let plain = libtorchs(&x.to_kind(Kind::Double), &weight.to_kind(Kind::Double))
                + bias.to_kind(Kind::Double).view([-1, 1, 1]);
            for slope in [0.0, 0.1, 1.0] {
                let numbers = ConvNumbers { packed: &packed, winograd: &winograd, bias: &bias };
                let exact = |sum: Tensor| sum.clamp_min(0.0) + sum.clamp_max(0.0) * slope;
                let y = conv_run(&x, numbers, None, 1, 1, slope).unwrap();
                let off = apart(&y, &exact(plain.shallow_clone()));
                assert!(off < limit, "{sizes:?}, {kind:?}, slope {slope}: {off:e}");
                // oneDNN, which computes what is not for Winograd's method, has no leaky ReLU behind a sum.
                if slope == 0.1 {
                    continue;
                }
                let onto = Tensor::empty_like(&before);
                onto.shallow_clone().copy_(&before);
                let y = conv_run(&x, numbers, Some(&onto), 1, 1, slope).unwrap();
                let off = apart(&y, &exact(&plain + before.to_kind(Kind::Double)));
                assert!(off < limit, "{sizes:?} onto something, {kind:?}, slope {slope}: {off:e}");
                assert_eq!(y.data_ptr(), onto.data_ptr());
            }
        }
    }
}

/// An image gets the same answer beside others as alone.
#[test]
fn a_served_convolution_answers_an_image_in_any_batch_alike() {
    let _no_grad = tch::no_grad_guard();
    for kind in [Kind::Float, Kind::BFloat16].into_iter().filter(|&kind| is_used(kind)) {
        for sizes in FITTING {
            let Case { x, weight, .. } = Case::new(sizes, kind);
            let bias = Tensor::zeros([sizes[4]], (kind, Device::Cpu));
            let winograd = conv_pack_winograd(&weight, 1, 1).unwrap();
            // What it must not need: a layout for oneDNN that is wrong.
            let numbers = ConvNumbers { packed: &bias, winograd: &winograd, bias: &bias };
            let run = |x: &Tensor| conv_run(x, numbers, None, 1, 1, 1.0).unwrap();
            let together = run(&x);
            for image in 0..sizes[0] {
                assert_eq!(
                    run(&x.narrow(0, image, 1)),
                    together.narrow(0, image, 1),
                    "image {image} of {sizes:?}, {kind:?}"
                );
            }
        }
    }
}
