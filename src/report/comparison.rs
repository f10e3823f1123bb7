//! Runs side by side: labels × algorithm × mean ± standard deviation over seeds.
//!
//! Only runs that succeeded enter a mean; the others are counted beside it and listed with their state. Among
//! several values of a hyper-parameter the validation figures choose, never test.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::verdict::{Difference, differences, verdict};
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
    /// The hyper-parameters of the sweep's `grid`, as far as its algorithm reads them.
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
        let Outcome { state, error, figures, test_images, groups, model } = outcome;
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
            groups,
            config,
        }
    }

    /// Whether its figures count.
    pub fn succeeded(&self) -> bool {
        self.state == "succeeded"
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

/// One line of the table: everything the same but the seed.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Row {
    /// Labels to train with; null takes all.
    pub labelled: Option<u32>,
    /// The learning algorithm.
    pub algorithm: AlgorithmName,
    /// The hyper-parameters of the sweep's `grid`, as far as the algorithm reads them.
    pub values: BTreeMap<String, Value>,
    /// Runs that were asked for.
    pub jobs: usize,
    /// Runs that succeeded: the figures are over these.
    pub n: usize,
    /// Their seeds.
    pub seeds: Vec<u64>,
    /// Accuracy on the validation split at the best epoch.
    pub validation_accuracy: Option<Spread>,
    /// Accuracy on the test split.
    pub test_accuracy: Option<Spread>,
    /// Unweighted mean of the classes' F1 on the test split.
    pub test_f1_macro: Option<Spread>,
    /// The epoch that validation chose.
    pub best_epoch: Option<Spread>,
    /// Wall-clock seconds of a run.
    pub seconds: Option<Spread>,
    /// Among the values of the grid at these labels, the one with the highest mean validation accuracy.
    pub chosen: bool,
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
    /// What the figures say, in words: one sentence for each number of labels.
    pub verdict: String,
    /// Every run, those without figures too.
    pub runs: Vec<ComparedRun>,
    /// The last axis is none of the grid's: nobody asked to choose by it.
    #[serde(skip)]
    #[schema(ignore)]
    pub(super) told_apart: bool,
}

impl Comparison {
    /// Compares runs; `axes` are the fields of the sweep's grid.
    pub fn new(mut runs: Vec<ComparedRun>, mut axes: Vec<String>) -> Self {
        let told_apart = tell_pretraining(&mut runs, &mut axes);
        let rows = rows(&runs);
        let differences = differences(&rows, &runs);
        let verdict = verdict(&differences, &runs);
        let finished = runs.iter().all(|run| matches!(run.state, "succeeded" | "failed" | "canceled"));
        Self { finished, axes, rows, differences, verdict, runs, told_apart }
    }
}

/// Runs of an algorithm with and without pretraining are told apart by that, as if it were one of the grid's fields: a sweep's baselines
/// are not pretrained, and supervised runs beside them may be. Whether that was done.
fn tell_pretraining(runs: &mut [ComparedRun], axes: &mut Vec<String>) -> bool {
    const FIELD: &str = "pretrain_epochs";
    let kinds: BTreeSet<_> = runs.iter().map(|run| (run.algorithm.as_str(), run.config.pretrain_epochs)).collect();
    let algorithms = runs.iter().map(|run| run.algorithm.as_str()).collect::<BTreeSet<_>>().len();
    if axes.iter().any(|axis| axis == FIELD) || kinds.len() == algorithms {
        return false;
    }
    axes.push(FIELD.to_owned());
    for run in runs {
        run.values.insert(FIELD.to_owned(), run.config.pretrain_epochs.into());
    }
    true
}

/// The order of the table's lines: by labels (all of them last), then the supervised runs first, then by the grid's
/// values. Runs that are equal in it share a line.
fn by_line(a: &ComparedRun, b: &ComparedRun) -> Ordering {
    let line = |run: &ComparedRun| {
        (run.labelled.unwrap_or(u32::MAX), run.algorithm != AlgorithmName::Supervised, run.algorithm.as_str())
    };
    line(a).cmp(&line(b)).then_with(|| a.values.keys().cmp(b.values.keys())).then_with(|| {
        let values = a.values.values().zip(b.values.values());
        values.map(|(a, b)| by_size(a, b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    })
}

/// Numbers by size, before words by letters.
fn by_size(a: &Value, b: &Value) -> Ordering {
    let numbers = match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        (a, b) => b.is_some().cmp(&a.is_some()),
    };
    numbers.then_with(|| a.to_string().cmp(&b.to_string()))
}

fn rows(runs: &[ComparedRun]) -> Vec<Row> {
    let mut sorted: Vec<&ComparedRun> = runs.iter().collect();
    sorted.sort_by(|a, b| by_line(a, b));
    let mut rows: Vec<Row> = sorted.chunk_by(|a, b| by_line(a, b).is_eq()).map(row).collect();
    for at in 0..rows.len() {
        rows[at].chosen = is_chosen(&rows, at);
    }
    rows
}

fn row(group: &[&ComparedRun]) -> Row {
    let done: Vec<&ComparedRun> = group.iter().filter(|run| run.succeeded()).copied().collect();
    let spread =
        |figure: fn(&RunFigures) -> Option<f64>| Spread::of(done.iter().filter_map(|run| figure(&run.figures)));
    let mut seeds: Vec<u64> = done.iter().map(|run| run.seed).collect();
    seeds.sort_unstable();
    Row {
        labelled: group[0].labelled,
        algorithm: group[0].algorithm,
        values: group[0].values.clone(),
        jobs: group.len(),
        n: done.len(),
        seeds,
        validation_accuracy: spread(|figures| figures.validation_accuracy),
        test_accuracy: spread(|figures| figures.test_accuracy),
        test_f1_macro: spread(|figures| figures.test_f1_macro),
        best_epoch: spread(|figures| figures.best_epoch.map(f64::from)),
        seconds: spread(|figures| figures.seconds),
        chosen: false,
    }
}

/// A mean over fewer seeds than its rivals' is luckier: only lines with the most seeds are chosen from.
fn is_chosen(rows: &[Row], at: usize) -> bool {
    let row = &rows[at];
    let rivals = || rows.iter().filter(|other| other.labelled == row.labelled && other.algorithm == row.algorithm);
    let most = rivals().map(|rival| rival.n).max().unwrap_or(0);
    let mean = |row: &Row| row.validation_accuracy.map_or(f64::NEG_INFINITY, |spread| spread.mean);
    let best = rivals().filter(|rival| rival.n == most).map(mean).fold(f64::NEG_INFINITY, f64::max);
    let wins = |row: &Row| row.n > 0 && row.n == most && mean(row) == best;
    // Ties go to the first.
    wins(row)
        && !rows[..at]
            .iter()
            .any(|other| other.labelled == row.labelled && other.algorithm == row.algorithm && wins(other))
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

    #[test]
    fn validation_chooses_among_the_grids_values() {
        let axes = ["lambda_u".to_owned()];
        let mut runs = Vec::new();
        for (lambda_u, validation, test) in [(3.0, 0.9, 0.80), (10.0, 0.8, 0.95)] {
            for seed in 0..2 {
                let config = TrainConfig { labelled: Some(40), seed, lambda_u, ..TrainConfig::default() };
                runs.push(of_config(config.clone(), &axes, validation, test));
                if lambda_u == 3.0 {
                    runs.push(of_config(config.baseline(), &axes, 0.7, 0.7));
                }
            }
        }
        // One seed alone, and lucky.
        let config = TrainConfig { labelled: Some(40), seed: 0, lambda_u: 30.0, ..TrainConfig::default() };
        runs.push(of_config(config, &axes, 0.99, 0.99));
        let comparison = Comparison::new(runs, axes.to_vec());
        let chosen: Vec<_> =
            comparison.rows.iter().filter(|row| row.chosen).map(|row| row.values.get("lambda_u")).collect();
        assert_eq!(chosen, [None, Some(&Value::from(3.0))], "λ_U is nothing to a supervised run");
        assert_eq!(comparison.rows.len(), 4);
        assert_eq!(comparison.differences.len(), 3, "each value against the baseline that they share");
    }

    #[test]
    fn the_lines_of_a_grid_come_by_the_size_of_their_values() {
        let at = |value: f64| {
            let config = TrainConfig { lambda_u: value, ..TrainConfig::default() };
            of_config(config, &["lambda_u".to_owned()], 0.9, 0.9)
        };
        let rows = rows(&[at(10.0), at(3.0), at(-2.5), at(75.0), at(-1.0), at(0.0)]);
        let values: Vec<f64> = rows.iter().map(|row| row.values["lambda_u"].as_f64().unwrap()).collect();
        assert_eq!(values, [-2.5, -1.0, 0.0, 3.0, 10.0, 75.0]);
    }
}
