//! TensorBoard's event files: records of protocol buffers, framed as TFRecord.
//!
//! The messages are the part of tensorboard/compat/proto/{event,summary,tensor}.proto that a scalar and a text need; the
//! frame is that of tensorflow/core/lib/io/record_writer.cc: length (u64), its checksum, the bytes, their checksum, all
//! little endian, checksums being masked CRC-32C.

use prost::Message;

use super::met::Met;
use crate::train::event::{EpochMetrics, TestMetrics};

/// The first record's version, by which readers know the format.
const FILE_VERSION: &str = "brain.Event:2";

/// TensorFlow's number of a tensor of strings.
const DT_STRING: i32 = 7;

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(message, optional, tag = "9")]
    metadata: Option<Metadata>,
    #[prost(oneof = "Content", tags = "2, 8")]
    content: Option<Content>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Content {
    #[prost(float, tag = "2")]
    Simple(f32),
    #[prost(message, tag = "8")]
    Tensor(Tensor),
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(message, optional, tag = "1")]
    plugin_data: Option<PluginData>,
}

#[derive(Clone, PartialEq, Message)]
struct PluginData {
    #[prost(string, tag = "1")]
    plugin_name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(int32, tag = "1")]
    dtype: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    string_val: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Shape {
    #[prost(message, repeated, tag = "2")]
    dim: Vec<Dim>,
}

#[derive(Clone, PartialEq, Message)]
struct Dim {
    #[prost(int64, tag = "1")]
    size: i64,
}

/// One run's event file, written from front to back.
///
/// A record's wall time is the run's start and the seconds that its epochs took: pauses and waits are left out.
#[derive(Debug)]
pub struct EventFile {
    wall_time: f64,
    step: i64,
    classes: Vec<String>,
    bytes: Vec<u8>,
}

impl EventFile {
    /// A file that begins at `wall_time` (seconds since 1970); `classes` names what is there for each class.
    pub fn new(wall_time: f64, classes: Vec<String>) -> Self {
        let mut file = Self { wall_time, step: 0, classes, bytes: Vec::new() };
        file.record(What::FileVersion(FILE_VERSION.to_owned()));
        file
    }

    /// Adds a text, in Markdown.
    pub fn text(&mut self, tag: &str, text: &str) {
        let shape = Shape { dim: vec![Dim { size: 1 }] };
        let tensor = Tensor { dtype: DT_STRING, shape: Some(shape), string_val: vec![text.as_bytes().to_vec()] };
        let plugin_data = Some(PluginData { plugin_name: "text".to_owned() });
        let metadata = Some(Metadata { plugin_data });
        let value = Value { tag: format!("{tag}/text_summary"), metadata, content: Some(Content::Tensor(tensor)) };
        self.record(What::Summary(Summary { value: vec![value] }));
    }

    /// Adds an epoch, under the number of optimiser steps done at its end.
    pub fn epoch(&mut self, epoch: &EpochMetrics) {
        let scalars = [
            ("loss/total", Some(epoch.loss)),
            ("loss/labelled", Some(epoch.loss_labelled)),
            ("loss/unlabelled", epoch.loss_unlabelled),
            ("loss/validation", Some(epoch.validation_loss)),
            ("accuracy/train", Some(epoch.train_accuracy)),
            ("accuracy/validation", Some(epoch.validation_accuracy)),
            ("accuracy/validation_raw_weights", epoch.validation_accuracy_raw),
            ("accuracy/validation_median_of_20", epoch.validation_accuracy_median),
            ("f1/validation", Some(epoch.validation_f1)),
            ("f1/validation_macro", Some(epoch.validation_f1_macro)),
            ("schedule/lambda_u", epoch.lambda_u),
            ("schedule/learning_rate", Some(epoch.learning_rate)),
            ("guesses/confidence", epoch.guess_confidence),
            ("speed/seconds", Some(epoch.seconds)),
            ("speed/labelled_images_per_second", Some(epoch.images_per_second)),
        ];
        let guesses = self.by_class("guesses", &epoch.guess_classes);
        let answers = self.by_class("answers", &epoch.validation_classes);
        self.step = epoch.step as i64;
        self.wall_time += epoch.seconds;
        self.scalars(named(scalars).chain(guesses).chain(answers));
    }

    /// Adds what the chosen weights reached on the test split, under the last epoch's step. The F1 of a class without test images is
    /// not known and is left out.
    pub fn test(&mut self, test: &TestMetrics) {
        let Met { images, .. } = Met::of_positive(test, &self.classes);
        self.scalars(named([
            ("test/accuracy", Some(test.accuracy)),
            ("test/balanced_accuracy", Some(test.balanced_accuracy)),
            ("test/f1", images.then_some(test.f1)),
            ("test/f1_macro", Some(test.f1_macro)),
            ("test/loss", Some(test.loss)),
            ("test/calibration_error", Some(test.calibration_error)),
        ]));
    }

    /// The bytes since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// A share for each class, by name as far as names are known.
    fn by_class(&self, family: &str, shares: &[f64]) -> Vec<(String, Option<f64>)> {
        let name = |class: usize| self.classes.get(class).cloned().unwrap_or_else(|| class.to_string());
        shares.iter().enumerate().map(|(class, share)| (format!("{family}/{}", name(class)), Some(*share))).collect()
    }

    fn scalars(&mut self, scalars: impl Iterator<Item = (String, Option<f64>)>) {
        let value = |(tag, value): (String, Option<f64>)| {
            let content = Some(Content::Simple(value? as f32));
            Some(Value { tag, metadata: None, content })
        };
        let value = scalars.filter_map(value).collect();
        self.record(What::Summary(Summary { value }));
    }

    fn record(&mut self, what: What) {
        let event = Event { wall_time: self.wall_time, step: self.step, what: Some(what) }.encode_to_vec();
        let length = (event.len() as u64).to_le_bytes();
        self.bytes.extend(length);
        self.bytes.extend(masked_crc(&length).to_le_bytes());
        self.bytes.extend(&event);
        self.bytes.extend(masked_crc(&event).to_le_bytes());
    }
}

/// Scalars whose tags are known here.
fn named<const N: usize>(scalars: [(&str, Option<f64>); N]) -> impl Iterator<Item = (String, Option<f64>)> {
    scalars.into_iter().map(|(tag, value)| (tag.to_owned(), value))
}

/// CRC-32C, rotated and shifted, so that a checksum of bytes that hold checksums is none of them
/// (tensorflow/core/lib/hash/crc32c.h).
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by tests/golden/make_tensorboard.py with TensorBoard's own messages and writer.
    const GOLDEN: &[u8] = include_bytes!("../../tests/golden/run.tfevents");

    #[test]
    fn a_file_is_byte_for_byte_what_tensorboard_writes() {
        let mut file = EventFile::new(1_700_000_000.5, vec!["mask".to_owned(), "no_mask".to_owned()]);
        file.text("configuration", "λ_u 3");
        let mixmatch = EpochMetrics {
            epoch: 1,
            step: 10,
            loss: 0.75,
            loss_labelled: 0.25,
            loss_unlabelled: Some(0.125),
            lambda_u: Some(3.0),
            learning_rate: 0.002,
            guess_confidence: Some(0.9),
            guess_classes: vec![0.25, 0.75],
            train_accuracy: 1.0,
            validation_loss: 0.5,
            validation_accuracy: 0.5,
            validation_f1: 0.75,
            validation_f1_macro: 0.625,
            seconds: 2.0,
            images_per_second: 640.0,
            ..Default::default()
        };
        let supervised = EpochMetrics {
            epoch: 2,
            step: 20,
            loss: 0.5,
            validation_accuracy: 0.875,
            loss_unlabelled: None,
            lambda_u: None,
            guess_confidence: None,
            guess_classes: Vec::new(),
            ..mixmatch.clone()
        };
        file.epoch(&mixmatch);
        let mut bytes = file.take();
        file.epoch(&supervised);
        bytes.extend(file.take());
        assert_eq!(bytes, GOLDEN);
    }

    /// The tags of all scalars, and their values.
    fn scalars(mut bytes: &[u8]) -> Vec<(String, f32)> {
        let mut found = Vec::new();
        while let Some((head, rest)) = bytes.split_at_checked(12) {
            let length = u64::from_le_bytes(head[..8].try_into().unwrap()) as usize;
            let event = Event::decode(&rest[..length]).unwrap();
            bytes = &rest[length + 4..];
            let Some(What::Summary(summary)) = event.what else { continue };
            found.extend(summary.value.into_iter().filter_map(|value| match value.content {
                Some(Content::Simple(figure)) => Some((value.tag, figure)),
                _ => None,
            }));
        }
        found
    }

    #[test]
    fn the_f1_of_a_class_without_test_images_is_left_out() {
        let told = |confusion: Vec<Vec<u64>>| {
            let positive_class = "mask".to_owned();
            let mut file = EventFile::new(0.0, vec!["mask".to_owned(), "no_mask".to_owned()]);
            file.test(&TestMetrics { accuracy: 0.5, positive_class, confusion, ..TestMetrics::default() });
            let told = scalars(&file.take());
            assert!(told.contains(&("test/accuracy".to_owned(), 0.5)), "{told:?}");
            told.into_iter().find(|(tag, _)| tag == "test/f1").map(|(_, figure)| figure)
        };
        assert_eq!(told(vec![vec![0, 0], vec![5, 5]]), None);
        assert_eq!(told(vec![vec![0, 1], vec![5, 5]]), Some(0.0), "it has one, which was not found");
    }

    #[test]
    fn every_figure_has_its_own_tag() {
        let mut file = EventFile::new(0.0, vec!["mask".to_owned(), "no_mask".to_owned()]);
        file.epoch(&EpochMetrics {
            validation_accuracy: 0.5,
            validation_accuracy_raw: Some(0.25),
            validation_accuracy_median: Some(0.75),
            guess_classes: vec![0.125, 0.875],
            validation_classes: vec![0.375, 0.625],
            ..EpochMetrics::default()
        });
        file.test(&TestMetrics { calibration_error: 0.0625, calibration_error_raw: 0.5, ..TestMetrics::default() });
        let told = scalars(&file.take());
        let expected = [
            ("accuracy/validation", 0.5),
            ("accuracy/validation_raw_weights", 0.25),
            ("accuracy/validation_median_of_20", 0.75),
            ("guesses/mask", 0.125),
            ("answers/mask", 0.375),
            ("test/calibration_error", 0.0625),
        ];
        for (tag, figure) in expected {
            let found: Vec<f32> = told.iter().filter(|(name, _)| name == tag).map(|(_, figure)| *figure).collect();
            assert_eq!(found, [figure], "{tag} in {told:?}");
        }
    }

    #[test]
    fn a_class_without_a_name_goes_by_its_number() {
        let file = EventFile::new(0.0, vec!["mask".to_owned()]);
        let tags: Vec<String> = file.by_class("answers", &[0.5, 0.5]).into_iter().map(|(tag, _)| tag).collect();
        assert_eq!(tags, ["answers/mask", "answers/1"]);
    }
}
