//! The libtorch calls that tch does not bind, through `native/shim.cpp`.

use std::ffi::{CStr, c_char, c_int, c_longlong, c_void};

use tch::Tensor;

use super::NnError;

unsafe extern "C" {
    fn mixmatch_norm_act(input: *const c_void, by: *const Norm, error: *mut c_char, room: usize) -> *mut c_void;
    fn mixmatch_add_norm_act(
        a: *const c_void,
        b: *const c_void,
        sums: *const c_void,
        by: *const Norm,
        sum: *mut *mut c_void,
        error: *mut c_char,
        room: usize,
    ) -> *mut c_void;
    fn mixmatch_norm_conv(
        x: *const c_void,
        sums: *const c_void,
        by: *const Norm,
        weight: *const c_void,
        plus: *const c_void,
        stride: c_longlong,
        padding: c_longlong,
        made: *mut [*mut c_void; 2],
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
        input: *const c_longlong,
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

/// [`NormAct`] for the shim, its `MixmatchNorm`.
#[repr(C)]
struct Norm {
    gamma: *const c_void,
    beta: *const c_void,
    mean: *const c_void,
    variance: *const c_void,
    batch: c_int,
    momentum: f64,
    eps: f64,
    slope: f64,
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
    // SAFETY: every pointer is null or a valid at::Tensor for as long as it is borrowed here.
    tensor_from(|error, room| unsafe { mixmatch_norm_act(pointer(input), &by.for_shim(), error, room) })
}

/// `a` + `b`, or `a` alone, and leaky ReLU of BatchNorm of that: what stands between two blocks of a residual network. `sums`: those that
/// [`norm_conv`] gave with an `a` that stands alone.
///
/// On the CPU one fused function: the sum and its statistics are one pass, and so are the two gradients that meet there.
pub fn add_norm_act(
    a: &Tensor,
    b: Option<&Tensor>,
    sums: Option<&Tensor>,
    by: NormAct<'_>,
) -> Result<(Tensor, Tensor), NnError> {
    let (left, right, sums, mut sum) = (pointer(a), pointer_or_null(b), pointer_or_null(sums), std::ptr::null_mut());
    // SAFETY: as in `norm_act`, and the shim expects a null `b`; `sum` is written before the call returns a tensor and not otherwise.
    let activated = tensor_from(|error, room| unsafe {
        mixmatch_add_norm_act(left, right, sums, &by.for_shim(), &raw mut sum, error, room)
    })?;
    // SAFETY: made with `new at::Tensor` and given away, like every tensor of the shim.
    Ok((unsafe { Tensor::from_ptr(sum.cast()) }, activated))
}

/// What [`norm_conv`] makes of x.
#[derive(Debug)]
pub struct NormConv {
    /// x, for whoever else takes it: their gradient is added on the way.
    pub x: Tensor,
    /// The convolution.
    pub y: Tensor,
    /// Σy and Σy² over its pixels for the norm that comes next, float64 `[2, out]`.
    pub sums: Tensor,
}

/// The convolution by `weight` of leaky ReLU of BatchNorm of `x`, + `plus`, all in one number format, differentiable once, where that is one
/// function on this processor (`native/norm_conv.h`); none where it is not. `sums`: those that this function gave with `x`.
///
/// The norm's sums over the batch are made where the convolutions write their answers, forward and backward: two passes over memory less.
pub fn norm_conv(
    x: &Tensor,
    sums: Option<&Tensor>,
    by: NormAct<'_>,
    conv: ConvBy<'_>,
    plus: Option<&Tensor>,
) -> Result<Option<NormConv>, NnError> {
    let ConvBy { weight, stride, padding } = conv;
    let (x, sums, weight, plus) = (pointer(x), pointer_or_null(sums), pointer(weight), pointer_or_null(plus));
    let mut made = [std::ptr::null_mut(); 2];
    // SAFETY: as in `norm_act`, and the shim expects null for `sums` and `plus`; `made` has room for the two that are written before the call
    // returns a tensor and not otherwise.
    let y = tensor_from(|error, room| unsafe {
        mixmatch_norm_conv(x, sums, &by.for_shim(), weight, plus, stride, padding, &raw mut made, error, room)
    })?;
    // SAFETY: made with `new at::Tensor` and given away, like every tensor of the shim.
    let [x, sums] = made.map(|tensor| unsafe { Tensor::from_ptr(tensor.cast()) });
    Ok(y.defined().then_some(NormConv { x, y, sums }))
}

/// A convolution of a training step.
#[derive(Clone, Copy, Debug)]
pub struct ConvBy<'a> {
    /// `[out, in, k, k]`.
    pub weight: &'a Tensor,
    /// Pixels from one of its places to the next.
    pub stride: i64,
    /// Rows and columns of zeros around.
    pub padding: i64,
}

/// Leaky ReLU of `input` `[B, C, H, W]` · `scale` + `shift` (float32 `[C]`), for inference on the CPU.
pub fn scale_act(input: &Tensor, scale: &Tensor, shift: &Tensor, slope: f64) -> Result<Tensor, NnError> {
    let (x, scale, shift) = (pointer(input), pointer(scale), pointer(shift));
    // SAFETY: every pointer is a valid at::Tensor for as long as it is borrowed here.
    tensor_from(|error, room| unsafe { mixmatch_scale_act(x, scale, shift, slope, error, room) })
}

/// The convolution of `x` `[B, in, H, W]` by a weight in the same number format, differentiable once.
///
/// On the CPU every thread computes the gradients for images of its own (`native/conv.cpp`): nothing else that runs on the machine holds
/// a training up at oneDNN's barriers.
pub fn conv(x: &Tensor, by: ConvBy<'_>) -> Result<Tensor, NnError> {
    let ConvBy { weight, stride, padding } = by;
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

/// `weight` `[out, in, 3, 3]` for Winograd's method (`native/winograd.h`) and inputs of the sizes `input`, of which the number of images is of
/// no matter, where this processor and that weight are for it; an undefined tensor elsewhere.
pub fn conv_pack_winograd(weight: &Tensor, input: [i64; 4], stride: i64, padding: i64) -> Result<Tensor, NnError> {
    let weight = pointer(weight);
    // SAFETY: as for `conv_pack`.
    tensor_from(|error, room| unsafe {
        mixmatch_conv_pack_winograd(weight, input.as_ptr(), stride, padding, error, room)
    })
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
    let (x, onto) = (pointer(x), pointer_or_null(onto));
    let (packed, winograd, bias) = (pointer(numbers.packed), pointer(numbers.winograd), pointer(numbers.bias));
    // SAFETY: as above, or null for `onto`, which the shim expects; an undefined tensor is an at::Tensor, too.
    tensor_from(|error, room| unsafe {
        mixmatch_conv_run(x, packed, winograd, bias, onto, stride, padding, slope, error, room)
    })
}

pub(super) fn pointer(tensor: &Tensor) -> *const c_void {
    tensor.as_ptr().cast()
}

fn pointer_or_null(tensor: Option<&Tensor>) -> *const c_void {
    tensor.map_or(std::ptr::null(), pointer)
}

impl NormAct<'_> {
    fn for_shim(&self) -> Norm {
        let Self { batch, momentum, eps, slope, .. } = *self;
        let (mean, variance) = self.running.unzip();
        Norm {
            gamma: pointer(self.gamma),
            beta: pointer(self.beta),
            mean: pointer_or_null(mean),
            variance: pointer_or_null(variance),
            batch: c_int::from(batch),
            momentum,
            eps,
            slope,
        }
    }
}

#[cfg(test)]
mod norm_conv_tests;
#[cfg(test)]
pub(super) mod own_conv_tests;
#[cfg(test)]
mod strided_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod winograd_tests;
