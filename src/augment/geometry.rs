//! Operations that move pixels.

use tch::{Kind, TchError, Tensor};

use super::draws::Window;
use super::{Draws, Fill, on_rows, rows_where};
use crate::nn::device::send;

/// How a pixel between pixels is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sampling {
    Bilinear,
    Nearest,
}

/// Mirroring, reflect padding and cropping in one gather over rows and columns of uint8 `[B, H, W, 3]`.
pub(super) fn flip_and_crop(images: &Tensor, pad: u32, draws: &Draws) -> Result<Tensor, TchError> {
    let (batch, height, width, _) = images.size4()?;
    let pad = i64::from(pad);
    let rows: Vec<i64> =
        draws.top.iter().flat_map(|&top| (0..height).map(move |y| reflect(y + i64::from(top) - pad, height))).collect();
    let columns: Vec<i64> = draws
        .left
        .iter()
        .zip(&draws.flip)
        .flat_map(|(&left, &flip)| {
            (0..width).map(move |x| {
                let source = reflect(x + i64::from(left) - pad, width);
                if flip { width - 1 - source } else { source }
            })
        })
        .collect();
    let device = images.device();
    let index = Tensor::f_arange(batch, (Kind::Int64, device))?.f_view([batch, 1, 1])?;
    let rows = send(&Tensor::from_slice(&rows), device)?.f_view([batch, height, 1])?;
    let columns = send(&Tensor::from_slice(&columns), device)?.f_view([batch, 1, width])?;
    images.f_index(&[Some(index), Some(rows), Some(columns)])
}

/// Index into 0..n of a position mirrored at the borders (the border itself is not repeated).
fn reflect(position: i64, n: i64) -> i64 {
    let position = position.abs();
    if position < n { position } else { 2 * (n - 1) - position }
}

/// Rotation and zoom about the middle, in one pass; `x` float32 `[B, H, W, 3]` in −1…1.
pub(super) fn rotate_and_zoom(x: Tensor, draws: &Draws, sampling: Sampling, fill: Fill) -> Result<Tensor, TchError> {
    let moves: Vec<(f32, f32)> = draws.rotation.iter().copied().zip(draws.scale.iter().copied()).collect();
    let rows = rows_where(&moves, |&(degrees, zoom)| degrees != 0.0 || zoom != 1.0);
    if rows.is_empty() {
        return Ok(x);
    }
    let (_, height, width, _) = x.size4()?;
    let aspect = width as f64 / height as f64;
    let theta: Vec<f32> = rows.iter().flat_map(|&row| inverse(moves[row as usize], aspect)).collect();
    let theta = send(&Tensor::from_slice(&theta), x.device())?.f_view([-1, 2, 3])?;
    on_rows(x, &rows, |x| resampled(&x, &theta, sampling, fill))
}

/// The pieces `windows` of the images, each enlarged to the whole; `x` float32 `[B, H, W, 3]` in −1…1.
pub(super) fn cut_out(x: Tensor, windows: &[Window]) -> Result<Tensor, TchError> {
    let matrix = |piece: &Window| [piece.width, 0.0, piece.x, 0.0, piece.height, piece.y];
    let theta: Vec<f32> = windows.iter().flat_map(matrix).collect();
    let theta = send(&Tensor::from_slice(&theta), x.device())?.f_view([-1, 2, 3])?;
    resampled(&x, &theta, Sampling::Bilinear, Fill::Reflect)
}

/// What the images `x` `[B, H, W, 3]` in −1…1 show where the matrices `theta` `[B, 2, 3]` lead.
fn resampled(x: &Tensor, theta: &Tensor, sampling: Sampling, fill: Fill) -> Result<Tensor, TchError> {
    let (batch, height, width, channels) = x.size4()?;
    let grid = Tensor::f_affine_grid_generator(theta, [batch, channels, height, width], false)?;
    // libtorch's codes: bilinear 0, nearest 1; zeros 0, reflection 2.
    let mode = if sampling == Sampling::Bilinear { 0 } else { 1 };
    let sample = |x: &Tensor, padding| x.f_permute([0, 3, 1, 2])?.f_grid_sampler(&grid, mode, padding, false);
    let mut moved = match fill {
        Fill::Reflect => sample(x, 2)?,
        // Zeros are mid-grey at −1…1, so black is made to be zero meanwhile.
        Fill::Black => sample(&(x + 1.0), 0)?.f_sub_scalar_(1.0)?,
    };
    // The weights of four pixels add up to 1 only to within rounding.
    moved.f_clamp_(-1.0, 1.0)?.f_permute([0, 2, 3, 1])?.f_contiguous()
}

/// The 2×3 matrix that takes a place in the turned and zoomed image to its place in the original, in
/// libtorch's coordinates (−1…1 along each side, y down); `aspect` is width / height.
fn inverse((degrees, zoom): (f32, f32), aspect: f64) -> [f32; 6] {
    let (sin, cos) = f64::from(degrees).to_radians().sin_cos();
    let (sin, cos) = (sin / f64::from(zoom), cos / f64::from(zoom));
    [cos, -sin / aspect, 0.0, sin * aspect, cos, 0.0].map(|value| value as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn a_piece_is_cut_out_where_it_lies_and_enlarged() {
        // Brightness rises from −1 at the left border to 1 at the right one.
        let across = Tensor::linspace(-1.0, 1.0, 32, (Kind::Float, Device::Cpu)).view([1, 1, 32, 1]);
        let x = across.expand([1, 32, 32, 3], false).contiguous();
        let right_half = Window { y: 0.0, x: 0.5, height: 1.0, width: 0.5 };
        let cut = cut_out(x.shallow_clone(), &[right_half]).unwrap();
        assert_eq!(cut.size(), [1, 32, 32, 3]);
        let at = |x: i64| cut.double_value(&[0, 10, x, 1]);
        assert!(at(0).abs() < 0.06 && (at(16) - 0.5).abs() < 0.06 && at(31) > 0.95, "{} {} {}", at(0), at(16), at(31));
        let whole = cut_out(x.shallow_clone(), &[Window { y: 0.0, x: 0.0, height: 1.0, width: 1.0 }]).unwrap();
        assert!((whole - x).abs().max().double_value(&[]) < 1e-5);
    }

    #[test]
    fn reflection_does_not_repeat_the_border() {
        let row: Vec<i64> = (-2..6).map(|x| reflect(x, 4)).collect();
        assert_eq!(row, [2, 1, 0, 1, 2, 3, 2, 1]);
    }
}
