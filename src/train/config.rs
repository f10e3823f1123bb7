//! The configuration of a run: every hyper-parameter of the algorithm by its usual name.
//!
//! A request names a preset and whatever it wants otherwise; [`resolve`] lays the one over the other and
//! answers with a [`TrainConfig`] in which nothing is left open. That is what a job stores, so that a run
//! can be read and repeated years later even if a preset has changed meanwhile.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::preset;
pub use super::resolve::{DataFacts, FieldProblem, PretrainedFacts, resolve};
pub use crate::augment::{Fill, Policy};
use crate::dataset::SplitSpec;
use crate::imaging::{Fit, Preprocess};
pub use crate::nn::Head;
pub use crate::nn::device::PrecisionWish;

/// The learning algorithm: `mixmatch`, or `supervised`, which learns from the labelled images alone, with the same network and augmentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlgorithmName {
    /// Berthelot et al. 2019, arXiv 1905.02249.
    Mixmatch,
    /// The labelled images alone, with the same network and augmentation.
    Supervised,
}

impl AlgorithmName {
    /// The algorithm's stable word, as in the JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            AlgorithmName::Mixmatch => "mixmatch",
            AlgorithmName::Supervised => "supervised",
        }
    }
}

/// How the learning rate moves over the run: `constant`, as in the paper; `cosine`, constant over the warm-up, then down to 0 along half a
/// cosine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// As in the paper.
    Constant,
    /// Constant over the warm-up, then lr·½(1 + cos(π · progress)) down to 0 (SGDR without restarts, arXiv
    /// 1608.03983).
    Cosine,
}

/// Whose answers become the guessed labels: those of the `raw` weights that are being trained, as in the paper, or of their moving average
/// (`ema`), which is steadier in short runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GuessFrom {
    /// The weights being trained, as in the paper.
    Raw,
    /// Their moving average, as a mean teacher does (arXiv 1703.01780): steadier in short runs.
    Ema,
}

/// A run, fully resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// The preset that the rest was laid over.
    pub preset: String,
    /// The learning algorithm.
    pub algorithm: AlgorithmName,
    /// Labels to train with, not counting those that validate: a stratified sample of the images that chance drew. Picked images join only
    /// where it asks for more than those; null takes all of both.
    pub labelled: Option<u32>,
    /// Share of the labelled training rows that choose the best epoch and are never trained on. Whatever it is, each class validates with
    /// one image at least, and has another left to train on.
    pub validation: f64,
    /// Upper bound of the validation split, images, but for one image of each class, and for whole groups where they are larger.
    pub validation_max: u32,
    /// Decides splits, initial weights, batches and augmentations.
    pub seed: u64,
    /// `wrn-<depth>-<width>`: depth 6n + 4, for example `wrn-28-2`; `wrn4-<depth>-<width>`, for 64 pixels and more: depth 8n + 4,
    /// for example `wrn4-20-1`; or `wide_resnet50_2`, torchvision's.
    pub network: String,
    /// From the network's features to the classes.
    pub head: Head,
    /// Name of imported weights to start from (`GET /pretrained`); null starts at random. What they were trained on is not known here: if
    /// images of this data set were among it, validation and test figures are too high.
    pub pretrained: Option<String>,
    /// SHA-256 of those weights, filled in when the run is queued. Given in a request, it must be that of `pretrained`.
    pub pretrained_sha256: Option<String>,
    /// Passes over the training images (in whole batches: what does not fill the last one of a pass is left out of it), validation left out, in which the backbone learns before anything else, and without any
    /// label, which two views show the same image (SimCLR, arXiv 2002.05709); 0 is none. `backbone_learning_rate_factor` holds there too. The
    /// baseline that `"baseline": true` queues has none: it sees no unlabelled image.
    pub pretrain_epochs: u32,
    /// Images in a step of that, each in two views: every view has all other images' to be told from, so that large is better.
    pub pretrain_batch: u32,
    /// Factor on the learning rate (and so on the weight decay) of everything but the head, while pretraining too; 0 leaves the backbone
    /// as it was loaded, its BatchNorm statistics too, and needs `pretrained`.
    pub backbone_learning_rate_factor: f64,
    /// Side of the square input, pixels.
    pub size: u32,
    /// How an image becomes square.
    pub fit: Fit,
    /// Number format of activations and convolutions.
    pub precision: PrecisionWish,
    /// Labelled images in a step (B); as many unlabelled ones go with them.
    pub batch: u32,
    /// Fill each labelled batch with equally many images of every class, however few or lopsided the labels are. Where they are lopsided it
    /// pulls against `align`, which keeps the guesses to the labels' shares.
    pub class_balanced: bool,
    /// Epochs: after each, the EMA weights are evaluated on the validation split.
    pub epochs: u32,
    /// Optimiser steps in an epoch.
    pub steps_per_epoch: u32,
    /// Adam's learning rate.
    pub learning_rate: f64,
    /// How the learning rate moves.
    pub schedule: Schedule,
    /// Decoupled weight decay wd: w ← w·(1 − wd·lr) after the step, convolution and linear kernels only.
    pub weight_decay: f64,
    /// Decay of the exponential moving average of the weights, per step.
    pub ema_decay: f64,
    /// Momentum of BatchNorm's running statistics (PyTorch's convention: the new batch's share). A preset's is raised to 5 / steps in runs so
    /// short that the statistics would not arrive.
    pub bn_momentum: f64,
    /// Mix pairs of images and targets; false is λ' = 1.
    pub mixup: bool,
    /// λ ~ Beta(α, α), λ' = max(λ, 1 − λ), drawn for each sample.
    pub alpha: f64,
    /// K: augmented views of an unlabelled image that are averaged into its guess.
    pub k: u32,
    /// T: sharpening temperature of the guesses.
    pub temperature: f64,
    /// λ_U: weight of the unlabelled loss after the ramp. A preset's is scaled to the data set's classes (up to ten), as the loss is a mean over
    /// them: the paper's 75 of ten classes is 15 at two.
    pub lambda_u: f64,
    /// Share of the steps after the warm-up over which λ_U rises linearly from 0.
    pub ramp: f64,
    /// Share of the run that trains on the labelled images alone before unlabelled ones join: guesses of a
    /// network that knows nothing yet stick. The ramp and the schedule begin after it.
    pub warmup: f64,
    /// Whose answers become the guessed labels.
    pub guess_from: GuessFrom,
    /// Distribution alignment (ReMixMatch §3.1, arXiv 1911.09785): guesses are scaled so that on the whole
    /// they have the labelled images' class shares. Right only where both sets have the same shares.
    pub align: bool,
    /// Augmentation anchoring (ReMixMatch §3.2, arXiv 1911.09785): labels are guessed on weak views, mirrored and cropped
    /// alone, and trained on views with every augmentation below. False guesses on the very views that are trained on,
    /// as MixMatch does.
    pub anchor: bool,
    /// How many of the operations below a view gets.
    pub augment_policy: Policy,
    /// Mirror images left to right with probability ½.
    pub augment_flip: bool,
    /// Reflect-pad by so many pixels on each side, then crop at random; 0 switches it off.
    pub augment_pad: u32,
    /// Multiply brightness by a factor from 1 ± this, one draw an image; 0 switches it off.
    pub augment_brightness: f64,
    /// Scale contrast about the image's mean luma by a factor from 1 ± this; 0 switches it off.
    pub augment_contrast: f64,
    /// Scale saturation (each pixel about its own luma) by a factor from 1 ± this; 0 switches it off.
    pub augment_saturation: f64,
    /// Turn each pixel's hue by ± this share of the circle, 0.5 for any hue; 0 switches it off.
    pub augment_hue: f64,
    /// Raise pixels (0…1) to a power from 1 ± this; 0 switches it off.
    pub augment_gamma: f64,
    /// Probability of losing all colour; 0 switches it off. Under `one_of_seven` any other value stands for 1 in 7.
    pub augment_grayscale: f64,
    /// Rotate about the middle by an angle from ± this, degrees; 0 switches it off.
    pub augment_rotation: f64,
    /// Zoom about the middle by a factor from 1 ± this; 0 switches it off.
    pub augment_scale: f64,
    /// What rotation and zoom show beyond the border.
    pub augment_fill: Fill,
    /// Cutout (arXiv 1708.04552): cover a mid-grey square anywhere in the image, its side this share of the
    /// image's; 0 switches it off.
    pub augment_erase: f64,
    /// The class that F1 speaks of; null takes the first class.
    pub positive_class: Option<String>,
}

impl Default for TrainConfig {
    /// [`preset::plain`].
    fn default() -> Self {
        preset::plain()
    }
}

impl TrainConfig {
    /// Optimiser steps in the run.
    pub fn steps(&self) -> u64 {
        u64::from(self.epochs) * u64::from(self.steps_per_epoch)
    }

    /// Optimiser steps on the labelled images alone.
    pub fn warmup_steps(&self) -> u64 {
        (self.steps() as f64 * self.warmup) as u64
    }

    /// Whether it sees images without their label: guesses do, and pretraining.
    pub fn sees_unlabelled(&self) -> bool {
        self.algorithm != AlgorithmName::Supervised || self.pretrain_epochs > 0
    }

    /// How an image becomes the network's input.
    pub fn preprocess(&self) -> Preprocess {
        Preprocess { size: self.size, fit: self.fit }
    }

    /// Which rows train, choose and test: nothing else decides it, so that an algorithm and its baseline have the
    /// same labels.
    pub fn split_spec(&self) -> SplitSpec {
        SplitSpec {
            labelled: self.labelled.map(|labels| labels as usize),
            validation: self.validation,
            validation_max: self.validation_max as usize,
            seed: self.seed,
        }
    }

    /// Index of the class that F1 speaks of.
    pub fn positive_index(&self, classes: &[String]) -> usize {
        let name = self.positive_class.as_deref();
        classes.iter().position(|class| Some(class.as_str()) == name).unwrap_or(0)
    }
}
