//! Augmentations of whole batches as tensor operations, on whatever device the images are.
//!
//! Every random choice is drawn on the host, one set for each image, and handed over as a few small
//! tensors: the same seed then gives the same pictures on a CPU and on a GPU.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tch::{Kind, TchError, Tensor};

/// What is done to an image.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Augment {
    /// Mirror left to right with probability ½.
    pub flip: bool,
    /// Reflect-pad by so many pixels, then crop at random to the size before; smaller than the image.
    pub pad: u32,
    /// Multiply by a factor from 1 ± this.
    pub brightness: f64,
    /// Scale about the image's mean by a factor from 1 ± this.
    pub contrast: f64,
}

/// The choices for a batch, one of each per image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Draws {
    /// Mirror it?
    pub flip: Vec<bool>,
    /// Row where the crop starts in the padded image, 0 to 2·pad.
    pub top: Vec<u32>,
    /// Column where the crop starts in the padded image, 0 to 2·pad.
    pub left: Vec<u32>,
    /// Factors of brightness.
    pub brightness: Vec<f32>,
    /// Factors of contrast.
    pub contrast: Vec<f32>,
}

impl Augment {
    /// Draws the choices for `count` images.
    pub fn draw(&self, count: usize, rng: &mut ChaCha8Rng) -> Draws {
        let mut draws = Draws::default();
        for _ in 0..count {
            draws.flip.push(self.flip && rng.random_bool(0.5));
            draws.top.push(rng.random_range(0..=2 * self.pad));
            draws.left.push(rng.random_range(0..=2 * self.pad));
            draws.brightness.push(factor(self.brightness, rng));
            draws.contrast.push(factor(self.contrast, rng));
        }
        draws
    }

    /// uint8 images `[B, H, W, 3]` → augmented network input `[B, 3, H, W]`, see [`network_input`].
    ///
    /// # Errors
    /// libtorch's, for example for shapes that do not fit.
    pub fn apply(&self, images: &Tensor, draws: &Draws) -> Result<Tensor, TchError> {
        let moved = if self.flip || self.pad > 0 { self.flip_and_crop(images, draws)? } else { images.shallow_clone() };
        let mut x = network_input(&moved)?;
        let per_image = |factors: &[f32]| Tensor::from_slice(factors).to_device(images.device()).f_view([-1, 1, 1, 1]);
        if self.contrast > 0.0 {
            let mean = x.f_mean_dim([1i64, 2, 3].as_slice(), true, Kind::Float)?;
            x = ((x - &mean) * per_image(&draws.contrast)? + mean).f_clamp(-1.0, 1.0)?;
        }
        if self.brightness > 0.0 {
            // Black is −1, so the factor acts on x + 1.
            x = ((x + 1.0) * per_image(&draws.brightness)? - 1.0).f_clamp(-1.0, 1.0)?;
        }
        Ok(x)
    }

    /// Mirroring, reflect padding and cropping in one gather over rows and columns.
    fn flip_and_crop(&self, images: &Tensor, draws: &Draws) -> Result<Tensor, TchError> {
        let (batch, height, width, _) = images.size4()?;
        let pad = i64::from(self.pad);
        let rows: Vec<i64> = draws
            .top
            .iter()
            .flat_map(|&top| (0..height).map(move |y| reflect(y + i64::from(top) - pad, height)))
            .collect();
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
        let rows = Tensor::from_slice(&rows).f_to_device(device)?.f_view([batch, height, 1])?;
        let columns = Tensor::from_slice(&columns).f_to_device(device)?.f_view([batch, 1, width])?;
        images.f_index(&[Some(index), Some(rows), Some(columns)])
    }
}

/// uint8 images `[B, H, W, 3]` → float32 `[B, 3, H, W]` in −1…1, channels_last in memory.
///
/// # Errors
/// libtorch's.
pub fn network_input(images: &Tensor) -> Result<Tensor, TchError> {
    let x = images.f_to_kind(Kind::Float)?.f_div_scalar_(127.5)?.f_sub_scalar_(1.0)?;
    x.f_permute([0, 3, 1, 2])
}

fn factor(range: f64, rng: &mut ChaCha8Rng) -> f32 {
    if range > 0.0 { rng.random_range(1.0 - range..=1.0 + range) as f32 } else { 1.0 }
}

/// Index into 0..n of a position mirrored at the borders (the border itself is not repeated).
fn reflect(position: i64, n: i64) -> i64 {
    let position = position.abs();
    if position < n { position } else { 2 * (n - 1) - position }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use tch::Device;

    fn batch() -> Tensor {
        Tensor::arange(2 * 4 * 4 * 3, (Kind::Int64, Device::Cpu)).to_kind(Kind::Uint8).view([2, 4, 4, 3])
    }

    #[test]
    fn reflection_does_not_repeat_the_border() {
        let row: Vec<i64> = (-2..6).map(|x| reflect(x, 4)).collect();
        assert_eq!(row, [2, 1, 0, 1, 2, 3, 2, 1]);
    }

    #[test]
    fn without_augmentation_only_the_scale_changes() {
        let augment = Augment::default();
        let draws = augment.draw(2, &mut ChaCha8Rng::seed_from_u64(0));
        let x = augment.apply(&batch(), &draws).unwrap();
        assert_eq!(x.size(), [2, 3, 4, 4]);
        assert_eq!(x.double_value(&[0, 0, 0, 0]), -1.0);
        let expected = 95.0 / 127.5 - 1.0;
        assert!((x.double_value(&[1, 2, 3, 3]) - expected).abs() < 1e-6);
    }

    #[test]
    fn each_image_has_its_own_draw() {
        let augment = Augment { flip: true, ..Augment::default() };
        let draws = Draws {
            flip: vec![true, false],
            top: vec![0, 0],
            left: vec![0, 0],
            brightness: vec![1.0; 2],
            contrast: vec![1.0; 2],
        };
        let x = augment.apply(&batch(), &draws).unwrap();
        let plain = network_input(&batch()).unwrap();
        assert_eq!(x.get(0), plain.get(0).flip([2]));
        assert_eq!(x.get(1), plain.get(1));
    }

    #[test]
    fn draws_are_seeded_and_differ_between_images() {
        let augment = Augment { flip: true, pad: 4, brightness: 0.2, contrast: 0.2 };
        let draw = |seed| augment.draw(64, &mut ChaCha8Rng::seed_from_u64(seed));
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let draws = draw(1);
        assert!(draws.top.iter().any(|&top| top != draws.top[0]), "one offset for all images");
        assert!(draws.top.iter().all(|&top| top <= 8));
    }

    #[test]
    fn brightness_and_contrast_stay_in_range() {
        let augment = Augment { brightness: 0.9, contrast: 0.9, ..Augment::default() };
        let draws = augment.draw(2, &mut ChaCha8Rng::seed_from_u64(5));
        let x = augment.apply(&batch(), &draws).unwrap();
        assert!(x.min().double_value(&[]) >= -1.0 && x.max().double_value(&[]) <= 1.0);
        assert_ne!(x, network_input(&batch()).unwrap());
    }
}
