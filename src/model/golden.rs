//! Golden images: a few pictures of noise and what the network answered to them when it was exported.
//!
//! A loaded model must answer the same before it may serve: a damaged file, a wrong architecture or a
//! broken build shows here and not in somebody's product. Noise, because no person's picture belongs in a
//! model file, and because it is made anew from a seed.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Number of golden images.
const IMAGES: usize = 4;

/// How the factors of a convolution are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Not at all: answers differ by the order of sums alone.
    Float32,
    /// To TF32's 11 bits, as cuDNN does with float32.
    Tf32,
    /// To bfloat16's 8 bits.
    Bf16,
}

/// Golden images and answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Golden {
    /// The noise's seed.
    pub seed: u64,
    /// float32 logits per image, computed on the CPU in float32.
    pub logits: Vec<Vec<f32>>,
}

impl Golden {
    /// The images as uint8 `[IMAGES, size, size, 3]`, row-major, and their number.
    pub fn images(seed: u64, size: u32) -> (Vec<u8>, usize) {
        let side = size as usize;
        let mut pixels = vec![0; IMAGES * side * side * 3];
        ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut pixels);
        (pixels, IMAGES)
    }

    /// Largest absolute difference between `logits` and the golden ones; infinite where shapes differ or a
    /// value is not finite.
    pub fn difference(&self, logits: &[Vec<f32>]) -> f64 {
        let same_shape =
            self.logits.len() == logits.len() && self.logits.iter().zip(logits).all(|(a, b)| a.len() == b.len());
        if !same_shape {
            return f64::INFINITY;
        }
        let pairs = self.logits.iter().flatten().zip(logits.iter().flatten());
        pairs
            .map(|(a, b)| f64::from((a - b).abs()))
            .fold(0.0, |worst, d| if d.is_nan() { f64::INFINITY } else { worst.max(d) })
    }

    /// What difference is allowed where convolutions round as told.
    pub fn allowed(&self, rounding: Rounding) -> f64 {
        let largest = self.logits.iter().flatten().fold(0f32, |most, value| most.max(value.abs()));
        let share = match rounding {
            Rounding::Float32 => 1e-3,
            Rounding::Tf32 => 0.05,
            Rounding::Bf16 => 0.1,
        };
        (1.0 + f64::from(largest)) * share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_images_are_made_anew_from_the_seed() {
        assert_eq!(Golden::images(7, 16), Golden::images(7, 16));
        assert_ne!(Golden::images(7, 16), Golden::images(8, 16));
        assert_eq!(Golden::images(7, 16).0.len(), IMAGES * 16 * 16 * 3);
    }

    #[test]
    fn large_logits_of_either_sign_are_allowed_to_differ_by_more() {
        let allowed = |logits: Vec<f32>, rounding| Golden { seed: 0, logits: vec![logits] }.allowed(rounding);
        for logits in [vec![1.0, -9.0], vec![-1.0, 9.0]] {
            assert_eq!(allowed(logits.clone(), Rounding::Float32), 10.0 * 1e-3);
            assert_eq!(allowed(logits, Rounding::Bf16), 10.0 * 0.1);
        }
    }

    #[test]
    fn a_missing_row_or_a_nan_is_an_infinite_difference() {
        let golden = Golden { seed: 0, logits: vec![vec![1.0, 2.0]] };
        assert_eq!(golden.difference(&[vec![1.0, 2.5]]), 0.5);
        assert_eq!(golden.difference(&[]), f64::INFINITY);
        assert_eq!(golden.difference(&[vec![1.0, f32::NAN]]), f64::INFINITY);
    }
}
