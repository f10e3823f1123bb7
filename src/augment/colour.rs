//! Operations on each pixel's colour: those of torchvision's `transforms.functional` on float images.
//!
//! All of them take and give float32 `[B, H, W, 3]` in −1…1 and work in place; torchvision's images are in
//! 0…1, so its x is (x + 1) / 2 here.

use tch::{Kind, TchError, Tensor};

use super::{on_rows, rows_where};

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

/// `operation` on the images whose factor is not 1, with their factors `[n, 1, 1, 1]`.
fn with_factors(
    x: Tensor,
    factors: &[f32],
    operation: impl FnOnce(Tensor, &Tensor) -> Result<Tensor, TchError>,
) -> Result<Tensor, TchError> {
    let rows = rows_where(factors, |&factor| factor != 1.0);
    if rows.is_empty() {
        return Ok(x);
    }
    let factors: Vec<f32> = rows.iter().map(|&row| factors[row as usize]).collect();
    let factors = Tensor::from_slice(&factors).f_to_device(x.device())?.f_view([-1, 1, 1, 1])?;
    on_rows(x, &rows, |x| operation(x, &factors))
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
