//! Whether the unlabelled images helped: differences over the same seeds, and one sentence that holds whoever won.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::by_group::{GroupDifference, group_differences, losers};
use super::comparison::{ComparedRun, Row, RunFigures, Spread};
use crate::statistics::half_width;
use crate::train::config::{AlgorithmName, TrainConfig};
use crate::train::event::SMALLEST_GROUP;

/// Pairs below which nothing is called decided: with two, equal rounding alone makes a deviation of nothing.
const FEWEST: usize = 3;

/// What a difference says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Ahead of the baseline: the 95 % interval of the mean difference (Student's t) lies above 0.
    Ahead,
    /// Behind it: the interval lies below 0.
    Behind,
    /// The interval holds 0, or there are fewer than three pairs.
    Undecided,
}

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
    /// Seeds with both runs.
    pub pairs: usize,
    /// Those seeds.
    pub seeds: Vec<u64>,
    /// Its validation accuracy less the baseline's.
    pub validation_accuracy: Option<Spread>,
    /// Its test accuracy less the baseline's.
    pub test_accuracy: Option<Spread>,
    /// Pairs that it wins, by test accuracy (validation where the data set has no test split).
    pub wins: usize,
    /// Pairs that it loses.
    pub losses: usize,
    /// 95 % interval of that mean difference (Student's t); absent for one pair, and for validation's where all are equal.
    pub interval: Option<[f64; 2]>,
    /// What follows from the interval.
    pub finding: Finding,
    /// Whether validation chose these values among the grid's: the verdict speaks of these.
    pub chosen: bool,
    /// The same for each group of the test images (the sheet's extra columns) that has 30 images or more.
    pub groups: Vec<GroupDifference>,
}

/// Differences over pairs, and what they say.
pub(super) struct Gaps {
    pub spread: Spread,
    /// 95 % interval of the mean; absent for one pair.
    pub interval: Option<[f64; 2]>,
    pub finding: Finding,
}

impl Gaps {
    /// Of one difference for each pair, between accuracies over `images` images; absent for none.
    ///
    /// An accuracy over n images is a multiple of 1/n, and so a gap is known to within the deviation of two roundings to
    /// that, 1/(n·√6): gaps that happen to be equal leave an interval of some width, or where n is not known, none.
    pub fn of(gaps: &[f64], images: Option<u64>) -> Option<Self> {
        let spread = Spread::of(gaps.iter().copied())?;
        let rounding = images.filter(|images| *images > 0).map_or(0.0, |images| 1.0 / (images as f64 * 6f64.sqrt()));
        let sd = spread.sd.map(|sd| sd.max(rounding)).filter(|sd| *sd > 0.0);
        let half = sd.and_then(|sd| half_width(sd, gaps.len()));
        let interval = half.map(|half| [spread.mean - half, spread.mean + half]);
        // The seeds share their test images: how much of a gap lies in those, its spread over the seeds does not show.
        let images_enough = images.is_none_or(|images| images >= SMALLEST_GROUP);
        let finding = match interval.filter(|_| images_enough) {
            Some([low, _]) if gaps.len() >= FEWEST && low > 0.0 => Finding::Ahead,
            Some([_, high]) if gaps.len() >= FEWEST && high < 0.0 => Finding::Behind,
            _ => Finding::Undecided,
        };
        Some(Self { spread, interval, finding })
    }
}

/// `a − b`, and nothing where they differ by rounding alone: two runs that answer as many images right are level.
pub(super) fn gap(a: f64, b: f64) -> f64 {
    let gap = a - b;
    if gap.abs() < 1e-9 { 0.0 } else { gap }
}

/// The difference of every line of the table that has a baseline.
pub(super) fn differences(rows: &[Row], runs: &[ComparedRun]) -> Vec<Difference> {
    let measured = rows.iter().filter(|row| row.algorithm != AlgorithmName::Supervised);
    measured.filter_map(|row| difference(row, runs)).collect()
}

fn difference(row: &Row, runs: &[ComparedRun]) -> Option<Difference> {
    let done: Vec<&ComparedRun> = runs.iter().filter(|run| run.succeeded()).collect();
    let mine =
        |run: &ComparedRun| (run.labelled, run.algorithm, &run.values) == (row.labelled, row.algorithm, &row.values);
    // Of one kind for all seeds, whether or not it succeeded: two kinds have no mean.
    let has = |wanted: TrainConfig| runs.iter().any(|other| other.config.trains_as(&wanted));
    let has_baseline = runs.iter().any(|run| mine(run) && has(run.config.baseline()));
    let opponent =
        |run: &ComparedRun| if has_baseline { run.config.baseline() } else { run.config.pretrained_baseline() };
    let mut pairs: Vec<(&ComparedRun, &ComparedRun)> = Vec::new();
    for &run in done.iter().filter(|run| mine(run)) {
        let wanted = opponent(run);
        pairs.extend(done.iter().find(|other| other.config.trains_as(&wanted)).map(|&other| (run, other)));
    }
    pairs.sort_by_key(|(run, _)| run.seed);
    let gaps = |figure: fn(&RunFigures) -> Option<f64>| -> Vec<f64> {
        pairs.iter().filter_map(|(a, b)| Some(gap(figure(&a.figures)?, figure(&b.figures)?))).collect()
    };
    let (validation, test) = (gaps(|figures| figures.validation_accuracy), gaps(|figures| figures.test_accuracy));
    let (validation_accuracy, test_accuracy) =
        (Spread::of(validation.iter().copied()), Spread::of(test.iter().copied()));
    let (counted, images) =
        if test.is_empty() { (validation, None) } else { (test, pairs.first().and_then(|(run, _)| run.test_images)) };
    let Gaps { interval, finding, .. } = Gaps::of(&counted, images)?;
    Some(Difference {
        labelled: row.labelled,
        algorithm: row.algorithm,
        values: row.values.clone(),
        pretrained_alike: !has_baseline,
        test_images: images,
        pairs: counted.len(),
        seeds: pairs.iter().map(|(run, _)| run.seed).collect(),
        validation_accuracy,
        test_accuracy,
        wins: counted.iter().filter(|gap| **gap > 0.0).count(),
        losses: counted.iter().filter(|gap| **gap < 0.0).count(),
        interval,
        finding,
        chosen: row.chosen,
        groups: group_differences(&pairs),
    })
}

/// A sentence for each number of labels.
pub(super) fn verdict(differences: &[Difference], runs: &[ComparedRun]) -> String {
    let mut counts: Vec<Option<u32>> = differences.iter().map(|difference| difference.labelled).collect();
    counts.dedup();
    let of = |labelled| differences.iter().filter(move |difference| difference.labelled == labelled);
    let told = counts.into_iter().flat_map(|labelled| {
        let chosen: Vec<String> = of(labelled)
            .filter(|difference| difference.chosen)
            .map(|difference| sentence(difference) + &losers(difference))
            .collect();
        if chosen.is_empty() { of(labelled).next().map(unchosen).into_iter().collect() } else { chosen }
    });
    let told = told.collect::<Vec<_>>().join(" ");
    if !told.is_empty() {
        return told;
    }
    if runs.iter().any(|run| run.algorithm == AlgorithmName::Supervised)
        && runs.iter().any(|run| run.algorithm != AlgorithmName::Supervised)
    {
        "No run and its supervised baseline have both succeeded yet.".to_owned()
    } else if runs.iter().all(|run| run.algorithm == AlgorithmName::Supervised) {
        "All runs are supervised: none of them guesses labels, which is what a baseline is held against.".to_owned()
    } else {
        "Without a supervised run on the same labels there is nothing to compare with; \"baseline\": true trains it."
            .to_owned()
    }
}

/// Of a number of labels where only values that validation did not choose have their baseline.
fn unchosen(difference: &Difference) -> String {
    format!(
        "With {} the values that validation chose have no supervised baseline that succeeded beside them; others have, see the \
         table.",
        labels(difference)
    )
}

fn sentence(difference: &Difference) -> String {
    let Difference { pairs, wins, .. } = difference;
    let name = title(difference.algorithm);
    let (spread, what) = match (difference.test_accuracy, difference.validation_accuracy) {
        (Some(spread), _) => (spread, "test accuracy"),
        (None, Some(spread)) => (spread, "validation accuracy"),
        (None, None) => return String::new(),
    };
    let points = format!("{:.1}", spread.mean.abs() * 100.0);
    let level = points == "0.0" && difference.finding == Finding::Undecided;
    let size = match spread.sd {
        Some(sd) => format!("{points} ± {:.1} points of {what}", sd * 100.0),
        None => format!("{points} points of {what}"),
    };
    let order = match spread.mean {
        _ if level => "is level with".to_owned(),
        mean if mean > 0.0 => format!("is {size} ahead of"),
        _ => format!("is {size} behind"),
    };
    let place = place(difference);
    let (other, helped) = if difference.pretrained_alike {
        ("supervised training after the same pretraining", "its guesses helped")
    } else {
        ("its supervised baseline", "the unlabelled images helped")
    };
    let on = difference.test_images.map_or(String::new(), |images| format!(" on the same {images} test images"));
    match (difference.finding, pairs) {
        (Finding::Ahead, _) => {
            format!("With {place} {name} beats {other} by {size} over {pairs} seeds{on} (ahead in {wins}): {helped}.")
        }
        (Finding::Behind, _) => format!(
            "With {place} {name} does not pay here: it {order} {other} over {pairs} seeds{on} (ahead in {wins}); a longer run \
             or a smaller lambda_u is the first thing to try."
        ),
        (Finding::Undecided, 1) => {
            format!("With {place} {name} {order} {other} with one seed, which decides nothing.")
        }
        (Finding::Undecided, pairs) => {
            let why = if *pairs < FEWEST { "three seeds are the least to tell" } else { "chance alone may do that" };
            format!(
                "With {place} nothing is decided: {name} {order} {other} over {pairs} seeds{on} (ahead in {wins}); {why}."
            )
        }
    }
}

/// `40 labels`, `all labels`, `40 labels and lambda_u 3`.
fn place(difference: &Difference) -> String {
    let values = difference.values.iter().map(|(name, value)| format!(" and {name} {}", plain(value)));
    format!("{}{}", labels(difference), values.collect::<String>())
}

fn labels(difference: &Difference) -> String {
    difference.labelled.map_or_else(|| "all labels".to_owned(), |labels| format!("{labels} labels"))
}

/// A value as people write it: a string without its quotes.
pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The algorithm's own name.
pub(super) fn title(algorithm: AlgorithmName) -> &'static str {
    match algorithm {
        AlgorithmName::Mixmatch => "MixMatch",
        AlgorithmName::Supervised => "supervised",
    }
}

#[cfg(test)]
mod tests {
    use super::super::comparison::Comparison;
    use super::super::comparison::tests::{example, of_config, run, unfinished};
    use super::*;
    use AlgorithmName::{Mixmatch, Supervised};

    /// MixMatch less supervised on test, a seed each.
    fn compared(gaps: &[f64]) -> Comparison {
        let pair = |(seed, gap): (usize, &f64)| {
            [run(40, seed as u64, Supervised, 0.8, 0.8), run(40, seed as u64, Mixmatch, 0.8, 0.8 + gap)]
        };
        Comparison::new(gaps.iter().enumerate().flat_map(pair).collect(), Vec::new())
    }

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
    fn a_handful_of_test_images_decides_nothing() {
        let gaps = [0.1, 0.1, 0.1];
        let finding = |images| Gaps::of(&gaps, Some(images)).unwrap().finding;
        assert_eq!((finding(29), finding(30)), (Finding::Undecided, Finding::Ahead));
    }

    #[test]
    fn the_sentence_is_right_whoever_won() {
        let told = |gaps: &[f64]| compared(gaps).verdict;
        let ahead = told(&[0.028, 0.036, 0.044]);
        assert!(
            ahead.contains(
                "MixMatch beats its supervised baseline by 3.6 ± 0.8 points of test accuracy over 3 seeds (ahead in 3)"
            ),
            "{ahead}"
        );
        let behind = told(&[-0.05, -0.04, -0.06]);
        assert!(
            behind.contains("does not pay here: it is 5.0 ± 1.0 points") && behind.contains("(ahead in 0)"),
            "{behind}"
        );
        assert!(ahead.ends_with("the unlabelled images helped."), "{ahead}");
        let open = told(&[0.05, -0.02, 0.03]);
        assert!(
            open.contains("nothing is decided: MixMatch is 2.0 ± 3.6 points") && open.contains("(ahead in 2)"),
            "{open}"
        );
        assert!(told(&[0.2]).contains("20.0 points of test accuracy ahead of its supervised baseline with one seed"));
        assert!(told(&[0.1, 0.1]).contains("nothing is decided"), "two equal gaps are no proof");
        assert!(told(&[0.0]).contains("level"));
    }

    #[test]
    fn pretrained_runs_are_measured_against_the_baseline_or_else_against_pretrained_ones() {
        let of = |seed: u64, algorithm, pretrain_epochs, accuracy| {
            let config = TrainConfig { labelled: Some(40), seed, algorithm, pretrain_epochs, ..TrainConfig::default() };
            let wobbled = accuracy + 0.001 * seed as f64;
            ComparedRun { test_images: Some(900), ..of_config(config, &["pretrain_epochs".to_owned()], 0.8, wobbled) }
        };
        let pretrained = |seed| [of(seed, Mixmatch, 100, 0.9), of(seed, Supervised, 100, 0.85 + 0.001 * seed as f64)];
        let mut runs: Vec<ComparedRun> = (0..3).flat_map(pretrained).collect();
        let told = Comparison::new(runs.clone(), Vec::new());
        assert!(told.differences[0].pretrained_alike);
        assert!(
            told.verdict.contains(
                "MixMatch beats supervised training after the same pretraining by 4.9 ± 0.1 points of test accuracy over 3 seeds \
                 on the same 900 test images (ahead in 3): its guesses helped."
            ),
            "{}",
            told.verdict
        );
        assert!(told.markdown("m").contains("Against supervised training after the same pretraining, on"));
        runs.extend((0..3).map(|seed| of(seed, Supervised, 0, 0.7)));
        let told = Comparison::new(runs.clone(), vec!["pretrain_epochs".to_owned()]);
        assert_eq!((told.rows.len(), told.differences[0].pretrained_alike), (3, false));
        assert!(
            told.verdict.contains("and pretrain_epochs 100 MixMatch beats its supervised baseline by 20.0"),
            "{}",
            told.verdict
        );
        // The seed whose baseline failed is left out, not held against the pretrained run.
        let mut failed = runs.clone();
        failed.last_mut().unwrap().state = "failed";
        let told = Comparison::new(failed, vec!["pretrain_epochs".to_owned()]);
        assert_eq!(
            (told.differences[0].seeds.as_slice(), told.differences[0].pretrained_alike),
            ([0, 1].as_slice(), false)
        );
        // Without a grid, runs that were pretrained and runs that were not share no line.
        runs.iter_mut().for_each(|run| run.values.clear());
        let told = Comparison::new(runs, Vec::new());
        assert!(!told.markdown("m").contains("chosen by validation"), "nobody asked to choose by that");
        assert_eq!((told.rows.len(), told.axes), (3, vec!["pretrain_epochs".to_owned()]));
    }

    #[test]
    fn what_differs_by_rounding_alone_is_level() {
        let level = compared(&[1e-16, -2e-17, 0.0]);
        let difference = &level.differences[0];
        assert_eq!((difference.wins, difference.losses, difference.test_accuracy.unwrap().mean), (0, 0, 0.0));
        assert!(level.verdict.contains("is level with its supervised baseline"), "{}", level.verdict);
    }

    #[test]
    fn without_a_pair_the_sentence_says_what_is_missing() {
        let alone = Comparison::new(vec![run(40, 0, Mixmatch, 0.9, 0.9)], Vec::new());
        assert!(alone.verdict.contains("\"baseline\": true") && alone.differences.is_empty(), "{}", alone.verdict);
        let supervised = Comparison::new(vec![run(40, 0, Supervised, 0.9, 0.9)], Vec::new());
        assert!(supervised.verdict.starts_with("All runs are supervised"), "{}", supervised.verdict);
        let waiting = vec![run(40, 0, Mixmatch, 0.9, 0.9), unfinished(40, 0, Supervised, "running")];
        assert!(Comparison::new(waiting, Vec::new()).verdict.contains("yet"));
    }

    #[test]
    fn chosen_values_without_a_pair_are_told_beside_those_that_have_one() {
        let axes = ["learning_rate".to_owned()];
        let of = |algorithm, learning_rate, validation| {
            let config = TrainConfig { labelled: Some(40), algorithm, learning_rate, ..TrainConfig::default() };
            of_config(config, &axes, validation, 0.8)
        };
        // The baseline of the better rate did not succeed.
        let runs = vec![of(Mixmatch, 0.001, 0.9), of(Supervised, 0.002, 0.7), of(Mixmatch, 0.002, 0.8)];
        let comparison = Comparison::new(runs, axes.to_vec());
        assert_eq!(comparison.differences.len(), 1);
        assert!(
            comparison.verdict.contains("With 40 labels the values that validation chose"),
            "{}",
            comparison.verdict
        );
    }

    #[test]
    fn a_data_set_without_a_test_split_is_judged_on_validation() {
        let mut runs = vec![run(40, 0, Supervised, 0.7, 0.0), run(40, 0, Mixmatch, 0.8, 0.0)];
        runs.iter_mut().for_each(|run| run.figures.test_accuracy = None);
        let comparison = Comparison::new(runs, Vec::new());
        assert!(comparison.verdict.contains("10.0 points of validation accuracy ahead"), "{}", comparison.verdict);
        assert_eq!(comparison.differences[0].wins, 1);
    }
}
