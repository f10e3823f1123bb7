//! What a run says of its epochs, its labels and its images, with weights of which the answers are known.

use super::config::{PrecisionWish, TrainConfig};
use super::course::{Best, Course};
use super::event::{EpochMetrics, Event, LogLevel};
use super::learner::Learner;
use super::predictions::predict_all;
use super::resume_tests::{anchored, data_set, lean, prepared};
use super::run::RunInput;
use super::setting::Setting;
use crate::dataset::{MANIFEST_FILE, Manifest};
use crate::model::LastEpochs;
use crate::nn::Network;

/// The network of a run as it starts, and its weights as if they were the best epoch's.
pub(super) fn untrained(setting: &Setting<'_>) -> (Box<dyn Network>, Best) {
    let Learner { network, average: weights, .. } = Course::new(setting).unwrap().learner;
    let rows = &setting.split.validation;
    let validation = setting.evaluate(network.as_ref(), &weights, rows, &|| false, &mut |_| {}).unwrap();
    (network, Best { weights, metrics: EpochMetrics::default(), validation, last: LastEpochs::default() })
}

#[test]
fn an_epoch_tells_of_averaged_and_raw_weights_and_the_best_one_of_those_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let dataset = data_set(directory.path());
    let config = TrainConfig { positive_class: Some("dark".to_owned()), ..anchored() };
    let mut setting = prepared(&dataset, &config);
    // Six bright ones and two dark ones choose the epoch.
    assert_eq!((setting.split.validation.len(), setting.manifest.classes[1].as_str()), (8, "dark"));
    for (at, &row) in setting.split.validation.iter().enumerate() {
        setting.labels[row as usize] = Some(usize::from(at >= 6));
    }
    let mut course = Course::new(&setting).unwrap();
    let mut epoch = |average: usize, raw: usize| {
        course.step(&setting, &mut |_| {}).unwrap();
        lean(&course.learner.average, average, 1000.0);
        lean(&course.learner.weights, raw, 1000.0);
        course.end_epoch(&setting, &|| false, &mut |_| {}).unwrap();
        let EpochMetrics { validation_accuracy, validation_accuracy_raw, validation_f1, .. } =
            course.rows[course.rows.len() - 1];
        let best = course.best.as_ref().unwrap();
        ((validation_accuracy, validation_accuracy_raw, validation_f1), best.metrics.epoch, best.last)
    };
    let last = |epochs, accuracy_median| LastEpochs { epochs, accuracy_median };
    // F1 is that of the dark ones, which nobody answers.
    assert_eq!(epoch(0, 1), ((0.75, Some(0.25), 0.0), 1, last(1, 0.75)));
    // All are dark: two of eight, and all that there are.
    assert_eq!(epoch(1, 0), ((0.25, Some(0.75), 0.4), 1, last(2, 0.5)), "a run that got worse says so");
}

#[test]
fn a_run_that_goes_on_counts_the_time_of_the_attempts_before() {
    let directory = tempfile::tempdir().unwrap();
    let (dataset, config) = (data_set(directory.path()), anchored());
    let setting = prepared(&dataset, &config);
    let mut course = Course::new(&setting).unwrap();
    course.step(&setting, &mut |_| {}).unwrap();
    let snapshot = course.save(&setting).unwrap().with("seconds", &3600.0);
    let snapshot = snapshot.with("epoch.seconds", &500.0).with("epoch.training", &84.0);
    let mut resumed = Course::restore(&setting, &snapshot).unwrap();
    assert!(resumed.seconds() >= 3600.0, "{}", resumed.seconds());
    resumed.end_epoch(&setting, &|| false, &mut |_| {}).unwrap();
    let EpochMetrics { seconds, images_per_second, .. } = resumed.rows[0];
    // An epoch is of 42 labelled images.
    assert!(seconds >= 500.0 && (0.4..=0.5).contains(&images_per_second), "{seconds} {images_per_second}");
}

#[test]
fn labels_that_were_picked_do_not_tell_the_classes_shares() {
    let directory = tempfile::tempdir().unwrap();
    let (dataset, config) = (data_set(directory.path()), anchored());
    let mut setting = prepared(&dataset, &config);
    assert_eq!((setting.prior(), setting.labelled_classes()), (vec![0.5, 0.5], vec![16, 16]));
    let of_the_first = setting.split.labelled.iter().filter(|row| setting.labels[**row as usize] == Some(0));
    for row in of_the_first.skip(4) {
        setting.manifest.samples[*row as usize].picked = true;
    }
    assert_eq!((setting.prior(), setting.labelled_classes()), (vec![0.2, 0.8], vec![16, 16]));
}

#[test]
fn what_is_doubtful_about_a_runs_images_stands_in_its_log_and_in_its_card() {
    let directory = tempfile::tempdir().unwrap();
    let dataset = data_set(directory.path());
    let mut manifest = Manifest::read(&dataset).unwrap();
    for sample in &mut manifest.samples[..6] {
        sample.picked = true;
    }
    std::fs::write(dataset.join(MANIFEST_FILE), serde_json::to_vec(&manifest).unwrap()).unwrap();
    let config = TrainConfig { labelled: Some(10), ..anchored() };
    let input = RunInput {
        dataset_dir: &dataset,
        run_dir: &dataset,
        config: &config,
        device: tch::Device::Cpu,
        pretrained: None,
        checkpoints: None,
    };
    let mut warned = Vec::new();
    let mut listen = |event: Event| {
        if let Event::Log { level: LogLevel::Warn, message } = event {
            warned.push(message);
        }
    };
    let setting = Setting::prepare(input, &|| false, &mut listen).unwrap();
    // Cards take what they say of the data from there.
    let told: Vec<&str> = setting.manifest.warnings.iter().map(|warning| warning.detail.as_str()).collect();
    let doubt = "6 labels of picked images are there and 0 of them are trained on, as labelled is 10 and";
    assert!(told.iter().any(|told| told.starts_with(doubt)), "{told:?}");
    assert!(warned.iter().any(|warned| warned.starts_with(doubt)), "{warned:?}");
}

#[test]
fn predictions_are_calibrated_and_say_which_images_belong_together() {
    let directory = tempfile::tempdir().unwrap();
    let dataset = data_set(directory.path());
    let config = TrainConfig { precision: PrecisionWish::Float32, ..anchored() };
    let mut setting = prepared(&dataset, &config);
    setting.manifest.samples[7].group = Some(70);
    let (network, best) = untrained(&setting);
    let at = |temperature: f64| {
        predict_all(&setting, (network.as_ref(), &best, None), temperature, &|| false, &mut |_| {}).unwrap()
    };
    let (raw, calibrated) = (at(1.0), at(4.0));
    let mut furthest = 0f64;
    for (raw, calibrated) in raw.iter().zip(&calibrated) {
        assert_eq!(raw.prediction, calibrated.prediction);
        let log_odds = |probability: f64| (probability / (1.0 - probability)).ln();
        let (raw, calibrated) = (log_odds(raw.probability), log_odds(calibrated.probability));
        assert!((raw - 4.0 * calibrated).abs() < 1e-3 * raw.max(1.0), "{raw} and {calibrated}");
        furthest = furthest.max(raw);
    }
    assert!(furthest > 0.01, "the network says the same of both classes: {furthest}");
    let told: Vec<Option<u32>> = raw.iter().map(|prediction| prediction.group).collect();
    let expected: Vec<Option<u32>> = setting.manifest.samples.iter().map(|sample| sample.group).collect();
    assert_eq!((&told, told[7]), (&expected, Some(70)));
}
