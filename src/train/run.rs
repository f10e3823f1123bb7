//! A run from beginning to end: pack, split, train, choose, test, export.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::time::Instant;

use tch::Device;

use super::calibration;
use super::checkpoint::CheckpointPlan;
use super::config::TrainConfig;
use super::course::Best;
use super::epochs::{Trained, train};
use super::error::TrainError;
use super::evaluate::Evaluation;
use super::event::{Event, GroupGap, Phase, TestMetrics};
use super::export::export;
use super::figures::figures;
use super::groups::{Answered, by_group};
use super::predictions::predict_all;
use super::setting::{Setting, info, sizes};
use crate::model::predictions::{self, Prediction};
use crate::model::{FORMAT_VERSION, ModelManifest, PREDICTIONS_FILE, TrainingFacts};
use crate::nn::device;

/// What a run needs to know.
#[derive(Clone, Copy, Debug)]
pub struct RunInput<'a> {
    /// The imported data set's directory.
    pub dataset_dir: &'a Path,
    /// A directory of the run's own.
    pub run_dir: &'a Path,
    /// The resolved configuration.
    pub config: &'a TrainConfig,
    /// Where the arithmetic runs.
    pub device: Device,
    /// The file of `config.pretrained`.
    pub pretrained: Option<&'a Path>,
    /// Where the run's state is kept meanwhile; without, a run that is stopped is lost.
    pub checkpoints: Option<CheckpointPlan<'a>>,
}

/// Trains, and tells through `emit` what happens; `stop` is asked between steps and between the batches of
/// an evaluation. Where `input.checkpoints` holds a
/// usable state of this very run, it goes on from there.
///
/// # Errors
/// See [`TrainError`]. No model is announced then.
pub fn run(input: RunInput<'_>, stop: &dyn Fn() -> bool, emit: &mut dyn FnMut(Event)) -> Result<(), TrainError> {
    let started = Instant::now();
    let setting = Setting::prepare(input, stop, emit)?;
    let prepared = started.elapsed();
    let Trained { best, seconds } = train(&setting, stop, emit)?;
    let training = TrainingFacts {
        seconds: prepared.as_secs_f64() + seconds,
        pretraining_images: Some(if setting.config().pretrain_epochs > 0 {
            setting.split.unlabelled.len() as u64
        } else {
            0
        }),
        device: device::name(input.device),
        precision: device::precision(input.config.precision, input.device).name().to_owned(),
        software: concat!("mixmatch ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    refuse_collapse(&setting, &best)?;
    let truth = setting.truth(&setting.split.validation);
    let temperature = calibration::fit_temperature(&best.validation.logits, &truth);

    emit(Event::Phase { phase: Phase::Evaluating });
    let config = input.config;
    let precision = device::precision(config.precision, input.device);
    let network = super::learner::build_network(config, setting.manifest.classes.len(), precision.kind)?;
    let tested = if setting.split.test.is_empty() {
        info(emit, "the data set has no test sheet: no test figures".to_owned());
        None
    } else {
        let rows = &setting.split.test;
        Some(setting.evaluate(network.as_ref(), &best.weights, rows, stop, emit)?)
    };
    let test = tested.as_ref().map(|evaluation| test_metrics(&setting, &best, evaluation, temperature));
    if let Some(test) = &test {
        emit(Event::Test(test.clone()));
    }
    let answers = (network.as_ref(), &best, tested.as_ref());
    let predictions = predict_all(&setting, answers, temperature, stop, emit)?;

    emit(Event::Phase { phase: Phase::Exporting });
    let manifest = &setting.manifest;
    let describe = |golden| ModelManifest {
        format_version: FORMAT_VERSION,
        network: config.network.clone(),
        head: config.head,
        classes: manifest.classes.clone(),
        preprocess: config.preprocess(),
        temperature,
        config: serde_json::to_value(config).unwrap_or_default(),
        dataset_hash: manifest.content_hash.clone(),
        group_column: manifest.group_column.clone(),
        data_warnings: manifest.warnings.iter().map(|warning| warning.detail.clone()).collect(),
        split: sizes(&setting.split, &setting.manifest),
        labelled_classes: setting.labelled_classes(),
        validation: serde_json::to_value(&best.metrics).unwrap_or_default(),
        last_epochs: Some(best.last),
        training: Some(training.clone()),
        test: test.as_ref().and_then(|test| serde_json::to_value(test).ok()),
        created_at: jiff::Timestamp::now().to_string(),
        golden,
    };
    let directory = export(input.run_dir, config, &best.weights, describe, manifest.classes.len())?;
    write_predictions(&directory.join(PREDICTIONS_FILE), &predictions)?;
    emit(Event::Model { directory });
    Ok(())
}

fn write_predictions(path: &Path, rows: &[Prediction]) -> Result<(), TrainError> {
    let written = File::create(path).and_then(|file| {
        let mut writer = BufWriter::new(file);
        predictions::write(rows, &mut writer)?;
        writer.into_inner()?.sync_all()
    });
    written.map_err(|source| TrainError::RunDirectory { path: path.display().to_string(), source })
}

fn refuse_collapse(setting: &Setting<'_>, best: &Best) -> Result<(), TrainError> {
    match best.validation.confusion.collapse() {
        None => Ok(()),
        Some(collapse) => Err(TrainError::Collapsed {
            class: setting.manifest.classes[collapse.starved].clone(),
            answered: collapse.answered * 100.0,
            due: collapse.due * 100.0,
            most: setting.manifest.classes[collapse.most].clone(),
            most_answered: collapse.most_answered * 100.0,
            // The chosen epoch may lie before the first guess.
            advice: match best.metrics.lambda_u {
                None => "train for more steps or label more images",
                Some(_) => "lower lambda_u, raise ramp or label more images",
            },
        }),
    }
}

/// What the chosen weights answered to the test split.
fn test_metrics(setting: &Setting<'_>, best: &Best, evaluation: &Evaluation, temperature: f64) -> TestMetrics {
    let (manifest, rows) = (&setting.manifest, &setting.split.test);
    let classes = &manifest.classes;
    let truth = setting.truth(rows);
    let positive = setting.config().positive_index(classes);
    let answered = Answered { manifest, rows, truth: &truth, answers: &evaluation.answers, positive };
    let faceless = setting.faceless.as_ref();
    let faceless: Option<Vec<bool>> = faceless.map(|all| rows.iter().map(|&row| all[row as usize]).collect());
    let told = (truth.as_slice(), evaluation.logits.as_slice(), evaluation.answers.as_slice());
    let figures = figures(classes, positive, told, temperature, faceless.as_deref());
    let groups = by_group(&answered);
    TestMetrics {
        best_epoch: best.metrics.epoch,
        loss: evaluation.loss,
        group_gaps: GroupGap::all(&groups.groups, figures.accuracy),
        groups: groups.groups,
        banded_columns: groups.banded,
        skipped_columns: groups.skipped,
        ..figures
    }
}
