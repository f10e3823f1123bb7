//! The moving part of a run: what changes from step to step and from epoch to epoch. All of it is in a checkpoint,
//! so that a run which is killed between two steps ends with the very bits that it would have ended with.

use std::path::Path;
use std::time::{Duration, Instant};

use tch::Tensor;

use super::checkpoint::{CheckpointError, Checkpoints, Snapshot};
use super::config::TrainConfig;
use super::error::TrainError;
use super::evaluate::Evaluation;
use super::event::{EpochMetrics, Event};
use super::learner::{Learner, learning_rate, restore_weights, save_weights};
use super::metrics::Confusion;
use super::progress::{EpochSums, Pace, finite};
use super::setting::{Setting, info, warn};
use super::start;
use super::watch::Watch;
use crate::failpoint;
use crate::model::LastEpochs;
use crate::nn::{NnError, Weights, device};
use crate::statistics::median;

/// Labelled training images that are evaluated each epoch.
const TRAIN_SAMPLE: usize = 1000;

/// Epochs that the running median of the validation accuracy is taken over.
const LAST_EPOCHS: usize = 20;

/// The best epoch so far.
pub(super) struct Best {
    pub(super) weights: Weights,
    pub(super) metrics: EpochMetrics,
    pub(super) validation: Evaluation,
    /// What the last epochs reached, the best or not.
    pub(super) last: LastEpochs,
}

/// What training left.
pub(super) struct Trained {
    pub(super) best: Best,
    /// Wall-clock seconds of all attempts, as far as their steps count.
    pub(super) seconds: f64,
}

/// All epochs; gives the best by validation.
pub(super) fn train(
    setting: &Setting<'_>,
    stop: &dyn Fn() -> bool,
    emit: &mut dyn FnMut(Event),
) -> Result<Trained, TrainError> {
    let config = setting.config();
    let mut keeper = Keeper::open(setting, emit)?;
    let mut course = keeper.begin(setting, emit)?;
    emit(Event::Start { step: course.pace.done(), epoch: course.rows.len() as u32 });
    for row in &course.rows {
        emit(Event::Epoch(row.clone()));
    }
    while course.rows.len() < config.epochs as usize {
        while course.sums.steps() < config.steps_per_epoch {
            if stop() {
                keeper.keep(&course, setting, emit)?;
                return Err(TrainError::Stopped);
            }
            course.step(setting, emit)?;
            // Not after an epoch's last step: the state behind its evaluation is worth more, and has the same number.
            if course.sums.steps() < config.steps_per_epoch && keeper.due(false) {
                keeper.keep(&course, setting, emit)?;
            }
        }
        match course.end_epoch(setting, stop, emit) {
            // Of the epoch only its evaluation is lost: all its steps are in the checkpoint.
            Err(TrainError::Stopped) => {
                keeper.keep(&course, setting, emit)?;
                return Err(TrainError::Stopped);
            }
            ended => ended?,
        }
        // The last one always: what comes behind it may fail, and training is what took long.
        if keeper.due(true) || course.rows.len() == config.epochs as usize {
            keeper.keep(&course, setting, emit)?;
        }
    }
    let seconds = course.seconds();
    // `epochs` is at least 1 (checked where configurations are resolved), so that there is a best one.
    course.best.map(|best| Trained { best, seconds }).ok_or(TrainError::Stopped)
}

/// Writes checkpoints, where the run has a place for them.
struct Keeper {
    checkpoints: Option<Checkpoints>,
    /// The last one could not be written, and that was told.
    failing: bool,
}

impl Keeper {
    fn open(setting: &Setting<'_>, emit: &mut dyn FnMut(Event)) -> Result<Self, TrainError> {
        let Some(plan) = setting.input.checkpoints else { return Ok(Self { checkpoints: None, failing: false }) };
        let checkpoints = match Checkpoints::open(plan) {
            Ok(checkpoints) => Some(checkpoints),
            Err(error) if is_no_directory(plan.directory) => {
                warn(emit, format!("{error}; this run goes on without checkpoints"));
                None
            }
            Err(error) => return Err(TrainError::Resume(error)),
        };
        Ok(Self { checkpoints, failing: false })
    }

    /// From the newest checkpoint that is whole and fits, else from the start.
    fn begin(&mut self, setting: &Setting<'_>, emit: &mut dyn FnMut(Event)) -> Result<Course, TrainError> {
        let (config, input) = (setting.config(), &setting.input);
        let precision = device::precision(config.precision, input.device);
        info(emit, format!("{} on {:?}: {}", precision.name(), input.device, precision.reason));
        if let Some(checkpoints) = &mut self.checkpoints {
            let mut refused = 0;
            let restored = checkpoints.newest(
                |snapshot| Course::restore(setting, snapshot),
                |error| {
                    refused += 1;
                    warn(emit, format!("{error}; it is set aside"));
                },
            );
            let restored = restored.map_err(TrainError::Resume)?;
            if let Some(course) = restored {
                let (step, epochs) = (course.pace.done(), course.rows.len());
                info(emit, format!("goes on from the checkpoint after step {step}, with {epochs} epochs done"));
                return Ok(course);
            }
            if refused > 0 {
                warn(emit, "no checkpoint can be used: the run begins anew".to_owned());
            }
        }
        let mut course = Course::new(setting)?;
        if let Some(path) = input.pretrained {
            info(emit, start::load(&mut course.learner, config, path)?);
        }
        Ok(course)
    }

    fn due(&self, epoch_ends: bool) -> bool {
        self.checkpoints.as_ref().is_some_and(|checkpoints| checkpoints.due(epoch_ends))
    }

    /// Writes where the run stands. That it cannot be written ends nothing; that the loss is no number does.
    fn keep(&mut self, course: &Course, setting: &Setting<'_>, emit: &mut dyn FnMut(Event)) -> Result<(), TrainError> {
        let Some(checkpoints) = &mut self.checkpoints else { return Ok(()) };
        let step = course.pace.done();
        if course.sums.steps() > 0 {
            // A run must not go on from what is broken already.
            finite(course.sums.loss()?, step)?;
        }
        match checkpoints.save(step, || course.save(setting)) {
            Ok(()) => {
                if std::mem::take(&mut self.failing) {
                    info(emit, "checkpoints can be written again".to_owned());
                }
                emit(Event::Checkpoint { step });
            }
            Err(error) if !self.failing => {
                self.failing = true;
                warn(emit, format!("{error}; the run goes on, and would start again from the one before"));
            }
            Err(_) => {}
        }
        Ok(())
    }
}

/// Whether there is surely no directory at `path`, and so nothing in it to go on from.
fn is_no_directory(path: &Path) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    match std::fs::metadata(path) {
        Ok(metadata) => !metadata.is_dir(),
        Err(error) => matches!(error.kind(), NotFound | NotADirectory),
    }
}

/// Where a run stands between two steps.
struct Course {
    learner: Learner,
    pace: Pace,
    /// The epoch under way.
    sums: EpochSums,
    epoch: EpochClock,
    /// The epochs that have ended.
    rows: Vec<EpochMetrics>,
    watch: Watch,
    best: Option<Best>,
    started: Instant,
    /// What earlier attempts spent on the steps before.
    earlier: Duration,
}

/// The time that an epoch takes, over all attempts at it.
struct EpochClock {
    since: Instant,
    /// Before `since`, in an earlier attempt.
    earlier: Duration,
    /// Of all that, in steps.
    training: Duration,
}

impl EpochClock {
    fn new() -> Self {
        Self { since: Instant::now(), earlier: Duration::ZERO, training: Duration::ZERO }
    }

    fn elapsed(&self) -> Duration {
        self.earlier + self.since.elapsed()
    }
}

impl Course {
    fn new(setting: &Setting<'_>) -> Result<Self, TrainError> {
        let (config, input, prior) = (setting.config(), &setting.input, setting.prior());
        let precision = device::precision(config.precision, input.device);
        Ok(Self {
            learner: Learner::new(config, &setting.split, &setting.labels, &prior, input.device, precision.kind)?,
            pace: Pace::new(config, 0),
            sums: EpochSums::new(),
            epoch: EpochClock::new(),
            rows: Vec::new(),
            watch: Watch::new(&setting.manifest.classes, &prior),
            best: None,
            started: Instant::now(),
            earlier: Duration::ZERO,
        })
    }

    fn seconds(&self) -> f64 {
        (self.earlier + self.started.elapsed()).as_secs_f64()
    }

    fn step(&mut self, setting: &Setting<'_>, emit: &mut dyn FnMut(Event)) -> Result<(), TrainError> {
        let (config, classes) = (setting.config(), setting.manifest.classes.len());
        let at = Instant::now();
        failpoint::pass("train.step").map_err(|error| NnError::Shim(error.to_string()))?;
        let step = self.learner.step(config, &setting.images, &setting.labels, classes)?;
        self.sums.add(&step)?;
        if let Some(note) = step.note {
            info(emit, note);
        }
        self.epoch.training += at.elapsed();
        if let Some(progress) = self.pace.step(at.elapsed(), self.rows.len() as u32 + 1, &self.sums)? {
            emit(Event::Step(progress));
        }
        Ok(())
    }

    /// Evaluates, tells, and compares with the best. Stopped while it evaluates, it has changed nothing.
    fn end_epoch(
        &mut self,
        setting: &Setting<'_>,
        stop: &dyn Fn() -> bool,
        emit: &mut dyn FnMut(Event),
    ) -> Result<(), TrainError> {
        let Self { learner, sums, pace, .. } = self;
        let (config, split) = (setting.config(), &setting.split);
        let network = learner.network.as_ref();
        let sample = &split.labelled[..split.labelled.len().min(TRAIN_SAMPLE)];
        let mut evaluate = |weights, rows| setting.evaluate(network, weights, rows, stop, emit);
        let validation = evaluate(&learner.average, &split.validation)?;
        let raw = evaluate(&learner.weights, &split.validation)?;
        let on_train = evaluate(&learner.average, sample)?;
        let positive = config.positive_index(&setting.manifest.classes);
        let accuracy = validation.confusion.accuracy();
        let last = last_epochs(&self.rows, accuracy);
        let mut metrics = EpochMetrics {
            epoch: self.rows.len() as u32 + 1,
            step: pace.done(),
            loss: finite(sums.loss()?, pace.done())?,
            loss_labelled: sums.labelled()?,
            loss_unlabelled: sums.unlabelled()?,
            lambda_u: sums.lambda_u,
            learning_rate: learning_rate(config, pace.done().saturating_sub(1)),
            guess_confidence: sums.confidence()?,
            guess_classes: sums.guess_classes()?,
            train_accuracy: on_train.confusion.accuracy(),
            validation_loss: finite(validation.loss, pace.done())?,
            validation_accuracy: accuracy,
            validation_f1: validation.confusion.f1(positive),
            validation_f1_macro: validation.confusion.f1_macro(),
            validation_accuracy_raw: Some(raw.confusion.accuracy()),
            validation_accuracy_median: Some(last.accuracy_median),
            validation_classes: validation.confusion.answer_shares(),
            warnings: Vec::new(),
            seconds: self.epoch.elapsed().as_secs_f64(),
            images_per_second: images(config) / self.epoch.training.as_secs_f64(),
        };
        for message in self.watch.look(&mut metrics) {
            warn(emit, message);
        }
        emit(Event::Epoch(metrics.clone()));
        self.rows.push(metrics.clone());
        (self.sums, self.epoch) = (EpochSums::new(), EpochClock::new());
        if self.best.as_ref().is_none_or(|best| better(&metrics, &best.metrics)) {
            let mut weights = Weights::zeros(self.learner.network.layout(), setting.input.device)?;
            weights.copy_from(&self.learner.average)?;
            self.best = Some(Best { weights, metrics, validation, last });
        } else if let Some(best) = &mut self.best {
            best.last = last;
        }
        Ok(())
    }

    fn save(&self, setting: &Setting<'_>) -> Result<Snapshot, CheckpointError> {
        let mut snapshot = Snapshot::default();
        snapshot.put("software", &concat!("mixmatch ", env!("CARGO_PKG_VERSION")))?;
        snapshot.put("config", setting.config())?;
        snapshot.put("dataset_hash", &setting.manifest.content_hash)?;
        self.learner.save(&mut snapshot)?;
        self.sums.save(&mut snapshot)?;
        self.watch.save(&mut snapshot)?;
        snapshot.put("rows", &self.rows)?;
        snapshot.put("seconds", &self.seconds())?;
        snapshot.put("epoch.seconds", &self.epoch.elapsed().as_secs_f64())?;
        snapshot.put("epoch.training", &self.epoch.training.as_secs_f64())?;
        if let Some(best) = &self.best {
            best.save(&mut snapshot)?;
        }
        Ok(snapshot)
    }

    fn restore(setting: &Setting<'_>, snapshot: &Snapshot) -> Result<Self, CheckpointError> {
        if snapshot.get::<TrainConfig>("config")? != *setting.config() {
            return Err(CheckpointError::Unfit("it was made with another configuration".to_owned()));
        }
        if snapshot.get::<String>("dataset_hash")? != setting.manifest.content_hash {
            return Err(CheckpointError::Unfit("it was made with other data".to_owned()));
        }
        let mut course = Self::new(setting).map_err(|error| CheckpointError::NotReady(error.to_string()))?;
        course.learner.restore(snapshot)?;
        course.pace = Pace::new(setting.config(), course.learner.steps_done());
        course.sums = EpochSums::restore(snapshot, setting.input.device)?;
        course.watch.restore(snapshot)?;
        course.rows = snapshot.get("rows")?;
        let steps = u64::from(setting.config().steps_per_epoch) * course.rows.len() as u64;
        if course.learner.steps_done() != steps + u64::from(course.sums.steps()) {
            return Err(CheckpointError::Unfit("its steps and epochs contradict each other".to_owned()));
        }
        course.earlier = spent(snapshot, "seconds")?;
        course.epoch.earlier = spent(snapshot, "epoch.seconds")?;
        course.epoch.training = spent(snapshot, "epoch.training")?;
        if !course.rows.is_empty() {
            course.best = Some(Best::restore(setting, &course.learner, snapshot)?);
        }
        Ok(course)
    }
}

impl Best {
    fn save(&self, snapshot: &mut Snapshot) -> Result<(), CheckpointError> {
        save_weights("best", &self.weights, snapshot);
        snapshot.put("best.metrics", &self.metrics)?;
        snapshot.put("best.last", &self.last)?;
        snapshot.put("best.loss", &self.validation.loss)?;
        let logits: Vec<f32> = self.validation.logits.iter().flatten().copied().collect();
        let answers: Vec<i64> = self.validation.answers.iter().map(|&class| class as i64).collect();
        let images = answers.len() as i64;
        snapshot.put_tensor("best.logits", &Tensor::from_slice(&logits).f_view([images, -1])?);
        snapshot.put_tensor("best.answers", &Tensor::from_slice(&answers));
        Ok(())
    }

    fn restore(setting: &Setting<'_>, learner: &Learner, snapshot: &Snapshot) -> Result<Self, CheckpointError> {
        let weights = Weights::zeros(learner.network.layout(), setting.input.device)
            .map_err(|error| CheckpointError::NotReady(error.to_string()))?;
        restore_weights("best", &weights, snapshot)?;
        let (classes, truth) = (setting.manifest.classes.len(), setting.truth(&setting.split.validation));
        let answers = Vec::<i64>::try_from(snapshot.tensor("best.answers")?)?;
        let answers: Vec<usize> = answers.into_iter().map(|class| class as usize).collect();
        if answers.len() != truth.len() || answers.iter().any(|&class| class >= classes) {
            return Err(CheckpointError::Unfit("its best epoch was judged on other images".to_owned()));
        }
        let validation = Evaluation {
            logits: Vec::<Vec<f32>>::try_from(snapshot.tensor("best.logits")?.shallow_clone())?,
            confusion: Confusion::new(classes, &truth, &answers),
            answers,
            loss: snapshot.get("best.loss")?,
        };
        Ok(Self { weights, metrics: snapshot.get("best.metrics")?, last: snapshot.get("best.last")?, validation })
    }
}

fn spent(snapshot: &Snapshot, name: &str) -> Result<Duration, CheckpointError> {
    let seconds: f64 = snapshot.get(name)?;
    Duration::try_from_secs_f64(seconds).map_err(|error| CheckpointError::Unfit(format!("{name}: {error}")))
}

/// The running median once an epoch of this accuracy has joined.
fn last_epochs(rows: &[EpochMetrics], accuracy: f64) -> LastEpochs {
    let before = &rows[(rows.len() + 1).saturating_sub(LAST_EPOCHS)..];
    let recent: Vec<f64> = before.iter().map(|row| row.validation_accuracy).chain([accuracy]).collect();
    LastEpochs { epochs: recent.len() as u32, accuracy_median: median(&recent).unwrap_or_default() }
}

/// Labelled images that an epoch's steps take.
fn images(config: &TrainConfig) -> f64 {
    f64::from(config.batch) * f64::from(config.steps_per_epoch)
}

/// Higher validation accuracy; ties go to the lower loss.
fn better(a: &EpochMetrics, b: &EpochMetrics) -> bool {
    (a.validation_accuracy, -a.validation_loss) > (b.validation_accuracy, -b.validation_loss)
}
