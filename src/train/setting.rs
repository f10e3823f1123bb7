//! A run's data and what it is judged by: read, packed and split once, then only looked at.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::checkpoint::{CheckpointError, Snapshot};
use super::config::{AlgorithmName, TrainConfig};
use super::data::Images;
use super::error::TrainError;
use super::evaluate::{Evaluation, evaluate, logits};
use super::event::{Event, LogLevel, Phase};
use super::run::RunInput;
use crate::dataset::faces::{self, Faces};
use crate::dataset::{
    DatasetError, Manifest, PackedImages, Role, Split, nothing_unlabelled, odd_validation, split, unused_picks,
};
use crate::model::SplitSizes;
use crate::nn::{Network, Weights};

/// How often packing says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// A run's data and what it is judged by.
pub(super) struct Setting<'a> {
    pub(super) input: RunInput<'a>,
    pub(super) manifest: Manifest,
    pub(super) split: Split,
    pub(super) images: Images,
    /// Class of each row, where it has one.
    pub(super) labels: Vec<Option<usize>>,
    /// Whether no face was found in a row's image, where one was looked for.
    pub(super) faceless: Option<Vec<bool>>,
}

impl<'a> Setting<'a> {
    /// Reads, packs and splits the data.
    pub(super) fn prepare(
        input: RunInput<'a>,
        stop: &dyn Fn() -> bool,
        emit: &mut dyn FnMut(Event),
    ) -> Result<Self, TrainError> {
        emit(Event::Phase { phase: Phase::Importing });
        let config = input.config;
        let mut manifest = Manifest::read(input.dataset_dir)?;
        // First: it costs nothing, and packing may take an hour.
        let split = split(&manifest, &config.split_spec()).map_err(DatasetError::from)?;
        let packed = pack(&input, &manifest, stop, emit)?;
        let found: Option<Vec<bool>> = packed.faces().map(Iterator::collect);
        if let Some(found) = &found {
            let Faces { told, warnings } = faces::note(&mut manifest, found);
            info(emit, told);
            warnings.iter().for_each(|warning| warn(emit, warning.detail.clone()));
            manifest.warnings.extend(warnings);
        }
        let images = Images::new(packed, input.device)?;
        if stop() {
            return Err(TrainError::Stopped);
        }
        if images.stay_outside() {
            warn(
                emit,
                "the images would take more than half of the GPU's free memory: each batch is sent to it".to_owned(),
            );
        }
        let sizes = sizes(&split, &manifest);
        let guesses = config.algorithm == AlgorithmName::Mixmatch;
        let doubts = [
            odd_validation(&manifest, &split, &config.split_spec()),
            unused_picks(&manifest, &split),
            guesses.then(|| nothing_unlabelled(&manifest, &split)).flatten(),
        ];
        for doubt in doubts.into_iter().flatten() {
            warn(emit, doubt.detail.clone());
            manifest.warnings.push(doubt);
        }
        if let Some(told) = left_out(&sizes) {
            emit(told);
        }
        if sizes.picked > 0 {
            let picked = sizes.picked;
            info(
                emit,
                format!("{picked} of the labelled images were picked: the classes' shares are those of the others"),
            );
        }
        info(emit, parts(&sizes, config, manifest.classes.len()));
        let labels = manifest.samples.iter().map(|sample| sample.label.map(|label| label as usize)).collect();
        let faceless = found.map(|found| found.into_iter().map(|found| !found).collect());
        Ok(Self { input, manifest, split, images, labels, faceless })
    }

    pub(super) fn config(&self) -> &'a TrainConfig {
        self.input.config
    }

    /// What `weights` answer to `rows`; says now and then how far it is, as [`pack`] does.
    pub(super) fn evaluate(
        &self,
        network: &dyn Network,
        weights: &Weights,
        rows: &[u32],
        stop: &dyn Fn() -> bool,
        emit: &mut dyn FnMut(Event),
    ) -> Result<Evaluation, TrainError> {
        let truth = self.truth(rows);
        let mut progress = evaluated(rows.len(), stop, emit);
        evaluate(network, weights, &self.images, (rows, &truth), self.manifest.classes.len(), &mut progress)
    }

    /// The same where not every row has a label: logits and nothing that is counted.
    pub(super) fn logits(
        &self,
        network: &dyn Network,
        weights: &Weights,
        rows: &[u32],
        stop: &dyn Fn() -> bool,
        emit: &mut dyn FnMut(Event),
    ) -> Result<Vec<Vec<f32>>, TrainError> {
        logits(network, weights, &self.images, rows, &mut evaluated(rows.len(), stop, emit))
    }

    /// Puts into a checkpoint whose it is.
    pub(super) fn sign(&self, snapshot: &mut Snapshot) -> Result<(), CheckpointError> {
        snapshot.put("config", self.config())?;
        snapshot.put("dataset_hash", &self.manifest.content_hash)
    }

    /// Refuses a checkpoint of another run.
    pub(super) fn check_own(&self, snapshot: &Snapshot) -> Result<(), CheckpointError> {
        let mut theirs: TrainConfig = snapshot.get("config")?;
        if self.config().algorithm == AlgorithmName::Supervised && self.config().pretrain_epochs == 0 {
            // Supervised runs did not pretrain once, whatever their configuration said (migration 0011).
            theirs.pretrain_epochs = 0;
        }
        if theirs != *self.config() {
            return Err(CheckpointError::Unfit("it was made with another configuration".to_owned()));
        }
        if snapshot.get::<String>("dataset_hash")? != self.manifest.content_hash {
            return Err(CheckpointError::Unfit("it was made with other data".to_owned()));
        }
        Ok(())
    }

    /// Labelled images of each class.
    pub(super) fn labelled_classes(&self) -> Vec<u64> {
        self.count(&self.split.labelled)
    }

    /// Each class's share of the labelled images that were drawn: of picked ones it says nothing of the others.
    pub(super) fn prior(&self) -> Vec<f32> {
        let rows = self.split.labelled.iter().copied();
        let drawn: Vec<u32> = rows.filter(|&row| !self.manifest.samples[row as usize].picked).collect();
        let all = drawn.len().max(1) as f32;
        self.count(&drawn).into_iter().map(|count| count as f32 / all).collect()
    }

    /// Images of each class among `rows`.
    fn count(&self, rows: &[u32]) -> Vec<u64> {
        let mut counts = vec![0; self.manifest.classes.len()];
        self.truth(rows).into_iter().for_each(|class| counts[class] += 1);
        counts
    }

    /// Classes of rows that have one, as validation and test rows all do.
    pub(super) fn truth(&self, rows: &[u32]) -> Vec<usize> {
        rows.iter().filter_map(|&row| self.labels[row as usize]).collect()
    }
}

/// Says now and then how many of `all` images have been evaluated, until `stop`.
fn evaluated(all: usize, stop: &dyn Fn() -> bool, emit: &mut dyn FnMut(Event)) -> impl FnMut(usize) -> ControlFlow<()> {
    let mut told = Instant::now();
    move |done| {
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            info(emit, format!("{done} of {all} images are evaluated"));
        }
        if stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Opens or makes the packed images, and says now and then how far it is: who says nothing for long is taken for hung.
fn pack(
    input: &RunInput<'_>,
    manifest: &Manifest,
    stop: &dyn Fn() -> bool,
    emit: &mut dyn FnMut(Event),
) -> Result<PackedImages, TrainError> {
    let preprocess = input.config.preprocess();
    let (all, side) = (manifest.samples.len(), preprocess.size);
    let mut told = Instant::now();
    let mut progress = |done: usize| {
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            info(emit, format!("{done} of {all} images are decoded and packed at {side}×{side}"));
        }
        if stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    PackedImages::open_or_build(input.dataset_dir, manifest, &preprocess, &mut progress).map_err(|error| match error {
        DatasetError::Stopped => TrainError::Stopped,
        error => error.into(),
    })
}

pub(super) fn sizes(split: &Split, manifest: &Manifest) -> SplitSizes {
    let training = manifest.samples.iter().filter(|sample| sample.split == Role::Train).count();
    SplitSizes {
        labelled: split.labelled.len(),
        unlabelled: split.unlabelled.len(),
        validation: split.validation.len(),
        test: split.test.len(),
        // The labelled ones are among the unlabelled.
        left_out: training.saturating_sub(split.unlabelled.len() + split.validation.len()),
        picked: split.labelled.iter().filter(|&&row| manifest.samples[row as usize].picked).count(),
    }
}

/// What is learned from and judged by.
fn parts(sizes: &SplitSizes, config: &TrainConfig, classes: usize) -> String {
    let SplitSizes { labelled, unlabelled, validation, test, .. } = sizes;
    let unlabelled = if config.sees_unlabelled() {
        format!(", {unlabelled} without their label (the labelled ones among them)")
    } else {
        String::new()
    };
    format!(
        "{labelled} labelled images{unlabelled}, {validation} validation and {test} test images of {classes} classes"
    )
}

/// Where one in so many images that would be learned from is left out, or more, groups may be other than they were meant.
const MANY_LEFT_OUT: usize = 5;

/// That images are left out for their group, louder where they are many.
fn left_out(sizes: &SplitSizes) -> Option<Event> {
    let left_out = sizes.left_out;
    let all = left_out + sizes.unlabelled;
    let mut message = format!(
        "{left_out} of the {all} training images that do not validate are left out: they share the group of a validation image"
    );
    let mut level = LogLevel::Info;
    if left_out * MANY_LEFT_OUT >= all {
        level = LogLevel::Warn;
        message += "; where a cell of the group column means that the group is not known, leave it empty";
    }
    (left_out > 0).then_some(Event::Log { level, message })
}

pub(super) fn info(emit: &mut dyn FnMut(Event), message: String) {
    emit(Event::Log { level: LogLevel::Info, message });
}

pub(super) fn warn(emit: &mut dyn FnMut(Event), message: String) {
    emit(Event::Log { level: LogLevel::Warn, message });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervised_run_claims_no_unlabelled_images_unless_it_pretrains() {
        let sizes = SplitSizes { labelled: 240, unlabelled: 360, validation: 60, test: 80, ..SplitSizes::default() };
        let told = |algorithm, pretrain_epochs| {
            parts(&sizes, &TrainConfig { algorithm, pretrain_epochs, ..TrainConfig::default() }, 2)
        };
        let all = "240 labelled images, 360 without their label (the labelled ones among them), 60 validation and 80 test images \
                   of 2 classes";
        assert_eq!(
            told(AlgorithmName::Supervised, 0),
            "240 labelled images, 60 validation and 80 test images of 2 classes"
        );
        assert_eq!([told(AlgorithmName::Supervised, 5), told(AlgorithmName::Mixmatch, 0)], [all; 2]);
    }

    #[test]
    fn many_images_that_are_left_out_are_a_warning() {
        let told = |left_out, unlabelled| {
            let sizes = SplitSizes { left_out, unlabelled, ..SplitSizes::default() };
            match super::left_out(&sizes) {
                Some(Event::Log { level, message }) => Some((level, message)),
                _ => None,
            }
        };
        assert_eq!(told(0, 80), None);
        assert_eq!(told(19, 81).map(|told| told.0), Some(LogLevel::Info));
        let (level, message) = told(20, 80).unwrap();
        assert_eq!(level, LogLevel::Warn);
        assert!(message.starts_with("20 of the 100") && message.contains("leave it empty"), "{message}");
    }
}
