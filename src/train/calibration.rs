//! Do the probabilities mean what they say? Temperature scaling, calibration error, and what abstaining buys.

use super::event::Abstention;

/// Fewer validation images than this say too little about calibration: the temperature stays 1.
const FEWEST: usize = 50;

/// Bins of the expected calibration error, as in Guo et al.
const BINS: usize = 15;

/// Thresholds whose price and gain are reported.
const THRESHOLDS: [f64; 7] = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99];

/// Probabilities softmax(logits / `temperature`) of one image.
pub fn probabilities(logits: &[f32], temperature: f64) -> Vec<f64> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.iter().map(|&logit| (f64::from(logit - most) / temperature).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// ln(p / (1 − p)) of each class' probability p = softmax(logits / `temperature`): it orders images as p does, and those too
/// whose p is 1 to the last bit. Infinite where there is no other class.
pub fn log_odds(logits: &[f32], temperature: f64) -> Vec<f64> {
    let scaled: Vec<f64> = logits.iter().map(|&logit| f64::from(logit) / temperature).collect();
    let Some(best) = (0..scaled.len()).max_by(|&a, &b| scaled[a].total_cmp(&scaled[b])) else { return Vec::new() };
    // The likeliest class against the sum of the others, which in 1 − p would be lost. Of any other class 1 − p is at least ½.
    let others = || scaled.iter().enumerate().filter(|(class, _)| *class != best).map(|(_, &logit)| logit);
    let (most, second) = (scaled[best], others().fold(f64::NEG_INFINITY, f64::max));
    let rest = others().map(|logit| (logit - second).exp()).sum::<f64>().ln() + second;
    let beside_most = (rest - most).exp();
    let odds = |(class, &logit): (usize, &f64)| match class == best {
        true => most - rest,
        false => logit - most - (1.0 + beside_most - (logit - most).exp()).ln(),
    };
    scaled.iter().enumerate().map(odds).collect()
}

/// The temperature that minimises the cross-entropy of `logits` (one row an image) against `truth`
/// (Guo et al. 2017, arXiv 1706.04599 §4.2), between 1/20 and 20. It changes no answer, only how sure it sounds.
///
/// The targets are smoothed by the rule of succession, as Platt (1999) did: a validation split without a single
/// mistake does not prove that there will never be one. The question is *right or wrong* however many classes there are: one
/// imagined image for each class would make a model of a hundred classes timid that 200 images show to be right.
pub fn fit_temperature(logits: &[Vec<f32>], truth: &[usize]) -> f64 {
    if truth.len() < FEWEST {
        return 1.0;
    }
    let loss = |log_temperature: f64| -> f64 {
        let temperature = log_temperature.exp();
        logits.iter().zip(truth).map(|(row, &class)| smoothed_loss(row, class, temperature, truth.len())).sum()
    };
    // The loss is convex in 1/T, and so has a single minimum in ln T: golden-section search.
    let ratio = (5f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (-(20f64.ln()), 20f64.ln());
    let (mut left, mut right) = (high - ratio * (high - low), low + ratio * (high - low));
    let (mut at_left, mut at_right) = (loss(left), loss(right));
    while high - low > 1e-3 {
        if at_left < at_right {
            (high, right, at_right) = (right, left, at_left);
            left = high - ratio * (high - low);
            at_left = loss(left);
        } else {
            (low, left, at_left) = (left, right, at_right);
            right = low + ratio * (high - low);
            at_right = loss(right);
        }
    }
    f64::midpoint(low, high).exp()
}

/// Cross-entropy of one image against a target of (n + 1) / (n + 2) for its class; the others share the rest.
fn smoothed_loss(logits: &[f32], class: usize, temperature: f64, images: usize) -> f64 {
    let all = probabilities(logits, temperature);
    let (right, wrong) = (images as f64 + 1.0, 1.0 / (all.len() as f64 - 1.0).max(1.0));
    let weight = |index: usize| if index == class { right } else { wrong } / (images as f64 + 2.0);
    all.iter().enumerate().map(|(index, p)| -weight(index) * p.max(f64::MIN_POSITIVE).ln()).sum()
}

/// The largest probability of each image, and whether that class is the true one.
fn confidences(logits: &[Vec<f32>], truth: &[usize], temperature: f64) -> Vec<(f64, bool)> {
    let most = |row: &[f32]| probabilities(row, temperature).into_iter().fold(0.0, f64::max);
    logits.iter().zip(truth).map(|(row, &class)| (most(row), is_answer(row, class))).collect()
}

/// Whether `class` is what these logits answer. Of several that are exactly as likely, the first is the answer: one image has one.
fn is_answer(logits: &[f32], class: usize) -> bool {
    let likeliest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter().position(|&logit| logit == likeliest) == Some(class)
}

/// Expected calibration error over 15 equal bins of the largest probability (Guo et al. §2): the mean
/// distance between how sure the answers of a bin are and how many of them are right.
pub fn expected_calibration_error(logits: &[Vec<f32>], truth: &[usize], temperature: f64) -> f64 {
    let mut bins = [(0usize, 0.0, 0usize); BINS];
    for (confidence, right) in confidences(logits, truth, temperature) {
        let bin = &mut bins[((confidence * BINS as f64) as usize).min(BINS - 1)];
        *bin = (bin.0 + 1, bin.1 + confidence, bin.2 + usize::from(right));
    }
    let gaps = bins.iter().map(|&(_, confidence, right)| (confidence - right as f64).abs());
    gaps.sum::<f64>() / truth.len().max(1) as f64
}

/// Share of images still answered, and accuracy among them, if answers below a threshold are withheld, and those of the images
/// `faceless` (one flag each; none of an empty list) at every threshold, as predict does.
pub fn abstention(logits: &[Vec<f32>], truth: &[usize], temperature: f64, faceless: &[bool]) -> Vec<Abstention> {
    let all = confidences(logits, truth, temperature);
    let withheld = |image: usize| faceless.get(image).copied().unwrap_or(false);
    let at = |threshold: f64| {
        let kept = all.iter().enumerate().filter(|(image, (sure, _))| *sure >= threshold && !withheld(*image));
        let answered: Vec<bool> = kept.map(|(_, (_, right))| *right).collect();
        let right = answered.iter().filter(|right| **right).count();
        Abstention {
            threshold,
            coverage: answered.len() as f64 / all.len().max(1) as f64,
            accuracy: (!answered.is_empty()).then(|| right as f64 / answered.len() as f64),
        }
    };
    THRESHOLDS.map(at).to_vec()
}

/// Area under the risk-coverage curve (Geifman & El-Yaniv 2017, arXiv 1705.08500; AURC as in arXiv 1805.08206): the
/// mean, over k = 1 … n, of the share of wrong answers among the k most confident ones. Equal confidences share
/// their mistakes evenly, so that the order of the images decides nothing. 0 without images.
///
/// What is ranked is the answer's [`log_odds`]: among answers whose probabilities are 1 to the last bit, too, one is surer than another.
pub fn aurc(logits: &[Vec<f32>], truth: &[usize], temperature: f64) -> f64 {
    let surest = |row: &[f32]| log_odds(row, temperature).into_iter().fold(f64::NEG_INFINITY, f64::max);
    let mut all: Vec<(f64, bool)> =
        logits.iter().zip(truth).map(|(row, &class)| (surest(row), is_answer(row, class))).collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut area, mut answered, mut wrong) = (0.0, 0.0, 0.0);
    for equals in all.chunk_by(|a, b| a.0 == b.0) {
        let mistakes = equals.iter().filter(|(_, right)| !right).count() as f64 / equals.len() as f64;
        for _ in equals {
            (answered, wrong) = (answered + 1.0, wrong + mistakes);
            area += wrong / answered;
        }
    }
    area / (all.len().max(1)) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// `n` images of two classes whose logits claim `sure` and whose answers are right in `right` of 10 cases.
    fn images(n: usize, sure: f32, right: usize) -> (Vec<Vec<f32>>, Vec<usize>) {
        let logit = (sure / (1.0 - sure)).ln();
        let truth = (0..n).map(|i| usize::from(i % 10 >= right)).collect();
        (vec![vec![logit, 0.0]; n], truth)
    }

    #[test]
    fn log_odds_are_those_of_the_probabilities() {
        for logits in [vec![1.5f32, -0.25, 0.5, 0.5], vec![0.3, 0.3], vec![-2.0, 4.0]] {
            let (odds, p) = (log_odds(&logits, 1.7), probabilities(&logits, 1.7));
            let off = odds.iter().zip(&p).map(|(odds, p)| (odds - (p / (1.0 - p)).ln()).abs());
            assert!(odds.len() == p.len() && off.fold(0.0, f64::max) < 1e-12, "{odds:?} {p:?}");
        }
    }

    #[test]
    fn the_temperature_makes_an_overconfident_model_say_what_it_reaches() {
        let (logits, truth) = images(500, 0.99, 8);
        let temperature = fit_temperature(&logits, &truth);
        assert!((probabilities(&logits[0], temperature)[0] - 0.8).abs() < 3e-3, "{temperature}");
        assert!(temperature > 2.0);
        let (before, after) = (
            expected_calibration_error(&logits, &truth, 1.0),
            expected_calibration_error(&logits, &truth, temperature),
        );
        assert!((before - 0.19).abs() < 1e-3 && after < 3e-3, "{before} {after}");
    }

    #[test]
    fn of_classes_that_are_exactly_as_likely_one_is_the_answer() {
        let (logits, truth) = (vec![vec![0.5f32, 0.5]; 10], [[0usize; 4].as_slice(), &[1; 6]].concat());
        // Right in four of ten, and ½ sure.
        assert!((expected_calibration_error(&logits, &truth, 1.0) - 0.1).abs() < 1e-12);
        assert!((abstention(&logits, &truth, 1.0, &[])[0].accuracy.unwrap() - 0.4).abs() < 1e-12);
    }

    #[test]
    fn a_timid_model_is_sharpened_and_a_few_images_change_nothing() {
        let (logits, truth) = images(500, 0.6, 9);
        assert!(fit_temperature(&logits, &truth) < 0.5);
        let (logits, truth) = images(40, 0.99, 8);
        assert_eq!(fit_temperature(&logits, &truth), 1.0);
    }

    #[test]
    fn a_split_without_a_mistake_does_not_make_the_model_certain() {
        let (logits, truth) = images(98, 0.9, 10);
        // 99 of 100, by the rule of succession.
        let sure = probabilities(&logits[0], fit_temperature(&logits, &truth))[0];
        assert!((sure - 0.99).abs() < 1e-3, "{sure}");
    }

    #[test]
    fn a_model_of_many_classes_that_means_what_it_says_is_left_alone() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        for (classes, images) in [(10, 100), (100, 200)] {
            // More or less sure of one class, and as often right as it says.
            let mut example = || {
                let favourite = rng.random_range(0..classes);
                let sharp: f32 = rng.random_range(2.0..9.0);
                let logits: Vec<f32> = (0..classes).map(|class| if class == favourite { sharp } else { 0.0 }).collect();
                let (mut left, all) = (rng.random::<f64>(), probabilities(&logits, 1.0));
                let drawn = all.iter().position(|p| {
                    left -= p;
                    left < 0.0
                });
                (logits, drawn.unwrap_or(favourite))
            };
            let (logits, truth): (Vec<_>, Vec<_>) = (0..images).map(|_| example()).unzip();
            let temperature = fit_temperature(&logits, &truth);
            assert!((0.8..1.25).contains(&temperature), "{classes} classes: {temperature}");
        }
    }

    #[test]
    fn abstaining_trades_coverage_for_accuracy() {
        let (mut logits, mut truth) = images(100, 0.97, 10);
        let (timid, wrong) = images(100, 0.55, 5);
        logits.extend(timid);
        truth.extend(wrong);
        let table = abstention(&logits, &truth, 1.0, &[]);
        assert_eq!((table[0].coverage, table[0].accuracy), (1.0, Some(0.75)));
        assert_eq!((table[4].coverage, table[4].accuracy), (0.5, Some(1.0)));
        assert_eq!((table[6].coverage, table[6].accuracy), (0.0, None));
        // Of the sure ones the first 50 have no face, and of the timid ones none.
        let faceless: Vec<bool> = (0..200).map(|image| image < 50).collect();
        let table = abstention(&logits, &truth, 1.0, &faceless);
        assert_eq!((table[0].coverage, table[0].accuracy), (0.75, Some(100.0 / 150.0)));
        assert_eq!((table[4].coverage, table[4].accuracy), (0.25, Some(1.0)));
    }
}
