//! Adam with decoupled weight decay, and the moving average of the weights, over flat buffers.
//!
//! Our own, because tch's optimiser keeps state that cannot be saved and walks hundreds of small tensors;
//! over one flat buffer each step is a handful of operations.

use tch::{TchError, Tensor};

use crate::nn::{NnError, Weights};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPS: f64 = 1e-8;

/// Adam (Kingma & Ba, arXiv 1412.6980) over [`Weights::flat`].
#[derive(Debug)]
pub struct Adam {
    first: Tensor,
    second: Tensor,
    steps: i32,
    weight_decay: f64,
}

impl Adam {
    /// State for `weights`; `weight_decay` is wd of w ← w·(1 − wd·lr), kernels only.
    ///
    /// # Errors
    /// libtorch's.
    pub fn new(weights: &Weights, weight_decay: f64) -> Result<Self, TchError> {
        let zeros = || weights.flat().f_zeros_like();
        Ok(Self { first: zeros()?, second: zeros()?, steps: 0, weight_decay })
    }

    /// One step along `gradient` `[N]`, then the decay.
    ///
    /// # Errors
    /// libtorch's.
    pub fn step(&mut self, weights: &mut Weights, gradient: &Tensor, learning_rate: f64) -> Result<(), NnError> {
        let _no_grad = tch::no_grad_guard();
        self.steps += 1;
        let _ = self.first.f_lerp_(gradient, 1.0 - BETA1)?;
        let _ = self.second.f_lerp_(&gradient.f_square()?, 1.0 - BETA2)?;
        let correction1 = 1.0 - BETA1.powi(self.steps);
        let correction2 = 1.0 - BETA2.powi(self.steps);
        let denominator = self.second.f_sqrt()?.f_div_scalar_(correction2.sqrt())?.f_add_scalar_(EPS)?;
        let update = self.first.f_div(&denominator)?.f_mul_scalar_(learning_rate / correction1)?;
        let _ = weights.flat().shallow_clone().f_sub_(&update)?;
        if self.weight_decay > 0.0 {
            let _ = weights.decayed()?.f_mul_scalar_(1.0 - self.weight_decay * learning_rate)?;
        }
        Ok(())
    }
}

/// Moves `average` towards `weights`: parameters by 1 − `decay`, BatchNorm's statistics copied (they are
/// averages already).
///
/// # Errors
/// libtorch's.
pub fn move_average(average: &mut Weights, weights: &Weights, decay: f64) -> Result<(), NnError> {
    let _no_grad = tch::no_grad_guard();
    let _ = average.flat().shallow_clone().f_lerp_(weights.flat(), 1.0 - decay)?;
    average.statistics().shallow_clone().f_copy_(weights.statistics())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::weights::{Init, Layout};
    use tch::Device;

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
        let mut adam = Adam::new(&weights, 0.5).unwrap();
        let gradient = Tensor::from_slice(&[1.0f32, 1.0, 1.0]);
        adam.step(&mut weights, &gradient, 0.1).unwrap();
        // The first step of Adam is lr·sign(g): 1 → .9; the kernel's two numbers then shrink by 5 %.
        let values: Vec<f32> = weights.flat().try_into().unwrap();
        for (value, expected) in values.iter().zip([0.855f32, 0.855, 0.9]) {
            assert!((value - expected).abs() < 1e-5, "{values:?}");
        }
    }

    #[test]
    fn the_average_follows_and_statistics_are_copied() {
        let (mut average, weights) = (two_and_one(), two_and_one());
        let _ = average.flat().shallow_clone().fill_(0.0);
        let _ = weights.statistics().shallow_clone().fill_(7.0);
        move_average(&mut average, &weights, 0.9).unwrap();
        let values: Vec<f32> = average.flat().try_into().unwrap();
        assert!(values.iter().all(|v| (v - 0.1).abs() < 1e-6), "{values:?}");
        assert_eq!(average.statistics().double_value(&[0]), 7.0);
    }
}
