//! What a prediction is.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::imaging::ImagingError;

/// What a caller may ask of a prediction.
#[derive(Clone, Copy, Debug, Default)]
pub struct PredictOptions {
    /// Keep only the most probable classes in the answer.
    pub top_k: Option<usize>,
    /// Abstain where the largest probability is below this, 0 to 1.
    pub threshold: Option<f32>,
}

/// One classified image.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Classified {
    /// The most probable class.
    pub label: String,
    /// Its probability.
    pub probability: f32,
    /// Probability per class (the most probable `top_k` of them where asked).
    pub probabilities: BTreeMap<String, f32>,
    /// The largest probability is below the threshold: treat the label as undecided.
    pub abstained: bool,
}

/// Where a request's time went, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Timings {
    /// Decoding and resizing of all images.
    pub decode_ms: f64,
    /// Waiting for the model's thread.
    pub queue_ms: f64,
    /// The network's forward pass (of the whole batch that held these images).
    pub inference_ms: f64,
    /// From the call to the answer.
    pub total_ms: f64,
    /// Images in the batch, those of other requests included.
    pub batch_size: usize,
}

/// The answer to one request.
#[derive(Debug)]
pub struct Prediction {
    /// One result per image, in the request's order; a bad image is its own error and fails no other.
    pub results: Vec<Result<Classified, ImagingError>>,
    /// Where the time went.
    pub timings: Timings,
}

/// One row of probabilities as an answer.
pub(super) fn classified(classes: &[String], probabilities: &[f32], options: PredictOptions) -> Classified {
    let mut ranked: Vec<(&String, f32)> = classes.iter().zip(probabilities.iter().copied()).collect();
    // Stable, so that equal probabilities keep the class order.
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    let (label, probability) = ranked.first().map_or((String::new(), 0.0), |(label, p)| ((*label).clone(), *p));
    let kept = options.top_k.unwrap_or(usize::MAX).max(1);
    let probabilities: BTreeMap<String, f32> =
        ranked.into_iter().take(kept).map(|(class, probability)| (class.clone(), probability)).collect();
    // What is no number is above no threshold.
    let abstained = options.threshold.is_some_and(|threshold| probability.is_nan() || probability < threshold);
    Classified { label, probability, probabilities, abstained }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes() -> Vec<String> {
        ["cat", "dog", "owl"].map(str::to_owned).to_vec()
    }

    #[test]
    fn the_most_probable_class_is_the_label() {
        let result = classified(&classes(), &[0.2, 0.7, 0.1], PredictOptions::default());
        assert_eq!((result.label.as_str(), result.probability, result.abstained), ("dog", 0.7, false));
        assert_eq!(result.probabilities.len(), 3);
    }

    #[test]
    fn top_k_keeps_the_most_probable_and_a_threshold_abstains() {
        let options = PredictOptions { top_k: Some(2), threshold: Some(0.8) };
        let result = classified(&classes(), &[0.2, 0.7, 0.1], options);
        assert_eq!(result.probabilities.keys().collect::<Vec<_>>(), ["cat", "dog"]);
        assert!(result.abstained);
    }

    #[test]
    fn a_probability_that_is_no_number_is_withheld() {
        let options = PredictOptions { top_k: None, threshold: Some(0.5) };
        assert!(classified(&classes(), &[f32::NAN; 3], options).abstained);
    }
}
