//! A run's data and what it is judged by: read, packed and split once, then only looked at.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::checkpoint::{CheckpointError, Snapshot};
use super::config::{AlgorithmName, TrainConfig};
use super::data::Images;
use super::error::TrainError;
use super::evaluate::{Evaluation, evaluate};
use super::event::{Event, LogLevel, Phase};
use super::run::RunInput;
use crate::dataset::faces::{self, Faces};
use crate::dataset::{DatasetError, Manifest, PackedImages, Role, Split, split};
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
        let split = split(&manifest, &config.split_spec())?;
        let packed = pack(&input, &manifest, stop, emit)?;
        if let Some(found) = packed.faces() {
            let Faces { told, warnings } = faces::note(&mut manifest, &found.collect::<Vec<_>>());
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
        if sizes.left_out > 0 {
            let left_out = sizes.left_out;
            info(emit, format!("{left_out} training images are left out: they share the group of a validation image"));
        }
        info(
            emit,
            format!(
                "{} labelled images, {} without their label (the labelled ones among them), {} validation and {} test images of {} classes",
                sizes.labelled,
                sizes.unlabelled,
                sizes.validation,
                sizes.test,
                manifest.classes.len()
            ),
        );
        let labels = manifest.samples.iter().map(|sample| sample.label.map(|label| label as usize)).collect();
        Ok(Self { input, manifest, split, images, labels })
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
        let mut told = Instant::now();
        let mut progress = |done: usize| {
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                info(emit, format!("{done} of {} images are evaluated", rows.len()));
            }
            if stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let truth = self.truth(rows);
        evaluate(network, weights, &self.images, (rows, &truth), self.manifest.classes.len(), &mut progress)
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
        let mut counts = vec![0; self.manifest.classes.len()];
        self.truth(&self.split.labelled).into_iter().for_each(|class| counts[class] += 1);
        counts
    }

    /// Each class's share of the labelled images.
    pub(super) fn prior(&self) -> Vec<f32> {
        let all = self.split.labelled.len().max(1) as f32;
        self.labelled_classes().into_iter().map(|count| count as f32 / all).collect()
    }

    /// Classes of rows that have one, as validation and test rows all do.
    pub(super) fn truth(&self, rows: &[u32]) -> Vec<usize> {
        rows.iter().filter_map(|&row| self.labels[row as usize]).collect()
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
    }
}

pub(super) fn info(emit: &mut dyn FnMut(Event), message: String) {
    emit(Event::Log { level: LogLevel::Info, message });
}

pub(super) fn warn(emit: &mut dyn FnMut(Event), message: String) {
    emit(Event::Log { level: LogLevel::Warn, message });
}
