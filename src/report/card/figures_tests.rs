//! Each figure of a card under its own name, and what it warns of.

use super::markdown::duration;
use super::tests::{card, has, manifest, test_metrics};
use super::*;
use crate::train::event::{ClassMetrics, GroupAccuracy};

#[test]
fn every_figure_stands_under_its_own_name() {
    let mut test = TestMetrics {
        balanced_accuracy: 0.84,
        f1: 0.66,
        f1_macro: 0.65,
        precision: 0.61,
        recall: 0.72,
        roc_auc_macro: Some(0.877),
        calibration_error: 0.031,
        calibration_error_raw: 0.057,
        ..test_metrics()
    };
    test.classes = vec![ClassMetrics {
        class: "female".into(),
        images: 50,
        precision: 0.63,
        recall: 0.74,
        recall_interval: [0.6, 0.8],
        f1: 0.68,
    }];
    test.groups[0] = GroupAccuracy { balanced_accuracy: Some(0.55), f1: Some(0.44), ..test.groups[0].clone() };
    let text = card("gender", Some(&test)).markdown();
    has(
        &text,
        &[
            "| balanced accuracy | 84.0 % |",
            "| F1 of female | 0.660 |",
            "| F1, mean of the classes | 0.650 |",
            "| precision of female | 61.0 % |",
            "| recall of female | 72.0 % |",
            "| ROC-AUC of female | 0.912 |",
            "| expected calibration error | 3.1 % |",
            "| the same without temperature | 5.7 % |",
            "| female | 50 | 63.0 % | 74.0 % (60.0–80.0) | 0.680 |",
            "| age_group = 2-9 | 40 | 70.0 % (69.0–71.0) | 55.0 % | 0.440 |",
        ],
    );
    assert!(!text.contains("one against the rest"), "of two classes it is the same area");
    let mut three = manifest(["female", "male"], Some(&test));
    three.classes.push("nobody".into());
    three.labelled_classes.push(3);
    has(&Card::new("gender", 3, "a1b2", three).markdown(), &["| ROC-AUC, mean of one against the rest | 0.877 |"]);
}

#[test]
fn hours_and_minutes_are_told_apart() {
    let told = [0.4, 59.0, 61.0, 3_599.0, 3_600.0, 9_240.0].map(duration);
    assert_eq!(told, ["0 s", "59 s", "1 min 1 s", "59 min 59 s", "1 h 0 min", "2 h 34 min"]);
}

#[test]
fn a_lowest_group_that_may_be_chance_is_called_so() {
    let told = |intervals_overlap| {
        let gap = GroupGap {
            attribute: "age_group".into(),
            worst: "60+".into(),
            best: "2-9".into(),
            gap: 0.1,
            intervals_overlap,
            ..GroupGap::default()
        };
        card("gender", Some(&TestMetrics { group_gaps: vec![gap], ..test_metrics() })).markdown()
    };
    has(&told(true), &["10.0 points apart, which may be chance"]);
    assert!(!told(false).contains("may be chance"));
}

#[test]
fn a_task_that_is_called_gender_is_one_whatever_its_classes() {
    let of = |name: &str, classes: [&str; 2]| Card::new(name, 3, "a1b2", manifest(classes, None)).markdown();
    has(&of("gender", ["0", "1"]), &["perceived, binary", "gender identity"]);
    has(&of("Sex of a face", ["0", "1"]), &["perceived, binary"]);
    assert!(!of("sextant", ["0", "1"]).contains("perceived"));
}

#[test]
fn the_limits_tell_of_doubts_and_of_photos_without_a_face() {
    let limits = |change: fn(&mut ModelManifest)| {
        let mut manifest = manifest(["mask", "no_mask"], None);
        change(&mut manifest);
        Card::new("mask", 3, "a1b2", manifest).limits.join("\n")
    };
    let plain = limits(|manifest| manifest.data_warnings.clear());
    assert!(!plain.contains("doubts") && !plain.contains("one face"), "{plain}");
    has(&limits(|_| ()), &["There are doubts about the data"]);
    has(&limits(|manifest| manifest.preprocess.fit = Fit::Face), &["It looks for one face", "(`face` is null)"]);
}
