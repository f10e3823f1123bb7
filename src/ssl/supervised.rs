//! The baseline: the labelled images alone, with the same network, augmentation and mixup.

use super::algorithm::{Algorithm, Batch, StepContext, StepLosses};
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

    fn losses(&mut self, context: StepContext<'_>, batch: &Batch) -> Result<StepLosses, NnError> {
        let count = batch.labelled.size()[0] as usize;
        let augment = context.augment;
        let images = phase::augment().in_scope(|| augment.apply(&batch.labelled, &augment.draw(count, context.rng)))?;
        let mixing = phase::mix().entered();
        let (images, targets) = match self.mixup.draw(count, context.rng) {
            Some(pairing) => (pairing.mix(&images)?, pairing.mix(&batch.targets)?),
            None => (images, batch.targets.shallow_clone()),
        };
        drop(mixing);
        let _phase = phase::forward().entered();
        let logits = context.network.forward(context.weights, &images, Mode::Train)?;
        let total = loss::labelled(&logits, &targets)?;
        Ok(StepLosses { labelled: total.f_detach()?, total, unlabelled: None })
    }
}
