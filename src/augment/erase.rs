//! Erasing a part of each image.

use tch::{TchError, Tensor};

use crate::nn::device::send;

/// Cutout (DeVries & Taylor 2017, arXiv 1708.04552): a mid-grey square, its side `share` of the image's; its
/// middle lies anywhere in the image, so that part of it may lie outside. `x` float32 `[B, H, W, 3]`.
pub(super) fn cutout(mut x: Tensor, share: f64, middles: &[[f32; 2]]) -> Result<Tensor, TchError> {
    let (batch, height, width, _) = x.size4()?;
    let inside = |axis: usize, length: i64| -> Vec<bool> {
        let side = (share * length as f64).round() as i64;
        let first = move |middle: &[f32; 2]| (middle[axis] * length as f32) as i64 - side / 2;
        middles
            .iter()
            .map(first)
            .flat_map(|first| (0..length).map(move |place| (first..first + side).contains(&place)))
            .collect()
    };
    let device = x.device();
    let rows = send(&Tensor::from_slice(&inside(0, height)), device)?.f_view([batch, height, 1, 1])?;
    let columns = send(&Tensor::from_slice(&inside(1, width)), device)?.f_view([batch, 1, width, 1])?;
    x.f_masked_fill_(&rows.f_logical_and(&columns)?, 0.0)
}
