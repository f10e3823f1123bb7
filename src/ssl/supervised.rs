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

#[cfg(test)]
mod tests {
    use super::super::mixmatch::tests::Brightness;
    use super::super::mixup::Pairing;
    use super::*;
    use crate::nn::Weights;
    use crate::nn::weights::Layout;
    use tch::{Device, Tensor};

    /// A baseline that learned mixed images under unmixed labels would be a bad one, and what it is compared with look good.
    #[test]
    fn targets_are_mixed_as_their_images_are() {
        let network = Brightness(Layout::default());
        let weights = Weights::zeros(&network.0, Device::Cpu).unwrap();
        // A white image of the first class, three quarters itself, and a black one of the second, which stays as it is.
        let pairing = Pairing { lambda: vec![0.75, 1.0], partner: vec![1, 0] };
        let inputs = StepInputs {
            x: Tensor::from_slice(&[1.0f32, -1.0]).view([2, 1, 1, 1]).expand([2, 3, 2, 2], false).contiguous(),
            y: Tensor::from_slice(&[1.0f32, 0.0, 0.0, 1.0]).view([2, 2]),
            unlabelled: None,
            mixing: Some(pairing.on(Device::Cpu).unwrap()),
        };
        let context = StepContext { network: &network, weights: &weights, teacher: &weights };
        let losses = Supervised { mixup: Mixup { alpha: Some(0.75) } }.losses(context, &inputs).unwrap();
        // Brightnesses of ½ and −1 are logits of ±½ and ∓1.
        let surprise = |logit: f64| (1.0 + (-2.0 * logit).exp()).ln();
        let expected = (0.75 * surprise(0.5) + 0.25 * surprise(-0.5) + surprise(1.0)) / 2.0;
        for loss in [&losses.total, &losses.labelled] {
            let found = loss.double_value(&[]);
            assert!((found - expected).abs() < 1e-5, "{found}, expected is {expected}");
        }
        assert!(losses.unlabelled.is_none());
    }
}
