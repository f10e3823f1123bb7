//! What a prediction is.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::imaging::{Face, ImagingError};

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
    /// A threshold was given, and the largest probability is below it, or the model wants a face and none was found: treat the label
    /// as undecided.
    pub abstained: bool,
    /// Of a model that cuts photos to the face (`fit: face`): the face that was classified; null where none was found and the
    /// whole picture was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Face>)]
    pub face: Option<Option<Face>>,
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

/// One row of probabilities as an answer; `face` as in [`Classified`].
pub(super) fn classified(
    classes: &[String],
    probabilities: &[f32],
    face: Option<Option<Face>>,
    options: PredictOptions,
) -> Classified {
    let mut ranked: Vec<(&String, f32)> = classes.iter().zip(probabilities.iter().copied()).collect();
    // Stable, so that equal probabilities keep the class order.
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    let (label, probability) = ranked.first().map_or((String::new(), 0.0), |(label, p)| ((*label).clone(), *p));
    let kept = options.top_k.unwrap_or(usize::MAX).max(1);
    let probabilities: BTreeMap<String, f32> =
        ranked.into_iter().take(kept).map(|(class, probability)| (class.clone(), probability)).collect();
    let faceless = matches!(face, Some(None));
    // What is no number is above no threshold.
    let doubtful = |threshold: f32| faceless || probability.is_nan() || probability < threshold;
    let abstained = options.threshold.is_some_and(doubtful);
    Classified { label, probability, probabilities, abstained, face }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes() -> Vec<String> {
        ["cat", "dog", "owl"].map(str::to_owned).to_vec()
    }

    #[test]
    fn the_most_probable_class_is_the_label() {
        let result = classified(&classes(), &[0.2, 0.7, 0.1], None, PredictOptions::default());
        assert_eq!((result.label.as_str(), result.probability, result.abstained), ("dog", 0.7, false));
        assert_eq!(result.probabilities.len(), 3);
    }

    #[test]
    fn top_k_keeps_the_most_probable_and_a_threshold_abstains() {
        let options = PredictOptions { top_k: Some(2), threshold: Some(0.8) };
        let result = classified(&classes(), &[0.2, 0.7, 0.1], None, options);
        assert_eq!(result.probabilities.keys().collect::<Vec<_>>(), ["cat", "dog"]);
        assert!(result.abstained);
    }

    #[test]
    fn what_reaches_the_threshold_is_answered() {
        let abstains = |threshold| {
            let options = PredictOptions { top_k: None, threshold: Some(threshold) };
            classified(&classes(), &[0.25, 0.5, 0.25], None, options).abstained
        };
        assert_eq!([0.25, 0.5, 0.75].map(abstains), [false, false, true]);
    }

    #[test]
    fn a_probability_that_is_no_number_is_withheld() {
        let options = PredictOptions { top_k: None, threshold: Some(0.5) };
        assert!(classified(&classes(), &[f32::NAN; 3], None, options).abstained);
    }

    #[test]
    fn a_picture_without_the_face_that_a_model_wants_is_withheld_where_a_threshold_is_given() {
        let face = Face { left: 1.0, top: 2.0, side: 30.0, roll: -4.0, score: 0.9 };
        let sure = |face, threshold| {
            let options = PredictOptions { top_k: None, threshold };
            classified(&classes(), &[0.0, 1.0, 0.0], face, options)
        };
        assert!(sure(Some(None), Some(0.0)).abstained);
        assert!(!sure(Some(None), None).abstained, "nobody asked it to abstain");
        assert!(!sure(Some(Some(face)), Some(0.9)).abstained);
        assert!(!sure(None, Some(0.9)).abstained, "this model looks for no face");

        let told = |face| serde_json::to_value(sure(face, None)).unwrap();
        assert!(told(None).get("face").is_none());
        assert!(told(Some(None))["face"].is_null());
        assert_eq!(told(Some(Some(face)))["face"]["side"], 30.0);
    }
}
