//! Named starting points. A request lays its own values over one of these.

use super::config::{AlgorithmName, Fill, GuessFrom, Policy, PrecisionWish, Schedule, TrainConfig};
use crate::imaging::Fit;
use crate::nn::Head;

/// The presets' names.
pub const NAMES: [&str; 6] = ["quick", "thorough", "gpu", "paper", "reference", "demo"];

/// The preset of that name.
pub fn by_name(name: &str) -> Option<TrainConfig> {
    match name {
        "quick" => Some(quick()),
        "thorough" => Some(thorough()),
        "gpu" => Some(gpu()),
        "paper" => Some(paper()),
        "reference" => Some(reference()),
        "demo" => Some(demo()),
        _ => None,
    }
}

/// MixMatch as in the paper's §3 on a small network: what every preset is laid over, and what a field means in a
/// configuration that was stored before the field existed.
pub fn plain() -> TrainConfig {
    TrainConfig {
        preset: "plain".to_owned(),
        algorithm: AlgorithmName::Mixmatch,
        labelled: None,
        validation: 0.2,
        validation_max: 1000,
        seed: 0,
        network: "wrn-16-1".to_owned(),
        head: Head::Linear,
        pretrained: None,
        pretrained_sha256: None,
        pretrain_epochs: 0,
        pretrain_batch: 256,
        backbone_learning_rate_factor: 1.0,
        size: 32,
        fit: Fit::Stretch,
        precision: PrecisionWish::Auto,
        batch: 64,
        class_balanced: false,
        epochs: 30,
        steps_per_epoch: 100,
        learning_rate: 0.002,
        schedule: Schedule::Constant,
        weight_decay: 0.02,
        ema_decay: 0.999,
        bn_momentum: 0.001,
        mixup: true,
        alpha: 0.75,
        k: 2,
        temperature: 0.5,
        lambda_u: 75.0,
        ramp: 1.0,
        warmup: 0.0,
        guess_from: GuessFrom::Raw,
        align: false,
        anchor: false,
        augment_policy: Policy::Compose,
        augment_flip: true,
        augment_pad: 4,
        augment_brightness: 0.0,
        augment_contrast: 0.0,
        augment_saturation: 0.0,
        augment_hue: 0.0,
        augment_gamma: 0.0,
        augment_grayscale: 0.0,
        augment_rotation: 0.0,
        augment_scale: 0.0,
        augment_fill: Fill::Reflect,
        augment_erase: 0.0,
        positive_class: None,
    }
}

/// Minutes on two CPU cores; chosen on validation splits (docs/experiments.md).
///
/// What a short run needs that the paper's did not: many small steps (B = 16, K = 1: the same arithmetic as a third of
/// the steps at B = 32, K = 2), a warm-up on labels alone, guesses from the moving average, aligned to the labelled class
/// shares and made on weak views while strong ones are trained on, and sharper than the paper's (T = ¼).
pub fn quick() -> TrainConfig {
    TrainConfig {
        preset: "quick".to_owned(),
        batch: 16,
        epochs: 30,
        steps_per_epoch: 300,
        schedule: Schedule::Cosine,
        ema_decay: 0.995,
        bn_momentum: 0.02,
        k: 1,
        temperature: 0.25,
        lambda_u: 3.0,
        ramp: 0.5,
        warmup: 0.2,
        guess_from: GuessFrom::Ema,
        align: true,
        anchor: true,
        augment_brightness: 0.3,
        augment_contrast: 0.3,
        augment_saturation: 0.3,
        augment_rotation: 10.0,
        augment_scale: 0.1,
        ..plain()
    }
}

/// `quick` on four times the pixels, with twice the images in a step and a network that takes them: 2.6 times the time.
/// For pictures that hold more than 32×32 pixels show, and labels enough to learn it (docs/benchmarks.md).
pub fn thorough() -> TrainConfig {
    TrainConfig {
        preset: "thorough".to_owned(),
        network: "wrn4-20-1".to_owned(),
        size: 64,
        batch: 32,
        // As much of the picture as 4 pixels of 32.
        augment_pad: 8,
        ..quick()
    }
}

/// [`thorough`] with what a GPU has time for: 96×96 pixels, twice the width, and twice the batch, which on validation was
/// worth more than anything else that was tried beside it (docs/experiments.md).
pub fn gpu() -> TrainConfig {
    TrainConfig {
        preset: "gpu".to_owned(),
        network: "wrn4-20-2".to_owned(),
        size: 96,
        batch: 64,
        augment_pad: 12,
        ..thorough()
    }
}

/// The paper's settings for CIFAR-10 (§4 and appendix), one 64th of its length: 16,384 steps of 64.
/// λ_U is scaled to the number of classes by [`for_classes`].
pub fn paper() -> TrainConfig {
    TrainConfig {
        preset: "paper".to_owned(),
        network: "wrn-28-2".to_owned(),
        epochs: 64,
        steps_per_epoch: 256,
        ..plain()
    }
}

/// The project that this one grew from (Shubhammawa/MixMatch-Semi-Supervised-Learning), with its network, its
/// augmentation and its figures where they mean something here: batches of 32, five rounds of its data set, Adam at a
/// constant 1e-4 with decay 0.01, λ_U 1 risen over the first 1,000 steps, K = 4, T = ½, α = ¾, torchvision's BatchNorm
/// momentum. At two classes its λ_U weighs what ours does: a squared difference of one probability is the mean over both.
///
/// Each view gets one of seven operations at random, and an image's views different ones: factors and exponents from .5
/// to 1.5, angles from −10° to 10° with black corners; nothing is cropped, zoomed or erased.
///
/// The algorithm is ours: what the notebooks got wrong is not repeated (ARCHITECTURE.md). They started from ImageNet
/// weights; none ship with this program, so that the preset starts at random unless `pretrained` names imported ones.
pub fn reference() -> TrainConfig {
    TrainConfig {
        preset: "reference".to_owned(),
        labelled: Some(1000),
        network: "wide_resnet50_2".to_owned(),
        head: Head::Reference,
        size: 96,
        batch: 32,
        epochs: 5,
        steps_per_epoch: 300,
        learning_rate: 1e-4,
        weight_decay: 0.01,
        bn_momentum: 0.1,
        k: 4,
        lambda_u: 1.0,
        ramp: 2.0 / 3.0,
        augment_policy: Policy::OneOfSeven,
        augment_pad: 0,
        augment_brightness: 0.5,
        augment_contrast: 0.5,
        augment_saturation: 0.5,
        augment_gamma: 0.5,
        augment_grayscale: 1.0 / 7.0,
        augment_rotation: 10.0,
        augment_fill: Fill::Black,
        ..plain()
    }
}

/// A few minutes on two CPU cores for both runs of `make demo`, on drawn faces.
pub fn demo() -> TrainConfig {
    TrainConfig {
        preset: "demo".to_owned(),
        network: "wrn-10-1".to_owned(),
        epochs: 20,
        temperature: 0.5,
        lambda_u: 10.0,
        ..quick()
    }
}

/// A preset's BatchNorm momentum in a run of `steps`: at least 5 / steps, as the running statistics begin at mean 0 and variance
/// 1, of which a run then leaves e⁻⁵ < 1 %. Of `paper`'s .001 a thousand steps would leave a third (DESIGN §4.2).
pub fn momentum_for(preset: f64, steps: u64) -> f64 {
    preset.max(5.0 / steps.max(1) as f64).min(1.0)
}

/// Scales λ_U of a preset to `classes`, up to the paper's ten.
///
/// L_U is a mean over the classes, so at two classes the same λ_U weighs five times more than at ten, and 75 collapses to
/// one class (DESIGN §4.1). `paper` is written for ten classes; the others were chosen on two.
pub fn for_classes(mut preset: TrainConfig, classes: usize) -> TrainConfig {
    let written_for = if preset.preset == "paper" { 10.0 } else { 2.0 };
    preset.lambda_u *= classes.clamp(2, 10) as f64 / written_for;
    preset
}
