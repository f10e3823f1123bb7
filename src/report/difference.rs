//! An algorithm against the supervised runs on the same labels: differences over the same seeds.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::against_chosen::{AgainstChosen, against_chosen};
use super::by_group::{GroupDifference, group_differences};
use super::comparison::{ComparedRun, Spread};
use super::gaps::{Finding, Gaps, Pair, Paired, spread};
use super::rows::Row;
use crate::train::config::{AlgorithmName, TrainConfig};

/// An algorithm against the supervised runs on the same labels, over the seeds that both have. All seeds share their test images: the
/// interval tells of other seeds, not of other images.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Difference {
    /// Labels that both train with; null takes all.
    pub labelled: Option<u32>,
    /// The algorithm that is measured.
    pub algorithm: AlgorithmName,
    /// Its values of the sweep's `grid`.
    pub values: BTreeMap<String, Value>,
    /// Whether the supervised runs began with the same contrastive pretraining, which sees the unlabelled images too: there are none
    /// without it.
    pub pretrained_alike: bool,
    /// Test images that all seeds share; null for a data set without them.
    pub test_images: Option<u64>,
    /// For a data set without test images the number of those that chose the epoch, of the seed with the fewest; null where that is
    /// not known.
    pub validation_images: Option<u64>,
    /// Seeds with both runs.
    pub pairs: usize,
    /// Those seeds.
    pub seeds: Vec<u64>,
    /// Further seeds, whose supervised run succeeded and where the algorithm's collapsed or diverged: they enter no figure here.
    pub collapsed: usize,
    /// Further seeds, where the algorithm's run succeeded and the supervised one collapsed or diverged: they enter no figure here either.
    pub baseline_collapsed: usize,
    /// Further seeds, where both collapsed or diverged.
    pub both_collapsed: usize,
    /// Its validation accuracy less the baseline's.
    pub validation_accuracy: Option<Spread>,
    /// Its test accuracy less the baseline's.
    pub test_accuracy: Option<Spread>,
    /// Pairs that it wins, by test accuracy (validation where the data set has no test split).
    pub wins: usize,
    /// Pairs that it loses.
    pub losses: usize,
    /// 95 % interval of that mean difference (Student's t); absent for one pair, and where all are equal over an unknown number of
    /// images.
    pub interval: Option<[f64; 2]>,
    /// What follows from the interval.
    pub finding: Finding,
    /// Whether validation chose these values among the grid's: the verdict speaks of these.
    pub chosen: bool,
    /// Whether there were several to choose from, and no test images: the figures are then those that chose.
    #[serde(skip)]
    #[schema(ignore)]
    pub(super) chosen_by_these: bool,
    /// Whether the guesses have a weight (`lambda_u`) in any of its runs, which could be smaller.
    #[serde(skip)]
    #[schema(ignore)]
    pub(super) weighs_guesses: bool,
    /// The same against the values that validation chose for the supervised runs. Null where these have one value alone, and where
    /// it chose those that they are compared by above.
    pub against_chosen: Option<AgainstChosen>,
    /// The same for each group of the test images (the sheet's extra columns) that has 30 images or more.
    pub groups: Vec<GroupDifference>,
}

/// The difference of every line of the table that has a baseline.
pub(super) fn differences(rows: &[Row], runs: &[ComparedRun]) -> Vec<Difference> {
    let measured = rows.iter().filter(|row| row.algorithm != AlgorithmName::Supervised);
    measured.filter_map(|row| difference(row, rows, runs)).collect()
}

fn difference(row: &Row, rows: &[Row], runs: &[ComparedRun]) -> Option<Difference> {
    let mine: Vec<&ComparedRun> = runs.iter().filter(|run| row.has(run)).collect();
    // Of one kind for all seeds, whether or not it succeeded: two kinds have no mean.
    let has = |wanted: TrainConfig| runs.iter().any(|other| other.config.trains_as(&wanted));
    let has_baseline = mine.iter().any(|run| has(run.config.baseline()));
    let wanted =
        |run: &ComparedRun| if has_baseline { run.config.baseline() } else { run.config.pretrained_baseline() };
    let opponent = |run: &ComparedRun| {
        let wanted = wanted(run);
        runs.iter().find(|other| other.succeeded() && other.config.trains_as(&wanted))
    };
    let opponent_failed_so = |run: &ComparedRun| {
        let wanted = wanted(run);
        opponent(run).is_none()
            && runs.iter().any(|other| other.failed_by_its_figures() && other.config.trains_as(&wanted))
    };
    let done = mine.iter().copied().filter(|run| run.succeeded());
    let mut pairs: Vec<Pair<'_>> = done.filter_map(|run| Some((run, opponent(run)?))).collect();
    pairs.sort_by_key(|(run, _)| run.seed);
    let paired = Paired::of(&pairs);
    let counted = paired.counted();
    let Gaps { interval, finding, .. } = Gaps::of(counted, paired.images)?;
    let chosen_by_these = row.marked && !paired.is_tested();
    Some(Difference {
        labelled: row.labelled,
        algorithm: row.algorithm,
        values: row.values.clone(),
        pretrained_alike: !has_baseline,
        test_images: paired.images.filter(|_| paired.is_tested()),
        validation_images: paired.images.filter(|_| !paired.is_tested()),
        pairs: counted.len(),
        seeds: pairs.iter().map(|(run, _)| run.seed).collect(),
        collapsed: mine.iter().filter(|run| run.failed_by_its_figures() && opponent(run).is_some()).count(),
        baseline_collapsed: mine.iter().filter(|run| run.succeeded() && opponent_failed_so(run)).count(),
        both_collapsed: mine.iter().filter(|run| run.failed_by_its_figures() && opponent_failed_so(run)).count(),
        validation_accuracy: spread(&paired.validation),
        test_accuracy: spread(&paired.test),
        wins: counted.iter().filter(|gap| **gap > 0.0).count(),
        losses: counted.iter().filter(|gap| **gap < 0.0).count(),
        interval,
        finding: if chosen_by_these { finding.after_a_choice() } else { finding },
        chosen: row.chosen,
        chosen_by_these,
        weighs_guesses: mine.iter().any(|run| run.config.lambda_u > 0.0),
        against_chosen: against_chosen(row, &pairs, rows, runs),
        groups: group_differences(&pairs),
    })
}

#[cfg(test)]
mod tests {
    use super::super::comparison::Comparison;
    use super::super::comparison::tests::{example, run, unfinished};
    use super::*;
    use AlgorithmName::{Mixmatch, Supervised};

    #[test]
    fn differences_are_over_the_seeds_that_both_have() {
        let comparison = example();
        assert_eq!(comparison.differences.len(), 1, "nothing to hold 100 labels against");
        let difference = &comparison.differences[0];
        assert_eq!(
            (difference.labelled, difference.pairs, difference.seeds.as_slice()),
            (Some(40), 2, [0, 1].as_slice())
        );
        // .88 − .78 and .91 − .80: .105 ± .00707.
        let Spread { mean, sd } = difference.test_accuracy.unwrap();
        assert!((mean - 0.105).abs() < 1e-9 && (sd.unwrap() - 0.007_071_067_8).abs() < 1e-9, "{difference:?}");
        assert!((difference.validation_accuracy.unwrap().mean - 0.1).abs() < 1e-9);
        assert_eq!((difference.wins, difference.losses, difference.finding), (2, 0, Finding::Undecided));
    }

    #[test]
    fn a_run_that_collapsed_or_diverged_counts_beside_what_its_baseline_did() {
        let failed = |seed, error: &str| {
            let error = Some(error.to_owned());
            ComparedRun { error, ..unfinished(40, seed, Mixmatch, "failed") }
        };
        let runs = vec![
            run(40, 0, Supervised, 0.8, 0.8),
            run(40, 0, Mixmatch, 0.9, 0.9),
            run(40, 1, Supervised, 0.8, 0.8),
            failed(1, "collapsed: one class alone"),
            run(40, 2, Supervised, 0.8, 0.8),
            failed(2, "storage: no room"),
            unfinished(40, 3, Supervised, "failed"),
            failed(3, "collapsed: one class alone"),
            run(40, 4, Supervised, 0.8, 0.8),
            failed(4, "diverged: the loss is NaN"),
            unfinished(40, 5, Supervised, "canceled"),
            failed(5, "collapsed: one class alone"),
        ];
        let Difference { pairs, collapsed, baseline_collapsed, both_collapsed, .. } =
            Comparison::new(runs, Vec::new()).differences[0];
        assert_eq!((pairs, collapsed, baseline_collapsed, both_collapsed), (1, 2, 0, 1));
    }

    #[test]
    fn a_baseline_that_collapsed_counts_where_the_run_did_not() {
        let runs = vec![
            run(40, 0, Supervised, 0.8, 0.8),
            run(40, 0, Mixmatch, 0.9, 0.9),
            unfinished(40, 1, Supervised, "failed"),
            run(40, 1, Mixmatch, 0.9, 0.9),
            unfinished(40, 2, Supervised, "canceled"),
            run(40, 2, Mixmatch, 0.9, 0.9),
        ];
        let difference = &Comparison::new(runs, Vec::new()).differences[0];
        assert_eq!((difference.pairs, difference.collapsed, difference.baseline_collapsed), (1, 0, 1));
    }
}
