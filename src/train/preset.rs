//! Named starting points. A request lays its own values over one of these.

use super::config::{AlgorithmName, Fill, GuessFrom, Policy, PrecisionWish, Schedule, TrainConfig};
use crate::imaging::Fit;

/// The presets' names.
pub const NAMES: [&str; 3] = ["quick", "paper", "demo"];

/// The preset of that name.
pub fn by_name(name: &str) -> Option<TrainConfig> {
    match name {
        "quick" => Some(quick()),
        "paper" => Some(paper()),
        "demo" => Some(demo()),
        _ => None,
    }
}

/// Minutes on two CPU cores; chosen on validation splits (docs/benchmarks.md).
pub fn quick() -> TrainConfig {
    TrainConfig {
        preset: "quick".to_owned(),
        algorithm: AlgorithmName::Mixmatch,
        labelled: None,
        validation: 0.2,
        validation_max: 1000,
        seed: 0,
        network: "wrn-16-1".to_owned(),
        size: 32,
        fit: Fit::Stretch,
        precision: PrecisionWish::Auto,
        batch: 32,
        epochs: 30,
        steps_per_epoch: 100,
        learning_rate: 0.002,
        schedule: Schedule::Cosine,
        weight_decay: 0.02,
        ema_decay: 0.995,
        bn_momentum: 0.02,
        mixup: true,
        alpha: 0.75,
        k: 2,
        temperature: 0.5,
        lambda_u: 10.0,
        ramp: 0.5,
        warmup: 0.2,
        guess_from: GuessFrom::Ema,
        align: true,
        augment_policy: Policy::Compose,
        augment_flip: true,
        augment_pad: 4,
        augment_brightness: 0.0,
        augment_contrast: 0.0,
        augment_saturation: 0.0,
        augment_gamma: 0.0,
        augment_grayscale: 0.0,
        augment_rotation: 0.0,
        augment_scale: 0.0,
        augment_fill: Fill::Reflect,
        augment_erase: 0.0,
        positive_class: None,
    }
}

/// The paper's settings for CIFAR-10 (§4 and appendix), one 64th of its length: 16,384 steps of 64.
/// λ_U is scaled to the number of classes by [`for_classes`].
pub fn paper() -> TrainConfig {
    TrainConfig {
        preset: "paper".to_owned(),
        network: "wrn-28-2".to_owned(),
        batch: 64,
        epochs: 64,
        steps_per_epoch: 256,
        learning_rate: 0.002,
        schedule: Schedule::Constant,
        weight_decay: 0.02,
        ema_decay: 0.999,
        bn_momentum: 0.001,
        lambda_u: 75.0,
        ramp: 1.0,
        warmup: 0.0,
        guess_from: GuessFrom::Raw,
        align: false,
        ..quick()
    }
}

/// A few minutes on two CPU cores for both runs of `make demo`, on drawn faces.
pub fn demo() -> TrainConfig {
    TrainConfig { preset: "demo".to_owned(), network: "wrn-10-1".to_owned(), epochs: 20, ..quick() }
}

/// `base` with the augmentation of the notebooks that this service grew from: each view gets one of seven
/// operations at random, and an image's views different ones. Factors and exponents from .5 to 1.5, angles from
/// −10° to 10° with black corners; nothing is cropped, zoomed or erased.
pub fn with_reference_augmentation(base: TrainConfig) -> TrainConfig {
    TrainConfig {
        augment_policy: Policy::OneOfSeven,
        augment_flip: true,
        augment_pad: 0,
        augment_brightness: 0.5,
        augment_contrast: 0.5,
        augment_saturation: 0.5,
        augment_gamma: 0.5,
        augment_grayscale: 1.0 / 7.0,
        augment_rotation: 10.0,
        augment_scale: 0.0,
        augment_fill: Fill::Black,
        augment_erase: 0.0,
        ..base
    }
}

/// Scales λ_U of a preset written for ten classes to `classes`.
///
/// L_U is a mean over the classes, so at two classes the same λ_U weighs five times more and 75 collapses
/// to one class (DESIGN §4.1); presets that were chosen on two classes are left alone there.
pub fn for_classes(mut preset: TrainConfig, classes: usize) -> TrainConfig {
    if preset.preset == "paper" && (2..10).contains(&classes) {
        preset.lambda_u *= classes as f64 / 10.0;
    }
    preset
}
