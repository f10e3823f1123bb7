//! Augmentations of whole batches as tensor operations, on whatever device the images are.
//!
//! Every random choice is drawn on the host, one set for each image ([`Draws`]), and handed over as a few
//! small tensors: the same seed then gives the same pictures on a CPU and on a GPU. Between the first and the
//! last operation pixels are float32 `[B, H, W, 3]` in −1…1, each image one run of memory. An operation touches
//! only the images whose draw changes something, so one that is off costs nothing.

mod colour;
mod draws;
mod erase;
mod geometry;

use serde::{Deserialize, Serialize};
use tch::{Kind, TchError, Tensor};
use utoipa::ToSchema;

use crate::nn::device::send;

pub use draws::{CANDIDATES, Draws};

/// How many of the operations a view gets: `compose`, every one that is on, one after another; `one_of_seven`, exactly one of brightness,
/// contrast, saturation, flip, rotation, grayscale and gamma, and the K views of an image different ones, as in the notebooks that this grew from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AugmentPolicy)]
pub enum Policy {
    /// Every operation that is on, one after another.
    #[default]
    Compose,
    /// Exactly one of seven, each as likely: brightness, contrast, saturation, flip, rotation, grayscale, gamma.
    /// The K views of an image get K different ones.
    OneOfSeven,
}

/// What is seen beyond an image's border when it is rotated or made smaller: `reflect`, the image mirrored at its border; or `black`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AugmentFill)]
pub enum Fill {
    /// The image mirrored at its border: no corner gives the rotation away.
    #[default]
    Reflect,
    /// Black.
    Black,
}

/// What is done to an image. Ranges that are 0 are off.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Augment {
    /// How many of the operations below a view gets.
    pub policy: Policy,
    /// Mirror left to right with probability ½.
    pub flip: bool,
    /// Reflect-pad by so many pixels, then crop at random to the size before; smaller than the image.
    pub pad: u32,
    /// Rotate about the middle by an angle from ± this, degrees.
    pub rotation: f64,
    /// Zoom about the middle by a factor from 1 ± this.
    pub scale: f64,
    /// What rotation and zoom show beyond the border.
    pub fill: Fill,
    /// Multiply by a factor from 1 ± this.
    pub brightness: f64,
    /// Scale about the image's mean luma by a factor from 1 ± this.
    pub contrast: f64,
    /// Scale each pixel about its own luma by a factor from 1 ± this.
    pub saturation: f64,
    /// Turn each pixel's hue by ± this share of the circle.
    pub hue: f64,
    /// Raise to a power from 1 ± this.
    pub gamma: f64,
    /// Probability of losing all colour.
    pub grayscale: f64,
    /// Side of a mid-grey square, as a share of the image's side.
    pub erase: f64,
    /// Cut out a random piece of at least this share of the area, with sides as 4 : 5 to 5 : 4, and enlarge it to the whole
    /// (Inception's crop, as in SimCLR's appendix A); 0 is off. Not together with `rotation` or `scale`.
    pub crop: f64,
}

impl Augment {
    /// The weak half of it: mirroring and cropping alone.
    pub fn weak(&self) -> Self {
        Self { policy: Policy::Compose, flip: self.flip, pad: self.pad, ..Self::default() }
    }

    /// uint8 images `[B, H, W, 3]` → augmented network input `[B, 3, H, W]`, see [`network_input`].
    ///
    /// # Errors
    /// libtorch's, for example for shapes that do not fit.
    pub fn apply(&self, images: &Tensor, draws: &Draws) -> Result<Tensor, TchError> {
        let moves = self.pad > 0 || draws.flip.contains(&true);
        let moved = if moves { geometry::flip_and_crop(images, self.pad, draws)? } else { images.shallow_clone() };
        // Memory of its own from here on: the operations work in place.
        let mut x = unit(&moved)?;
        x = geometry::rotate_and_zoom(x, draws, self.sampling(), self.fill)?;
        if self.crop > 0.0 {
            x = geometry::cut_out(x, &draws.window)?;
        }
        x = colour::contrast(x, &draws.contrast)?;
        x = colour::brightness(x, &draws.brightness)?;
        x = colour::saturation(x, &draws.saturation)?;
        x = colour::hue(x, &draws.hue)?;
        x = colour::gamma(x, &draws.gamma)?;
        x = colour::grayscale(x, &draws.grayscale)?;
        if self.erase > 0.0 {
            x = erase::cutout(x, self.erase, &draws.hole)?;
        }
        x.f_permute([0, 3, 1, 2])
    }

    /// The reference rotated with Pillow, which takes the nearest pixel.
    fn sampling(&self) -> geometry::Sampling {
        match self.policy {
            Policy::Compose => geometry::Sampling::Bilinear,
            Policy::OneOfSeven => geometry::Sampling::Nearest,
        }
    }
}

/// uint8 images `[B, H, W, 3]` → float32 `[B, 3, H, W]` in −1…1, channels_last in memory.
///
/// # Errors
/// libtorch's.
pub fn network_input(images: &Tensor) -> Result<Tensor, TchError> {
    unit(images)?.f_permute([0, 3, 1, 2])
}

/// uint8 → float32 in −1…1, the same shape.
fn unit(images: &Tensor) -> Result<Tensor, TchError> {
    images.f_to_kind(Kind::Float)?.f_div_scalar_(127.5)?.f_sub_scalar_(1.0)
}

/// The rows of a batch for which `changes` holds.
fn rows_where<T>(draws: &[T], changes: impl Fn(&T) -> bool) -> Vec<i64> {
    draws.iter().zip(0..).filter(|(draw, _)| changes(draw)).map(|(_, row)| row).collect()
}

/// Replaces the images `rows` of `x` `[B, H, W, 3]` by what `operation` makes of them; it gets memory that it
/// may change.
fn on_rows(
    mut x: Tensor,
    rows: &[i64],
    operation: impl FnOnce(Tensor) -> Result<Tensor, TchError>,
) -> Result<Tensor, TchError> {
    if rows.is_empty() {
        return Ok(x);
    }
    if rows.len() as i64 == x.size()[0] {
        return operation(x);
    }
    let rows = send(&Tensor::from_slice(rows), x.device())?;
    let changed = operation(x.f_index_select(0, &rows)?)?;
    x.f_index_copy_(0, &rows, &changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use tch::Device;

    fn batch() -> Tensor {
        Tensor::arange(2 * 4 * 4 * 3, (Kind::Int64, Device::Cpu)).to_kind(Kind::Uint8).view([2, 4, 4, 3])
    }

    /// The same at each call, whatever other threads draw from libtorch's own generator.
    fn noise(count: i64, side: i64) -> Tensor {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let pixels: Vec<u8> = (0..count * side * side * 3).map(|_| rng.random()).collect();
        Tensor::from_slice(&pixels).view([count, side, side, 3])
    }

    fn everything() -> Augment {
        Augment {
            policy: Policy::Compose,
            flip: true,
            pad: 2,
            rotation: 30.0,
            scale: 0.4,
            fill: Fill::Reflect,
            brightness: 0.9,
            contrast: 0.9,
            saturation: 0.9,
            hue: 0.5,
            gamma: 0.9,
            grayscale: 0.3,
            erase: 0.5,
            crop: 0.0,
        }
    }

    fn pixels(image: &Tensor) -> Vec<f32> {
        image.contiguous().view([-1]).try_into().unwrap()
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
        assert_eq!(x.stride(), [48, 1, 12, 3], "channels_last in memory");
    }

    #[test]
    fn the_network_gets_channels_last_whatever_was_done() {
        for policy in [Policy::Compose, Policy::OneOfSeven] {
            let augment = Augment { policy, ..everything() };
            let x = augment.apply(&noise(8, 8), &augment.draw(8, &mut ChaCha8Rng::seed_from_u64(1))).unwrap();
            assert_eq!(x.stride(), [192, 1, 24, 3], "{policy:?}");
        }
    }

    #[test]
    fn each_image_has_its_own_draw() {
        let augment = Augment::default();
        let draws = Draws { flip: vec![true, false], brightness: vec![1.0, 0.5], ..Draws::neutral(2, 0) };
        let x = augment.apply(&batch(), &draws).unwrap();
        let plain = network_input(&batch()).unwrap();
        assert_eq!(x.get(0), plain.get(0).flip([2]));
        assert_eq!(x.get(1), (plain.get(1) + 1.0) * 0.5 - 1.0);
    }

    #[test]
    fn an_operation_leaves_the_images_alone_that_did_not_draw_it() {
        let plain = network_input(&noise(4, 8)).unwrap();
        type Change = fn(&mut Draws);
        let one = |change: Change| {
            let mut draws = Draws::neutral(4, 0);
            change(&mut draws);
            Augment::default().apply(&noise(4, 8), &draws).unwrap()
        };
        let alone: [(&str, Change); 9] = [
            ("flip", |draws| draws.flip[2] = true),
            ("brightness", |draws| draws.brightness[2] = 0.7),
            ("contrast", |draws| draws.contrast[2] = 0.7),
            ("saturation", |draws| draws.saturation[2] = 0.7),
            ("hue", |draws| draws.hue[2] = 0.2),
            ("gamma", |draws| draws.gamma[2] = 0.7),
            ("grayscale", |draws| draws.grayscale[2] = true),
            ("rotation", |draws| draws.rotation[2] = 9.0),
            ("scale", |draws| draws.scale[2] = 0.8),
        ];
        for (name, change) in alone {
            let x = one(change);
            for row in 0..4 {
                assert_eq!(x.get(row) == plain.get(row), row != 2, "{name}, image {row}");
            }
        }
    }

    #[test]
    fn all_images_at_once_and_one_after_another_give_the_same() {
        let augment = everything();
        let images = noise(6, 12);
        let draws = augment.draw(6, &mut ChaCha8Rng::seed_from_u64(3));
        let together = augment.apply(&images, &draws).unwrap();
        for row in 0..6 {
            let single = Draws {
                flip: vec![draws.flip[row]],
                top: vec![draws.top[row]],
                left: vec![draws.left[row]],
                brightness: vec![draws.brightness[row]],
                contrast: vec![draws.contrast[row]],
                saturation: vec![draws.saturation[row]],
                hue: vec![draws.hue[row]],
                gamma: vec![draws.gamma[row]],
                grayscale: vec![draws.grayscale[row]],
                rotation: vec![draws.rotation[row]],
                scale: vec![draws.scale[row]],
                hole: vec![draws.hole[row]],
                window: vec![draws.window[row]],
            };
            let alone = augment.apply(&images.narrow(0, row as i64, 1), &single).unwrap();
            let difference = (together.narrow(0, row as i64, 1) - alone).abs().max().double_value(&[]);
            assert!(difference < 1e-5, "image {row}: {difference:e}");
        }
    }

    #[test]
    fn the_erased_square_is_mid_grey_and_hangs_over_the_border() {
        let augment = Augment { erase: 0.5, ..Augment::default() };
        let white = Tensor::full([2, 8, 8, 3], 255, (Kind::Uint8, Device::Cpu));
        let draws = Draws { hole: vec![[0.5, 0.5], [0.0, 0.99]], ..Draws::neutral(2, 0) };
        let x = augment.apply(&white, &draws).unwrap();
        let erased = x.eq(0.0).sum_dim_intlist([1i64].as_slice(), false, Kind::Int64);
        let places = |image: i64| -> Vec<(i64, i64)> {
            (0..8)
                .flat_map(|row| (0..8).map(move |column| (row, column)))
                .filter(|&(row, column)| erased.int64_value(&[image, row, column]) == 3)
                .collect()
        };
        let square = |rows: std::ops::Range<i64>, columns: std::ops::Range<i64>| -> Vec<(i64, i64)> {
            rows.flat_map(|row| columns.clone().map(move |column| (row, column))).collect()
        };
        assert_eq!(places(0), square(2..6, 2..6));
        assert_eq!(places(1), square(0..2, 5..8));
        assert_eq!(x.max().double_value(&[]), 1.0, "the rest stays white");
    }

    #[test]
    fn black_corners_are_black_and_reflected_ones_are_not() {
        let white = Tensor::full([1, 9, 9, 3], 255, (Kind::Uint8, Device::Cpu));
        let draws = Draws { rotation: vec![45.0], ..Draws::neutral(1, 0) };
        let corner = |fill| {
            let x = Augment { fill, ..Augment::default() }.apply(&white, &draws).unwrap();
            x.double_value(&[0, 0, 0, 0])
        };
        assert_eq!(corner(Fill::Black), -1.0);
        assert!(corner(Fill::Reflect) > 0.999);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn pixels_stay_in_range_and_the_seed_decides(seed in 0u64..1000, black in any::<bool>(), one in any::<bool>()) {
            let augment = Augment {
                policy: if one { Policy::OneOfSeven } else { Policy::Compose },
                fill: if black { Fill::Black } else { Fill::Reflect },
                ..everything()
            };
            let images = noise(7, 8);
            let views = || {
                let draws = augment.draw(7, &mut ChaCha8Rng::seed_from_u64(seed));
                augment.apply(&images, &draws).unwrap()
            };
            let x = views();
            let (low, high) = (x.min().double_value(&[]), x.max().double_value(&[]));
            prop_assert!(low >= -1.0 && high <= 1.0, "{low} to {high}");
            prop_assert_eq!(pixels(&x), pixels(&views()));
            prop_assert_ne!(pixels(&x), pixels(&network_input(&images).unwrap()));
        }
    }
}
