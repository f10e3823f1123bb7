//! Who gains: each group of the test images under an algorithm and under its supervised baseline.
//!
//! Unlabelled images help those best whom the model already knows, so that a gain on the whole may hide a loss in a group
//! (Zhu, Luo & Liu, "The Rich Get Richer: Disparate Impact of Semi-Supervised Learning", ICLR 2022, arXiv 2110.06282).

use serde::Serialize;
use utoipa::ToSchema;

use super::comparison::{ComparedRun, Spread};
use super::difference::Difference;
use super::gaps::{Finding, Gaps, Pair, gap};
use super::naming::{one_line, title};
use crate::train::event::{GroupAccuracy, SMALLEST_GROUP};

/// Groups that a verdict names at most.
const NAMED: usize = 3;

/// A group of test images, under an algorithm and under its supervised baseline.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct GroupDifference {
    /// The sheet's column.
    #[schema(example = "age_group")]
    pub attribute: String,
    /// The value in that column.
    pub value: String,
    /// Test images with it.
    pub images: u64,
    /// The baseline's accuracy among them, over its seeds.
    pub baseline_accuracy: Spread,
    /// The algorithm's accuracy among them less the baseline's.
    pub test_accuracy: Spread,
    /// 95 % interval of that mean difference (Student's t); absent for one pair.
    pub interval: Option<[f64; 2]>,
    /// What follows from the interval. Of many groups one in forty is called behind by the seeds' chance alone; all seeds share the
    /// group's images, so that the chance which images these are comes on top, the more the more seeds there are.
    pub finding: Finding,
}

/// The groups of 30 test images and more that all of `pairs` (an algorithm's run, its baseline) have, in the order of the sheet.
pub(super) fn group_differences(pairs: &[Pair<'_>]) -> Vec<GroupDifference> {
    let Some((first, _)) = pairs.first() else { return Vec::new() };
    let judged = first.groups.iter().filter(|group| group.images >= SMALLEST_GROUP);
    judged.filter_map(|group| difference(group, pairs)).collect()
}

fn difference(group: &GroupAccuracy, pairs: &[Pair<'_>]) -> Option<GroupDifference> {
    let same = |other: &&GroupAccuracy| {
        (&other.attribute, &other.value, other.images) == (&group.attribute, &group.value, group.images)
    };
    let of = |run: &ComparedRun| run.groups.iter().find(same).map(|group| group.accuracy);
    let found: Vec<(f64, f64)> =
        pairs.iter().map(|(run, baseline)| Some((of(run)?, of(baseline)?))).collect::<Option<_>>()?;
    let gaps: Vec<f64> = found.iter().map(|(mine, baseline)| gap(*mine, *baseline)).collect();
    let Gaps { spread, interval, finding } = Gaps::of(&gaps, Some(group.images))?;
    Some(GroupDifference {
        attribute: group.attribute.clone(),
        value: group.value.clone(),
        images: group.images,
        baseline_accuracy: Spread::of(found.iter().map(|(_, baseline)| *baseline))?,
        test_accuracy: spread,
        interval,
        finding,
    })
}

/// ` It is behind in 1 of 7 groups: age_group 60+ by 1.6 points.`; empty where no group is behind.
pub(super) fn losers(difference: &Difference) -> String {
    let mut behind: Vec<&GroupDifference> =
        difference.groups.iter().filter(|group| group.finding == Finding::Behind).collect();
    behind.sort_by(|a, b| a.test_accuracy.mean.total_cmp(&b.test_accuracy.mean));
    if behind.is_empty() {
        return String::new();
    }
    let named = behind.iter().take(NAMED).map(|group| {
        let name = one_line(&format!("{} {}", group.attribute, group.value));
        format!("{name} by {:.1} points", group.test_accuracy.mean.abs() * 100.0)
    });
    let named = named.collect::<Vec<_>>().join(", ");
    let more = if behind.len() > NAMED { ", …" } else { "" };
    // After the supervised values that validation chose, "it" would be those.
    let it = difference.against_chosen.as_ref().map_or("It", |_| title(difference.algorithm));
    format!(" {it} is behind in {} of {} groups: {named}{more}.", behind.len(), difference.groups.len())
}

#[cfg(test)]
mod tests {
    use super::super::comparison::Comparison;
    use super::super::comparison::tests::run;
    use super::*;
    use crate::train::config::AlgorithmName::{self, Mixmatch, Supervised};

    fn group(value: &str, images: u64, accuracy: f64) -> GroupAccuracy {
        GroupAccuracy {
            attribute: "age_group".to_owned(),
            value: value.to_owned(),
            images,
            accuracy,
            interval: [0.0, 1.0],
            balanced_accuracy: None,
            f1: None,
        }
    }

    fn grouped(seed: u64, algorithm: AlgorithmName, test: f64, groups: Vec<GroupAccuracy>) -> ComparedRun {
        ComparedRun { groups, ..run(40, seed, algorithm, 0.9, test) }
    }

    /// Ahead on the whole and among the many, behind among the old; the last group is too small to judge.
    fn runs(seeds: u64) -> Vec<ComparedRun> {
        (0..seeds)
            .flat_map(|seed| {
                let wobble = 0.001 * seed as f64;
                let of = |many, old| vec![group("20-29", 500, many), group("60+", 1000, old), group("80+", 8, 0.5)];
                [
                    grouped(seed, Supervised, 0.88, of(0.92, 0.78)),
                    grouped(seed, Mixmatch, 0.89 + wobble, of(0.94 + wobble, 0.76 + wobble)),
                ]
            })
            .collect()
    }

    #[test]
    fn a_gain_on_the_whole_does_not_hide_a_groups_loss() {
        let comparison = Comparison::new(runs(3), Vec::new());
        let [difference] = comparison.differences.as_slice() else { panic!("{comparison:?}") };
        assert_eq!(difference.finding, Finding::Ahead);
        let told: Vec<_> = difference.groups.iter().map(|group| (group.value.as_str(), group.finding)).collect();
        assert_eq!(told, [("20-29", Finding::Ahead), ("60+", Finding::Behind)]);
        let old = &difference.groups[1];
        // −.020, −.019 and −.018: t(2) = 4.303 times .001 / √3.
        assert!((old.test_accuracy.mean + 0.019).abs() < 1e-9 && (old.baseline_accuracy.mean - 0.78).abs() < 1e-9);
        let [low, high] = old.interval.unwrap();
        assert!((low + 0.019 + 0.002_484).abs() < 1e-5 && (high + 0.019 - 0.002_484).abs() < 1e-5, "{low} {high}");
        let end = "the unlabelled images helped. It is behind in 1 of 2 groups: age_group 60+ by 1.9 points.";
        assert!(comparison.verdict.ends_with(end), "{}", comparison.verdict);
    }

    #[test]
    fn the_groups_that_lose_most_are_named() {
        let of = |lost: [f64; 4]| {
            let groups = ["a", "b", "c", "d"].into_iter().zip(lost);
            groups.map(|(value, lost)| group(value, 1000, 0.9 - lost)).collect()
        };
        let pair = |seed: u64| {
            let wobble = 0.001 * seed as f64;
            let lost = [0.02, 0.05, 0.03, 0.04].map(|lost| lost - wobble);
            [grouped(seed, Supervised, 0.88, of([0.0; 4])), grouped(seed, Mixmatch, 0.89 + wobble, of(lost))]
        };
        let comparison = Comparison::new((0..3).flat_map(pair).collect(), Vec::new());
        let told = "behind in 4 of 4 groups: age_group b by 4.9 points, age_group d by 3.9 points, age_group c by 2.9 points, ….";
        assert!(comparison.verdict.contains(told), "{}", comparison.verdict);
    }

    #[test]
    fn equal_gaps_in_a_small_group_decide_nothing() {
        // One image of 30 more in each of three seeds.
        let of = |seed, algorithm, accuracy| grouped(seed, algorithm, 0.9, vec![group("60+", 30, accuracy)]);
        let runs = (0..3).flat_map(|seed| [of(seed, Supervised, 20.0 / 30.0), of(seed, Mixmatch, 21.0 / 30.0)]);
        let comparison = Comparison::new(runs.collect(), Vec::new());
        let small = &comparison.differences[0].groups[0];
        let [low, high] = small.interval.unwrap();
        // t(2) = 4.303 times 1 / (30·√6) / √3.
        assert!((low - (1.0 / 30.0 - 0.033_81)).abs() < 1e-4 && (high - (1.0 / 30.0 + 0.033_81)).abs() < 1e-4);
        assert_eq!(small.finding, Finding::Undecided);
    }

    #[test]
    fn one_seed_shows_the_groups_and_decides_nothing() {
        let comparison = Comparison::new(runs(1), Vec::new());
        let groups = &comparison.differences[0].groups;
        assert_eq!(groups.len(), 2);
        assert!(groups.iter().all(|group| group.finding == Finding::Undecided && group.interval.is_none()));
        assert!(!comparison.verdict.contains("behind in"), "{}", comparison.verdict);
    }

    #[test]
    fn other_images_or_another_column_are_not_the_same_group() {
        let told = |change: fn(&mut GroupAccuracy)| {
            let mut runs = runs(3);
            change(&mut runs[1].groups[0]);
            let comparison = Comparison::new(runs, Vec::new());
            comparison.differences[0].groups.iter().map(|group| group.value.clone()).collect::<Vec<_>>()
        };
        assert_eq!(told(|_| ()), ["20-29", "60+"]);
        assert_eq!(told(|group| group.images += 1), ["60+"]);
        assert_eq!(told(|group| group.attribute = "source".to_owned()), ["60+"]);
    }

    #[test]
    fn a_group_that_a_run_lacks_is_not_compared() {
        let mut runs = runs(3);
        runs[4].groups.retain(|group| group.value != "60+");
        let comparison = Comparison::new(runs, Vec::new());
        let values: Vec<_> = comparison.differences[0].groups.iter().map(|group| group.value.as_str()).collect();
        assert_eq!(values, ["20-29"]);
    }
}
