//! `model.json`: everything about a model but its numbers.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Golden, Int8};
use crate::imaging::Preprocess;
use crate::nn::Head;

/// Version of the format; a reader refuses any other, it never guesses.
pub const FORMAT_VERSION: u32 = 1;

/// A model's description. `config`, `validation` and `test` are kept as JSON: this room reports them and
/// never reads them, so that a later training loop may add to them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelManifest {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// The network, for example `wrn-28-2`.
    pub network: String,
    /// From the network's features to the classes; files from before there was a choice have `linear`.
    #[serde(default)]
    pub head: Head,
    /// Class names in the order of the logits.
    pub classes: Vec<String>,
    /// How an image becomes the network's input.
    pub preprocess: Preprocess,
    /// T of softmax(logits / T), fitted on the validation split (Guo et al. 2017, arXiv 1706.04599).
    #[serde(default = "uncalibrated")]
    pub temperature: f64,
    /// The fully resolved configuration of the run.
    pub config: serde_json::Value,
    /// Content hash of the data set that it learned from.
    pub dataset_hash: String,
    /// The column whose groups (people …) were kept on one side of the split, where one was named.
    #[serde(default)]
    pub group_column: Option<String>,
    /// What the import and the run found doubtful in the data and how it was split.
    #[serde(default)]
    pub data_warnings: Vec<String>,
    /// Images in each part of the split.
    pub split: SplitSizes,
    /// Labels trained with of each class, in class order; empty in older models.
    #[serde(default)]
    pub labelled_classes: Vec<u64>,
    /// The chosen epoch's metrics on the validation split.
    pub validation: serde_json::Value,
    /// What the run's last epochs reached there, without a choice among them; absent in older models.
    #[serde(default)]
    pub last_epochs: Option<LastEpochs>,
    /// Metrics on the test split, where the data set has one.
    pub test: Option<serde_json::Value>,
    /// How the run went; absent in older models.
    #[serde(default)]
    pub training: Option<TrainingFacts>,
    /// RFC 3339.
    pub created_at: String,
    /// What the network answers to a few synthetic images.
    pub golden: Golden,
    /// What it needs to be served in int8; absent in older models and in those that are to be served in float32.
    #[serde(default)]
    pub int8: Option<Int8>,
}

fn uncalibrated() -> f64 {
    1.0
}

/// The end of a run on its validation split, EMA weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LastEpochs {
    /// How many epochs: 20, or all of a shorter run.
    pub epochs: u32,
    /// Median of their validation accuracies.
    pub accuracy_median: f64,
}

/// On what a model was trained, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TrainingFacts {
    /// Wall-clock seconds from reading the data to the last epoch's end.
    pub seconds: f64,
    /// Images from which the backbone learned before, without their labels; absent in older models.
    #[serde(default)]
    pub pretraining_images: Option<u64>,
    /// `cpu` or `cuda:<index>`; of a run that went on after a stop, that of its last part.
    pub device: String,
    /// Number format of activations and convolutions, `bf16` or `float32`; weights are float32. Of a run that went on after a stop, that
    /// of its last part.
    pub precision: String,
    /// Everything that the run was computed on, in the order in which it came to it, for example `bf16 on cuda:0` and then
    /// `float32 on cpu`; of a run that an older version began, what came since; empty in older models.
    #[serde(default)]
    pub computed_on: Vec<String>,
    /// Name and version of the program.
    pub software: String,
}

/// Images in each part of a run's split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SplitSizes {
    /// Labels trained with.
    pub labelled: usize,
    /// Images that may be used without their label, the labelled ones among them: by guesses and by pretraining. A supervised run that
    /// does not pretrain uses none of them so.
    pub unlabelled: usize,
    /// Labelled images that chose the epoch.
    pub validation: usize,
    /// Labelled images evaluated once, at the end.
    pub test: usize,
    /// Training images of a validation image's group (the group column's, or near duplicates of it): not trained on.
    #[serde(default)]
    pub left_out: usize,
    /// Those among the labelled that were picked and not drawn.
    #[serde(default)]
    pub picked: usize,
}

/// Why a manifest could not be read.
#[derive(Debug, thiserror::Error)]
#[error("model file {}: {reason}", path.display())]
pub struct ModelError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl ModelManifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// When the file cannot be read, is no manifest, or is of another format version.
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        let fail = |reason: String| ModelError { path: path.to_owned(), reason };
        let text = std::fs::read(path).map_err(|e| fail(e.to_string()))?;
        let manifest: Self = serde_json::from_slice(&text).map_err(|e| fail(format!("no model manifest: {e}")))?;
        if manifest.format_version != FORMAT_VERSION {
            let found = manifest.format_version;
            return Err(fail(format!("format version {found}, this build reads {FORMAT_VERSION}")));
        }
        if !(manifest.temperature.is_finite() && manifest.temperature > 0.0) {
            return Err(fail(format!("temperature {}, a positive number is needed", manifest.temperature)));
        }
        if manifest.classes.len() < 2 {
            return Err(fail(format!("{} classes, at least 2 are needed", manifest.classes.len())));
        }
        Ok(manifest)
    }

    /// Writes the manifest and syncs the file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        use std::io::Write;
        let text = serde_json::to_vec_pretty(self)?;
        let mut file = std::fs::File::create(path)?;
        file.write_all(&text)?;
        file.sync_all()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::imaging::Fit;

    pub fn manifest() -> ModelManifest {
        ModelManifest {
            format_version: FORMAT_VERSION,
            network: "wrn-10-1".into(),
            head: Head::Linear,
            classes: vec!["a".into(), "b".into()],
            preprocess: Preprocess { size: 32, fit: Fit::Stretch },
            temperature: 1.5,
            config: serde_json::json!({"seed": 1}),
            dataset_hash: "h".into(),
            group_column: Some("person".into()),
            data_warnings: vec!["doubt".into()],
            split: SplitSizes::default(),
            labelled_classes: vec![20, 20],
            validation: serde_json::json!({}),
            last_epochs: Some(LastEpochs { epochs: 20, accuracy_median: 0.9 }),
            training: Some(TrainingFacts { seconds: 1.5, ..TrainingFacts::default() }),
            test: None,
            created_at: "2026-01-01T00:00:00Z".into(),
            golden: Golden { seed: 1, logits: vec![vec![0.0, 1.0]] },
            int8: None,
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.json");
        manifest().write(&path).unwrap();
        assert_eq!(ModelManifest::read(&path).unwrap(), manifest());
    }

    #[test]
    fn a_manifest_of_before_these_fields_is_still_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.json");
        let mut json = serde_json::to_value(manifest()).unwrap();
        for field in ["group_column", "data_warnings", "last_epochs", "training", "temperature", "int8"] {
            assert!(json.as_object_mut().unwrap().remove(field).is_some(), "{field}");
        }
        std::fs::write(&path, json.to_string()).unwrap();
        let read = ModelManifest::read(&path).unwrap();
        assert_eq!((read.last_epochs, read.training, read.temperature), (None, None, 1.0));
    }

    #[test]
    fn a_manifest_that_tells_of_the_last_part_of_a_run_alone_is_still_read() {
        let mut json = serde_json::to_value(manifest()).unwrap();
        assert!(json["training"].as_object_mut().unwrap().remove("computed_on").is_some());
        let read: ModelManifest = serde_json::from_value(json).unwrap();
        assert_eq!(read, manifest());
    }

    #[test]
    fn a_temperature_that_no_probability_comes_of_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.json");
        for temperature in [0.0, -1.0] {
            ModelManifest { temperature, ..manifest() }.write(&path).unwrap();
            let error = ModelManifest::read(&path).unwrap_err().to_string();
            assert!(error.contains("temperature") && error.contains("positive"), "{error}");
        }
    }

    #[test]
    fn another_format_version_is_refused_by_number() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.json");
        ModelManifest { format_version: 99, ..manifest() }.write(&path).unwrap();
        let error = ModelManifest::read(&path).unwrap_err().to_string();
        assert!(error.contains("99") && error.contains("model.json"), "{error}");
    }
}
