//! Fine-tuning, step by step through the learner, on a torchvision-style network of few numbers.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::config::{AlgorithmName, Head, TrainConfig};
use super::data::Images;
use super::learner::Learner;
use super::pretrain::pretrain;
use super::run::RunInput;
use super::setting::Setting;
use crate::dataset::{ImportLimits, ImportRequest, PackedImages, Split, SplitSpec, import, split};
use crate::nn::pretrained::{SafeTensorsFile, import as import_weights};
use crate::nn::{self, Weights, file};

const SIZE: u32 = 32;

/// Two classes of noise pictures, packed and split.
fn noise(directory: &Path) -> (Images, Split, Vec<Option<usize>>) {
    let archive = directory.join("images.zip");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&archive).unwrap());
    let mut sheet = "image,label\n".to_owned();
    for number in 0..24u32 {
        let pixel = |x: u32, y: u32| {
            let value = (x.wrapping_mul(7919) ^ y.wrapping_mul(104_729) ^ number.wrapping_mul(2_654_435_761)) >> 3;
            image::Rgb([value as u8, (value >> 8) as u8, (value >> 16) as u8])
        };
        let mut png = std::io::Cursor::new(Vec::new());
        image::RgbImage::from_fn(SIZE, SIZE, pixel).write_to(&mut png, image::ImageFormat::Png).unwrap();
        zip.start_file(format!("{number}.png"), zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(png.get_ref()).unwrap();
        sheet.push_str(&format!("{number}.png,{}\n", if number % 2 == 0 { "even" } else { "odd" }));
    }
    zip.finish().unwrap();
    let train = directory.join("train.csv");
    std::fs::write(&train, sheet).unwrap();
    let request = ImportRequest { task: "parity".to_owned(), images: archive, train, ..ImportRequest::default() };
    let target = directory.join("dataset");
    let manifest = import(&request, &ImportLimits::default(), &target, &|_| {}).unwrap().manifest;
    let preprocess = config(Head::Linear).preprocess();
    let packed =
        PackedImages::open_or_build(&target, &manifest, &preprocess, &mut |_| ControlFlow::Continue(())).unwrap();
    let labels = manifest.samples.iter().map(|sample| sample.label.map(|label| label as usize)).collect();
    let spec = SplitSpec { labelled: None, validation: 0.2, validation_max: 100, seed: 1 };
    (Images::new(packed, Device::Cpu).unwrap(), split(&manifest, &spec).unwrap(), labels)
}

fn config(head: Head) -> TrainConfig {
    TrainConfig {
        network: "tiny_resnet".to_owned(),
        head,
        size: SIZE,
        batch: 4,
        warmup: 0.0,
        learning_rate: 0.01,
        weight_decay: 0.5,
        bn_momentum: 0.1,
        ..TrainConfig::default()
    }
}

/// Weights of `classes` classes as `import-weights` leaves them.
fn start_file(directory: &Path, classes: usize) -> Vec<u8> {
    use rand::SeedableRng;
    let network = nn::build("tiny_resnet", Head::Linear, classes, Kind::Float).unwrap();
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(77);
    let weights = Weights::initialise(network.layout(), Device::Cpu, &mut rng).unwrap();
    // Not where they begin, so that an untouched statistic shows.
    let _ = weights.statistics().shallow_clone().fill_(0.7);
    let (saved, checked) = (directory.join("saved.safetensors"), directory.join("checked.safetensors"));
    file::save(network.as_ref(), &weights, &saved).unwrap();
    import_weights(&mut SafeTensorsFile::open(&saved).unwrap(), "tiny_resnet", &checked).unwrap();
    std::fs::read(checked).unwrap()
}

/// How far head and backbone moved, and the BatchNorm statistics.
struct Moved {
    head: f64,
    backbone: f64,
    statistics: f64,
    average_backbone: f64,
}

fn three_steps(config: &TrainConfig) -> Moved {
    let directory = tempfile::tempdir().unwrap();
    let (images, split, labels) = noise(directory.path());
    let mut learner = Learner::new(config, &split, &labels, &[0.5, 0.5], Device::Cpu, Kind::Float).unwrap();
    let classes = if config.head == Head::Reference { 1000 } else { 7 };
    let new = learner.start_from(&start_file(directory.path(), classes)).unwrap();
    assert!(!new.is_empty(), "two classes have a head of their own");
    let (before, statistics) = (learner.weights.flat().copy(), learner.weights.statistics().copy());
    for _ in 0..3 {
        learner.step(config, &images, &labels, 2).unwrap();
    }
    moved(&learner, &before, &statistics)
}

/// Five steps of pretraining on imported weights.
fn pretrained(config: &TrainConfig) -> Moved {
    let directory = tempfile::tempdir().unwrap();
    let _ = noise(directory.path());
    let config = TrainConfig { pretrain_epochs: 5, ..config.clone() };
    let dataset = directory.path().join("dataset");
    let input = RunInput {
        dataset_dir: &dataset,
        run_dir: directory.path(),
        config: &config,
        device: Device::Cpu,
        pretrained: None,
        checkpoints: None,
    };
    let setting = Setting::prepare(input, &|| false, &mut |_| {}).unwrap();
    let (split, labels) = (&setting.split, &setting.labels);
    let mut learner = Learner::new(&config, split, labels, &[0.5, 0.5], Device::Cpu, Kind::Float).unwrap();
    learner.start_from(&start_file(directory.path(), 7)).unwrap();
    let (before, statistics) = (learner.weights.flat().copy(), learner.weights.statistics().copy());
    pretrain(&mut learner, &setting, false, &|| false, &mut |_| {}).unwrap();
    moved(&learner, &before, &statistics)
}

/// How far `learner` is from where it was.
fn moved(learner: &Learner, before: &Tensor, statistics: &Tensor) -> Moved {
    let head = learner.weights.head();
    let distance = |now: &Tensor, then: &Tensor| (now - then).abs().max().double_value(&[]);
    let backbone = |now: &Tensor| {
        let end = head.start + head.length;
        let parts = [(0, head.start), (end, before.numel() as i64 - end)];
        parts
            .map(|(from, length)| distance(&now.narrow(0, from, length), &before.narrow(0, from, length)))
            .into_iter()
            .fold(0.0, f64::max)
    };
    Moved {
        head: distance(
            &learner.weights.flat().narrow(0, head.start, head.length),
            &before.narrow(0, head.start, head.length),
        ),
        backbone: backbone(learner.weights.flat()),
        statistics: distance(learner.weights.statistics(), statistics),
        average_backbone: backbone(learner.average.flat()),
    }
}

#[test]
fn a_frozen_backbone_does_not_move_at_all() {
    for (head, algorithm) in [
        (Head::Linear, AlgorithmName::Mixmatch),
        (Head::Linear, AlgorithmName::Supervised),
        (Head::Reference, AlgorithmName::Mixmatch),
    ] {
        let moved = three_steps(&TrainConfig { backbone_learning_rate_factor: 0.0, algorithm, ..config(head) });
        assert!(moved.head > 1e-3, "the head learns: {}", moved.head);
        assert_eq!(
            (moved.backbone, moved.statistics, moved.average_backbone),
            (0.0, 0.0, 0.0),
            "{head:?} {algorithm:?}"
        );
    }
}

#[test]
fn a_slowed_backbone_moves_less_and_its_statistics_follow_the_data() {
    let free = three_steps(&config(Head::Linear));
    let slowed = three_steps(&TrainConfig { backbone_learning_rate_factor: 0.1, ..config(Head::Linear) });
    assert!(free.backbone > 1e-3 && slowed.backbone > 0.0);
    assert!(slowed.backbone < 0.3 * free.backbone, "{} of {}", slowed.backbone, free.backbone);
    assert!(slowed.head > 1e-3 && slowed.statistics > 0.0);
}

#[test]
fn a_slowed_backbone_is_slowed_in_pretraining_too() {
    let free = pretrained(&config(Head::Linear));
    let slowed = pretrained(&TrainConfig { backbone_learning_rate_factor: 1e-6, ..config(Head::Linear) });
    assert!(free.backbone > 1e-3, "{}", free.backbone);
    assert!(slowed.backbone < 1e-4, "{}", slowed.backbone);
    assert!(slowed.statistics > 0.0, "they follow the data");
}
