//! Runs side by side: labels × algorithm × mean ± standard deviation over seeds.
//!
//! Only runs that succeeded enter a mean; the others are counted beside it and listed with their state. Among
//! several values of a hyper-parameter the validation figures choose, never test.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::difference::{Difference, differences};
use super::rows::{Row, rows};
use super::verdict::verdict;
use crate::statistics::mean_and_sd;
use crate::train::config::{AlgorithmName, TrainConfig};
use crate::train::event::GroupAccuracy;

/// How a run stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The job's state, its stable word.
    pub state: &'static str,
    /// Why it failed.
    pub error: Option<String>,
    /// What it reached.
    pub figures: RunFigures,
    /// Test images that it was measured on.
    pub test_images: Option<u64>,
    /// Images that chose its epoch, where that is known.
    pub validation_images: Option<u64>,
    /// Its figures for each group of the test images.
    pub groups: Vec<GroupAccuracy>,
    /// What it published.
    pub model: Option<PublishedModel>,
}

/// What a run reached, as far as it has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct RunFigures {
    /// Accuracy on the validation split at the best epoch.
    pub validation_accuracy: Option<f64>,
    /// Accuracy on the test split; absent before the end, and for a data set without one.
    pub test_accuracy: Option<f64>,
    /// Unweighted mean of the classes' F1 on the test split.
    pub test_f1_macro: Option<f64>,
    /// The epoch that validation chose.
    pub best_epoch: Option<u32>,
    /// Wall-clock seconds of work, all attempts together.
    pub seconds: Option<f64>,
}

/// A model version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PublishedModel {
    /// The model's name: the data set's task.
    pub name: String,
    /// Counts from 1.
    pub version: u32,
}

/// One run in a comparison.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ComparedRun {
    /// The job.
    pub id: Uuid,
    /// The learning algorithm.
    pub algorithm: AlgorithmName,
    /// Labels it trains with; null takes all.
    pub labelled: Option<u32>,
    /// Its seed.
    pub seed: u64,
    /// The hyper-parameters of the sweep's `grid`, as far as it reads them.
    pub values: BTreeMap<String, Value>,
    /// True where it was queued to measure others by.
    pub baseline: bool,
    /// `queued`, `running`, `paused`, `succeeded`, `failed` or `canceled`.
    #[schema(example = "succeeded")]
    pub state: &'static str,
    /// Why it failed.
    pub error: Option<String>,
    /// What it reached so far.
    #[serde(flatten)]
    pub figures: RunFigures,
    /// What it published.
    pub model: Option<PublishedModel>,
    #[serde(skip)]
    #[schema(ignore)]
    pub(super) test_images: Option<u64>,
    #[serde(skip)]
    #[schema(ignore)]
    pub(super) validation_images: Option<u64>,
    #[serde(skip)]
    #[schema(ignore)]
    pub(super) groups: Vec<GroupAccuracy>,
    #[serde(skip)]
    #[schema(ignore)]
    pub(super) config: TrainConfig,
}

impl ComparedRun {
    /// A run with what its configuration says of it; `axes` are the fields of the sweep's grid.
    pub fn new(id: Uuid, config: TrainConfig, baseline: bool, axes: &[String], outcome: Outcome) -> Self {
        let fields = serde_json::to_value(&config).unwrap_or_default();
        let values = axes.iter().filter(|axis| config.reads(axis));
        let values = values.map(|axis| (axis.clone(), fields[axis.as_str()].clone())).collect();
        let Outcome { state, error, figures, test_images, validation_images, groups, model } = outcome;
        let (algorithm, labelled, seed) = (config.algorithm, config.labelled, config.seed);
        Self {
            id,
            algorithm,
            labelled,
            seed,
            values,
            baseline,
            state,
            error,
            figures,
            model,
            test_images,
            validation_images,
            groups,
            config,
        }
    }

    /// Whether its figures count.
    pub fn succeeded(&self) -> bool {
        self.state == "succeeded"
    }

    /// Whether nothing more comes of it.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state, "succeeded" | "failed" | "canceled")
    }

    /// Whether it failed by its own figures: it answers one of the classes hardly ever, or its loss is no number any more.
    pub(super) fn failed_by_its_figures(&self) -> bool {
        let by_itself = |error: &String| ["collapsed", "diverged"].into_iter().any(|code| error.starts_with(code));
        self.state == "failed" && self.error.as_ref().is_some_and(by_itself)
    }
}

/// Mean and sample standard deviation over seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The sample standard deviation (n − 1); null for one value.
    pub sd: Option<f64>,
}

impl Spread {
    /// Of some values; absent for none.
    pub(super) fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        mean_and_sd(&values.collect::<Vec<_>>()).map(|(mean, sd)| Self { mean, sd })
    }
}

/// Runs side by side.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Comparison {
    /// True when every run has ended; before that, the figures are over those that have.
    pub finished: bool,
    /// The hyper-parameters that take several values besides labels, seed and algorithm.
    pub axes: Vec<String>,
    /// Labels × algorithm (× grid), by labels.
    pub rows: Vec<Row>,
    /// Each algorithm against the supervised runs on the same labels, over the seeds that both have.
    pub differences: Vec<Difference>,
    /// What the figures say, in words: a sentence for each number of labels that both were trained with, once there is something to say.
    pub verdict: String,
    /// Every run, those without figures too.
    pub runs: Vec<ComparedRun>,
}

impl Comparison {
    /// Compares runs; `axes` are the fields of the sweep's grid.
    pub fn new(mut runs: Vec<ComparedRun>, mut axes: Vec<String>) -> Self {
        let apart = tell_pretraining(&mut runs, &mut axes);
        let distinct = distinct(&runs);
        let rows = rows(&distinct, apart);
        let differences = differences(&rows, &distinct);
        let verdict = verdict(&rows, &differences, &distinct);
        let finished = runs.iter().all(ComparedRun::has_ended);
        Self { finished, axes, rows, differences, verdict, runs }
    }
}

/// Each run once: earlier versions trained one several times where a grid's field is not read, and its twins are no further seeds. Of twins
/// one that succeeded.
fn distinct(runs: &[ComparedRun]) -> Vec<ComparedRun> {
    let line = |run: &ComparedRun| (run.seed, run.labelled, run.algorithm.as_str());
    let mut distinct: Vec<ComparedRun> = Vec::with_capacity(runs.len());
    for run in runs {
        let is_twin = |known: &&mut ComparedRun| line(known) == line(run) && known.config.trains_as(&run.config);
        match distinct.iter_mut().find(is_twin) {
            Some(twin) if run.succeeded() && !twin.succeeded() => *twin = run.clone(),
            Some(_) => {}
            None => distinct.push(run.clone()),
        }
    }
    distinct
}

/// Runs of an algorithm with and without pretraining are told apart by that, as if it were one of the grid's fields: a sweep's baselines
/// are not pretrained, and supervised runs beside them may be. The field, where that was done.
fn tell_pretraining(runs: &mut [ComparedRun], axes: &mut Vec<String>) -> Option<&'static str> {
    const FIELD: &str = "pretrain_epochs";
    let kinds: BTreeSet<_> = runs.iter().map(|run| (run.algorithm.as_str(), run.config.pretrain_epochs)).collect();
    let algorithms = runs.iter().map(|run| run.algorithm.as_str()).collect::<BTreeSet<_>>().len();
    if axes.iter().any(|axis| axis == FIELD) || kinds.len() == algorithms {
        return None;
    }
    axes.push(FIELD.to_owned());
    for run in runs {
        run.values.insert(FIELD.to_owned(), run.config.pretrain_epochs.into());
    }
    Some(FIELD)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A finished run with these figures.
    pub fn run(labelled: u32, seed: u64, algorithm: AlgorithmName, validation: f64, test: f64) -> ComparedRun {
        let config = TrainConfig { labelled: Some(labelled), seed, algorithm, ..TrainConfig::default() };
        of_config(config, &[], validation, test)
    }

    pub fn of_config(config: TrainConfig, axes: &[String], validation: f64, test: f64) -> ComparedRun {
        let figures = RunFigures {
            validation_accuracy: Some(validation),
            test_accuracy: Some(test),
            test_f1_macro: Some(test - 0.01),
            best_epoch: Some(10),
            seconds: Some(30.0),
        };
        let baseline = config.algorithm == AlgorithmName::Supervised;
        let outcome = Outcome { state: "succeeded", figures, ..Outcome::default() };
        ComparedRun::new(Uuid::nil(), config, baseline, axes, outcome)
    }

    pub fn unfinished(labelled: u32, seed: u64, algorithm: AlgorithmName, state: &'static str) -> ComparedRun {
        let config = TrainConfig { labelled: Some(labelled), seed, algorithm, ..TrainConfig::default() };
        let error = (state == "failed").then(|| "collapsed: one class alone".to_owned());
        let figures = RunFigures { validation_accuracy: Some(0.99), ..RunFigures::default() };
        ComparedRun::new(Uuid::nil(), config, false, &[], Outcome { state, error, figures, ..Outcome::default() })
    }

    /// Three seeds at 40 labels, one of them unfinished for MixMatch, and one seed at 100.
    pub fn example() -> Comparison {
        use AlgorithmName::{Mixmatch, Supervised};
        Comparison::new(
            vec![
                run(100, 0, Mixmatch, 0.95, 0.94),
                run(40, 0, Supervised, 0.80, 0.78),
                run(40, 0, Mixmatch, 0.90, 0.88),
                run(40, 1, Supervised, 0.82, 0.80),
                run(40, 1, Mixmatch, 0.92, 0.91),
                run(40, 2, Supervised, 0.84, 0.79),
                unfinished(40, 2, Mixmatch, "failed"),
            ],
            Vec::new(),
        )
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn lines_are_labels_by_algorithm_with_mean_and_deviation() {
        let comparison = example();
        let lines: Vec<_> =
            comparison.rows.iter().map(|row| (row.labelled, row.algorithm.as_str(), row.jobs, row.n)).collect();
        let expected = [(Some(40), "supervised", 3, 3), (Some(40), "mixmatch", 3, 2), (Some(100), "mixmatch", 1, 1)];
        assert_eq!(lines, expected);
        let supervised = &comparison.rows[0];
        let Spread { mean, sd } = supervised.test_accuracy.unwrap();
        assert!(close(mean, 0.79) && close(sd.unwrap(), 0.01), "{supervised:?}");
        assert_eq!(supervised.seeds, [0, 1, 2]);
        assert!(
            close(comparison.rows[1].validation_accuracy.unwrap().mean, 0.91),
            "a failed run's figures count nowhere"
        );
        assert_eq!(comparison.rows[2].test_accuracy, Some(Spread { mean: 0.94, sd: None }));
        assert!(comparison.finished && comparison.runs.len() == 7);
    }

    #[test]
    fn twins_of_an_earlier_version_are_no_further_seeds() {
        let axes = ["alpha".to_owned()];
        let of = |seed, alpha, algorithm, test| {
            let config =
                TrainConfig { labelled: Some(40), seed, alpha, algorithm, mixup: false, ..TrainConfig::default() };
            of_config(config, &axes, test, test)
        };
        let runs = [0, 1].into_iter().flat_map(|seed| {
            let twins = |algorithm, test| [0.5, 0.75].map(|alpha| of(seed, alpha, algorithm, test));
            let ahead = 0.9 + 0.01 * seed as f64;
            [twins(AlgorithmName::Supervised, 0.88), twins(AlgorithmName::Mixmatch, ahead)].concat()
        });
        let mut runs: Vec<ComparedRun> = runs.collect();
        runs[2].state = "failed";
        let comparison = Comparison::new(runs, axes.to_vec());
        let lines: Vec<_> = comparison.rows.iter().map(|row| (row.jobs, row.seeds.as_slice())).collect();
        assert_eq!(lines, [(2, [0, 1].as_slice()), (2, &[0, 1])], "of twins the one that succeeded");
        assert_eq!(comparison.differences[0].seeds, [0, 1]);
        assert_eq!(comparison.runs.len(), 8, "the list has them all");
    }

    #[test]
    fn a_run_under_way_is_in_the_list_and_in_no_mean() {
        let runs = vec![unfinished(40, 0, AlgorithmName::Mixmatch, "running")];
        let comparison = Comparison::new(runs, Vec::new());
        assert!(!comparison.finished);
        assert_eq!(
            (comparison.rows[0].jobs, comparison.rows[0].n, comparison.rows[0].validation_accuracy),
            (1, 0, None)
        );
        assert_eq!(comparison.runs[0].state, "running");
        assert!(!comparison.rows[0].chosen);
    }

    /// Whoever asks until a comparison is finished would else wait for ever.
    #[test]
    fn a_comparison_is_finished_once_nothing_more_comes_of_any_run() {
        let other = run(40, 1, AlgorithmName::Mixmatch, 0.9, 0.9);
        for (state, finished) in [
            ("queued", false),
            ("running", false),
            ("paused", false),
            ("succeeded", true),
            ("failed", true),
            ("canceled", true),
        ] {
            let runs = vec![unfinished(40, 0, AlgorithmName::Mixmatch, state), other.clone()];
            assert_eq!(Comparison::new(runs, Vec::new()).finished, finished, "{state}");
        }
    }
}
