//! The libtorch calls that tch does not bind, through `native/shim.cpp`.

use std::ffi::{CStr, c_char, c_int, c_longlong, c_void};

use tch::Tensor;

use super::NnError;

unsafe extern "C" {
    fn mixmatch_norm_act(
        input: *const c_void,
        gamma: *const c_void,
        beta: *const c_void,
        mean: *const c_void,
        variance: *const c_void,
        batch: c_int,
        momentum: f64,
        eps: f64,
        slope: f64,
        error: *mut c_char,
        room: usize,
    ) -> *mut c_void;
    fn mixmatch_add_norm_act(
        a: *const c_void,
        b: *const c_void,
        gamma: *const c_void,
        beta: *const c_void,
        mean: *const c_void,
        variance: *const c_void,
        batch: c_int,
        momentum: f64,
        eps: f64,
        slope: f64,
        sum: *mut *mut c_void,
        error: *mut c_char,
        room: usize,
    ) -> *mut c_void;
    fn mixmatch_scale_act(
        input: *const c_void,
        scale: *const c_void,
        shift: *const c_void,
        slope: f64,
        error: *mut c_char,
        room: usize,
    ) -> *mut c_void;
    fn mixmatch_conv(
        x: *const c_void,
        weight: *const c_void,
        stride: c_longlong,
        padding: c_longlong,
        error: *mut c_char,
        room: usize,
    ) -> *mut c_void;
    fn mixmatch_onednn_has_bf16() -> c_int;
    fn mixmatch_conv_pack(
        weight: *const c_void,
        input: *const c_longlong,
        stride: c_longlong,
        padding: c_longlong,
        error: *mut c_char,
        room: usize,
    ) -> *mut c_void;
    fn mixmatch_conv_pack_also(
        weight: *const c_void,
        packed: *const c_void,
        input: *const c_longlong,
        stride: c_longlong,
        padding: c_longlong,
        error: *mut c_char,
        room: usize,
    ) -> *mut c_void;
    fn mixmatch_conv_pack_winograd(
        weight: *const c_void,
        stride: c_longlong,
        padding: c_longlong,
        error: *mut c_char,
        room: usize,
    ) -> *mut c_void;
    fn mixmatch_conv_run(
        x: *const c_void,
        packed: *const c_void,
        winograd: *const c_void,
        bias: *const c_void,
        onto: *const c_void,
        stride: c_longlong,
        padding: c_longlong,
        slope: f64,
        error: *mut c_char,
        room: usize,
    ) -> *mut c_void;
}

/// The first line of what the shim wrote into `text`.
pub(super) fn message(text: &[c_char; 512]) -> String {
    // SAFETY: the shim writes a terminated string of at most that many bytes, and the buffer starts zeroed.
    let text = unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().into_owned();
    text.lines().next().unwrap_or("unknown error").to_owned()
}

/// Calls `call` with room for an error message, and takes what it makes.
pub(super) fn text_from<T>(call: impl FnOnce(*mut c_char, usize) -> Option<T>) -> Result<T, NnError> {
    let mut text: [c_char; 512] = [0; 512];
    let made = call(text.as_mut_ptr(), text.len());
    made.ok_or_else(|| NnError::Shim(message(&text)))
}

/// The same of a tensor.
pub(super) fn tensor_from(call: impl FnOnce(*mut c_char, usize) -> *mut c_void) -> Result<Tensor, NnError> {
    let made = text_from(|error, room| {
        let made = call(error, room);
        (!made.is_null()).then_some(made)
    })?;
    // SAFETY: the shim made this tensor with `new at::Tensor`, exactly as torch-sys does, and gave it away.
    Ok(unsafe { Tensor::from_ptr(made.cast()) })
}

/// What [`norm_act`] normalises by, and how.
#[derive(Clone, Copy, Debug)]
pub struct NormAct<'a> {
    /// γ, float32 `[C]`.
    pub gamma: &'a Tensor,
    /// β, float32 `[C]`.
    pub beta: &'a Tensor,
    /// Running mean and variance, float32 `[C]`; none leaves nothing to be updated.
    pub running: Option<(&'a Tensor, &'a Tensor)>,
    /// Normalise by the batch's statistics (and move the running ones) instead of by the running ones.
    pub batch: bool,
    /// The new batch's share in the running statistics.
    pub momentum: f64,
    /// ε under the root.
    pub eps: f64,
    /// Slope of the leaky ReLU below zero; 1 is BatchNorm alone.
    pub slope: f64,
}

/// Leaky ReLU of BatchNorm of `input` `[B, C, H, W]`, in the number format of `input`, differentiable.
///
/// On the CPU one fused function (`native/norm_act.cpp`): half the passes over memory of the two operations, and only
/// the input is kept for the backward pass.
pub fn norm_act(input: &Tensor, by: NormAct<'_>) -> Result<Tensor, NnError> {
    let NormAct { batch, momentum, eps, slope, .. } = by;
    let (mean, variance) = by.running_pointers();
    let (x, gamma, beta) = (pointer(input), pointer(by.gamma), pointer(by.beta));
    // SAFETY: every pointer is null or a valid at::Tensor for as long as it is borrowed here.
    tensor_from(|error, room| unsafe {
        mixmatch_norm_act(x, gamma, beta, mean, variance, c_int::from(batch), momentum, eps, slope, error, room)
    })
}

/// `a` + `b`, and leaky ReLU of BatchNorm of that: what stands between two blocks of a residual network.
///
/// On the CPU one fused function: the sum and its statistics are one pass, and so are the two gradients that meet there.
pub fn add_norm_act(a: &Tensor, b: &Tensor, by: NormAct<'_>) -> Result<(Tensor, Tensor), NnError> {
    let NormAct { batch, momentum, eps, slope, .. } = by;
    let (mean, variance) = by.running_pointers();
    let (left, right, gamma, beta) = (pointer(a), pointer(b), pointer(by.gamma), pointer(by.beta));
    let (batch, mut sum) = (c_int::from(batch), std::ptr::null_mut::<c_void>());
    // SAFETY: as in `norm_act`; `sum` is written before the call returns a tensor and not otherwise.
    let activated = tensor_from(|error, room| unsafe {
        let out = &raw mut sum;
        mixmatch_add_norm_act(left, right, gamma, beta, mean, variance, batch, momentum, eps, slope, out, error, room)
    })?;
    // SAFETY: made with `new at::Tensor` and given away, like every tensor of the shim.
    Ok((unsafe { Tensor::from_ptr(sum.cast()) }, activated))
}

/// Leaky ReLU of `input` `[B, C, H, W]` · `scale` + `shift` (float32 `[C]`), for inference on the CPU.
pub fn scale_act(input: &Tensor, scale: &Tensor, shift: &Tensor, slope: f64) -> Result<Tensor, NnError> {
    let (x, scale, shift) = (pointer(input), pointer(scale), pointer(shift));
    // SAFETY: every pointer is a valid at::Tensor for as long as it is borrowed here.
    tensor_from(|error, room| unsafe { mixmatch_scale_act(x, scale, shift, slope, error, room) })
}

/// The convolution of `x` `[B, in, H, W]` by `weight` `[out, in, k, k]`, both in one number format, differentiable once.
///
/// On the CPU every thread computes the gradients for images of its own (`native/conv.cpp`): nothing else that runs on the machine holds
/// a training up at oneDNN's barriers.
pub fn conv(x: &Tensor, weight: &Tensor, stride: i64, padding: i64) -> Result<Tensor, NnError> {
    let (x, weight) = (pointer(x), pointer(weight));
    // SAFETY: both are valid at::Tensors for as long as they are borrowed here.
    tensor_from(|error, room| unsafe { mixmatch_conv(x, weight, stride, padding, error, room) })
}

/// Whether oneDNN, which convolves on the CPU, computes in bf16 on this processor, be it by emulation; without it libtorch has a
/// slow way of its own alone.
pub fn onednn_has_bf16() -> bool {
    // SAFETY: it takes nothing, and no exception leaves it.
    unsafe { mixmatch_onednn_has_bf16() != 0 }
}

/// `weight` `[out, in, k, k]` in oneDNN's own layout for inputs of the sizes `input`, where oneDNN has its number format; only
/// [`conv_run`] can read it.
pub fn conv_pack(weight: &Tensor, input: [i64; 4], stride: i64, padding: i64) -> Result<Tensor, NnError> {
    let weight = pointer(weight);
    // SAFETY: as above; `input` has the four numbers that are read.
    tensor_from(|error, room| unsafe { mixmatch_conv_pack(weight, input.as_ptr(), stride, padding, error, room) })
}

/// The same for other inputs, where `weight` is `packed` already: another handle of `packed` where its layout is right for those too.
pub fn conv_pack_also(
    weight: &Tensor,
    packed: &Tensor,
    input: [i64; 4],
    stride: i64,
    padding: i64,
) -> Result<Tensor, NnError> {
    let (weight, packed) = (pointer(weight), pointer(packed));
    // SAFETY: as for `conv_pack`.
    tensor_from(|error, room| unsafe {
        mixmatch_conv_pack_also(weight, packed, input.as_ptr(), stride, padding, error, room)
    })
}

/// `weight` `[out, in, 3, 3]` for Winograd's method (`native/winograd.h`), where this processor and that weight are for it; an undefined tensor
/// elsewhere.
pub fn conv_pack_winograd(weight: &Tensor, stride: i64, padding: i64) -> Result<Tensor, NnError> {
    let weight = pointer(weight);
    // SAFETY: as for `conv`.
    tensor_from(|error, room| unsafe { mixmatch_conv_pack_winograd(weight, stride, padding, error, room) })
}

/// A convolution's numbers for inference, all in one format.
#[derive(Clone, Copy, Debug)]
pub struct ConvNumbers<'a> {
    /// As [`conv_pack`] makes it.
    pub packed: &'a Tensor,
    /// As [`conv_pack_winograd`] makes it.
    pub winograd: &'a Tensor,
    /// `[out]`.
    pub bias: &'a Tensor,
}

/// Leaky ReLU of the convolution of `x` + `bias` + `onto`, for inference on the CPU. The answer takes `onto`'s memory.
pub fn conv_run(
    x: &Tensor,
    numbers: ConvNumbers<'_>,
    onto: Option<&Tensor>,
    stride: i64,
    padding: i64,
    slope: f64,
) -> Result<Tensor, NnError> {
    let (x, onto) = (pointer(x), onto.map_or(std::ptr::null(), pointer));
    let (packed, winograd, bias) = (pointer(numbers.packed), pointer(numbers.winograd), pointer(numbers.bias));
    // SAFETY: as above, or null for `onto`, which the shim expects; an undefined tensor is an at::Tensor, too.
    tensor_from(|error, room| unsafe {
        mixmatch_conv_run(x, packed, winograd, bias, onto, stride, padding, slope, error, room)
    })
}

pub(super) fn pointer(tensor: &Tensor) -> *const c_void {
    tensor.as_ptr().cast()
}

impl NormAct<'_> {
    fn running_pointers(&self) -> (*const c_void, *const c_void) {
        self.running.map_or((std::ptr::null(), std::ptr::null()), |(mean, variance)| (pointer(mean), pointer(variance)))
    }
}

#[cfg(test)]
mod winograd_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    /// The same by libtorch's own operations.
    fn plain(input: &Tensor, by: NormAct<'_>) -> Tensor {
        let (mean, variance) = by.running.unzip();
        let y = input.f_batch_norm(Some(by.gamma), Some(by.beta), mean, variance, by.batch, by.momentum, by.eps, false);
        let y = y.unwrap();
        y.maximum(&(&y * by.slope))
    }

    struct Case {
        input: Tensor,
        gamma: Tensor,
        beta: Tensor,
        mean: Tensor,
        variance: Tensor,
    }

    /// Channels that fill vector registers, half of one, and none; means far from zero.
    fn case(channels: i64, kind: Kind) -> Case {
        let float = (Kind::Float, Device::Cpu);
        let leaf = |tensor: Tensor| tensor.set_requires_grad(true);
        let input = Tensor::randn([5, channels, 7, 9], float) * 2.0 + Tensor::randn([1, channels, 1, 1], float) * 4.0;
        Case {
            input: leaf(input.to_kind(kind)),
            gamma: leaf(Tensor::rand([channels], float) + 0.5),
            beta: leaf(Tensor::randn([channels], float) * 0.3),
            mean: Tensor::randn([channels], float),
            variance: Tensor::rand([channels], float) + 0.5,
        }
    }

    fn assert_same(what: &str, got: &Tensor, expected: &Tensor, tolerance: f64) {
        let (got, expected) = (got.to_kind(Kind::Float), expected.to_kind(Kind::Float));
        let difference = (&got - &expected).abs().max().double_value(&[]);
        let scale = expected.abs().max().double_value(&[]).max(1.0);
        assert!(difference <= tolerance * scale, "{what}: off by {difference:e} where values reach {scale}");
    }

    #[test]
    fn the_fused_function_and_its_gradients_are_libtorchs() {
        tch::manual_seed(4);
        // 35: two vectors and three channels that are left over.
        for (channels, kind, tolerance) in [(3, Kind::Float, 1e-5), (16, Kind::Float, 1e-5), (80, Kind::Float, 1e-5)]
            .into_iter()
            .chain([(48, Kind::BFloat16, 2e-2), (35, Kind::Float, 1e-5), (35, Kind::BFloat16, 2e-2)])
        {
            for (batch, slope) in [(true, 0.1), (true, 1.0), (true, 0.0), (false, 0.1)] {
                let case = case(channels, kind);
                let upstream = Tensor::randn(case.input.size(), (Kind::Float, Device::Cpu)).to_kind(kind);
                let run = |act: &dyn Fn(&Tensor, NormAct<'_>) -> Tensor| {
                    let (mean, variance) = (case.mean.copy(), case.variance.copy());
                    let running = Some((&mean, &variance));
                    let (gamma, beta) = (&case.gamma, &case.beta);
                    let by = NormAct { gamma, beta, running, batch, momentum: 0.1, eps: 1e-3, slope };
                    let y = act(&case.input, by);
                    let loss = (&y * &upstream).sum(Kind::Float);
                    let mut all = Tensor::run_backward(&[loss], &[&case.input, gamma, beta], false, false);
                    all.extend([y.detach(), mean, variance]);
                    all
                };
                let got = run(&|input, by| norm_act(input, by).unwrap());
                let expected = run(&|input, by| plain(input, by));
                for (what, (got, expected)) in
                    ["dx", "dγ", "dβ", "y", "mean", "variance"].into_iter().zip(got.iter().zip(&expected))
                {
                    let what = format!("{what} of {channels} channels, {kind:?}, batch {batch}, slope {slope}");
                    assert_eq!(got.kind(), expected.kind(), "{what}: number format");
                    assert_same(&what, got, expected, tolerance);
                }
            }
        }
    }

    #[test]
    fn a_fused_sum_gives_both_its_gradients() {
        tch::manual_seed(5);
        for (channels, kind, tolerance) in
            [(20, Kind::Float, 1e-5), (64, Kind::Float, 1e-5), (32, Kind::BFloat16, 3e-2)]
        {
            let case = case(channels, kind);
            let other = Tensor::randn(case.input.size(), (Kind::Float, Device::Cpu)).to_kind(kind);
            let other = other.set_requires_grad(true);
            let weight = |seed: f64| (Tensor::ones_like(&case.input).to_kind(Kind::Float).cumsum(1, None) * seed).sin();
            // The sum is used by itself too (the shortcut), or not at all (before the head).
            for shortcut in [true, false] {
                let run = |act: &dyn Fn(&Tensor, &Tensor, NormAct<'_>) -> (Tensor, Tensor)| {
                    let (mean, variance) = (case.mean.copy(), case.variance.copy());
                    let running = Some((&mean, &variance));
                    let (gamma, beta) = (&case.gamma, &case.beta);
                    let by = NormAct { gamma, beta, running, batch: true, momentum: 0.1, eps: 1e-3, slope: 0.1 };
                    let (sum, y) = act(&case.input, &other, by);
                    let mut loss = (&y * weight(0.7)).sum(Kind::Float);
                    if shortcut {
                        loss += (&sum * weight(1.3)).sum(Kind::Float);
                    }
                    let mut all = Tensor::run_backward(&[loss], &[&case.input, &other, gamma, beta], false, false);
                    all.extend([sum.detach(), y.detach(), mean, variance]);
                    all
                };
                let got = run(&|a, b, by| add_norm_act(a, b, by).unwrap());
                let expected = run(&|a, b, by| {
                    let sum = a + b;
                    let y = plain(&sum, by);
                    (sum, y)
                });
                let names = ["da", "db", "dγ", "dβ", "sum", "y", "mean", "variance"];
                for (what, (got, expected)) in names.into_iter().zip(got.iter().zip(&expected)) {
                    let what = format!("{what} of {channels} channels, {kind:?}, shortcut {shortcut}");
                    assert_same(&what, got, expected, tolerance);
                }
            }
        }
    }

    /// Batches that do not divide by the threads, that are smaller, and of one; more bytes than are computed together; inputs that need
    /// no gradient, as the first layer's. Each in a thread of its own, whose OpenMP threads libtorch has not met: that it sets their
    /// number when it first looks must not reach into what is computed.
    #[test]
    fn a_convolutions_gradients_are_libtorchs_whatever_the_threads() {
        for threads in [1, 2, 3] {
            for (kind, tolerance) in [(Kind::Float, 1e-5), (Kind::BFloat16, 1e-2)] {
                for sizes in [
                    [8, 32, 64, 1, 1],
                    [7, 16, 16, 3, 1],
                    [200, 32, 8, 3, 2],
                    [4, 3, 16, 3, 1],
                    [2, 32, 64, 1, 2],
                    [1, 16, 16, 3, 1],
                ] {
                    let case = move || gradients_are_libtorchs(threads, kind, tolerance, sizes);
                    std::thread::spawn(case).join().unwrap();
                }
            }
        }
    }

    /// `sizes`: images, channels in and out, the kernel's side, stride.
    fn gradients_are_libtorchs(threads: i32, kind: Kind, tolerance: f64, sizes: [i64; 5]) {
        tch::set_num_threads(threads);
        tch::manual_seed(6);
        let float = (Kind::Float, Device::Cpu);
        let [images, input, output, kernel, stride] = sizes;
        let leaf = |tensor: Tensor| tensor.to_kind(kind).detach().set_requires_grad(true);
        let weight = leaf(Tensor::randn([output, input, kernel, kernel], float) * 0.1);
        // As activations are: channels_last in memory.
        let pictures = Tensor::randn([images, 12, 12, input], float).to_kind(kind).permute([0, 3, 1, 2]);
        for x in [pictures.copy(), leaf(pictures.copy())] {
            let of: Vec<&Tensor> = [&weight, &x].into_iter().filter(|tensor| tensor.requires_grad()).collect();
            let run = |conv: &dyn Fn() -> Tensor| {
                let y = conv();
                let towards = Tensor::arange(y.numel() as i64, float).sin().view_as(&y);
                let loss = (&y * towards).sum(Kind::Float);
                let mut all = Tensor::run_backward(&[loss], &of, false, false);
                all.push(y.detach());
                all
            };
            let ours = || run(&|| conv(&x, &weight, stride, kernel / 2).unwrap());
            let (got, again) = (ours(), ours());
            let plain = run(&|| x.conv2d(&weight, None::<&Tensor>, [stride; 2], [kernel / 2; 2], [1, 1], 1));
            assert_eq!(got.len(), of.len() + 1);
            for (i, (got, plain)) in got.iter().zip(&plain).enumerate() {
                let what = format!("{i} of {sizes:?}, {kind:?}, {threads} threads");
                assert_eq!(got.kind(), plain.kind(), "{what}");
                assert_eq!(got, &again[i], "{what}: other bits the second time");
                assert_same(&what, got, plain, tolerance);
            }
        }
    }

    /// Which loops run is chosen once in a process: each choice gets one, and runs the test above there. A choice that
    /// this processor does not have, or nobody has, falls back to one that it has and says so.
    #[test]
    fn every_instruction_set_gives_the_same_numbers() {
        let name = "nn::shim::tests::the_fused_function_and_its_gradients_are_libtorchs";
        for version in ["v1", "v3", "v4", "v4_bf16", "v2"] {
            let done = crate::own_process::run(name, &[("MIXMATCH_KERNELS", version)]);
            let complaint = String::from_utf8_lossy(&done.stderr);
            match version {
                "v1" => assert!(!complaint.contains("MIXMATCH_KERNELS"), "{complaint}"),
                "v2" => assert!(complaint.contains("MIXMATCH_KERNELS=v2 is none of"), "{complaint}"),
                _ => {}
            }
        }
    }

    #[test]
    fn without_a_gradient_the_answer_is_the_same_and_nothing_is_kept() {
        let case = case(32, Kind::Float);
        let by = NormAct {
            gamma: &case.gamma,
            beta: &case.beta,
            running: Some((&case.mean, &case.variance)),
            batch: false,
            momentum: 0.1,
            eps: 1e-3,
            slope: 0.1,
        };
        let _no_grad = tch::no_grad_guard();
        let y = norm_act(&case.input, by).unwrap();
        assert!(!y.requires_grad());
        assert_same("evaluation", &y, &plain(&case.input, by), 1e-5);
    }

    #[test]
    fn what_libtorch_refuses_is_an_error_with_its_first_line() {
        let case = case(4, Kind::Float);
        let gamma = Tensor::ones([3], (Kind::Float, Device::Cpu));
        let by = NormAct {
            gamma: &gamma,
            beta: &case.beta,
            running: None,
            batch: true,
            momentum: 0.1,
            eps: 1e-3,
            slope: 0.1,
        };
        let error = norm_act(&case.input, by).unwrap_err().to_string();
        assert!(error.lines().count() == 1 && error.contains('3') && error.contains('4'), "{error}");
    }
}
