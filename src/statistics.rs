//! Figures over plain numbers that several rooms need. Pure functions.

/// Area under the ROC curve: the chance that a random positive has a larger score than a random negative,
/// ties counted half (Mann-Whitney U). None where either side is empty.
pub fn auc(scores: &[(f64, bool)]) -> Option<f64> {
    let mut scores = scores.to_vec();
    let positives = scores.iter().filter(|(_, positive)| *positive).count();
    let negatives = scores.len() - positives;
    if positives == 0 || negatives == 0 {
        return None;
    }
    scores.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut rank_sum, mut at) = (0.0, 0);
    while at < scores.len() {
        let end = at + scores[at..].iter().take_while(|(score, _)| *score == scores[at].0).count();
        // Ranks count from 1; equal scores share their mean rank.
        let rank = (at + 1 + end) as f64 / 2.0;
        rank_sum += rank * scores[at..end].iter().filter(|(_, positive)| *positive).count() as f64;
        at = end;
    }
    let positives = positives as f64;
    Some((rank_sum - positives * (positives + 1.0) / 2.0) / (positives * negatives as f64))
}

/// Wilson's score interval of `right` out of `total` at 95 % (Wilson 1927); `[0, 1]` where `total` is 0.
pub fn wilson(right: u64, total: u64) -> [f64; 2] {
    if total == 0 {
        return [0.0, 1.0];
    }
    let (z, n, p) = (1.959_963_985_f64, total as f64, right as f64 / total as f64);
    let centre = p + z * z / (2.0 * n);
    let spread = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z * z / n;
    [((centre - spread) / scale).max(0.0), ((centre + spread) / scale).min(1.0)]
}

/// The median, of an even number the mean of the two in the middle; None of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { f64::midpoint(values[middle - 1], upper) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
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
    fn wilson_intervals_match_the_textbook() {
        // 8 of 10: .490 to .943 (Agresti & Coull 1998, score interval).
        let [low, high] = wilson(8, 10);
        assert!((low - 0.4902).abs() < 5e-4 && (high - 0.9433).abs() < 5e-4, "{low} {high}");
        assert_eq!(wilson(0, 0), [0.0, 1.0]);
        assert!(wilson(10, 10)[1] <= 1.0);
    }
}
