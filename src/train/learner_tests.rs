//! What each setting does to a learner: one that makes no other run of it does nothing, whatever the stored configuration says.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use super::checkpoint::Snapshot;
use super::config::{Fill, GuessFrom, Policy, Schedule, TrainConfig};
use super::data::Sampler;
use super::learner::Learner;
use super::resume_tests::{anchored, data_set, prepared};
use super::setting::Setting;

const STEPS: u32 = 4;

/// Four steps, the first of them on the labels alone.
fn config() -> TrainConfig {
    TrainConfig { epochs: 1, steps_per_epoch: STEPS, warmup: 0.25, batch: 4, ..anchored() }
}

fn learner(config: &TrainConfig, setting: &Setting<'_>) -> Learner {
    Learner::new(config, &setting.split, &setting.labels, &setting.prior(), Device::Cpu, Kind::Float).unwrap()
}

/// Every number of the weights and of their average once all steps are made, over the images and the split of `setting`.
fn trained(config: &TrainConfig, setting: &Setting<'_>) -> Vec<f32> {
    let mut learner = learner(config, setting);
    for _ in 0..STEPS {
        learner.step(config, &setting.images, &setting.labels, 2).unwrap();
    }
    let (weights, average) = (&learner.weights, &learner.average);
    let all = Tensor::cat(&[weights.flat(), weights.statistics(), average.flat(), average.statistics()], 0);
    Vec::try_from(all).unwrap()
}

#[test]
fn every_setting_of_a_step_makes_another_run() {
    type Change = fn(&mut TrainConfig);
    let changes: [(&str, Change); 32] = [
        ("seed", |config| config.seed = 5),
        ("backbone_learning_rate_factor", |config| config.backbone_learning_rate_factor = 0.5),
        ("batch", |config| config.batch = 3),
        ("class_balanced", |config| config.class_balanced = true),
        ("learning_rate", |config| config.learning_rate = 0.001),
        ("schedule", |config| config.schedule = Schedule::Constant),
        ("weight_decay", |config| config.weight_decay = 0.2),
        ("ema_decay", |config| config.ema_decay = 0.1),
        ("bn_momentum", |config| config.bn_momentum = 0.1),
        ("mixup", |config| config.mixup = false),
        ("alpha", |config| config.alpha = 0.3),
        ("k", |config| config.k = 2),
        ("temperature", |config| config.temperature = 0.5),
        ("lambda_u", |config| config.lambda_u = 30.0),
        ("ramp", |config| config.ramp = 1.0),
        ("warmup", |config| config.warmup = 0.5),
        ("guess_from", |config| config.guess_from = GuessFrom::Raw),
        ("align", |config| config.align = false),
        ("anchor", |config| config.anchor = false),
        ("augment_policy", |config| config.augment_policy = Policy::OneOfSeven),
        ("augment_flip", |config| config.augment_flip = false),
        ("augment_pad", |config| config.augment_pad = 2),
        ("augment_brightness", |config| config.augment_brightness = 0.6),
        ("augment_contrast", |config| config.augment_contrast = 0.6),
        ("augment_saturation", |config| config.augment_saturation = 0.6),
        ("augment_hue", |config| config.augment_hue = 0.2),
        ("augment_gamma", |config| config.augment_gamma = 0.5),
        ("augment_grayscale", |config| config.augment_grayscale = 0.5),
        ("augment_rotation", |config| config.augment_rotation = 40.0),
        ("augment_scale", |config| config.augment_scale = 0.4),
        ("augment_fill", |config| config.augment_fill = Fill::Black),
        ("augment_erase", |config| config.augment_erase = 0.4),
    ];
    let directory = tempfile::tempdir().unwrap();
    let (dataset, config) = (data_set(directory.path()), config());
    let setting = prepared(&dataset, &config);
    let plain = trained(&config, &setting);
    assert!(trained(&config, &setting) == plain, "the same settings give other bits");
    let without_effect = changes.into_iter().filter(|(_, change)| {
        let mut other = config.clone();
        change(&mut other);
        trained(&other, &setting) == plain
    });
    assert_eq!(without_effect.map(|(name, _)| name).collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn a_run_begins_on_its_labels_alone_and_its_guesses_weigh_nothing_at_first() {
    let directory = tempfile::tempdir().unwrap();
    let config = TrainConfig { warmup: 0.5, ramp: 1.0, lambda_u: 8.0, ..config() };
    let dataset = data_set(directory.path());
    let setting = prepared(&dataset, &config);
    let mut learner = learner(&config, &setting);
    let mut step = || {
        let step = learner.step(&config, &setting.images, &setting.labels, 2).unwrap();
        (step.lambda_u, step.losses.unlabelled.is_some())
    };
    let told = [step(), step(), step(), step()];
    assert_eq!(told, [(None, false), (None, false), (Some(0.0), true), (Some(4.0), true)]);
}

#[test]
fn whose_turn_it_is_among_the_classes_is_in_a_checkpoint() {
    let labels: Vec<Option<usize>> = (0..9).map(|row| Some(row % 3)).collect();
    let rows: Vec<u32> = (0..9).collect();
    let fresh = || Sampler::balanced(&rows, &labels, 3);
    let (mut sampler, mut rng) = (fresh(), ChaCha8Rng::seed_from_u64(6));
    // One more than a round: it is the second class's turn.
    assert_eq!(sampler.take(4, &mut rng).len(), 4);
    let mut snapshot = Snapshot::default();
    sampler.save("labelled", &mut snapshot).unwrap();
    let mut restored = fresh();
    restored.restore("labelled", &snapshot).unwrap();
    let next = restored.take(7, &mut rng.clone());
    assert_eq!(labels[next[0] as usize], Some(1));
    assert_eq!(next, sampler.take(7, &mut rng));
}
