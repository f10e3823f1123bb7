//! The lines of a comparison's table: runs that are alike but for their seed, and which of them validation chose.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::comparison::{ComparedRun, RunFigures, Spread};
use super::gaps::gap;
use crate::train::config::AlgorithmName;

/// One line of the table: everything the same but the seed.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Row {
    /// Labels to train with; null takes all.
    pub labelled: Option<u32>,
    /// The learning algorithm.
    pub algorithm: AlgorithmName,
    /// The hyper-parameters of the sweep's `grid`, as far as the line's runs read them.
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
    /// Among the values of the grid at these labels, the one with the highest mean validation accuracy. Runs with and without
    /// pretraining have one each, unless the grid has `pretrain_epochs`.
    pub chosen: bool,
    /// One of several that validation could choose from, and the one it chose.
    pub marked: bool,
}

impl Row {
    /// Whether a run belongs to this line.
    pub(super) fn has(&self, run: &ComparedRun) -> bool {
        (self.labelled, self.algorithm, &self.values) == (run.labelled, run.algorithm, &run.values)
    }

    /// Whether the request left it to validation which of the two to take; nobody asked to choose by the field `apart`.
    fn is_rival(&self, other: &Row, apart: Option<&str>) -> bool {
        (self.labelled, self.algorithm) == (other.labelled, other.algorithm)
            && apart.is_none_or(|field| self.values.get(field) == other.values.get(field))
    }
}

/// The lines in their order; `apart` is a field that tells runs apart and is none of the grid's.
pub(super) fn rows(runs: &[ComparedRun], apart: Option<&str>) -> Vec<Row> {
    let mut sorted: Vec<&ComparedRun> = runs.iter().collect();
    sorted.sort_by(|a, b| by_line(a, b));
    let mut rows: Vec<Row> = sorted.chunk_by(|a, b| by_line(a, b).is_eq()).map(row).collect();
    let choices: Vec<(bool, bool)> = rows
        .iter()
        .map(|row| {
            let rivals: Vec<&Row> = rows.iter().filter(|other| row.is_rival(other, apart)).collect();
            let chosen = choose(&rivals).is_some_and(|best| std::ptr::eq(best, row));
            (chosen, chosen && rivals.len() > 1)
        })
        .collect();
    for (row, (chosen, marked)) in rows.iter_mut().zip(choices) {
        (row.chosen, row.marked) = (chosen, marked);
    }
    rows
}

/// Of rivals the one with the highest mean validation accuracy, of equals the first: the order in which the same figures are added up
/// decides nothing. A mean over fewer seeds than its rivals' is luckier: only lines with the most seeds are chosen from.
pub(super) fn choose<'a>(rivals: &[&'a Row]) -> Option<&'a Row> {
    let most = rivals.iter().map(|rival| rival.n).max().filter(|most| *most > 0)?;
    let is_higher = |rival: &Row, best: &Row| match (rival.validation_accuracy, best.validation_accuracy) {
        (Some(rival), Some(best)) => gap(rival.mean, best.mean) > 0.0,
        (rival, best) => rival.is_some() && best.is_none(),
    };
    let able = rivals.iter().copied().filter(|rival| rival.n == most);
    able.reduce(|best, rival| if is_higher(rival, best) { rival } else { best })
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
        marked: false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::comparison::Comparison;
    use super::super::comparison::tests::of_config;
    use super::*;
    use crate::train::config::TrainConfig;
    use AlgorithmName::{Mixmatch, Supervised};

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
    fn all_labels_come_last_and_each_figure_is_its_own() {
        let of = |labelled| of_config(TrainConfig { labelled, ..TrainConfig::default() }, &[], 0.9, 0.8);
        let rows = rows(&[of(None), of(Some(100)), of(Some(40))], None);
        assert_eq!(rows.iter().map(|row| row.labelled).collect::<Vec<_>>(), [Some(40), Some(100), None]);
        let means = [rows[0].validation_accuracy, rows[0].test_accuracy, rows[0].test_f1_macro];
        assert_eq!(means.map(|spread| spread.unwrap().mean), [0.9, 0.8, 0.8 - 0.01]);
    }

    #[test]
    fn of_equal_values_the_first_is_chosen() {
        let axes = ["lambda_u".to_owned()];
        let of = |lambda_u| of_config(TrainConfig { lambda_u, ..TrainConfig::default() }, &axes, 0.9, 0.9);
        let rows = rows(&[of(10.0), of(3.0)], None);
        let told: Vec<_> = rows.iter().map(|row| (row.values["lambda_u"].as_f64(), row.chosen, row.marked)).collect();
        assert_eq!(told, [(Some(3.0), true, true), (Some(10.0), false, false)]);
    }

    #[test]
    fn values_whose_seeds_reach_the_same_in_another_order_are_equal() {
        let axes = ["lambda_u".to_owned()];
        let of = |(lambda_u, right): (f64, [f64; 3])| {
            let run = |(seed, right): (u64, f64)| {
                let config = TrainConfig { labelled: Some(40), seed, lambda_u, ..TrainConfig::default() };
                of_config(config, &axes, right / 24.0, 0.9)
            };
            (0..).zip(right).map(run).collect::<Vec<_>>()
        };
        let runs: Vec<ComparedRun> =
            [(3.0, [15.0, 16.0, 16.0]), (10.0, [16.0, 16.0, 15.0])].into_iter().flat_map(of).collect();
        let rows = rows(&runs, None);
        let mean = |row: &Row| row.validation_accuracy.map(|spread| spread.mean);
        assert!(mean(&rows[1]) > mean(&rows[0]), "by the last bit: {rows:?}");
        assert_eq!(rows.iter().map(|row| row.chosen).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn a_value_with_a_figure_is_chosen_before_one_without() {
        let axes = ["lambda_u".to_owned()];
        let of = |lambda_u| of_config(TrainConfig { lambda_u, ..TrainConfig::default() }, &axes, 0.9, 0.9);
        let mut runs = [of(3.0), of(10.0), of(30.0)];
        runs[0].figures.validation_accuracy = None;
        runs[2].figures.validation_accuracy = None;
        assert_eq!(rows(&runs, None).iter().map(|row| row.chosen).collect::<Vec<_>>(), [false, true, false]);
    }

    #[test]
    fn what_nobody_asked_to_choose_between_is_not_marked() {
        // Algorithm [mixmatch, supervised], pretrain_epochs 9, a baseline, and a grid over lambda_u.
        let axes = ["lambda_u".to_owned()];
        let of = |algorithm, pretrain_epochs, lambda_u, accuracy| {
            let config =
                TrainConfig { labelled: Some(40), algorithm, pretrain_epochs, lambda_u, ..TrainConfig::default() };
            of_config(config, &axes, accuracy, accuracy)
        };
        let runs = vec![
            of(Supervised, 0, 3.0, 0.7),
            of(Mixmatch, 9, 3.0, 0.8),
            of(Mixmatch, 9, 10.0, 0.9),
            of(Supervised, 9, 3.0, 0.75),
        ];
        let comparison = Comparison::new(runs, axes.to_vec());
        let told: Vec<_> = comparison.rows.iter().map(|row| (row.algorithm, row.chosen, row.marked)).collect();
        let supervised = (Supervised, true, false);
        assert_eq!(told, [supervised, supervised, (Mixmatch, false, false), (Mixmatch, true, true)]);
        assert_eq!(comparison.axes, ["lambda_u", "pretrain_epochs"]);
        let text = comparison.markdown("m");
        assert!(text.contains("MixMatch \\* |") && text.contains("\n\\* chosen by validation accuracy."), "{text}");
        assert!(!text.contains("supervised \\*"), "{text}");
        assert_eq!(serde_json::to_value(&comparison).unwrap()["rows"][3]["marked"], Value::Bool(true));
    }

    #[test]
    fn the_lines_of_a_grid_come_by_the_size_of_their_values() {
        let at = |value: f64| {
            let config = TrainConfig { lambda_u: value, ..TrainConfig::default() };
            of_config(config, &["lambda_u".to_owned()], 0.9, 0.9)
        };
        let rows = rows(&[at(10.0), at(3.0), at(-2.5), at(75.0), at(-1.0), at(0.0)], None);
        let values: Vec<f64> = rows.iter().map(|row| row.values["lambda_u"].as_f64().unwrap()).collect();
        assert_eq!(values, [-2.5, -1.0, 0.0, 3.0, 10.0, 75.0]);
    }
}
