//! What a run says while it goes: the vocabulary between the training loop and everybody who watches it.
//!
//! The loop calls one function with these values and knows nobody behind it; the child process writes
//! them as NDJSON on its standard output, one object a line, and the supervisor turns them into rows.
//! The shapes are stored and sent to clients, so a field may be added but never change its meaning.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Groups of fewer test images are shown and never called the worst: a handful would always win.
pub const SMALLEST_GROUP: u64 = 30;

/// One event of a training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The run entered a phase.
    Phase {
        /// The phase that begins.
        phase: Phase,
    },
    /// Training begins, or goes on from a checkpoint. What was told of later epochs is void: they come again. The
    /// rows of the epochs before follow, in case the last attempt's did not arrive.
    Start {
        /// Optimiser steps done already.
        step: u64,
        /// Epochs done already.
        epoch: u32,
        /// Whether the state that it begins with is a checkpoint's, which may be one after no step: what pretraining left.
        #[serde(default)]
        restored: bool,
    },
    /// The run's state after this many optimiser steps is on the disk.
    Checkpoint {
        /// Optimiser steps done.
        step: u64,
    },
    /// Progress within pretraining, about once a second and after its last step: epochs and steps are its own, the loss is the mean since
    /// the last of these, and its images have no label.
    Pretraining(StepProgress),
    /// Progress within training, at most one a second.
    Step(StepProgress),
    /// An epoch ended and was evaluated on the validation split.
    Epoch(EpochMetrics),
    /// The chosen weights were evaluated on the test split, once.
    Test(TestMetrics),
    /// A finished model lies in this directory (`weights.safetensors`, `model.json` and `predictions.csv`), ready to be published.
    Model {
        /// The directory; the files in it are complete and synced.
        directory: PathBuf,
    },
    /// A line for the job's log.
    Log {
        /// How much it matters.
        level: LogLevel,
        /// One line, for a person.
        message: String,
    },
    /// There is nothing to tell, and the run has not hung: it waits. Kept nowhere.
    Alive,
    /// Why the run failed; the process exits with a non-zero code afterwards.
    Problem {
        /// A stable snake_case word.
        code: String,
        /// What, where and how to mend it.
        detail: String,
    },
}

/// The phases of a run, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The images are decoded and packed at the run's resolution (skipped in no time when cached).
    Importing,
    /// The backbone learns from images alone; only in runs that ask for it (`pretrain_epochs`).
    Pretraining,
    /// Optimiser steps.
    Training,
    /// The chosen weights meet the test split, and then every other image.
    Evaluating,
    /// The model's files are written and checked.
    Exporting,
}

impl Phase {
    /// The phase's stable word, as in the JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Importing => "importing",
            Phase::Pretraining => "pretraining",
            Phase::Training => "training",
            Phase::Evaluating => "evaluating",
            Phase::Exporting => "exporting",
        }
    }
}

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Worth knowing.
    Info,
    /// Something was not as asked, and the run goes on.
    Warn,
    /// Something failed.
    Error,
}

impl LogLevel {
    /// The level's stable word, as in the JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Info => "info",
            LogLevel::Warn => "warn",
            LogLevel::Error => "error",
        }
    }
}

/// Where a run stands between two epochs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StepProgress {
    /// The current epoch, from 1.
    pub epoch: u32,
    /// Epochs in the run.
    pub epochs: u32,
    /// Optimiser steps done.
    pub step: u64,
    /// Optimiser steps in the run.
    pub steps: u64,
    /// Mean loss over the current epoch so far.
    pub loss: f64,
    /// Labelled images through the network a second (an unlabelled batch of the same size goes with each).
    pub images_per_second: f64,
    /// Seconds until the last step at the current rate. While a warm-up lasts, a step after it counts as so many of the warm-up's as it
    /// computes more: an estimate until such steps are timed, rather too high on a GPU.
    pub eta_seconds: f64,
}

/// One row of `GET /jobs/{id}/metrics`: an epoch of training and its evaluation on the validation split.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EpochMetrics {
    /// The epoch, from 1.
    pub epoch: u32,
    /// Optimiser steps done at its end.
    pub step: u64,
    /// Mean of L_X + λ_U·L_U over the epoch's steps.
    pub loss: f64,
    /// Mean labelled loss L_X (cross-entropy with soft targets, nats).
    pub loss_labelled: f64,
    /// Mean unlabelled loss L_U (squared error over classes); absent for `supervised` and while a warm-up lasts.
    pub loss_unlabelled: Option<f64>,
    /// The weight of L_U at the epoch's last step (after the ramp); absent for `supervised` and while a warm-up lasts.
    pub lambda_u: Option<f64>,
    /// The learning rate at the epoch's last step.
    pub learning_rate: f64,
    /// Mean largest probability of the sharpened guesses; absent for `supervised` and while a warm-up lasts.
    pub guess_confidence: Option<f64>,
    /// Mean guessed probability per class, in class order; empty for `supervised` and while a warm-up lasts. Lists of jobs leave it out,
    /// as they do `unlabelled_classes` and `validation_classes`.
    #[serde(default)]
    pub guess_classes: Vec<f64>,
    /// Mean probability per class that the network itself gives the unlabelled images, before its guesses are aligned to the
    /// labels' shares (`align`) and sharpened, in class order; empty as `guess_classes`, and in older runs.
    #[serde(default)]
    pub unlabelled_classes: Vec<f64>,
    /// Accuracy on the labelled training images (at most 1,000 of them), EMA weights.
    pub train_accuracy: f64,
    /// Mean cross-entropy on the validation split, EMA weights (nats).
    pub validation_loss: f64,
    /// Accuracy on the validation split, EMA weights.
    pub validation_accuracy: f64,
    /// F1 of the positive class on the validation split, EMA weights.
    pub validation_f1: f64,
    /// Unweighted mean of the classes' F1 on the validation split, EMA weights.
    pub validation_f1_macro: f64,
    /// Accuracy on the validation split of the raw weights: far from the EMA's, something is wrong.
    pub validation_accuracy_raw: Option<f64>,
    /// Median of `validation_accuracy` over the last 20 epochs up to this one. At the run's end it stands for the
    /// run without a choice of epoch, as the MixMatch paper reports it (arXiv 1905.02249 §4: median of the last 20
    /// checkpoints); the chosen epoch is the luckiest of all and reads a little high. Absent in older runs.
    #[serde(default)]
    pub validation_accuracy_median: Option<f64>,
    /// Each class's share of the answers on the validation split, EMA weights, in class order; empty in older runs.
    #[serde(default)]
    pub validation_classes: Vec<f64>,
    /// Images of the validation split; 0 in older runs.
    #[serde(default)]
    pub validation_images: u64,
    /// Whether the answers on the validation split leave out a class that it has: such an epoch is the best only where every
    /// one is so. False in older runs.
    #[serde(default)]
    pub validation_collapsed: bool,
    /// What looked wrong at this epoch's end.
    #[serde(default)]
    pub warnings: Vec<EpochWarning>,
    /// Wall-clock seconds of the epoch, evaluation included.
    pub seconds: f64,
    /// Labelled images a second over the epoch's training steps.
    pub images_per_second: f64,
}

/// A sign that a run goes wrong. One epoch may show it by chance; the job's log tells of it when it lasts.
///
/// `answers_collapsed`: the answers on the validation split leave out a class that it has, as `validation_collapsed` says (in older runs
/// one that the labels have). `guesses_collapsed`: the guessed labels leave out a class that the labels have (with `align`, what the
/// network says before it). `shares_apart`: `align` pulls the guesses to the labels' shares of the classes, and the network finds others
/// among the unlabelled images. `average_apart`: EMA and raw weights differ in validation accuracy by more than 15 points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EpochWarning {
    /// The answers on the validation split leave out a class that it has.
    AnswersCollapsed,
    /// The guessed labels leave out a class that the labels have; with `align`, what the network says before it.
    GuessesCollapsed,
    /// `align` pulls the guesses to the labels' shares of the classes, and the network finds others among the unlabelled images.
    SharesApart,
    /// EMA and raw weights differ in validation accuracy by more than 15 points.
    AverageApart,
}

/// What the chosen weights reached on the test split.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TestMetrics {
    /// Images in the test split.
    pub images: u64,
    /// The epoch whose EMA weights were chosen (best validation accuracy; ties: lower validation loss).
    pub best_epoch: u32,
    /// Share of right answers.
    pub accuracy: f64,
    /// Wilson score interval of the accuracy at 95 %.
    pub accuracy_interval: [f64; 2],
    /// Mean recall over the classes.
    pub balanced_accuracy: f64,
    /// F1 of the positive class; without test images of that class it is 0 and says nothing.
    pub f1: f64,
    /// Unweighted mean of the classes' F1, of those that have images or answers.
    pub f1_macro: f64,
    /// How many answers of the positive class are right; without such answers it is 0 and says nothing.
    #[serde(default)]
    pub precision: f64,
    /// How many images of the positive class are found; without such images it is 0 and says nothing.
    #[serde(default)]
    pub recall: f64,
    /// Area under the ROC curve of the positive class against the rest; absent where one side is empty.
    #[serde(default)]
    pub roc_auc: Option<f64>,
    /// Unweighted mean of that area over the classes that have images, each against the rest; absent where there is no other class.
    #[serde(default)]
    pub roc_auc_macro: Option<f64>,
    /// T of softmax(logits / T), fitted on the validation split (arXiv 1706.04599); predictions use it. 1 where
    /// that split is smaller than 50 images.
    #[serde(default = "one")]
    pub temperature: f64,
    /// Expected calibration error over 15 bins, with that temperature.
    #[serde(default)]
    pub calibration_error: f64,
    /// The same without it, T = 1.
    #[serde(default)]
    pub calibration_error_raw: f64,
    /// What a `threshold` at predict would cost and gain on these images.
    #[serde(default)]
    pub abstention: Vec<Abstention>,
    /// Images in which no face was found: with any `threshold` their answers are withheld. Absent where none is looked for, and in
    /// figures of an older build, whose `abstention` takes them for images like the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faceless: Option<u64>,
    /// Area under the risk-coverage curve: mean share of wrong answers among the k most confident ones, over all k
    /// (arXiv 1805.08206). Low where the model is unsure of its mistakes.
    #[serde(default)]
    pub aurc: Option<f64>,
    /// The class that `f1`, `precision`, `recall` and `roc_auc` speak of.
    pub positive_class: String,
    /// Mean cross-entropy (nats) at temperature 1, and so not of the probabilities that are served, which have `temperature`.
    pub loss: f64,
    /// Row: true class, column: answered class, in class order. Lists of jobs leave it out, as they do `classes` and `groups`.
    #[serde(default)]
    pub confusion: Vec<Vec<u64>>,
    /// Each class on its own, in class order.
    #[serde(default)]
    pub classes: Vec<ClassMetrics>,
    /// Accuracy by attribute (age_group, source …) and value, with Wilson intervals at 95 %. Images whose cell is empty where others of the
    /// column are filled have the value `(empty)`.
    #[serde(default)]
    pub groups: Vec<GroupAccuracy>,
    /// The best and the worst group of each attribute, of those with 30 images or more.
    #[serde(default)]
    pub group_gaps: Vec<GroupGap>,
    /// Columns of many numbers (age …) whose `groups` are fifths of the test images in the order of that number, or near them, as images of
    /// one number are in one group.
    #[serde(default)]
    pub banded_columns: Vec<String>,
    /// Columns that make no groups: one value only, the group column, or too many values that are not numbers.
    #[serde(default)]
    pub skipped_columns: Vec<String>,
    /// Groups of the group column (people …) among the images, one without a value a group of its own. Where they are fewer than the
    /// images, true intervals are wider than those given. Absent without such a column, and in figures of an older build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column_groups: Option<u64>,
}

fn one() -> f64 {
    1.0
}

/// What withholding the answers below a threshold does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Abstention {
    /// The least largest probability of an answer that is given.
    pub threshold: f64,
    /// Share of the images that are still answered.
    pub coverage: f64,
    /// Share of right answers among them; absent where none is left.
    pub accuracy: Option<f64>,
}

/// How one class fares on the test split.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ClassMetrics {
    /// The class.
    pub class: String,
    /// Its test images.
    pub images: u64,
    /// How many answers of this class are right; without such answers it is 0 and says nothing.
    pub precision: f64,
    /// How many of its images are found; without `images` it is 0 and says nothing.
    pub recall: f64,
    /// Wilson score interval of the recall at 95 %; without `images` all from 0 to 1.
    pub recall_interval: [f64; 2],
    /// Harmonic mean of the two; without `images` it is 0 and says nothing, unless there are answers, each of them wrong.
    pub f1: f64,
}

/// How far apart the groups of one attribute are. The gap of two groups is never 0, by chance alone: mind the
/// intervals.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GroupGap {
    /// The sheet's column.
    pub attribute: String,
    /// The value with the lowest accuracy.
    pub worst: String,
    /// Its accuracy.
    pub worst_accuracy: f64,
    /// The value with the highest accuracy.
    pub best: String,
    /// Its accuracy.
    pub best_accuracy: f64,
    /// The best's accuracy less the worst's.
    pub gap: f64,
    /// The accuracy on the whole test split less the worst's.
    pub below_whole: f64,
    /// Whether the intervals of the two overlap: the gap may then be chance. They are those at 95 % where there are two groups;
    /// of more the lowest and the highest are further apart by chance, and their intervals wider.
    pub intervals_overlap: bool,
}

/// Accuracy on the test images that share one value of an attribute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GroupAccuracy {
    /// The sheet's column.
    pub attribute: String,
    /// The value in that column.
    pub value: String,
    /// Test images with it.
    pub images: u64,
    /// Share of right answers among them.
    pub accuracy: f64,
    /// Wilson score interval at 95 %.
    pub interval: [f64; 2],
    /// Mean recall over the classes among them; absent where all are of one class.
    #[serde(default)]
    pub balanced_accuracy: Option<f64>,
    /// F1 of the positive class; absent where all are of one class, or none is of that.
    #[serde(default)]
    pub f1: Option<f64>,
}
