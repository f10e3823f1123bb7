//! What the training loop asks of an algorithm.

use rand_chacha::ChaCha8Rng;
use tch::Tensor;

use super::guess::Alignment;
use super::mixmatch::MixMatch;
use super::mixup::{Mixing, Mixup};
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

/// What the random part of a step draws by.
pub struct DrawContext<'a> {
    /// Augmentation of every image, labelled ones included.
    pub augment: &'a Augment,
    /// Augmentation of the views that labels are guessed on, where it is another one (augmentation anchoring).
    pub anchor: Option<&'a Augment>,
    /// Every random choice of the step comes from here.
    pub rng: &'a mut ChaCha8Rng,
    /// Share of the steps after the warm-up already done, 0 to 1.
    pub progress: f64,
}

/// Everything that one step computes on besides weights, on the device: the same computation on other inputs is another step.
#[derive(Debug)]
pub struct StepInputs {
    /// X̂, the augmented labelled images, float32 `[B, 3, H, W]`.
    pub x: Tensor,
    /// One-hot targets, float32 `[B, C]`.
    pub y: Tensor,
    /// For an algorithm that uses unlabelled images.
    pub unlabelled: Option<UnlabelledInputs>,
    /// Who is mixed with whom, and how much; none leaves images and targets as they are.
    pub mixing: Option<Mixing>,
}

/// The unlabelled half of [`StepInputs`].
#[derive(Debug)]
pub struct UnlabelledInputs {
    /// Û, all K views, view by view, float32 `[K·B, 3, H, W]`.
    pub u: Tensor,
    /// The views that labels are guessed on, where they are others.
    pub weak: Option<Tensor>,
    /// λ_U at this step, a scalar.
    pub lambda_u: Tensor,
    /// The same for whoever reports it.
    pub lambda_u_value: f64,
}

impl StepInputs {
    /// Every tensor, in a fixed order: all that differs from one step of a run to the next.
    pub fn tensors(&self) -> Vec<&Tensor> {
        let unlabelled =
            self.unlabelled.iter().flat_map(|half| [Some(&half.u), half.weak.as_ref(), Some(&half.lambda_u)]);
        let mixing = self.mixing.iter().flat_map(|mixing| [&mixing.lambda, &mixing.partner]);
        [&self.x, &self.y].into_iter().chain(unlabelled.flatten()).chain(mixing).collect()
    }
}

/// The networks of a step.
#[derive(Clone, Copy)]
pub struct StepContext<'a> {
    /// The network.
    pub network: &'a dyn Network,
    /// Its raw weights: what is differentiated and moved.
    pub weights: &'a Weights,
    /// The weights whose answers become guessed labels: the raw ones or their moving average.
    pub teacher: &'a Weights,
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
    /// The sharpened guesses, `[B, C]`.
    pub guesses: Tensor,
    /// What the teacher itself says of the images, mean probability per class before alignment and sharpening, `[C]`.
    pub said: Tensor,
}

impl StepLosses {
    /// Other handles of the same numbers.
    pub fn shallow(&self) -> Self {
        let unlabelled = self.unlabelled.as_ref().map(|half| UnlabelledLosses {
            loss: half.loss.shallow_clone(),
            guesses: half.guesses.shallow_clone(),
            said: half.said.shallow_clone(),
        });
        Self { total: self.total.shallow_clone(), labelled: self.labelled.shallow_clone(), unlabelled }
    }
}

/// A learning algorithm: one batch to one differentiable loss.
pub trait Algorithm: Send {
    /// Whether a batch must hold unlabelled images.
    fn needs_unlabelled(&self) -> bool;

    /// Every random choice of one step, and the images that come of it.
    ///
    /// # Errors
    /// libtorch's.
    fn draw(&self, context: DrawContext<'_>, batch: &Batch) -> Result<StepInputs, NnError>;

    /// The losses of one step; the caller differentiates `total` and moves the weights.
    ///
    /// Operations on the device alone, the same in each step: nothing is read back, nothing depends on a value, so that a
    /// GPU can repeat them as one graph.
    ///
    /// # Errors
    /// libtorch's.
    fn losses(&mut self, context: StepContext<'_>, inputs: &StepInputs) -> Result<StepLosses, NnError>;

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

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use tch::Device;

    /// What a step of `algorithm` on two labelled and two unlabelled images draws, an eighth of the way.
    fn drawn(algorithm: &dyn Algorithm) -> StepInputs {
        let greys = Tensor::full([2, 8, 8, 3], 100, (tch::Kind::Uint8, Device::Cpu));
        let targets = Tensor::full([2, 2], 0.5, (tch::Kind::Float, Device::Cpu));
        let batch = Batch { labelled: greys.shallow_clone(), targets, unlabelled: Some(greys) };
        let context = DrawContext {
            augment: &Augment::default(),
            anchor: None,
            rng: &mut ChaCha8Rng::seed_from_u64(1),
            progress: 0.125,
        };
        algorithm.draw(context, &batch).unwrap()
    }

    #[test]
    fn an_algorithm_has_the_hyper_parameters_that_were_asked_for() {
        let asked = |alpha: Option<f64>, k: usize, prior: Option<Vec<f32>>| {
            build(Kind::MixMatch, Hyper { alpha, k, temperature: 0.5, lambda_u: 6.0, ramp: 0.5, prior })
        };
        let aligned = asked(Some(0.75), 3, Some(vec![0.8, 0.2]));
        let running: Vec<_> =
            aligned.state().iter().map(|(name, running)| (*name, Vec::<f32>::try_from(*running).unwrap())).collect();
        assert_eq!(running, [("alignment", vec![0.8, 0.2])]);
        let inputs = drawn(aligned.as_ref());
        let unlabelled = inputs.unlabelled.unwrap();
        assert_eq!((unlabelled.u.size()[0], unlabelled.lambda_u_value), (6, 1.5), "three views of two images");
        assert_eq!(inputs.mixing.unwrap().lambda.size(), [8]);

        let plain = asked(None, 1, None);
        assert!(plain.state().is_empty() && plain.needs_unlabelled());
        let inputs = drawn(plain.as_ref());
        assert_eq!((inputs.unlabelled.unwrap().u.size()[0], inputs.mixing.is_none()), (2, true));

        let prior = Some(vec![0.8, 0.2]);
        let hyper = Hyper { alpha: None, k: 3, temperature: 0.5, lambda_u: 6.0, ramp: 0.5, prior };
        let supervised = build(Kind::Supervised, hyper);
        assert!(!supervised.needs_unlabelled() && supervised.state().is_empty());
        assert!(drawn(supervised.as_ref()).unlabelled.is_none());
    }
}
