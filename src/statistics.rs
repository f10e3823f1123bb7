//! Figures over plain numbers that several rooms need. Pure functions.

/// Area under the ROC curve: the chance that a random positive has a larger score than a random negative,
/// ties counted half (Mann-Whitney U). None where either side is empty or a score is no number.
pub fn auc(scores: &[(f64, bool)]) -> Option<f64> {
    let positives = scores.iter().filter(|(_, positive)| *positive).count();
    let negatives = scores.len() - positives;
    if positives == 0 || negatives == 0 || scores.iter().any(|(score, _)| score.is_nan()) {
        return None;
    }
    let [_, rank_sum] = rank_sums(scores.iter().map(|&(score, positive)| (score, usize::from(positive))), 2)[..] else {
        return None;
    };
    Some(auc_of_ranks(rank_sum, positives, negatives))
}

/// By class, of `classes`, the sum of the ranks of its scores among all; ranks count from 1, equal scores share their mean rank.
pub fn rank_sums(scores: impl Iterator<Item = (f64, usize)>, classes: usize) -> Vec<f64> {
    let mut order: Vec<(f64, usize)> = scores.collect();
    order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let (mut sums, mut before) = (vec![0.0; classes], 0);
    for equals in order.chunk_by(|a, b| a.0 == b.0) {
        let rank = (2 * before + equals.len() + 1) as f64 / 2.0;
        equals.iter().for_each(|&(_, class)| sums[class] += rank);
        before += equals.len();
    }
    sums
}

/// [`auc`] of so many positives, whose ranks add up to `rank_sum`, against so many negatives; neither is none.
pub fn auc_of_ranks(rank_sum: f64, positives: usize, negatives: usize) -> f64 {
    let positives = positives as f64;
    (rank_sum - positives * (positives + 1.0) / 2.0) / (positives * negatives as f64)
}

/// Of a normal variable 95 % lie within so many deviations of its mean.
pub const Z_95: f64 = 1.959_963_985;

/// Above how many deviations a normal variable lies with a chance of `tail`, between 0 and a half; within .0005 (Abramowitz & Stegun
/// 1964, 26.2.23).
pub fn normal_above(tail: f64) -> f64 {
    let t = (-2.0 * tail.ln()).sqrt();
    let above = 2.515_517 + t * (0.802_853 + t * 0.010_328);
    let below = 1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308));
    t - above / below
}

/// Wilson's score interval of `right` out of `total` at 95 % (Wilson 1927); `[0, 1]` where `total` is 0.
pub fn wilson(right: u64, total: u64) -> [f64; 2] {
    wilson_within(Z_95, right, total)
}

/// [`wilson`], of `z` deviations to either side.
pub fn wilson_within(z: f64, right: u64, total: u64) -> [f64; 2] {
    if total == 0 {
        return [0.0, 1.0];
    }
    let (n, p) = (total as f64, right as f64 / total as f64);
    let centre = p + z * z / (2.0 * n);
    let spread = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z * z / n;
    // The share itself is in it, where rounding would leave it out by the last bit.
    [((centre - spread) / scale).max(0.0).min(p), ((centre + spread) / scale).min(1.0).max(p)]
}

/// The median, of an even number the mean of the two in the middle; None of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { f64::midpoint(values[middle - 1], upper) })
}

/// Mean and sample standard deviation (n − 1) of some values; the second is absent for one value, all for none.
pub fn mean_and_sd(values: &[f64]) -> Option<(f64, Option<f64>)> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let sum = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
    match values.len() {
        0 => None,
        1 => Some((mean, None)),
        _ => Some((mean, Some((sum / (n - 1.0)).sqrt()))),
    }
}

/// Half the width of the 95 % interval of a mean over `n` values with sample standard deviation `sd` (Student's t);
/// absent below two values.
pub fn half_width(sd: f64, n: usize) -> Option<f64> {
    /// t(0.975) for 1 to 30 degrees of freedom.
    const T: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
        2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
    ];
    let freedom = n.checked_sub(1).filter(|freedom| *freedom > 0)?;
    // Beyond the table, its last value is wider than the true one by less than .09.
    let t = T[freedom.min(T.len()) - 1];
    Some(t * sd / (n as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_area_under_scores_that_are_no_numbers() {
        assert_eq!(auc(&[(f64::NAN, true), (0.1, false)]), None);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn mean_and_deviation_are_those_of_a_sample() {
        assert_eq!(mean_and_sd(&[]), None);
        assert_eq!(mean_and_sd(&[0.5]), Some((0.5, None)));
        // Python: statistics.stdev([2, 4, 4, 4, 5, 5, 7, 9]) = 2.138…
        let (mean, sd) = mean_and_sd(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]).unwrap();
        assert!(mean == 5.0 && (sd.unwrap() - 2.138_089_935).abs() < 1e-8);
    }

    #[test]
    fn the_interval_of_a_mean_is_students() {
        // scipy.stats.t.ppf(.975, 2) / sqrt(3) = 2.4842; with 9 degrees of freedom 2.2622 / sqrt(10).
        assert!((half_width(1.0, 3).unwrap() - 2.4842).abs() < 1e-3);
        assert!((half_width(2.0, 10).unwrap() - 2.0 * 0.715_4).abs() < 1e-3);
        assert_eq!((half_width(1.0, 1), half_width(1.0, 0)), (None, None));
        assert!(half_width(1.0, 500).unwrap() < 0.1);
    }

    #[test]
    fn the_area_counts_pairs_and_halves_ties() {
        let scores = |high: f64| (0..40).map(|i| (if i < 20 { high } else { 1.0 }, i < 20)).collect::<Vec<_>>();
        assert_eq!(auc(&scores(2.0)), Some(1.0));
        assert_eq!(auc(&scores(1.0)), Some(0.5));
        assert_eq!(auc(&scores(0.0)), Some(0.0));
        assert_eq!(auc(&scores(2.0)[..20]), None, "nobody on the other side");
        // Of the four pairs, (.8, .3), (.8, .5) and (.4, .3) are in order.
        assert_eq!(auc(&[(0.8, true), (0.4, true), (0.3, false), (0.5, false)]), Some(0.75));
    }

    #[test]
    fn the_deviations_of_a_tail_are_those_of_the_table() {
        // scipy.stats.norm.isf
        for (tail, z) in [(0.5, 0.0), (0.025, 1.959_96), (0.001, 3.090_23), (1e-5, 4.264_89), (1e-9, 5.997_81)] {
            assert!((normal_above(tail) - z).abs() < 5e-4, "{tail}: {}", normal_above(tail));
        }
    }

    #[test]
    fn wilson_intervals_match_the_textbook() {
        // 8 of 10: .490 to .943 (Agresti & Coull 1998, score interval).
        let [low, high] = wilson(8, 10);
        assert!((low - 0.4902).abs() < 5e-4 && (high - 0.9433).abs() < 5e-4, "{low} {high}");
        assert_eq!(wilson(0, 0), [0.0, 1.0]);
    }

    #[test]
    fn an_interval_holds_the_share_that_it_is_of() {
        for total in 1..=200 {
            for right in 0..=total {
                let ([low, high], share) = (wilson(right, total), right as f64 / total as f64);
                assert!(0.0 <= low && low <= share && share <= high && high <= 1.0, "{right} of {total}: {low} {high}");
            }
        }
    }
}
