//! Operations on each pixel's colour: those of torchvision's `transforms.functional` on float images.
//!
//! All of them take and give float32 `[B, H, W, 3]` in −1…1 and work in place; torchvision's images are in
//! 0…1, so its x is (x + 1) / 2 here.

use tch::{Kind, TchError, Tensor};

use super::{on_rows, rows_where};
use crate::nn::device::send;

/// Shares of red, green and blue in luma (ITU-R 601-2) as torchvision rounds them for tensors; they add up to
/// .9999.
const LUMA: [f64; 3] = [0.2989, 0.587, 0.114];

/// x · factor.
pub(super) fn brightness(x: Tensor, factors: &[f32]) -> Result<Tensor, TchError> {
    with_factors(x, factors, |mut x, factors| {
        // Black is −1, so the factor acts on x + 1.
        x.f_add_scalar_(1.0)?.f_mul_(factors)?.f_sub_scalar_(1.0)?.f_clamp_(-1.0, 1.0)
    })
}

/// Away from the mean of the image's luma: factor · x + (1 − factor) · mean.
pub(super) fn contrast(x: Tensor, factors: &[f32]) -> Result<Tensor, TchError> {
    with_factors(x, factors, |x, factors| {
        let mean = luma(&x)?.f_mean_dim([1i64, 2].as_slice(), true, Kind::Float)?;
        away_from(x, &mean, factors)
    })
}

/// Away from the pixel's luma: factor · x + (1 − factor) · luma.
pub(super) fn saturation(x: Tensor, factors: &[f32]) -> Result<Tensor, TchError> {
    with_factors(x, factors, |x, factors| {
        let luma = luma(&x)?;
        away_from(x, &luma, factors)
    })
}

/// Turns each pixel's hue by `turns` (1 is once around), in HSV: its value and chroma stay.
///
/// A channel of the colour (h, chroma, value), h in sixths of a turn, is value − chroma · clamp(min(k, 4 − k), 0, 1) with
/// k = (n + h) mod 6 and n = 5, 3, 1 for red, green, blue (Smith 1978, without its six cases).
pub(super) fn hue(x: Tensor, turns: &[f32]) -> Result<Tensor, TchError> {
    with_draws(x, turns, 0.0, |x, turns| {
        let (value, _) = x.f_max_dim(3, true)?;
        let chroma = &value - x.f_amin([3i64].as_slice(), true)?;
        let channel = |number: i64| x.f_narrow(3, number, 1);
        let (red, green, blue) = (channel(0)?, channel(1)?, channel(2)?);
        // Where the chroma is 0 there is no hue, and what follows is multiplied by that 0.
        let divisor = chroma.f_clamp_min(f64::from(f32::MIN_POSITIVE))?;
        let from_blue = ((&red - &green) / &divisor).f_add_scalar_(4.0)?;
        let from_green = ((&blue - &red) / &divisor).f_add_scalar_(2.0)?;
        let from_red = (&green - &blue) / &divisor;
        let hue = from_green.f_where_self(&green.f_eq_tensor(&value)?, &from_blue)?;
        let hue = from_red.f_where_self(&red.f_eq_tensor(&value)?, &hue)? + turns * 6.0;
        let offsets = send(&Tensor::from_slice(&[5.0_f32, 3.0, 1.0]), x.device())?;
        let k = (hue + offsets).f_remainder_(6.0)?;
        let share = k.f_minimum(&(4.0 - &k))?.f_clamp_(0.0, 1.0)?;
        Ok(value - chroma * share)
    })
}

/// x to the power `exponent`, on 0…1.
pub(super) fn gamma(x: Tensor, exponents: &[f32]) -> Result<Tensor, TchError> {
    with_factors(x, exponents, |mut x, exponents| {
        x.f_add_scalar_(1.0)?.f_mul_scalar_(0.5)?.f_pow_tensor_(exponents)?.f_mul_scalar_(2.0)?.f_sub_scalar_(1.0)
    })
}

/// Luma in all three channels.
pub(super) fn grayscale(x: Tensor, without_colour: &[bool]) -> Result<Tensor, TchError> {
    on_rows(x, &rows_where(without_colour, |&gray| gray), |mut x| {
        let luma = luma(&x)?;
        x.f_copy_(&luma.f_expand_as(&x)?)?;
        Ok(x)
    })
}

/// [`with_draws`] where 1 changes nothing.
fn with_factors(
    x: Tensor,
    factors: &[f32],
    operation: impl FnOnce(Tensor, &Tensor) -> Result<Tensor, TchError>,
) -> Result<Tensor, TchError> {
    with_draws(x, factors, 1.0, operation)
}

/// `operation` on the images whose draw is not `neutral`, with their draws `[n, 1, 1, 1]`.
fn with_draws(
    x: Tensor,
    draws: &[f32],
    neutral: f32,
    operation: impl FnOnce(Tensor, &Tensor) -> Result<Tensor, TchError>,
) -> Result<Tensor, TchError> {
    let rows = rows_where(draws, |&draw| draw != neutral);
    if rows.is_empty() {
        return Ok(x);
    }
    let draws: Vec<f32> = rows.iter().map(|&row| draws[row as usize]).collect();
    let draws = send(&Tensor::from_slice(&draws), x.device())?.f_view([-1, 1, 1, 1])?;
    on_rows(x, &rows, |x| operation(x, &draws))
}

/// factor · x + (1 − factor) · middle, clamped.
fn away_from(mut x: Tensor, middle: &Tensor, factors: &Tensor) -> Result<Tensor, TchError> {
    x.f_lerp_tensor_(middle, &(1.0 - factors))?.f_clamp_(-1.0, 1.0)
}

/// `[n, H, W, 3]` → `[n, H, W, 1]`.
fn luma(x: &Tensor) -> Result<Tensor, TchError> {
    let part = |channel: i64| x.f_narrow(3, channel, 1)?.f_mul_scalar(LUMA[channel as usize]);
    // The weights are meant for 0…1: what they lack to 1 is lacking at black too.
    let lacking = 1.0 - LUMA.iter().sum::<f64>();
    part(0)?.f_add_(&part(1)?)?.f_add_(&part(2)?)?.f_sub_scalar_(lacking)
}
