//! Tuned alike: the algorithm against the supervised values that validation chose, where the grid has something that both read.
//!
//! An algorithm's best of many values meets its baseline at those values, and supervised training may want others: a gain may then be
//! the tuning's and not that of the unlabelled images.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::comparison::{ComparedRun, RunFigures, Spread};
use super::gaps::{Finding, Gaps, Pair, Paired};
use super::naming::named;
use super::rows::{Row, choose};
use crate::train::config::AlgorithmName;

/// An algorithm against the supervised runs of the values that validation chose among theirs, over the seeds that both have.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct AgainstChosen {
    /// Those values of the sweep's `grid`.
    pub values: BTreeMap<String, Value>,
    /// Seeds with both runs.
    pub pairs: usize,
    /// The supervised runs' accuracy over those seeds: on the test split, or on validation for a data set without one. Absent
    /// without a pair.
    pub baseline_accuracy: Option<Spread>,
    /// The algorithm's accuracy less that.
    pub accuracy: Option<Spread>,
    /// 95 % interval of that mean difference (Student's t).
    pub interval: Option<[f64; 2]>,
    /// What follows from the interval.
    pub finding: Finding,
}

/// Of a line of the table whose runs make `pairs` with their supervised ones. Only supervised runs of that kind are chosen from:
/// others may have seen the unlabelled images in their pretraining, or may not have.
pub(super) fn against_chosen(
    row: &Row,
    pairs: &[Pair<'_>],
    rows: &[Row],
    runs: &[ComparedRun],
) -> Option<AgainstChosen> {
    let is_pretrained = |run: &ComparedRun| run.config.pretrain_epochs > 0;
    let (_, opponent) = pairs.first()?;
    let of_its_kind = |other: &Row| {
        runs.iter().find(|run| other.has(run)).is_some_and(|run| is_pretrained(run) == is_pretrained(opponent))
    };
    let supervised = rows.iter().filter(|other| {
        other.algorithm == AlgorithmName::Supervised && other.labelled == row.labelled && of_its_kind(other)
    });
    let chosen = choose(&supervised.collect::<Vec<_>>())?;
    if pairs.iter().all(|(_, opponent)| chosen.has(opponent)) {
        return None;
    }
    let done = || runs.iter().filter(|run| run.succeeded());
    let with_its_seed = |run: &ComparedRun| done().find(|other| chosen.has(other) && other.seed == run.seed);
    let pairs: Vec<Pair<'_>> =
        done().filter(|run| row.has(run)).filter_map(|run| Some((run, with_its_seed(run)?))).collect();
    let paired = Paired::of(&pairs);
    let gaps = Gaps::of(paired.counted(), paired.images);
    let figure = |figures: &RunFigures| {
        if paired.is_tested() { figures.test_accuracy } else { figures.validation_accuracy }
    };
    Some(AgainstChosen {
        values: chosen.values.clone(),
        pairs: paired.counted().len(),
        baseline_accuracy: Spread::of(pairs.iter().filter_map(|(_, other)| figure(&other.figures))),
        accuracy: gaps.as_ref().map(|gaps| gaps.spread),
        interval: gaps.as_ref().and_then(|gaps| gaps.interval),
        finding: gaps.map_or(Finding::Undecided, |gaps| {
            if row.marked && !paired.is_tested() { gaps.finding.after_a_choice() } else { gaps.finding }
        }),
    })
}

impl AgainstChosen {
    /// `supervised with learning_rate 0.004, which validation chose among its values, has 90.0 %, 5.0 ± 0.1 points more`.
    pub(super) fn told(&self) -> String {
        let values = named(&self.values).join(" and ");
        let supervised = format!("supervised with {values}, which validation chose among its values,");
        match (self.baseline_accuracy, self.accuracy) {
            (Some(reached), Some(gap)) => {
                format!("{supervised} has {:.1} %, {}", reached.mean * 100.0, self.beside(gap))
            }
            _ => format!("{supervised} has no seed in common with it"),
        }
    }

    /// What the supervised runs have beside the algorithm's: `5.0 ± 0.1 points more`.
    fn beside(&self, gap: Spread) -> String {
        let points = format!("{:.1}", gap.mean.abs() * 100.0);
        let sd = gap.sd.map_or(String::new(), |sd| format!(" ± {:.1}", sd * 100.0));
        match gap.mean {
            _ if points == "0.0" && self.finding == Finding::Undecided => "as much".to_owned(),
            mean if mean < 0.0 => format!("{points}{sd} points more"),
            _ => format!("{points}{sd} points less"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::comparison::Comparison;
    use super::super::comparison::tests::of_config;
    use super::*;
    use crate::train::config::TrainConfig;
    use crate::train::event::GroupAccuracy;
    use AlgorithmName::{Mixmatch, Supervised};

    /// The accuracies at learning rate 1 and 2, of supervised and of MixMatch, in each of three seeds.
    fn runs(supervised: [f64; 2], mixmatch: [f64; 2]) -> Vec<ComparedRun> {
        let axes = ["learning_rate".to_owned()];
        let of = |seed, algorithm, accuracies: [f64; 2]| {
            let config = TrainConfig { labelled: Some(40), seed, algorithm, ..TrainConfig::default() };
            [(1.0, accuracies[0]), (2.0, accuracies[1])].map(|(learning_rate, accuracy)| ComparedRun {
                test_images: Some(1000),
                ..of_config(TrainConfig { learning_rate, ..config.clone() }, &axes, accuracy, accuracy)
            })
        };
        (0..3).flat_map(|seed| [of(seed, Supervised, supervised), of(seed, Mixmatch, mixmatch)].concat()).collect()
    }

    fn compared(runs: Vec<ComparedRun>) -> Comparison {
        Comparison::new(runs, vec!["learning_rate".to_owned()])
    }

    #[track_caller]
    fn ends(comparison: &Comparison, end: &str) {
        assert!(comparison.verdict.ends_with(end), "{}", comparison.verdict);
    }

    #[test]
    fn a_gain_that_tuning_the_supervised_runs_gives_too_is_not_the_unlabelled_images() {
        let comparison = compared(runs([0.7, 0.9], [0.85, 0.84]));
        ends(
            &comparison,
            "beats its supervised baseline by 15.0 ± 0.0 points of test accuracy over 3 seeds on the same 1000 test images (ahead in \
             3); but supervised with learning_rate 2.0, which validation chose among its values, has 90.0 %, 5.0 ± 0.0 points more: \
             tuned alike, the unlabelled images did not help.",
        );
        assert!(!comparison.verdict.contains("helped"), "{}", comparison.verdict);
        let difference = &comparison.differences[0];
        assert_eq!((difference.finding, difference.wins), (Finding::Ahead, 3), "of the pair it is so all the same");
        let chosen = difference.against_chosen.as_ref().unwrap();
        assert_eq!((chosen.pairs, chosen.finding), (3, Finding::Behind));
        assert!((chosen.accuracy.unwrap().mean + 0.05).abs() < 1e-9, "{chosen:?}");
        assert_eq!(comparison.differences[1].against_chosen, None, "those are its pairs");
    }

    #[test]
    fn who_is_behind_in_a_group_is_named_after_the_supervised_values() {
        let mut runs = runs([0.7, 0.9], [0.85, 0.84]);
        for run in &mut runs {
            let accuracy = if run.algorithm == Supervised { 0.8 } else { 0.7 };
            let (attribute, value) = ("place".to_owned(), "left".to_owned());
            run.groups = vec![GroupAccuracy { attribute, value, images: 500, accuracy, ..GroupAccuracy::default() }];
        }
        let end = "the unlabelled images did not help. MixMatch is behind in 1 of 1 groups: place left by 10.0 points.";
        ends(&compared(runs), end);
    }

    #[test]
    fn what_beats_the_chosen_supervised_values_too_helped() {
        ends(
            &compared(runs([0.7, 0.8], [0.85, 0.84])),
            "; supervised with learning_rate 2.0, which validation chose among its values, has 80.0 %, 5.0 ± 0.0 points less: the \
             unlabelled images helped.",
        );
        ends(&compared(runs([0.8, 0.7], [0.85, 0.84])), "(ahead in 3): the unlabelled images helped.");
    }

    #[test]
    fn level_with_the_chosen_supervised_values_nothing_is_decided() {
        ends(&compared(runs([0.7, 0.85], [0.85, 0.84])), "has 85.0 %, as much: tuned alike, nothing is decided.");
        // Nor where no seed has both.
        let mut alone = runs([0.7, 0.9], [0.85, 0.84]);
        let two = |run: &ComparedRun| run.algorithm == Supervised && run.values["learning_rate"] == 2.0;
        for run in alone.iter_mut().filter(|run| two(run)) {
            run.seed += 10;
            run.config.seed = run.seed;
        }
        let comparison = compared(alone);
        assert_eq!(comparison.differences[0].against_chosen.as_ref().unwrap().pairs, 0);
        ends(&comparison, "has no seed in common with it: tuned alike, nothing is decided.");
    }

    #[test]
    fn what_is_not_decided_against_the_same_values_names_the_chosen_ones_too() {
        let mut runs = runs([0.7, 0.9], [0.85, 0.84]);
        for run in &mut runs {
            (run.figures.test_accuracy, run.test_images) = (None, None);
        }
        // Equal gaps on an unknown number of images have no interval.
        ends(
            &compared(runs),
            "chance alone may do that. Tuned alike: supervised with learning_rate 2.0, which validation chose among its values, has \
             90.0 %, 5.0 ± 0.0 points more.",
        );
    }

    #[test]
    fn supervised_runs_with_other_labels_are_not_chosen_from() {
        let mut all = runs([0.7, 0.75], [0.85, 0.84]);
        let more = runs([0.95, 0.99], [0.96, 0.97]).into_iter().map(|mut run| {
            (run.labelled, run.config.labelled) = (Some(400), Some(400));
            run
        });
        all.extend(more);
        let comparison = compared(all);
        let of_40 = comparison.differences.iter().find(|difference| difference.labelled == Some(40)).unwrap();
        let chosen = of_40.against_chosen.as_ref().unwrap();
        assert!((chosen.baseline_accuracy.unwrap().mean - 0.75).abs() < 1e-9, "{chosen:?}");
    }

    #[test]
    fn the_accuracy_that_is_told_is_of_the_split_that_counts() {
        let mut runs = runs([0.7, 0.9], [0.85, 0.84]);
        for run in &mut runs {
            run.figures.test_accuracy = run.figures.test_accuracy.map(|accuracy| accuracy - 0.1);
        }
        assert!(compared(runs).verdict.contains(" has 80.0 %, "), "of test");
    }

    #[test]
    fn the_luckiest_of_several_values_is_not_ahead_on_the_images_that_chose_it() {
        let mut runs = runs([0.7, 0.75], [0.85, 0.84]);
        for run in &mut runs {
            (run.figures.test_accuracy, run.test_images, run.validation_images) = (None, None, Some(1000));
        }
        let finding = |runs: &[ComparedRun]| {
            let comparison = compared(runs.to_vec());
            comparison.differences[0].against_chosen.as_ref().unwrap().finding
        };
        assert_eq!(finding(&runs), Finding::Undecided);
        // Behind is no luck, and on test images nothing was chosen.
        for run in runs.iter_mut().filter(|run| run.algorithm == Mixmatch) {
            run.figures.validation_accuracy = Some(0.5);
        }
        assert_eq!(finding(&runs), Finding::Behind);
    }

    #[test]
    fn supervised_runs_that_saw_the_unlabelled_images_are_not_chosen_from() {
        let axes = ["pretrain_epochs".to_owned()];
        let of = |seed, algorithm, pretrain_epochs, accuracy| {
            let config = TrainConfig { labelled: Some(40), seed, algorithm, pretrain_epochs, ..TrainConfig::default() };
            ComparedRun { test_images: Some(1000), ..of_config(config, &axes, accuracy, accuracy) }
        };
        let runs = (0..3)
            .flat_map(|seed| [of(seed, Supervised, 0, 0.7), of(seed, Supervised, 9, 0.9), of(seed, Mixmatch, 9, 0.85)]);
        let comparison = Comparison::new(runs.collect(), axes.to_vec());
        assert_eq!(comparison.differences[0].against_chosen, None);
        ends(&comparison, "(ahead in 3): the unlabelled images helped.");
    }
}
