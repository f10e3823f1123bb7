//! The baseline: the labelled images alone, with the same network, augmentation and mixup.

use super::algorithm::{Algorithm, Batch, DrawContext, StepContext, StepInputs, StepLosses};
use super::mixup::Mixup;
use super::{loss, phase};
use crate::nn::{Mode, NnError};

/// Supervised learning on soft targets.
#[derive(Clone, Copy, Debug)]
pub struct Supervised {
    /// How images and targets are mixed.
    pub mixup: Mixup,
}

impl Algorithm for Supervised {
    fn needs_unlabelled(&self) -> bool {
        false
    }

    fn draw(&self, context: DrawContext<'_>, batch: &Batch) -> Result<StepInputs, NnError> {
        let count = batch.labelled.size()[0] as usize;
        let augment = context.augment;
        let x = phase::augment().in_scope(|| augment.apply(&batch.labelled, &augment.draw(count, context.rng)))?;
        let mixing = self.mixup.draw(count, context.rng).map(|pairing| pairing.on(x.device())).transpose()?;
        Ok(StepInputs { x, y: batch.targets.shallow_clone(), unlabelled: None, mixing })
    }

    fn losses(&mut self, context: StepContext<'_>, inputs: &StepInputs) -> Result<StepLosses, NnError> {
        let StepInputs { x, y, mixing: pairs, .. } = inputs;
        let mixing = phase::mix().entered();
        let (images, targets) = match pairs {
            Some(pairs) => (pairs.mix(x)?, pairs.mix(y)?),
            None => (x.shallow_clone(), y.shallow_clone()),
        };
        drop(mixing);
        let _phase = phase::forward().entered();
        let logits = context.network.forward(context.weights, &images, Mode::Train)?;
        let total = loss::labelled(&logits, &targets)?;
        Ok(StepLosses { labelled: total.f_detach()?, total, unlabelled: None })
    }
}
