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
