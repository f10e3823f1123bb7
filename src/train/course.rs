//! The moving part of a run: what changes from step to step and from epoch to epoch. All of it is in a checkpoint,
//! so that a run which is killed between two steps ends with the very bits that it would have ended with.

use std::time::{Duration, Instant};

use tch::Tensor;

use super::checkpoint::{CheckpointError, Snapshot};
use super::config::TrainConfig;
use super::error::TrainError;
use super::evaluate::Evaluation;
use super::event::{EpochMetrics, EpochWarning, Event};
use super::learner::{Learner, learning_rate, restore_weights, save_weights};
use super::metrics::Confusion;
use super::pretrain::Earlier;
use super::progress::{EpochSums, Pace};
use super::setting::{Setting, info, warn};
use super::watch::{Looked, Watch};
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

/// Where a run stands between two steps.
pub(super) struct Course {
    pub(super) learner: Learner,
    pub(super) pace: Pace,
    /// The epoch under way.
    pub(super) sums: EpochSums,
    epoch: EpochClock,
    /// The epochs that have ended.
    pub(super) rows: Vec<EpochMetrics>,
    watch: Watch,
    pub(super) best: Option<Best>,
    started: Instant,
    /// What earlier attempts spent on the steps before.
    earlier: Duration,
    /// What the run was computed on, this attempt and those before: see [`computed_on`].
    pub(super) computed_on: Vec<String>,
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
    pub(super) fn new(setting: &Setting<'_>) -> Result<Self, TrainError> {
        let (config, input, prior) = (setting.config(), &setting.input, setting.prior());
        let precision = device::precision(config.precision, input.device);
        let looked = Looked { guessed: images(config) as u64, aligned: config.align, balanced: config.class_balanced };
        Ok(Self {
            learner: Learner::new(config, &setting.split, &setting.labels, &prior, input.device, precision.kind)?,
            pace: Pace::new(config, 0),
            sums: EpochSums::new(),
            epoch: EpochClock::new(),
            rows: Vec::new(),
            watch: Watch::new(&setting.manifest.classes, &prior, looked),
            best: None,
            started: Instant::now(),
            earlier: Duration::ZERO,
            computed_on: computed_on(setting, Vec::new()),
        })
    }

    /// What came before was pretraining: the run's time, and not the first epoch's.
    pub(super) fn first_epoch_begins(&mut self, earlier: Earlier) {
        (self.earlier, self.computed_on, self.epoch) = (earlier.took, earlier.computed_on, EpochClock::new());
    }

    pub(super) fn seconds(&self) -> f64 {
        (self.earlier + self.started.elapsed()).as_secs_f64()
    }

    pub(super) fn step(&mut self, setting: &Setting<'_>, emit: &mut dyn FnMut(Event)) -> Result<(), TrainError> {
        let (config, classes) = (setting.config(), setting.manifest.classes.len());
        let at = Instant::now();
        failpoint::pass("train.step").map_err(|error| NnError::Shim(error.to_string()))?;
        let step = self.learner.step(config, &setting.images, &setting.labels, classes)?;
        self.sums.add(&step)?;
        if let Some(note) = step.note {
            info(emit, note);
        }
        let progress = self.pace.step(at, self.rows.len() as u32 + 1, &self.sums)?;
        // With what a GPU still had to do, where its loss was waited for.
        self.epoch.training += at.elapsed();
        if let Some(progress) = progress {
            emit(Event::Step(progress));
        }
        Ok(())
    }

    /// Evaluates, tells, and compares with the best. Stopped while it evaluates, it has changed nothing.
    pub(super) fn end_epoch(
        &mut self,
        setting: &Setting<'_>,
        stop: &dyn Fn() -> bool,
        emit: &mut dyn FnMut(Event),
    ) -> Result<(), TrainError> {
        let at = Instant::now();
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
            loss: pace.finite(sums.loss()?, sums.lambda_u)?,
            loss_labelled: sums.labelled()?,
            loss_unlabelled: sums.unlabelled()?,
            lambda_u: sums.lambda_u,
            learning_rate: learning_rate(config, pace.done().saturating_sub(1)),
            guess_confidence: sums.confidence()?,
            guess_classes: sums.guess_classes()?,
            unlabelled_classes: sums.unlabelled_classes()?,
            train_accuracy: on_train.confusion.accuracy(),
            validation_loss: pace.finite(validation.loss, sums.lambda_u)?,
            validation_accuracy: accuracy,
            validation_f1: validation.confusion.f1(positive),
            validation_f1_macro: validation.confusion.f1_macro(),
            validation_accuracy_raw: Some(raw.confusion.accuracy()),
            validation_accuracy_median: Some(last.accuracy_median),
            validation_classes: validation.confusion.answer_shares(),
            validation_images: validation.confusion.total(),
            validation_collapsed: validation.confusion.collapse().is_some(),
            warnings: Vec::new(),
            seconds: self.epoch.elapsed().as_secs_f64(),
            images_per_second: images(config) / self.epoch.training.as_secs_f64(),
        };
        for message in self.watch.look(&mut metrics, &validation.confusion) {
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
        self.pace.epoch_ended(at.elapsed());
        Ok(())
    }

    pub(super) fn save(&self, setting: &Setting<'_>) -> Result<Snapshot, CheckpointError> {
        let mut snapshot = Snapshot::default();
        snapshot.put("software", &concat!("mixmatch ", env!("CARGO_PKG_VERSION")))?;
        setting.sign(&mut snapshot)?;
        self.learner.save(&mut snapshot)?;
        self.sums.save(&mut snapshot)?;
        self.watch.save(&mut snapshot)?;
        snapshot.put("rows", &self.rows)?;
        snapshot.put("seconds", &self.seconds())?;
        snapshot.put("computed_on", &self.computed_on)?;
        snapshot.put("epoch.seconds", &self.epoch.elapsed().as_secs_f64())?;
        snapshot.put("epoch.training", &self.epoch.training.as_secs_f64())?;
        if let Some(best) = &self.best {
            best.save(&mut snapshot)?;
        }
        Ok(snapshot)
    }

    pub(super) fn restore(setting: &Setting<'_>, snapshot: &Snapshot) -> Result<Self, CheckpointError> {
        setting.check_own(snapshot)?;
        let mut course = Self::new(setting).map_err(|error| CheckpointError::NotReady(error.to_string()))?;
        course.learner.restore(snapshot)?;
        course.pace = Pace::new(setting.config(), course.learner.steps_done());
        course.sums = EpochSums::restore(snapshot, setting.input.device)?;
        course.watch.restore(snapshot)?;
        course.rows = snapshot.get::<Vec<EpochMetrics>>("rows")?.into_iter().map(of_any_version).collect();
        let steps = u64::from(setting.config().steps_per_epoch) * course.rows.len() as u64;
        if course.learner.steps_done() != steps + u64::from(course.sums.steps()) {
            return Err(CheckpointError::Unfit("its steps and epochs contradict each other".to_owned()));
        }
        course.earlier = spent(snapshot, "seconds")?;
        // Absent from what an earlier version wrote.
        course.computed_on = computed_on(setting, snapshot.get("computed_on").unwrap_or_default());
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
        // Nor did it note these.
        let metrics = EpochMetrics {
            validation_collapsed: validation.confusion.collapse().is_some(),
            validation_images: validation.confusion.total(),
            ..snapshot.get("best.metrics")?
        };
        Ok(Self { weights, metrics, last: snapshot.get("best.last")?, validation })
    }
}

/// An epoch as this version would have noted it: an earlier one, which did not count the validation images either, told of a class that
/// is left out by its warning alone. Since then the warning decides nothing: for a time it was judged by the labels' shares, and not by
/// those of the validation images, which decide whether a model is published.
fn of_any_version(mut row: EpochMetrics) -> EpochMetrics {
    row.validation_collapsed |= row.validation_images == 0 && row.warnings.contains(&EpochWarning::AnswersCollapsed);
    row
}

/// What a run was computed on, for example `bf16 on cuda:0`: `before` this attempt, and in it where that is something else.
pub(super) fn computed_on(setting: &Setting<'_>, mut before: Vec<String>) -> Vec<String> {
    let device = setting.input.device;
    let now = format!("{} on {}", device::precision(setting.config().precision, device).name(), device::name(device));
    if !before.contains(&now) {
        before.push(now);
    }
    before
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

/// Higher validation accuracy; ties go to the lower loss. Where most images are of one class, answering nothing else is accurate, and
/// the model of such an epoch would be refused: it is chosen where every epoch is one. The store and the dashboard choose alike.
fn better(a: &EpochMetrics, b: &EpochMetrics) -> bool {
    let rank =
        |metrics: &EpochMetrics| (!metrics.validation_collapsed, metrics.validation_accuracy, -metrics.validation_loss);
    rank(a) > rank(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(accuracy: f64, loss: f64) -> EpochMetrics {
        EpochMetrics { validation_accuracy: accuracy, validation_loss: loss, ..EpochMetrics::default() }
    }

    #[test]
    fn the_best_epoch_is_the_most_accurate_and_of_equals_the_one_that_errs_less_surely() {
        let better = |a: EpochMetrics, b: EpochMetrics| better(&a, &b);
        assert!(better(row(0.9, 0.8), row(0.8, 0.1)) && !better(row(0.8, 0.1), row(0.9, 0.8)));
        assert!(better(row(0.9, 0.2), row(0.9, 0.3)) && !better(row(0.9, 0.3), row(0.9, 0.2)));
        assert!(!better(row(0.9, 0.2), row(0.9, 0.2)), "the first of them stays");
    }

    #[test]
    fn an_epoch_that_answers_one_class_alone_is_chosen_where_there_is_no_other() {
        let collapsed = |accuracy, loss| EpochMetrics { validation_collapsed: true, ..row(accuracy, loss) };
        assert!(better(&row(0.83, 0.8), &collapsed(0.9, 0.3)));
        assert!(!better(&collapsed(0.9, 0.3), &row(0.83, 0.8)));
        assert!(better(&collapsed(0.91, 0.3), &collapsed(0.9, 0.3)));
    }

    #[test]
    fn an_epoch_that_an_earlier_version_warned_of_is_none_to_prefer() {
        let warned = EpochMetrics { warnings: vec![EpochWarning::AnswersCollapsed], ..row(0.9, 0.3) };
        assert!(better(&row(0.83, 0.8), &of_any_version(warned)));
        assert!(!better(&row(0.83, 0.8), &of_any_version(row(0.9, 0.3))));
    }

    #[test]
    fn an_epoch_that_says_whether_it_collapsed_is_restored_as_it_was() {
        for validation_collapsed in [false, true] {
            let warnings = vec![EpochWarning::AnswersCollapsed];
            let told = EpochMetrics { validation_images: 30, validation_collapsed, warnings, ..row(0.9, 0.3) };
            assert_eq!(of_any_version(told.clone()), told);
        }
    }

    #[test]
    fn the_median_is_that_of_the_last_twenty_epochs() {
        // Twenty epochs at .5, then ten at .9: of the last twenty, half are of either kind.
        let rows: Vec<EpochMetrics> = (0..29).map(|at| row(if at < 20 { 0.5 } else { 0.9 }, 0.0)).collect();
        assert_eq!(last_epochs(&rows, 0.9), LastEpochs { epochs: 20, accuracy_median: 0.7 });
        assert_eq!(last_epochs(&rows[..2], 0.9), LastEpochs { epochs: 3, accuracy_median: 0.5 });
        assert_eq!(last_epochs(&[], 0.9), LastEpochs { epochs: 1, accuracy_median: 0.9 });
    }
}
