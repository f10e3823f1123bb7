//! The figures of a test split, from logits and true classes. Pure.

use super::calibration;
use super::event::{ClassMetrics, TestMetrics};
use super::metrics::Confusion;
use crate::statistics::{auc, mean_and_sd, wilson};

/// Figures of images whose logits are `logits` and whose classes are `truth`; `answers` are the answered classes, and `faceless` says
/// in which no face was found, where one was looked for.
/// What is not told by these is left at its default: chosen epoch, loss, groups.
pub fn figures(
    classes: &[String],
    positive: usize,
    (truth, logits, answers): (&[usize], &[Vec<f32>], &[usize]),
    temperature: f64,
    faceless: Option<&[bool]>,
) -> TestMetrics {
    let confusion = Confusion::new(classes.len(), truth, answers);
    let areas: Vec<Option<f64>> = areas(classes.len(), truth, logits, temperature);
    let images = confusion.true_counts();
    let class = |(index, name): (usize, &String)| ClassMetrics {
        class: name.clone(),
        images: images[index],
        precision: confusion.precision(index),
        recall: confusion.recall(index),
        recall_interval: wilson(confusion.counts()[index][index], images[index]),
        f1: confusion.f1(index),
    };
    TestMetrics {
        images: confusion.total(),
        accuracy: confusion.accuracy(),
        accuracy_interval: wilson(confusion.right(), confusion.total()),
        balanced_accuracy: confusion.balanced_accuracy(),
        f1: confusion.f1(positive),
        f1_macro: confusion.f1_macro(),
        precision: confusion.precision(positive),
        recall: confusion.recall(positive),
        roc_auc: areas[positive],
        roc_auc_macro: mean_and_sd(&areas.iter().flatten().copied().collect::<Vec<_>>()).map(|(mean, _)| mean),
        temperature,
        calibration_error: calibration::expected_calibration_error(logits, truth, temperature),
        calibration_error_raw: calibration::expected_calibration_error(logits, truth, 1.0),
        abstention: calibration::abstention(logits, truth, temperature, faceless.unwrap_or_default()),
        faceless: faceless.map(|faceless| faceless.iter().filter(|without| **without).count() as u64),
        aurc: Some(calibration::aurc(logits, truth, temperature)),
        positive_class: classes[positive].clone(),
        confusion: confusion.counts().to_vec(),
        classes: classes.iter().enumerate().map(class).collect(),
        ..TestMetrics::default()
    }
}

/// The area under the ROC curve of each class against the rest, by its probability at `temperature`.
fn areas(classes: usize, truth: &[usize], logits: &[Vec<f32>], temperature: f64) -> Vec<Option<f64>> {
    let odds: Vec<Vec<f64>> = logits.iter().map(|row| calibration::log_odds(row, temperature)).collect();
    let scores = |class: usize| -> Vec<(f64, bool)> {
        odds.iter().zip(truth).map(|(row, &true_class)| (row[class], true_class == class)).collect()
    };
    (0..classes).map(|class| auc(&scores(class))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values by scikit-learn 1.x (roc_auc_score with `ovr`, f1_score, precision_score, recall_score,
    /// balanced_accuracy_score) and numpy (expected calibration error, AURC) in float64.
    #[test]
    fn figures_match_scikit_learn() {
        let truth = [0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2];
        let answers = [0, 0, 1, 1, 1, 0, 1, 1, 1, 2, 2, 1];
        let logits: Vec<Vec<f32>> = [
            [1.3, 0.36, -0.33],
            [0.23, -0.55, -1.19],
            [1.37, 1.61, -0.59],
            [0.5, 1.5, -0.25],
            [0.13, 0.18, -0.04],
            [0.83, -0.31, -0.55],
            [-2.28, -0.25, -2.21],
            [0.5, 1.5, -0.25],
            [0.19, 1.08, -3.02],
            [-0.65, -0.06, 1.44],
            [-1.84, -0.57, 0.13],
            [-0.97, 1.27, 0.33],
        ]
        .map(|row| row.to_vec())
        .to_vec();
        let classes = ["a", "b", "c"].map(str::to_owned);
        let test = figures(&classes, 1, (&truth, &logits, &answers), 1.5, None);
        let near =
            |value: f64, expected: f64| assert!((value - expected).abs() < 1e-6, "{value}, expected is {expected}");
        near(test.roc_auc_macro.unwrap(), 0.819_945_987_654_321);
        near(test.roc_auc.unwrap(), 0.7);
        near(test.balanced_accuracy, 0.655_555_555_555_555_6);
        near(test.calibration_error, 0.248_203_872_539_048_7);
        near(test.calibration_error_raw, 0.215_916_043_754_915_9);
        // Two answers are equally sure, one of them right: the mean over both orders.
        near(test.aurc.unwrap(), 0.251_433_982_683_982_7);
        let column = |of: fn(&ClassMetrics) -> f64| test.classes.iter().map(of).collect::<Vec<_>>();
        for (values, expected) in [
            (column(|class| class.f1), [0.571_428_57, 0.666_666_67, 0.8]),
            (column(|class| class.precision), [0.666_666_67, 0.571_428_57, 1.0]),
            (column(|class| class.recall), [0.5, 0.8, 0.666_666_67]),
        ] {
            values.into_iter().zip(expected).for_each(|(value, expected)| near(value, expected));
        }
        assert_eq!((test.classes[1].class.as_str(), test.classes[1].images), ("b", 5));
        assert_eq!((test.positive_class.as_str(), test.f1, test.images), ("b", test.classes[1].f1, 12));
    }

    #[test]
    fn the_area_ranks_answers_whose_probabilities_are_all_one() {
        let classes = ["a", "b"].map(str::to_owned);
        // Sure of a, each surer than the last; the least sure of them is wrong.
        let logits: Vec<Vec<f32>> = [60.0, 70.0, 80.0, 90.0].map(|logit| vec![logit, 0.0]).to_vec();
        let test = figures(&classes, 0, (&[1, 0, 0, 0], &logits, &[0; 4]), 1.0, None);
        assert_eq!(test.roc_auc, Some(1.0));
        // Wrong shares of the 1, 2, 3 and 4 surest: 0, 0, 0 and ¼.
        assert_eq!(test.aurc, Some(0.0625));
    }

    #[test]
    fn a_class_without_images_is_in_no_mean_area() {
        let classes = ["a", "b", "c"].map(str::to_owned);
        let logits = vec![vec![1.0, 0.0, 0.0], vec![0.0, 1.0, 0.0]];
        let test = figures(&classes, 0, (&[0, 1], &logits, &[0, 1]), 1.0, None);
        let alone = figures(&classes, 0, (&[0], &logits[..1], &[0]), 1.0, None);
        assert_eq!((alone.roc_auc, alone.roc_auc_macro), (None, None), "no other class to be told from");
        assert_eq!((test.roc_auc, test.roc_auc_macro, test.aurc), (Some(1.0), Some(1.0), Some(0.0)));
    }
}
