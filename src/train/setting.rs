//! A run's data and what it is judged by: read, packed and split once, then only looked at.

use super::config::TrainConfig;
use super::data::Images;
use super::error::TrainError;
use super::evaluate::{Evaluation, evaluate};
use super::event::{Event, LogLevel, Phase};
use super::run::RunInput;
use crate::dataset::{Manifest, PackedImages, Split, split};
use crate::model::SplitSizes;
use crate::nn::{Network, Weights};

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
        let manifest = Manifest::read(input.dataset_dir)?;
        let packed = PackedImages::open_or_build(input.dataset_dir, &manifest, &config.preprocess(), &|_| {})?;
        if stop() {
            return Err(TrainError::Stopped);
        }
        let images = Images::new(packed, input.device)?;
        let split = split(&manifest, &config.split_spec())?;
        let sizes = sizes(&split);
        info(
            emit,
            format!(
                "{} labelled, {} unlabelled, {} validation and {} test images of {} classes",
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

    pub(super) fn evaluate(
        &self,
        network: &dyn Network,
        weights: &Weights,
        rows: &[u32],
    ) -> Result<Evaluation, TrainError> {
        evaluate(network, weights, &self.images, rows, &self.truth(rows), self.manifest.classes.len())
    }

    /// Each class's share of the labelled images.
    pub(super) fn prior(&self) -> Vec<f32> {
        let truth = self.truth(&self.split.labelled);
        let share = |class: usize| truth.iter().filter(|&&t| t == class).count() as f32 / truth.len().max(1) as f32;
        (0..self.manifest.classes.len()).map(share).collect()
    }

    /// Classes of rows that have one, as validation and test rows all do.
    pub(super) fn truth(&self, rows: &[u32]) -> Vec<usize> {
        rows.iter().filter_map(|&row| self.labels[row as usize]).collect()
    }
}

pub(super) fn sizes(split: &Split) -> SplitSizes {
    SplitSizes {
        labelled: split.labelled.len(),
        unlabelled: split.unlabelled.len(),
        validation: split.validation.len(),
        test: split.test.len(),
    }
}

pub(super) fn info(emit: &mut dyn FnMut(Event), message: String) {
    emit(Event::Log { level: LogLevel::Info, message });
}

pub(super) fn warn(emit: &mut dyn FnMut(Event), message: String) {
    emit(Event::Log { level: LogLevel::Warn, message });
}
