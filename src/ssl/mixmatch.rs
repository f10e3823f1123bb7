//! MixMatch (Berthelot et al. 2019, arXiv 1905.02249), algorithm 1 and §3.

use tch::Tensor;

use super::algorithm::{Algorithm, Batch, StepContext, StepLosses, UnlabelledLosses};
use super::guess::{self, Alignment};
use super::mixup::Mixup;
use super::{loss, ramp};
use crate::nn::{Mode, NnError};

/// The algorithm with its hyper-parameters.
#[derive(Debug)]
pub struct MixMatch {
    /// How images and targets are mixed.
    pub mixup: Mixup,
    /// K: views of an unlabelled image that are averaged.
    pub k: usize,
    /// T: sharpening temperature.
    pub temperature: f64,
    /// λ_U after the ramp.
    pub lambda_u: f64,
    /// Share of the steps after the warm-up over which λ_U rises.
    pub ramp: f64,
    /// Distribution alignment of the guesses; not in the paper.
    pub alignment: Option<Alignment>,
}

impl MixMatch {
    /// q = sharpen(mean over the views of softmax(f(û_k)), T), `[B, C]`, from views `[K·B, 3, H, W]`.
    ///
    /// All views in one forward pass, without gradient, by batch statistics and without moving the running ones.
    fn guess(&mut self, context: &StepContext<'_>, views: &Tensor) -> Result<Tensor, NnError> {
        let _no_grad = tch::no_grad_guard();
        let logits = context.network.forward(context.teacher, views, Mode::Guess)?;
        let mean = guess::average_views(&logits, self.k)?;
        let mean = match &mut self.alignment {
            Some(alignment) => alignment.apply(&mean)?,
            None => mean,
        };
        Ok(guess::sharpen(&mean, self.temperature)?)
    }
}

impl Algorithm for MixMatch {
    fn needs_unlabelled(&self) -> bool {
        true
    }

    fn losses(&mut self, context: StepContext<'_>, batch: &Batch) -> Result<StepLosses, NnError> {
        let StepContext { augment, progress, .. } = context;
        let unlabelled =
            batch.unlabelled.as_ref().ok_or_else(|| NnError::Shim("a MixMatch step needs unlabelled images".into()))?;
        let (labelled, views) = (batch.labelled.size()[0], unlabelled.size()[0] * self.k as i64);

        // X̂ and Û: every image anew, the labelled ones too.
        let x = augment.apply(&batch.labelled, &augment.draw(labelled as usize, context.rng))?;
        let repeated = unlabelled.f_repeat([self.k as i64, 1, 1, 1])?;
        let draws = augment.draw_views(unlabelled.size()[0] as usize, self.k, context.rng);
        let u = augment.apply(&repeated, &draws)?;

        let q = self.guess(&context, &u)?;

        // W = concat(X̂, Û_1 … Û_K), mixed with a permutation of itself.
        let images = Tensor::f_cat(&[x, u], 0)?;
        let targets = Tensor::f_cat(&[batch.targets.shallow_clone(), q.f_repeat([self.k as i64, 1])?], 0)?;
        let (images, targets) = match self.mixup.draw((labelled + views) as usize, context.rng) {
            Some(pairing) => (pairing.mix(&images)?, pairing.mix(&targets)?),
            None => (images, targets),
        };

        // One forward over all: every BatchNorm batch holds labelled and unlabelled images alike.
        let logits = context.network.forward(context.weights, &images, Mode::Train)?;
        let part = |tensor: &Tensor, start, length| tensor.f_narrow(0, start, length);
        let loss_x = loss::labelled(&part(&logits, 0, labelled)?, &part(&targets, 0, labelled)?)?;
        let loss_u = loss::unlabelled(&part(&logits, labelled, views)?, &part(&targets, labelled, views)?)?;
        let lambda_u = self.lambda_u * ramp::linear(progress, self.ramp);
        let total = loss_x.f_add(&loss_u.f_mul_scalar(lambda_u)?)?;
        Ok(StepLosses {
            total,
            labelled: loss_x.f_detach()?,
            unlabelled: Some(UnlabelledLosses { loss: loss_u.f_detach()?, lambda_u, guesses: q }),
        })
    }
}
