//! The two losses (paper §3.4).

use tch::{Kind, TchError, Tensor};

/// L_X: mean over the batch of the cross-entropy with soft targets; logits and targets `[B, C]`, nats.
///
/// # Errors
/// libtorch's.
pub fn labelled(logits: &Tensor, targets: &Tensor) -> Result<Tensor, TchError> {
    let log_probabilities = logits.f_log_softmax(-1, Kind::Float)?;
    let each = log_probabilities.f_mul(targets)?.f_sum_dim_intlist([-1i64].as_slice(), false, Kind::Float)?;
    each.f_mean(Kind::Float)?.f_neg()
}

/// L_U: mean over images and classes of (softmax(logits) − targets)²; both `[K·B, C]`.
///
/// # Errors
/// libtorch's.
pub fn unlabelled(logits: &Tensor, targets: &Tensor) -> Result<Tensor, TchError> {
    logits.f_softmax(-1, Kind::Float)?.f_sub(targets)?.f_square()?.f_mean(Kind::Float)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn the_unlabelled_loss_has_a_gradient() {
        // The reference took the argmax of the answers, through which no gradient flows.
        let logits = Tensor::from_slice(&[0.5f32, -0.5]).view([1, 2]).set_requires_grad(true);
        let loss = unlabelled(&logits, &Tensor::from_slice(&[0.9f32, 0.1]).view([1, 2])).unwrap();
        let gradient = Tensor::run_backward(&[loss], &[&logits], false, false).remove(0);
        assert!(gradient.abs().max().double_value(&[]) > 1e-3);
    }

    #[test]
    fn targets_stay_soft() {
        // Truncated to integers, both targets below would be the same.
        let logits = Tensor::from_slice(&[1.0f32, 0.0]).view([1, 2]);
        let with = |share: f32| {
            let targets = Tensor::from_slice(&[share, 1.0 - share]).view([1, 2]);
            labelled(&logits, &targets).unwrap().double_value(&[])
        };
        assert!((with(0.7) - with(0.9)).abs() > 0.1);
    }

    #[test]
    fn the_unlabelled_loss_is_a_mean_over_classes_too() {
        let logits = Tensor::zeros([4, 10], (Kind::Float, Device::Cpu));
        let targets = Tensor::zeros([4, 10], (Kind::Float, Device::Cpu));
        let loss = unlabelled(&logits, &targets).unwrap().double_value(&[]);
        assert!((loss - 0.01).abs() < 1e-7, "{loss}");
    }
}
