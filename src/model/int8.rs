//! What a model needs to be served in int8, and what it is worth then.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::nn::int8::Ranges;

/// A model in int8.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Int8 {
    /// The ranges of its activations.
    pub ranges: Ranges,
    /// Training images that they are of.
    pub images: u64,
    /// What it answered; absent where it was trained on a processor that is not fast at int8.
    pub measured: Option<Int8Measured>,
}

/// What a model answered in int8 when it was exported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Int8Measured {
    /// float32 logits of the [golden images](super::Golden).
    pub golden: Vec<Vec<f32>>,
    /// How its answers compare.
    pub figures: Int8Figures,
}

/// A model's answers in int8 beside those in the number format that it was judged in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Int8Figures {
    /// On validation images: what decides whether it may be served so.
    pub validation: Int8Agreement,
    /// On test images, where the data set has them.
    pub test: Option<Int8Agreement>,
}

/// Answers in int8 to up to 1,000 images of a split, from all over it, beside those in the number format that the model was judged in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Int8Agreement {
    /// Images compared.
    pub images: u64,
    /// How many were answered with the same class as before.
    pub same: u64,
    /// How many were answered rightly in int8.
    pub right: u64,
    /// How many had been answered rightly before.
    pub right_before: u64,
}

impl Int8Agreement {
    /// Counts.
    pub fn of(truth: &[usize], before: &[usize], int8: &[usize]) -> Self {
        let count = |a: &[usize], b: &[usize]| a.iter().zip(b).filter(|(a, b)| a == b).count() as u64;
        Self {
            images: int8.len() as u64,
            same: count(before, int8),
            right: count(truth, int8),
            right_before: count(truth, before),
        }
    }

    /// At most one image in a hundred, or the only one of fewer, is answered otherwise.
    fn is_near(&self) -> bool {
        self.images > 0 && self.images - self.same <= self.images.div_ceil(100)
    }
}

impl Int8 {
    /// What it answered, where that is so near to what it answers otherwise that it may be served in int8.
    ///
    /// # Errors
    /// Why it may not, as the end of a sentence.
    pub fn trusted(&self) -> Result<&Int8Measured, String> {
        let measured = self.measured.as_ref();
        let measured =
            measured.ok_or("it was trained on a processor that is not fast at int8, so that nothing was measured")?;
        let validation = measured.figures.validation;
        if !validation.is_near() {
            let (apart, images) = (validation.images - validation.same, validation.images);
            return Err(format!(
                "int8 gave {apart} of {images} validation images another class, more than one in a hundred"
            ));
        }
        Ok(measured)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int8(images: u64, same: u64) -> Int8 {
        let validation = Int8Agreement { images, same, ..Int8Agreement::default() };
        let figures = Int8Figures { validation, test: None };
        let measured = Some(Int8Measured { golden: vec![vec![1.0]], figures });
        Int8 { ranges: Ranges::default(), images: 9, measured }
    }

    #[test]
    fn answers_are_counted_against_the_truth_and_those_of_before() {
        let agreement = Int8Agreement::of(&[0, 1, 1, 0, 1], &[0, 1, 0, 0, 0], &[0, 1, 1, 1, 0]);
        assert_eq!(agreement, Int8Agreement { images: 5, same: 3, right: 3, right_before: 3 });
    }

    #[test]
    fn one_image_in_a_hundred_may_be_answered_otherwise() {
        for (images, same) in [(1000, 990), (100, 99), (101, 99), (7, 6), (1, 1)] {
            assert!(int8(images, same).trusted().is_ok(), "{same} of {images}");
        }
        for (images, same) in [(1000, 989), (100, 98), (7, 5)] {
            let told = int8(images, same).trusted().unwrap_err();
            assert_eq!(
                told,
                format!(
                    "int8 gave {} of {images} validation images another class, more than one in a hundred",
                    images - same
                )
            );
        }
        assert!(int8(0, 0).trusted().is_err(), "nothing was compared");
        let told = Int8 { measured: None, ..int8(1, 1) }.trusted().unwrap_err();
        assert!(told.contains("nothing was measured"), "{told}");
    }
}
