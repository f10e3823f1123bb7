//! What pairs of runs are apart in, one pair a seed, and what may be said of it.

use serde::Serialize;
use utoipa::ToSchema;

use super::comparison::{ComparedRun, RunFigures, Spread};
use crate::statistics::half_width;
use crate::train::event::SMALLEST_GROUP;

/// Pairs below which nothing is called decided: with two, equal rounding alone makes a deviation of nothing.
pub(super) const FEWEST: usize = 3;

/// What a difference says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Ahead of the baseline: the 95 % interval of the mean difference (Student's t) lies above 0.
    Ahead,
    /// Behind it: the interval lies below 0.
    Behind,
    /// The interval holds 0, there are fewer than three pairs, or fewer than 30 images; or it lies above 0 on the validation images that
    /// chose these values among several, for want of test images: the luckiest of several reads too high.
    Undecided,
}

impl Finding {
    /// The finding's stable word, as in the JSON.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Finding::Ahead => "ahead",
            Finding::Behind => "behind",
            Finding::Undecided => "undecided",
        }
    }

    /// What is left of it where the figures that it comes from chose the values, too, among several: the luckiest of twenty
    /// that gain nothing is ahead in up to one of six cases, and not in one of forty.
    pub(super) fn after_a_choice(self) -> Self {
        match self {
            Finding::Ahead => Finding::Undecided,
            other => other,
        }
    }
}

/// A run and what it is held against, of one seed.
pub(super) type Pair<'a> = (&'a ComparedRun, &'a ComparedRun);

/// Pairs by their accuracies: the first run's less the second's, one for each pair that has both.
pub(super) struct Paired {
    pub validation: Vec<f64>,
    /// Empty for a data set without a test split.
    pub test: Vec<f64>,
    /// Images of the split that counts; where the seeds have other numbers of them, the fewest.
    pub images: Option<u64>,
}

impl Paired {
    pub fn of(pairs: &[Pair<'_>]) -> Self {
        let gaps = |figure: fn(&RunFigures) -> Option<f64>| -> Vec<f64> {
            pairs.iter().filter_map(|(a, b)| Some(gap(figure(&a.figures)?, figure(&b.figures)?))).collect()
        };
        let (validation, test) = (gaps(|figures| figures.validation_accuracy), gaps(|figures| figures.test_accuracy));
        let images = |run: &ComparedRun| if test.is_empty() { run.validation_images } else { run.test_images };
        let images = pairs.iter().filter_map(|(run, _)| images(run)).min();
        Self { validation, test, images }
    }

    /// Whether there is a test split: its accuracy is then what counts, and else validation's.
    pub fn is_tested(&self) -> bool {
        !self.test.is_empty()
    }

    /// The differences that count.
    pub fn counted(&self) -> &[f64] {
        if self.is_tested() { &self.test } else { &self.validation }
    }
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
        let spread = spread(gaps)?;
        let rounding = images.filter(|images| *images > 0).map_or(0.0, |images| 1.0 / (images as f64 * 6f64.sqrt()));
        let sd = spread.sd.map(|sd| sd.max(rounding)).filter(|sd| *sd > 0.0);
        let half = sd.and_then(|sd| half_width(sd, gaps.len()));
        let interval = half.map(|half| [spread.mean - half, spread.mean + half]);
        // The seeds share their test images, and many of those that validate: how much of a gap lies in these, its spread over
        // the seeds does not show.
        let images_enough = images.is_none_or(|images| images >= SMALLEST_GROUP);
        let finding = match interval.filter(|_| images_enough) {
            Some([low, _]) if gaps.len() >= FEWEST && low > 0.0 => Finding::Ahead,
            Some([_, high]) if gaps.len() >= FEWEST && high < 0.0 => Finding::Behind,
            _ => Finding::Undecided,
        };
        Some(Self { spread, interval, finding })
    }
}

/// Mean and deviation of gaps; a mean that rounding alone keeps from 0 is 0.
pub(super) fn spread(gaps: &[f64]) -> Option<Spread> {
    Spread::of(gaps.iter().copied()).map(|Spread { mean, sd }| Spread { mean: gap(mean, 0.0), sd })
}

/// `a − b`, and nothing where they differ by rounding alone: two runs that answer as many images right are level.
pub(super) fn gap(a: f64, b: f64) -> f64 {
    let gap = a - b;
    if gap.abs() < 1e-9 { 0.0 } else { gap }
}

#[cfg(test)]
mod tests {
    use super::super::comparison::Comparison;
    use super::super::comparison::tests::run;
    use super::*;
    use crate::train::config::AlgorithmName::{Mixmatch, Supervised};

    #[test]
    fn a_handful_of_test_images_decides_nothing() {
        let gaps = [0.1, 0.1, 0.1];
        let finding = |images| Gaps::of(&gaps, Some(images)).unwrap().finding;
        assert_eq!((finding(29), finding(30)), (Finding::Undecided, Finding::Ahead));
    }

    #[test]
    fn two_seeds_decide_nothing_either_way() {
        let finding = |gaps: &[f64]| Gaps::of(gaps, Some(1000)).unwrap().finding;
        assert_eq!([[0.1; 2], [-0.1; 2]].map(|gaps| finding(&gaps)), [Finding::Undecided; 2]);
        assert_eq!([[0.1; 3], [-0.1; 3]].map(|gaps| finding(&gaps)), [Finding::Ahead, Finding::Behind]);
    }

    #[test]
    fn of_seeds_with_other_numbers_of_images_the_fewest_count() {
        let of = |images| {
            let mut run = run(40, 0, Mixmatch, 0.9, 0.9);
            run.test_images = Some(images);
            run
        };
        let (few, many) = (of(24), of(1000));
        assert_eq!(Paired::of(&[(&many, &many), (&few, &few), (&many, &many)]).images, Some(24));
    }

    #[test]
    fn gaps_that_add_up_to_nothing_are_level() {
        let runs = |algorithm, right: [f64; 3]| {
            let of = move |(seed, right): (u64, f64)| run(40, seed, algorithm, right / 24.0, right / 24.0);
            (0..).zip(right).map(of)
        };
        let (mine, supervised) = (runs(Mixmatch, [14.0, 15.0, 16.0]), runs(Supervised, [14.0, 14.0, 17.0]));
        let comparison = Comparison::new(supervised.chain(mine).collect(), Vec::new());
        let difference = &comparison.differences[0];
        for spread in [difference.validation_accuracy, difference.test_accuracy] {
            let mean = spread.unwrap().mean;
            assert!(mean == 0.0 && mean.is_sign_positive(), "{mean:e}");
        }
        let text = comparison.markdown("m");
        assert!(text.contains(" 0.0 ± 4.2 ") && !text.contains("-0.0 ±"), "{text}");
    }

    #[test]
    fn a_handful_of_validation_images_decides_nothing_either() {
        let told = |images: Option<u64>| {
            let of = |seed, algorithm, accuracy| {
                let mut run = run(40, seed, algorithm, accuracy, 0.0);
                (run.figures.test_accuracy, run.validation_images) = (None, images);
                run
            };
            let pair = |seed: u64| [of(seed, Supervised, 0.7), of(seed, Mixmatch, 0.8 + 0.01 * seed as f64)];
            Comparison::new((0..3).flat_map(pair).collect(), Vec::new())
        };
        let (few, many, unknown) = (told(Some(24)), told(Some(1000)), told(None));
        let finding = |comparison: &Comparison| comparison.differences[0].finding;
        assert_eq!([&few, &many, &unknown].map(finding), [Finding::Undecided, Finding::Ahead, Finding::Ahead]);
        let difference = &few.differences[0];
        assert_eq!((difference.validation_images, difference.test_images), (Some(24), None));
        assert!(
            many.verdict.contains(
                "11.0 ± 1.0 points of validation accuracy over 3 seeds on 1000 validation images (which chose the epoch, too), \
                 ahead in 3: the unlabelled images helped."
            ),
            "{}",
            many.verdict
        );
        assert!(few.verdict.contains("on 24 validation images (which chose the epoch, too), ahead in 3;"), "{few:?}");
        assert!(unknown.verdict.contains("on validation images (which chose the epoch, too)"), "{unknown:?}");
    }

    #[test]
    fn equal_gaps_on_few_validation_images_have_a_width() {
        // One image of 40 more in each of three seeds.
        let of = |seed, algorithm, accuracy| {
            let mut run = run(40, seed, algorithm, accuracy, 0.0);
            (run.figures.test_accuracy, run.validation_images) = (None, Some(40));
            run
        };
        let pair = |seed: u64| [of(seed, Supervised, 0.7), of(seed, Mixmatch, 0.725)];
        let comparison = Comparison::new((0..3).flat_map(pair).collect(), Vec::new());
        // t(2) = 4.303 times 1 / (40·√6) / √3.
        let [low, high] = comparison.differences[0].interval.unwrap();
        assert!((low - (0.025 - 0.025_357)).abs() < 1e-4 && (high - (0.025 + 0.025_357)).abs() < 1e-4, "{low} {high}");
        assert_eq!(comparison.differences[0].finding, Finding::Undecided);
    }
}
