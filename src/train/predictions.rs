//! What the chosen weights answer to every image of the data set.

use super::calibration::probabilities;
use super::course::Best;
use super::error::TrainError;
use super::evaluate::Evaluation;
use super::event::Event;
use super::setting::{Setting, info};
use crate::model::predictions::{Prediction, Used};
use crate::nn::Network;

/// Decimals of a probability.
const DIGITS: f64 = 1e6;

/// Of every image, in the data set's order, with probabilities at `temperature`. Validation and `test` have been answered
/// already; the others are now, with the weights of `best`.
///
/// # Errors
/// [`TrainError::Stopped`]; libtorch's.
pub(super) fn predict_all(
    setting: &Setting<'_>,
    (network, best, test): (&dyn Network, &Best, Option<&Evaluation>),
    temperature: f64,
    stop: &dyn Fn() -> bool,
    emit: &mut dyn FnMut(Event),
) -> Result<Vec<Prediction>, TrainError> {
    let samples = &setting.manifest.samples;
    let (split, config) = (&setting.split, setting.config());
    let unlabelled = if config.sees_unlabelled() { Used::Unlabelled } else { Used::Unused };
    let mut used = vec![Used::Unused; samples.len()];
    // The labelled images are among the unlabelled, so they come later.
    for (rows, how) in [
        (&split.unlabelled, unlabelled),
        (&split.labelled, Used::Labelled),
        (&split.validation, Used::Validation),
        (&split.test, Used::Test),
    ] {
        rows.iter().for_each(|&row| used[row as usize] = how);
    }
    let rest: Vec<u32> =
        (0..samples.len() as u32).filter(|&row| !matches!(used[row as usize], Used::Test | Used::Validation)).collect();
    info(emit, format!("{} training images are predicted, to tell which are worth a label", rest.len()));
    let answered = setting.logits(network, &best.weights, &rest, stop, emit)?;
    let known = split.validation.iter().zip(&best.validation.logits);
    let tested = test.into_iter().flat_map(|test| split.test.iter().zip(&test.logits));
    let mut logits: Vec<(u32, &Vec<f32>)> =
        rest.iter().zip(&answered).chain(known).chain(tested).map(|(&row, logits)| (row, logits)).collect();
    logits.sort_unstable_by_key(|(row, _)| *row);
    let classes = &setting.manifest.classes;
    let predict = |(row, logits): (u32, &Vec<f32>)| {
        let sample = &samples[row as usize];
        let (class, probability, margin) = surest(&probabilities(logits, temperature));
        Prediction {
            image: sample.image.clone(),
            used: used[row as usize],
            label: sample.label.and_then(|label| classes.get(label as usize)).cloned(),
            prediction: classes[class].clone(),
            probability: (probability * DIGITS).round() / DIGITS,
            margin: (margin * DIGITS).round() / DIGITS,
            group: sample.group,
        }
    };
    Ok(logits.into_iter().map(predict).collect())
}

/// The most probable class, its probability, and how far the next one is.
fn surest(probabilities: &[f64]) -> (usize, f64, f64) {
    let (mut first, mut second) = ((0, f64::NEG_INFINITY), f64::NEG_INFINITY);
    for (class, &probability) in probabilities.iter().enumerate() {
        if probability > first.1 {
            second = first.1;
            first = (class, probability);
        } else {
            second = second.max(probability);
        }
    }
    (first.0, first.1, first.1 - second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_margin_is_between_the_two_most_probable_wherever_they_stand() {
        for (probabilities, expected) in [
            ([0.5, 0.2, 0.3], (0, 0.5, 0.2)),
            ([0.2, 0.5, 0.3], (1, 0.5, 0.2)),
            ([0.3, 0.2, 0.5], (2, 0.5, 0.2)),
            ([0.4, 0.4, 0.2], (0, 0.4, 0.0)),
        ] {
            let (class, probability, margin) = surest(&probabilities);
            assert_eq!((class, probability), (expected.0, expected.1));
            assert!((margin - expected.2).abs() < 1e-12, "{probabilities:?}");
        }
    }
}
