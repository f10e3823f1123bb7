//! What a run tells of its figures, and what it warns of.

use std::io;
use std::path::PathBuf;

use super::TrainError;
use super::event::{EpochMetrics, EpochWarning};
use super::figures::figures;
use super::groups::{Answered, by_group};
use super::metrics::Confusion;
use super::watch::{Looked, Watch};
use crate::dataset::{DatasetError, Manifest, Role, Sample};

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// What is noted and told of two epochs alike, of 60 labels of 100 in the first class.
fn watched(images: Looked, epoch: &EpochMetrics) -> (Vec<EpochWarning>, Vec<String>) {
    let mut watch = Watch::new(&names(&["mask", "no_mask"]), &[0.6, 0.4], images);
    let mut told = Vec::new();
    let mut noted = Vec::new();
    for at in 1..=2 {
        let mut epoch = EpochMetrics { epoch: at, ..epoch.clone() };
        told.extend(watch.look(&mut epoch, &Confusion::new(2, &[], &[])));
        noted = epoch.warnings;
    }
    (noted, told)
}

#[test]
fn raw_weights_that_are_far_worse_than_their_average_are_warned_of_too() {
    let images = Looked { guessed: 1600, aligned: false, balanced: false };
    let of = |raw: f64| {
        let epoch =
            EpochMetrics { validation_accuracy: 0.8, validation_accuracy_raw: Some(raw), ..EpochMetrics::default() };
        watched(images, &epoch)
    };
    for a_little_off in [0.66, 0.94] {
        assert_eq!(of(a_little_off), (vec![], vec![]));
    }
    let told = "epoch 2: validation accuracy is 80.0 % with averaged weights and 60.0 % with raw ones; the weights jump about: \
                lower learning_rate";
    assert_eq!(of(0.6), (vec![EpochWarning::AverageApart], vec![told.to_owned()]));
}

#[test]
fn where_the_classes_fill_batches_alike_other_shares_say_nothing_of_the_labels() {
    let epoch = EpochMetrics { unlabelled_classes: vec![0.9, 0.1], ..EpochMetrics::default() };
    let noted = |balanced| watched(Looked { guessed: 1600, aligned: true, balanced }, &epoch).0;
    assert_eq!((noted(false), noted(true)), (vec![EpochWarning::SharesApart], vec![]));
}

#[test]
fn the_interval_of_a_recall_is_of_the_images_of_the_class() {
    // Four of the five images of b are found, and three of the seven answers b are wrong.
    let truth = [0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2];
    let answers = [0, 0, 1, 1, 1, 0, 1, 1, 1, 2, 2, 1];
    let logits = vec![vec![0.0; 3]; 12];
    let test = figures(&names(&["a", "b", "c"]), 1, (&truth, &logits, &answers), 1.0, None);
    let [low, high] = test.classes[1].recall_interval;
    assert!((low - 0.375_535).abs() < 1e-6 && (high - 0.963_776).abs() < 1e-6, "{low} to {high}");
    assert_eq!(test.classes[1].recall, 0.8);
}

#[test]
fn a_group_without_an_image_of_the_positive_class_has_no_f1() {
    let sample = |at: u32| Sample {
        image: at.to_string(),
        entry: at,
        label: None,
        split: Role::Test,
        picked: false,
        group: None,
        attributes: [("source".to_owned(), if at < 4 { "x" } else { "y" }.to_owned())].into(),
    };
    let manifest =
        Manifest { classes: names(&["a", "b", "c"]), samples: (0..8).map(sample).collect(), ..Manifest::default() };
    let rows: Vec<u32> = (0..8).collect();
    // Of x some are a, the positive class; of y none is, though one is taken for it.
    let (truth, answers) = ([0, 0, 1, 2, 1, 1, 2, 2], [0, 1, 1, 2, 1, 0, 2, 2]);
    let answered = Answered { manifest: &manifest, rows: &rows, truth: &truth, answers: &answers, positive: 0 };
    let found = by_group(&answered).groups;
    let told: Vec<_> = found.iter().map(|group| (group.value.as_str(), group.balanced_accuracy, group.f1)).collect();
    assert_eq!(told, [("x", Some(2.5 / 3.0), Some(2.0 / 3.0)), ("y", Some(0.75), None)]);
}

#[test]
fn what_libtorch_says_is_told_without_its_backtrace() {
    let message =
        "mat1 and mat2 shapes cannot be multiplied\nException raised from meta at LinearAlgebra.cpp\nframe #0\n";
    let told = TrainError::from(tch::TchError::Torch(message.to_owned())).to_string();
    assert_eq!(told, "libtorch: Internal torch error: mat1 and mat2 shapes cannot be multiplied");
}

#[test]
fn a_disk_that_is_full_while_images_are_packed_is_no_fault_of_the_data_set() {
    let code = |number: i32| {
        let reason = io::Error::from_raw_os_error(number).into();
        TrainError::Dataset(DatasetError::File { path: PathBuf::from("packed/32"), reason }).code()
    };
    assert_eq!([libc::ENOSPC, libc::EDQUOT, libc::EIO].map(code), ["no_room", "no_room", "dataset"]);
}
