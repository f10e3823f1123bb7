//! What a published model consists of: `weights.safetensors`, `model.json` and `predictions.csv`. Training writes them,
//! serving reads them; this room owns the format and the check that both ends see the same function.

mod golden;
mod int8;
mod manifest;
pub mod predictions;

pub use golden::{Golden, Rounding};
pub use int8::{Int8, Int8Agreement, Int8Figures, Int8Measured};
pub use manifest::{FORMAT_VERSION, LastEpochs, ModelError, ModelManifest, SplitSizes, TrainingFacts};

#[cfg(test)]
pub(crate) use manifest::tests::manifest as example_manifest;

/// Name of the weights' file in a run's model directory.
pub const WEIGHTS_FILE: &str = "weights.safetensors";

/// Name of the manifest's file in a run's model directory.
pub const MANIFEST_FILE: &str = "model.json";

/// Name of the predictions' file in a run's model directory.
pub const PREDICTIONS_FILE: &str = "predictions.csv";
