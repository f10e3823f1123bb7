//! A published model on the test images of a data set, be it its own or another.
//!
//! Who labels more images trains again on a new data set with another test sheet; whether the new model is better than the old one can
//! only be told by the same images. What the old one has met in training is counted: of those it knows the answer.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::Path;

use tch::Device;

use super::data::Images;
use super::error::TrainError;
use super::evaluate::{Evaluation, evaluate};
use super::event::{GroupGap, TestMetrics};
use super::figures::figures;
use super::groups::{Answered, by_group};
use crate::dataset::{DatasetError, Manifest, PackedImages, Role};
use crate::model::ModelManifest;
use crate::nn::device::{self, PrecisionWish};
use crate::nn::{self, NnError, file};
use crate::sha256;

/// What is measured, and where.
#[derive(Clone, Copy, Debug)]
pub struct RetestInput<'a> {
    /// The model's description.
    pub model: &'a ModelManifest,
    /// Its weights.
    pub weights: &'a Path,
    /// Their SHA-256.
    pub weights_sha256: &'a str,
    /// The directory of the data set whose test images are asked.
    pub dataset_dir: &'a Path,
    /// The directory of the data set that the model learned from, where it is still there.
    pub trained_on: Option<&'a Path>,
    /// Where the arithmetic runs.
    pub device: Device,
}

/// What a model reached.
#[derive(Clone, Debug, PartialEq)]
pub struct Retested {
    /// The figures, as at the end of a run.
    pub test: TestMetrics,
    /// How many of the test images were among those that the model learned from, with a label or without, by their pixels. None where the data
    /// set that it learned from is gone.
    pub seen_in_training: Option<u64>,
}

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum RetestError {
    /// There is nothing to ask.
    #[error("the data set has no test images: import it with a test sheet")]
    NoTest,
    /// Its images are of a class that the model cannot answer.
    #[error("the data set has test images of the class {class:?}, and the model knows {known}")]
    UnknownClass {
        /// The class.
        class: String,
        /// The model's classes.
        known: String,
    },
    /// As in a run.
    #[error(transparent)]
    Train(#[from] TrainError),
}

impl From<DatasetError> for RetestError {
    fn from(error: DatasetError) -> Self {
        match error {
            DatasetError::Stopped => TrainError::Stopped.into(),
            error => TrainError::from(error).into(),
        }
    }
}

/// Asks the model for every test image of the data set; `stop` is asked between batches.
///
/// # Errors
/// See [`RetestError`].
pub fn retest(input: RetestInput<'_>, stop: &dyn Fn() -> bool) -> Result<Retested, RetestError> {
    let RetestInput { model, device, .. } = input;
    let mut progress = |_done: usize| if stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let mut manifest = Manifest::read(input.dataset_dir)?;
    let rows: Vec<u32> =
        (0..).zip(&manifest.samples).filter(|(_, one)| one.split == Role::Test).map(|(row, _)| row).collect();
    if rows.is_empty() {
        return Err(RetestError::NoTest);
    }
    translate(&mut manifest, &model.classes)?;
    let packed = PackedImages::open_or_build(input.dataset_dir, &manifest, &model.preprocess, &mut progress)?;
    let seen_in_training =
        input.trained_on.map(|directory| seen(model, directory, &packed, &rows, &mut progress)).transpose()?;
    let faceless: Option<Vec<bool>> = packed.faces().map(Iterator::collect);
    let faceless = faceless.map(|found| rows.iter().map(|&row| !found[row as usize]).collect());

    let unreadable = |reason: String| NnError::File { path: input.weights.to_owned(), reason };
    let hash = sha256::of_file(input.weights).map_err(|error| TrainError::from(unreadable(error.to_string())))?;
    if hash != input.weights_sha256 {
        let changed = "its content has changed since it was published; restore it from a backup".to_owned();
        return Err(TrainError::from(unreadable(changed)).into());
    }
    let wish = serde_json::from_value(model.config["precision"].clone()).unwrap_or(PrecisionWish::Auto);
    let compute = device::precision(wish, device).kind;
    let network = nn::build(&model.network, model.head, model.classes.len(), compute).map_err(TrainError::from)?;
    let weights = file::load(network.as_ref(), input.weights, device).map_err(TrainError::from)?;
    let images = Images::new(packed, device).map_err(NnError::from).map_err(TrainError::from)?;
    let truth: Vec<usize> =
        rows.iter().filter_map(|&row| manifest.samples[row as usize].label).map(|label| label as usize).collect();
    let asked = (rows.as_slice(), truth.as_slice());
    let evaluation = evaluate(network.as_ref(), &weights, &images, asked, model.classes.len(), &mut progress)?;
    let positive = model.config["positive_class"].as_str();
    let positive = model.classes.iter().position(|class| Some(class.as_str()) == positive).unwrap_or(0);
    let told = Told { manifest: &manifest, rows: &rows, truth: &truth, evaluation: &evaluation, positive, faceless };
    let epoch = model.validation["epoch"].as_u64().and_then(|epoch| u32::try_from(epoch).ok()).unwrap_or_default();
    Ok(Retested { test: told.metrics(model.temperature, epoch), seen_in_training })
}

/// Labels as the model counts its classes.
fn translate(manifest: &mut Manifest, classes: &[String]) -> Result<(), RetestError> {
    let meant: Vec<Option<u32>> = manifest
        .classes
        .iter()
        .map(|class| (0..).zip(classes).find(|(_, known)| *known == class).map(|(index, _)| index))
        .collect();
    for sample in &mut manifest.samples {
        let Some(label) = sample.label else { continue };
        sample.label = meant[label as usize];
        if sample.label.is_none() && sample.split == Role::Test {
            let class = manifest.classes[label as usize].clone();
            return Err(RetestError::UnknownClass { class, known: classes.join(", ") });
        }
    }
    manifest.classes = classes.to_vec();
    Ok(())
}

/// How many of the test images are among those that the model learned from.
fn seen(
    model: &ModelManifest,
    trained_on: &Path,
    test: &PackedImages,
    rows: &[u32],
    progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<u64, RetestError> {
    let manifest = Manifest::read(trained_on)?;
    let packed = PackedImages::open_or_build(trained_on, &manifest, &model.preprocess, progress)?;
    let learned = manifest.samples.iter().enumerate().filter(|(_, sample)| sample.split == Role::Train);
    let known: HashSet<&[u8]> = learned.map(|(row, _)| packed.image(row)).collect();
    Ok(rows.iter().filter(|&&row| known.contains(test.image(row as usize))).count() as u64)
}

/// Answers to labelled rows of a data set.
pub(super) struct Told<'a> {
    /// The data set; its classes are the model's.
    pub manifest: &'a Manifest,
    /// The rows.
    pub rows: &'a [u32],
    /// Their classes.
    pub truth: &'a [usize],
    /// What was answered.
    pub evaluation: &'a Evaluation,
    /// The class that F1 speaks of.
    pub positive: usize,
    /// In which of them no face was found, where one was looked for.
    pub faceless: Option<Vec<bool>>,
}

impl Told<'_> {
    /// All figures of a test.
    pub fn metrics(&self, temperature: f64, best_epoch: u32) -> TestMetrics {
        let Told { manifest, rows, truth, evaluation, positive, ref faceless } = *self;
        let answered = Answered { manifest, rows, truth, answers: &evaluation.answers, positive };
        let told = (truth, evaluation.logits.as_slice(), evaluation.answers.as_slice());
        let figures = figures(&manifest.classes, positive, told, temperature, faceless.as_deref());
        let groups = by_group(&answered);
        TestMetrics {
            best_epoch,
            loss: evaluation.loss,
            group_gaps: GroupGap::all(&groups.groups, figures.accuracy),
            groups: groups.groups,
            banded_columns: groups.banded,
            skipped_columns: groups.skipped,
            ..figures
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Sample;

    fn manifest(classes: &[&str], labels: &[(u32, Role)]) -> Manifest {
        let samples = labels.iter().enumerate().map(|(at, &(label, split))| Sample {
            image: at.to_string(),
            entry: at as u32,
            label: Some(label),
            split,
            picked: false,
            group: None,
            attributes: Default::default(),
        });
        let classes = classes.iter().map(|&class| class.to_owned()).collect();
        Manifest { classes, samples: samples.collect(), ..Manifest::default() }
    }

    #[test]
    fn labels_are_understood_by_their_names() {
        let known = ["a", "b", "c"].map(str::to_owned);
        let mut same = manifest(&["c", "a"], &[(0, Role::Test), (1, Role::Test), (0, Role::Train)]);
        translate(&mut same, &known).unwrap();
        let labels: Vec<Option<u32>> = same.samples.iter().map(|sample| sample.label).collect();
        assert_eq!((labels, same.classes.as_slice()), (vec![Some(2), Some(0), Some(2)], known.as_slice()));
        // A class that only training images have is nobody's trouble here.
        let mut more = manifest(&["a", "x"], &[(0, Role::Test), (1, Role::Train)]);
        translate(&mut more, &known).unwrap();
        assert_eq!(more.samples[1].label, None);
        let mut other = manifest(&["a", "x"], &[(1, Role::Test)]);
        let refused = translate(&mut other, &known).unwrap_err().to_string();
        assert!(refused.contains("\"x\"") && refused.contains("a, b, c"), "{refused}");
    }
}
