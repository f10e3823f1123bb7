//! Networks for inference in int8: convolutions of bytes by bytes, twice as fast as in bf16 and four times as in float32 where the
//! processor has VNNI.
//!
//! Activations are rounded to 256 steps between the least and the greatest value that they had on images of the training data
//! ([`Ranges`]; static, per tensor, asymmetric), weights to 255 steps of a size for each output channel (symmetric), sums are exact
//! in 32 bits: Jacob et al. 2018, arXiv 1712.05877, without training for it. What flows past the blocks stays in the network's own
//! number format, and so do the first convolution and the head: together a hundredth of the arithmetic.

use std::ffi::{c_char, c_int, c_longlong, c_void};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::folded::{Folded, Shape, folded_weight};
use super::layers::{BatchNorm, Conv};
use super::shim::{pointer, tensor_from, text_from};
use super::weights::Weights;
use super::{Network, NnError};

unsafe extern "C" {
    fn mixmatch_quantise_act(
        input: *const c_void,
        scale: *const c_void,
        shift: *const c_void,
        slope: f64,
        zero: f64,
        error: *mut c_char,
        room: usize,
    ) -> *mut c_void;
    fn mixmatch_int8_is_exact() -> c_int;
    fn mixmatch_int8_conv(
        weight: *const c_void,
        bias: *const c_void,
        input: *const c_longlong,
        stride: c_longlong,
        padding: c_longlong,
        input_scale: f64,
        input_zero: c_longlong,
        output_scale: f64,
        relu: c_int,
        error: *mut c_char,
        room: usize,
    ) -> *mut c_void;
    fn mixmatch_int8_conv_run(
        conv: *const c_void,
        x: *const c_void,
        onto: *const c_void,
        kind: c_int,
        error: *mut c_char,
        room: usize,
    ) -> *mut c_void;
    fn mixmatch_int8_conv_free(conv: *mut c_void);
}

/// Whether this processor is fast at int8 and adds it up exactly.
pub fn is_fast() -> bool {
    static IS: OnceLock<bool> = OnceLock::new();
    // In a thread that ends: OpenMP keeps others for each thread that has computed, and while there are more than cores, those that
    // wait sleep at once. Beside the one of a caller that never computes again, predictions of single images took three times as long.
    *IS.get_or_init(|| {
        let asked = || std::thread::Builder::new().name("int8".into()).spawn(is_exact).ok()?.join().ok();
        has_vnni() && asked().unwrap_or(false)
    })
}

fn has_vnni() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512vnni") || std::arch::is_x86_feature_detected!("avxvnni")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// What oneDNN may use can be less than what is there.
fn is_exact() -> bool {
    // SAFETY: it takes nothing and answers 0 or 1.
    unsafe { mixmatch_int8_is_exact() != 0 }
}

/// The least and the greatest value of an activation, over many images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Range(pub f32, pub f32);

impl Range {
    /// How much one step is, and which byte is 0: zero is in every range, as padding adds it.
    fn steps(self) -> (f64, i64) {
        let (least, most) = (f64::from(self.0.min(0.0)), f64::from(self.1.max(0.0)));
        let step = ((most - least) / 255.0).max(1e-30);
        (step, (-least / step).round() as i64)
    }
}

/// The ranges of all activations that are rounded to bytes, in the order of the forward pass.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ranges(Vec<Range>);

impl Ranges {
    /// Takes in what `network`, whose activations are exact, computes of `images` `[B, 3, H, W]` in −1…1.
    ///
    /// # Errors
    /// libtorch's; or activations that are no numbers.
    pub fn widen(&mut self, network: &dyn Folded, images: &Tensor) -> Result<(), NnError> {
        let mut at = 0;
        let mut see = |activation: &Tensor| -> Result<(), NnError> {
            let (least, most) = activation.f_aminmax(None, false)?;
            let seen = Range(least.f_double_value(&[])? as f32, most.f_double_value(&[])? as f32);
            if !(seen.0.is_finite() && seen.1.is_finite()) {
                return Err(NnError::Ranges(format!("activation {at} reaches from {} to {}", seen.0, seen.1)));
            }
            match self.0.get_mut(at) {
                Some(range) => *range = Range(range.0.min(seen.0), range.1.max(seen.1)),
                None => self.0.push(seen),
            }
            at += 1;
            Ok(())
        };
        network.forward_seen(images, &mut see).map(drop)
    }

    /// `network` with `weights` (on the CPU) in int8, for square images of `side` pixels.
    ///
    /// # Errors
    /// Ranges that are another network's, or libtorch's.
    pub fn quantise(&self, network: &dyn Network, weights: &Weights, side: i64) -> Result<Box<dyn Folded>, NnError> {
        let mut next = Next(self.0.iter());
        let made = network.quantise(weights, side, &mut next)?;
        match next.0.len() {
            0 => Ok(made),
            more => {
                Err(NnError::Ranges(format!("{} has {more} activations less than there are ranges", network.name())))
            }
        }
    }
}

/// Gives the ranges one after the other.
#[derive(Debug)]
pub struct Next<'a>(std::slice::Iter<'a, Range>);

impl Next<'_> {
    /// The next activation's.
    ///
    /// # Errors
    /// Where there is none.
    pub fn range(&mut self) -> Result<Range, NnError> {
        self.0.next().copied().ok_or_else(|| NnError::Ranges("there are fewer ranges than activations".to_owned()))
    }
}

/// x·scale + shift → leaky ReLU → bytes.
#[derive(Debug)]
pub struct Quantise {
    scale: Tensor,
    shift: Tensor,
    slope: f64,
    zero: i64,
}

impl Quantise {
    /// `norm`, leaky ReLU with `slope`, then bytes of `range`.
    ///
    /// # Errors
    /// libtorch's.
    pub fn behind(weights: &Weights, norm: &BatchNorm, slope: f64, range: Range) -> Result<Self, NnError> {
        let (step, zero) = range.steps();
        let (scale, shift) = norm.scale_and_shift(weights)?;
        Ok(Self { scale: scale.f_div_scalar(step)?, shift: shift.f_div_scalar(step)?, slope, zero })
    }

    /// Of `channels` channels, leaky ReLU with `slope` alone, then bytes of `range`.
    ///
    /// # Errors
    /// libtorch's.
    pub fn plain(channels: i64, slope: f64, range: Range) -> Result<Self, NnError> {
        let (step, zero) = range.steps();
        let options = (Kind::Float, tch::Device::Cpu);
        let scale = Tensor::f_full([channels], 1.0 / step, options)?;
        Ok(Self { scale, shift: Tensor::f_zeros([channels], options)?, slope, zero })
    }

    /// uint8 in the shape of `x`, which is float32 or bf16 `[B, C, H, W]`.
    ///
    /// # Errors
    /// libtorch's.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, NnError> {
        let (x, scale, shift) = (pointer(x), pointer(&self.scale), pointer(&self.shift));
        // SAFETY: the tensors live until the call has returned; text of `room` bytes may be written to `error`.
        tensor_from(|error, room| unsafe {
            mixmatch_quantise_act(x, scale, shift, self.slope, self.zero as f64, error, room)
        })
    }
}

/// What a convolution of bytes gives.
#[derive(Clone, Copy, Debug)]
pub enum Gives {
    /// Bytes of ReLU's output in this range.
    Bytes(Range),
    /// Numbers, as they are.
    Sum,
    /// Numbers, after ReLU.
    Relu,
}

/// A convolution of bytes.
#[derive(Debug)]
pub struct Int8Conv(*mut c_void);

// SAFETY: it is not changed after it was made, and libtorch's tensors may go from thread to thread.
unsafe impl Send for Int8Conv {}

impl Drop for Int8Conv {
    fn drop(&mut self) {
        // SAFETY: made by `mixmatch_int8_conv`, and freed once.
        unsafe { mixmatch_int8_conv_free(self.0) }
    }
}

impl Int8Conv {
    /// `conv` and the `norm` behind it, where there is one, for inputs of `shape` that are bytes of `range`.
    ///
    /// # Errors
    /// libtorch's.
    pub fn new(
        weights: &Weights,
        conv: &Conv,
        norm: Option<&BatchNorm>,
        shape: Shape,
        (range, gives): (Range, Gives),
    ) -> Result<Self, NnError> {
        let (weight, bias) = folded_weight(weights, conv, norm)?;
        let input = [shape.images, weight.size()[1], shape.side, shape.side];
        let (scale, zero) = range.steps();
        let (output, relu) = match gives {
            // The least is 0, and so is its byte.
            Gives::Bytes(range) => (Range(0.0, range.1).steps().0, 1),
            Gives::Sum => (1.0, 0),
            Gives::Relu => (1.0, 1),
        };
        let (weight, bias) = (pointer(&weight), pointer(&bias));
        // SAFETY: the tensors live until the call has returned, `input` has the four numbers that are read, and text of `room`
        // bytes may be written to `error`.
        let made = text_from(|error, room| unsafe {
            let (stride, padding) = (conv.stride, conv.padding);
            let made = mixmatch_int8_conv(
                weight,
                bias,
                input.as_ptr(),
                stride,
                padding,
                scale,
                zero,
                output,
                relu,
                error,
                room,
            );
            (!made.is_null()).then_some(made)
        })?;
        Ok(Self(made))
    }

    /// Bytes `[B, in, H, W]` → bytes `[B, out, H/stride, W/stride]`.
    ///
    /// # Errors
    /// libtorch's.
    pub fn bytes(&self, x: &Tensor) -> Result<Tensor, NnError> {
        self.run(x, None, Kind::Uint8)
    }

    /// Bytes → numbers of `kind`.
    ///
    /// # Errors
    /// libtorch's.
    pub fn numbers(&self, x: &Tensor, kind: Kind) -> Result<Tensor, NnError> {
        self.run(x, None, kind)
    }

    /// Numbers in the memory of `onto`, which is added before the ReLU.
    ///
    /// # Errors
    /// libtorch's.
    pub fn onto(&self, x: &Tensor, onto: Tensor) -> Result<Tensor, NnError> {
        self.run(x, Some(&onto), onto.kind())
    }

    fn run(&self, x: &Tensor, onto: Option<&Tensor>, kind: Kind) -> Result<Tensor, NnError> {
        // libtorch's own numbers of these, as tch passes them.
        let kind = match kind {
            Kind::Uint8 => 0,
            Kind::Float => 6,
            Kind::BFloat16 => 15,
            other => return Err(NnError::Shim(format!("an int8 convolution gives no {other:?}"))),
        };
        let (x, onto) = (pointer(x), onto.map_or(std::ptr::null(), pointer));
        // SAFETY: as above; `onto` is null or a tensor, and the convolution lives as long as `self`.
        tensor_from(|error, room| unsafe { mixmatch_int8_conv_run(self.0, x, onto, kind, error, room) })
    }
}

#[cfg(test)]
mod tests;
