//! Adam with decoupled weight decay, and the moving average of the weights, over flat buffers.
//!
//! Our own, because tch's optimiser keeps state that cannot be saved and walks hundreds of small tensors;
//! over one flat buffer each step is a handful of operations.

use tch::{Device, TchError, Tensor};

use super::checkpoint::{CheckpointError, Snapshot};
use crate::nn::device::send;
use crate::nn::weights::Span;
use crate::nn::{NnError, Weights};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPS: f64 = 1e-8;

/// Adam (Kingma & Ba, arXiv 1412.6980) over what is [trained](Weights::trained) of [`Weights::flat`].
#[derive(Debug)]
pub struct Adam {
    first: Tensor,
    second: Tensor,
    steps: i32,
    weight_decay: f64,
    backbone_factor: f64,
}

impl Adam {
    /// State for `weights`; `weight_decay` is wd of w ← w·(1 − wd·lr), kernels only; `backbone_factor` multiplies
    /// lr in the backbone, for the step and for the decay. A frozen backbone has no state and meets neither.
    ///
    /// # Errors
    /// libtorch's.
    pub fn new(weights: &Weights, weight_decay: f64, backbone_factor: f64) -> Result<Self, TchError> {
        let zeros = || part(weights.flat(), weights.trained())?.f_zeros_like();
        Ok(Self { first: zeros()?, second: zeros()?, steps: 0, weight_decay, backbone_factor })
    }

    /// Puts the moments and the step count into a checkpoint.
    ///
    /// # Errors
    /// See [`Snapshot::put`].
    pub fn save(&self, snapshot: &mut Snapshot) -> Result<(), CheckpointError> {
        snapshot.put_tensor("adam.first", &self.first);
        snapshot.put_tensor("adam.second", &self.second);
        snapshot.put("adam.steps", &self.steps)
    }

    /// Takes them out again.
    ///
    /// # Errors
    /// [`CheckpointError::Unfit`].
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<(), CheckpointError> {
        snapshot.fill("adam.first", &self.first)?;
        snapshot.fill("adam.second", &self.second)?;
        self.steps = snapshot.get("adam.steps")?;
        Ok(())
    }

    /// Counts a step, and gives the numbers that it needs; `average_decay` is the moving average's.
    pub fn next(&mut self, learning_rate: f64, average_decay: f64) -> Rates {
        self.steps += 1;
        let kept = |rate: f64| 1.0 - self.weight_decay * rate;
        Rates([
            learning_rate / (1.0 - BETA1.powi(self.steps)),
            (1.0 - BETA2.powi(self.steps)).sqrt(),
            kept(learning_rate),
            kept(learning_rate * self.backbone_factor),
            1.0 - average_decay,
        ])
    }

    /// One step along `gradient`, as [`Weights::gradient`] gives it, then the decay; `rates` are [`Rates::on`] the device.
    ///
    /// Operations on the device alone, the same in each step, as [`Algorithm::losses`](crate::ssl::Algorithm::losses).
    ///
    /// # Errors
    /// libtorch's.
    pub fn step(&mut self, weights: &mut Weights, gradient: &Tensor, rates: &Tensor) -> Result<(), NnError> {
        let _no_grad = tch::no_grad_guard();
        let rate = |index: i64| rates.f_select(0, index);
        let _ = self.first.f_lerp_(gradient, 1.0 - BETA1)?;
        let _ = self.second.f_lerp_(&gradient.f_square()?, 1.0 - BETA2)?;
        let denominator = self.second.f_sqrt()?.f_div_(&rate(1)?)?.f_add_scalar_(EPS)?;
        let update = self.first.f_div(&denominator)?.f_mul_(&rate(0)?)?;
        if !weights.backbone_frozen() && self.backbone_factor != 1.0 {
            for span in [weights.backbone_kernels(), weights.backbone_vectors()] {
                let _ = part(&update, span)?.f_mul_scalar_(self.backbone_factor)?;
            }
        }
        let flat = weights.flat();
        let _ = part(flat, weights.trained())?.f_sub_(&update)?;
        if self.weight_decay > 0.0 {
            let _ = part(flat, weights.head_kernels())?.f_mul_(&rate(2)?)?;
            if !weights.backbone_frozen() {
                let _ = part(flat, weights.backbone_kernels())?.f_mul_(&rate(3)?)?;
            }
        }
        Ok(())
    }
}

/// What changes from step to step in how weights are moved: lr / (1 − β₁ᵗ), √(1 − β₂ᵗ), what decay leaves of the head's
/// and of the backbone's kernels, and the weights' share in their average.
#[derive(Clone, Copy, Debug)]
pub struct Rates([f64; 5]);

impl Rates {
    /// float32 `[5]` on `device`: tensors, so that a GPU can repeat a step as one graph.
    ///
    /// # Errors
    /// libtorch's.
    pub fn on(&self, device: Device) -> Result<Tensor, TchError> {
        send(&Tensor::from_slice(&self.0.map(|rate| rate as f32)), device)
    }
}

/// A view of a part of a flat buffer.
fn part(flat: &Tensor, span: Span) -> Result<Tensor, TchError> {
    flat.f_narrow(0, span.start, span.length)
}

/// Moves `average` towards `weights`: parameters by the share in `rates` ([`Rates::on`]), BatchNorm's statistics copied (they are
/// averages already).
///
/// # Errors
/// libtorch's.
pub fn move_average(average: &mut Weights, weights: &Weights, rates: &Tensor) -> Result<(), NnError> {
    let _no_grad = tch::no_grad_guard();
    let _ = average.flat().shallow_clone().f_lerp_tensor_(weights.flat(), &rates.f_select(0, 4)?)?;
    average.statistics().shallow_clone().f_copy_(weights.statistics())?;
    Ok(())
}

/// The average's decay at step `step`: min(decay, (1 + step) / (10 + step)), as TensorFlow's moving average
/// does with a step count, so that the random start does not linger in short runs.
pub fn warmed_decay(decay: f64, step: u64) -> f64 {
    decay.min((1.0 + step as f64) / (10.0 + step as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::weights::{Init, Layout};

    fn step(adam: &mut Adam, weights: &mut Weights, gradient: &Tensor, learning_rate: f64) {
        let rates = adam.next(learning_rate, 0.0).on(Device::Cpu).unwrap();
        adam.step(weights, gradient, &rates).unwrap();
    }

    fn two_and_one() -> Weights {
        let mut layout = Layout::default();
        layout.vector("bias", 1, Init::Constant(0.0));
        layout.kernel("kernel", &[1, 2], Init::Constant(0.0));
        layout.buffer("mean", 1, 5.0);
        let weights = Weights::zeros(&layout, Device::Cpu).unwrap();
        let _ = weights.flat().shallow_clone().fill_(1.0);
        weights
    }

    #[test]
    fn decay_meets_kernels_only_and_comes_after_the_step() {
        let mut weights = two_and_one();
        let mut adam = Adam::new(&weights, 0.5, 1.0).unwrap();
        let gradient = Tensor::from_slice(&[1.0f32, 1.0, 1.0]);
        step(&mut adam, &mut weights, &gradient, 0.1);
        // The first step of Adam is lr·sign(g): 1 → .9; the kernel's two numbers then shrink by 5 %.
        let values: Vec<f32> = weights.flat().try_into().unwrap();
        for (value, expected) in values.iter().zip([0.855f32, 0.855, 0.9]) {
            assert!((value - expected).abs() < 1e-5, "{values:?}");
        }
    }

    /// Backbone kernel and vector, then head kernel and bias, all ones.
    fn with_head() -> Weights {
        let mut layout = Layout::default();
        layout.kernel("conv", &[1, 1], Init::Constant(0.0));
        layout.vector("norm", 1, Init::Constant(0.0));
        layout.begin_head();
        layout.kernel("fc.weight", &[1, 1], Init::Constant(0.0));
        layout.vector("fc.bias", 1, Init::Constant(0.0));
        let weights = Weights::zeros(&layout, Device::Cpu).unwrap();
        let _ = weights.flat().shallow_clone().fill_(1.0);
        weights
    }

    #[test]
    fn a_factor_slows_the_backbones_step_and_decay() {
        let mut weights = with_head();
        let mut adam = Adam::new(&weights, 0.5, 0.1).unwrap();
        step(&mut adam, &mut weights, &Tensor::from_slice(&[1.0f32; 4]), 0.1);
        // Stored: backbone kernel, head kernel, head bias, backbone vector.
        let values: Vec<f32> = weights.flat().try_into().unwrap();
        for (value, expected) in values.iter().zip([0.99 * 0.995f32, 0.9 * 0.95, 0.9, 0.99]) {
            assert!((value - expected).abs() < 1e-5, "{values:?}");
        }
    }

    #[test]
    fn a_frozen_backbone_meets_neither_step_nor_decay() {
        let mut weights = with_head();
        weights.freeze_backbone();
        let mut adam = Adam::new(&weights, 0.5, 0.0).unwrap();
        step(&mut adam, &mut weights, &Tensor::from_slice(&[1.0f32; 2]), 0.1);
        let values: Vec<f32> = weights.flat().try_into().unwrap();
        assert_eq!((values[0], values[3]), (1.0, 1.0), "the backbone moved: {values:?}");
        assert!((values[1] - 0.855).abs() < 1e-5 && (values[2] - 0.9).abs() < 1e-5, "{values:?}");
    }

    #[test]
    fn the_average_follows_and_statistics_are_copied() {
        let (mut average, weights) = (two_and_one(), two_and_one());
        let _ = average.flat().shallow_clone().fill_(0.0);
        let _ = weights.statistics().shallow_clone().fill_(7.0);
        let rates = Adam::new(&weights, 0.0, 1.0).unwrap().next(0.1, 0.9).on(Device::Cpu).unwrap();
        move_average(&mut average, &weights, &rates).unwrap();
        let values: Vec<f32> = average.flat().try_into().unwrap();
        assert!(values.iter().all(|v| (v - 0.1).abs() < 1e-6), "{values:?}");
        assert_eq!(average.statistics().double_value(&[0]), 7.0);
    }

    #[test]
    fn the_averages_decay_warms_up() {
        assert!(warmed_decay(0.999, 1) < 0.2);
        assert_eq!(warmed_decay(0.999, 1_000_000), 0.999);
    }
}
