//! A run from beginning to end: pack, split, train, choose, test, export.

use std::path::Path;
use std::time::{Duration, Instant};

use tch::Device;

use super::calibration;
use super::config::TrainConfig;
use super::data::Images;
use super::error::TrainError;
use super::evaluate::{Evaluation, evaluate};
use super::event::{EpochMetrics, Event, GroupGap, LogLevel, Phase, TestMetrics};
use super::export::export;
use super::figures::figures;
use super::groups::{Answered, by_group};
use super::learner::{Learner, learning_rate};
use super::progress::{EpochSums, Pace, finite};
use super::start;
use super::watch::Watch;
use crate::dataset::{Manifest, PackedImages, Split, split};
use crate::model::{FORMAT_VERSION, LastEpochs, ModelManifest, SplitSizes, TrainingFacts};
use crate::nn::{Weights, device};
use crate::statistics::median;

/// Labelled training images that are evaluated each epoch.
const TRAIN_SAMPLE: usize = 1000;

/// Epochs that the running median of the validation accuracy is taken over.
const LAST_EPOCHS: usize = 20;

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
}

/// A run's data and what it is judged by.
struct Setting<'a> {
    input: RunInput<'a>,
    manifest: Manifest,
    split: Split,
    images: Images,
    /// Class of each row, where it has one.
    labels: Vec<Option<usize>>,
}

/// The best epoch so far.
struct Best {
    weights: Weights,
    metrics: EpochMetrics,
    validation: Evaluation,
    /// What the last epochs reached, the best or not.
    last: LastEpochs,
}

/// Trains, and tells through `emit` what happens; `stop` is asked between steps.
///
/// # Errors
/// See [`TrainError`]. No model is announced then.
pub fn run(input: RunInput<'_>, stop: &dyn Fn() -> bool, emit: &mut dyn FnMut(Event)) -> Result<(), TrainError> {
    let started = Instant::now();
    let setting = prepare(input, stop, emit)?;
    emit(Event::Phase { phase: Phase::Training });
    let best = train(&setting, stop, emit)?;
    let training = TrainingFacts {
        seconds: started.elapsed().as_secs_f64(),
        device: device::name(input.device),
        precision: device::precision(input.config.precision, input.device).name().to_owned(),
        software: concat!("mixmatch ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    refuse_collapse(&setting, &best)?;
    let truth = setting.truth(&setting.split.validation);
    let temperature = calibration::fit_temperature(&best.validation.logits, &truth);

    let test = if setting.split.test.is_empty() {
        info(emit, "the data set has no test sheet: no test figures".to_owned());
        None
    } else {
        emit(Event::Phase { phase: Phase::Evaluating });
        let test = test_metrics(&setting, &best, temperature)?;
        emit(Event::Test(test.clone()));
        Some(test)
    };

    emit(Event::Phase { phase: Phase::Exporting });
    let config = input.config;
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
        split: sizes(&setting.split),
        validation: serde_json::to_value(&best.metrics).unwrap_or_default(),
        last_epochs: Some(best.last),
        training: Some(training.clone()),
        test: test.as_ref().and_then(|test| serde_json::to_value(test).ok()),
        created_at: jiff::Timestamp::now().to_string(),
        golden,
    };
    let directory = export(input.run_dir, config, &best.weights, describe, manifest.classes.len())?;
    emit(Event::Model { directory });
    Ok(())
}

/// Reads, packs and splits the data.
fn prepare<'a>(
    input: RunInput<'a>,
    stop: &dyn Fn() -> bool,
    emit: &mut dyn FnMut(Event),
) -> Result<Setting<'a>, TrainError> {
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
    Ok(Setting { input, manifest, split, images, labels })
}

/// All epochs; gives the best by validation.
fn train(setting: &Setting<'_>, stop: &dyn Fn() -> bool, emit: &mut dyn FnMut(Event)) -> Result<Best, TrainError> {
    let Setting { input, split, images, labels, .. } = setting;
    let config = input.config;
    let classes = setting.manifest.classes.len();
    let precision = device::precision(config.precision, input.device);
    info(emit, format!("{} on {:?}: {}", precision.name(), input.device, precision.reason));
    let mut learner = Learner::new(config, split, labels, &setting.prior(), input.device, precision.kind)?;
    if let Some(path) = input.pretrained {
        info(emit, start::load(&mut learner, config, path)?);
    }
    let mut pace = Pace::new(config);
    let mut best: Option<Best> = None;
    let mut watch = Watch::new(&setting.manifest.classes, &setting.prior());
    let mut accuracies = Vec::new();

    for epoch in 1..=config.epochs {
        let (started, mut training, mut sums) = (Instant::now(), Duration::ZERO, EpochSums::new());
        for _ in 0..config.steps_per_epoch {
            if stop() {
                return Err(TrainError::Stopped);
            }
            let at = Instant::now();
            sums.add(&learner.step(config, images, labels, classes)?)?;
            training += at.elapsed();
            if let Some(progress) = pace.step(at.elapsed(), epoch, &sums)? {
                emit(Event::Step(progress));
            }
        }
        let validation = setting.evaluate(&learner, &learner.average, &split.validation)?;
        let raw = setting.evaluate(&learner, &learner.weights, &split.validation)?;
        let sample = &split.labelled[..split.labelled.len().min(TRAIN_SAMPLE)];
        let on_train = setting.evaluate(&learner, &learner.average, sample)?;
        let positive = config.positive_index(&setting.manifest.classes);
        accuracies.push(validation.confusion.accuracy());
        let recent = &accuracies[accuracies.len().saturating_sub(LAST_EPOCHS)..];
        let last = LastEpochs { epochs: recent.len() as u32, accuracy_median: median(recent).unwrap_or_default() };
        let mut metrics = EpochMetrics {
            epoch,
            step: pace.done(),
            loss: finite(sums.loss()?, pace.done())?,
            loss_labelled: sums.labelled()?,
            loss_unlabelled: sums.unlabelled()?,
            lambda_u: sums.lambda_u,
            learning_rate: learning_rate(config, pace.done().saturating_sub(1)),
            guess_confidence: sums.confidence()?,
            guess_classes: sums.guess_classes()?,
            train_accuracy: on_train.confusion.accuracy(),
            validation_loss: validation.loss,
            validation_accuracy: validation.confusion.accuracy(),
            validation_f1: validation.confusion.f1(positive),
            validation_f1_macro: validation.confusion.f1_macro(),
            validation_accuracy_raw: Some(raw.confusion.accuracy()),
            validation_accuracy_median: Some(last.accuracy_median),
            validation_classes: validation.confusion.answer_shares(),
            warnings: Vec::new(),
            seconds: started.elapsed().as_secs_f64(),
            images_per_second: f64::from(config.batch) * f64::from(config.steps_per_epoch) / training.as_secs_f64(),
        };
        for message in watch.look(&mut metrics) {
            emit(Event::Log { level: LogLevel::Warn, message });
        }
        emit(Event::Epoch(metrics.clone()));
        if best.as_ref().is_none_or(|best| better(&metrics, &best.metrics)) {
            let mut weights = Weights::zeros(learner.network.layout(), input.device)?;
            weights.copy_from(&learner.average)?;
            best = Some(Best { weights, metrics, validation, last });
        } else if let Some(best) = &mut best {
            best.last = last;
        }
    }
    // `epochs` is at least 1 (checked where configurations are resolved), so that there is a best one.
    best.ok_or(TrainError::Stopped)
}

impl Setting<'_> {
    fn evaluate(&self, learner: &Learner, weights: &Weights, rows: &[u32]) -> Result<Evaluation, TrainError> {
        evaluate(learner.network.as_ref(), weights, &self.images, rows, &self.truth(rows), self.manifest.classes.len())
    }

    /// Each class's share of the labelled images.
    fn prior(&self) -> Vec<f32> {
        let truth = self.truth(&self.split.labelled);
        let share = |class: usize| truth.iter().filter(|&&t| t == class).count() as f32 / truth.len().max(1) as f32;
        (0..self.manifest.classes.len()).map(share).collect()
    }

    /// Classes of rows that have one, as validation and test rows all do.
    fn truth(&self, rows: &[u32]) -> Vec<usize> {
        rows.iter().filter_map(|&row| self.labels[row as usize]).collect()
    }
}

/// Higher validation accuracy; ties go to the lower loss.
fn better(a: &EpochMetrics, b: &EpochMetrics) -> bool {
    (a.validation_accuracy, -a.validation_loss) > (b.validation_accuracy, -b.validation_loss)
}

fn refuse_collapse(setting: &Setting<'_>, best: &Best) -> Result<(), TrainError> {
    match best.validation.confusion.collapse() {
        None => Ok(()),
        Some((class, answered, true_share)) => Err(TrainError::Collapsed {
            class: setting.manifest.classes[class].clone(),
            answered: answered * 100.0,
            true_share: true_share * 100.0,
        }),
    }
}

/// The test split, once, with the chosen weights.
fn test_metrics(setting: &Setting<'_>, best: &Best, temperature: f64) -> Result<TestMetrics, TrainError> {
    let (config, manifest) = (setting.input.config, &setting.manifest);
    let classes = &manifest.classes;
    let precision = device::precision(config.precision, setting.input.device);
    let network = super::learner::build_network(config, classes.len(), precision.kind)?;
    let rows = &setting.split.test;
    let truth = setting.truth(rows);
    let evaluation = evaluate(network.as_ref(), &best.weights, &setting.images, rows, &truth, classes.len())?;
    let positive = config.positive_index(classes);
    let answered = Answered { manifest, rows, truth: &truth, answers: &evaluation.answers, positive };
    let figures = figures(classes, positive, (&truth, &evaluation.logits, &evaluation.answers), temperature);
    let groups = by_group(&answered);
    Ok(TestMetrics {
        best_epoch: best.metrics.epoch,
        loss: evaluation.loss,
        group_gaps: GroupGap::all(&groups.groups, figures.accuracy),
        groups: groups.groups,
        banded_columns: groups.banded,
        skipped_columns: groups.skipped,
        ..figures
    })
}

fn sizes(split: &Split) -> SplitSizes {
    SplitSizes {
        labelled: split.labelled.len(),
        unlabelled: split.unlabelled.len(),
        validation: split.validation.len(),
        test: split.test.len(),
    }
}

fn info(emit: &mut dyn FnMut(Event), message: String) {
    emit(Event::Log { level: LogLevel::Info, message });
}
