//! What the training loop asks of an algorithm.

use rand_chacha::ChaCha8Rng;
use tch::Tensor;

use super::guess::Alignment;
use super::mixmatch::MixMatch;
use super::mixup::Mixup;
use super::supervised::Supervised;
use crate::augment::Augment;
use crate::nn::{Network, NnError, Weights};

/// The raw material of one step, on the device.
#[derive(Debug)]
pub struct Batch {
    /// uint8 `[B, H, W, 3]`.
    pub labelled: Tensor,
    /// One-hot targets, float32 `[B, C]`.
    pub targets: Tensor,
    /// uint8 `[B, H, W, 3]`; absent for an algorithm that uses none.
    pub unlabelled: Option<Tensor>,
}

/// What a step may use besides its batch.
pub struct StepContext<'a> {
    /// The network.
    pub network: &'a dyn Network,
    /// Its raw weights: what is differentiated and moved.
    pub weights: &'a Weights,
    /// The weights whose answers become guessed labels: the raw ones or their moving average.
    pub teacher: &'a Weights,
    /// Augmentation of every image, labelled ones included.
    pub augment: &'a Augment,
    /// Augmentation of the views that labels are guessed on, where it is another one (augmentation anchoring).
    pub anchor: Option<&'a Augment>,
    /// Every random choice of the step comes from here.
    pub rng: &'a mut ChaCha8Rng,
    /// Share of the steps after the warm-up already done, 0 to 1.
    pub progress: f64,
}

/// The losses of one step, scalars on the device (reading them would wait for it).
#[derive(Debug)]
pub struct StepLosses {
    /// What is differentiated.
    pub total: Tensor,
    /// L_X, detached.
    pub labelled: Tensor,
    /// What the unlabelled images gave.
    pub unlabelled: Option<UnlabelledLosses>,
}

/// The unlabelled half of a step.
#[derive(Debug)]
pub struct UnlabelledLosses {
    /// L_U, detached, before its weight.
    pub loss: Tensor,
    /// Its weight λ_U at this step.
    pub lambda_u: f64,
    /// The sharpened guesses, `[B, C]`.
    pub guesses: Tensor,
}

/// A learning algorithm: one batch to one differentiable loss.
pub trait Algorithm: Send {
    /// Whether a batch must hold unlabelled images.
    fn needs_unlabelled(&self) -> bool;

    /// The losses of one step; the caller differentiates `total` and moves the weights.
    ///
    /// # Errors
    /// libtorch's.
    fn losses(&mut self, context: StepContext<'_>, batch: &Batch) -> Result<StepLosses, NnError>;

    /// What it carries from step to step, by name: a checkpoint keeps it, and writing to it moves the algorithm.
    fn state(&self) -> Vec<(&'static str, &Tensor)> {
        Vec::new()
    }
}

/// The hyper-parameters that algorithms read.
#[derive(Clone, Debug, PartialEq)]
pub struct Hyper {
    /// α of the Beta distribution, or none to leave images unmixed.
    pub alpha: Option<f64>,
    /// K.
    pub k: usize,
    /// T.
    pub temperature: f64,
    /// λ_U after the ramp.
    pub lambda_u: f64,
    /// Share of the steps after the warm-up over which λ_U rises.
    pub ramp: f64,
    /// Class shares that guesses are aligned to, or none to leave them as they are.
    pub prior: Option<Vec<f32>>,
}

/// The algorithms there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`MixMatch`].
    MixMatch,
    /// [`Supervised`].
    Supervised,
}

/// An algorithm with its hyper-parameters.
pub fn build(kind: Kind, hyper: Hyper) -> Box<dyn Algorithm> {
    let mixup = Mixup { alpha: hyper.alpha };
    match kind {
        Kind::MixMatch => Box::new(MixMatch {
            mixup,
            k: hyper.k,
            temperature: hyper.temperature,
            lambda_u: hyper.lambda_u,
            ramp: hyper.ramp,
            alignment: hyper.prior.map(Alignment::new),
        }),
        Kind::Supervised => Box::new(Supervised { mixup }),
    }
}
