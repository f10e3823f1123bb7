//! MixUp as MixMatch uses it (paper §3.3): each sample with its own λ', nearer to itself than to its partner.

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Beta, Distribution};
use tch::{Device, TchError, Tensor};

use crate::nn::device::send;

/// How images and targets are mixed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mixup {
    /// α of Beta(α, α); none leaves everything as it is (λ' = 1).
    pub alpha: Option<f64>,
}

/// The choices for a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Pairing {
    /// λ' of each sample, ½ to 1.
    pub lambda: Vec<f32>,
    /// Each sample's partner: a permutation.
    pub partner: Vec<i64>,
}

impl Mixup {
    /// Draws λ' and a partner for each of `count` samples.
    pub fn draw(&self, count: usize, rng: &mut ChaCha8Rng) -> Option<Pairing> {
        // α is checked to be positive where configurations are resolved; anything else means no mixing.
        let beta = Beta::new(self.alpha?, self.alpha?).ok()?;
        let mut partner: Vec<i64> = (0..count as i64).collect();
        partner.shuffle(rng);
        let lambda = (0..count)
            .map(|_| {
                let lambda = beta.sample(rng);
                lambda.max(1.0 - lambda) as f32
            })
            .collect();
        Some(Pairing { lambda, partner })
    }
}

impl Pairing {
    /// λ'·x + (1 − λ')·x\[partner\] along the first dimension; any shape `[N, …]`.
    ///
    /// # Errors
    /// libtorch's.
    pub fn mix(&self, x: &Tensor) -> Result<Tensor, TchError> {
        self.on(x.device())?.mix(x)
    }

    /// The same on a device, to mix images and targets by.
    ///
    /// # Errors
    /// libtorch's.
    pub fn on(&self, device: Device) -> Result<Mixing, TchError> {
        let lambda = send(&Tensor::from_slice(&self.lambda), device)?;
        Ok(Mixing { lambda, partner: send(&Tensor::from_slice(&self.partner), device)? })
    }
}

/// A [`Pairing`] on a device.
#[derive(Debug)]
pub struct Mixing {
    /// λ' of each sample, float32 `[n]`.
    pub lambda: Tensor,
    /// Each sample's partner, int64 `[n]`.
    pub partner: Tensor,
}

impl Mixing {
    /// Each row of `x`, float32 `[n, …]`, mixed with its partner's.
    ///
    /// # Errors
    /// libtorch's.
    pub fn mix(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let mut shape = vec![1; x.dim()];
        shape[0] = -1;
        x.f_index_select(0, &self.partner)?.f_lerp_tensor(x, &self.lambda.f_view(shape.as_slice())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use tch::Kind;

    #[test]
    fn every_sample_has_its_own_lambda_of_at_least_a_half() {
        let pairing = Mixup { alpha: Some(0.75) }.draw(10_000, &mut ChaCha8Rng::seed_from_u64(1)).unwrap();
        assert!(pairing.lambda.iter().all(|&l| (0.5..=1.0).contains(&l)));
        assert!(pairing.lambda.windows(2).filter(|w| w[0] != w[1]).count() > 9_000, "one λ for the batch");
        let mean = pairing.lambda.iter().map(|&l| f64::from(l)).sum::<f64>() / 10_000.0;
        // E[max(λ, 1 − λ)] at α = .75; its standard error here is .0015.
        assert!((mean - 0.778).abs() < 0.006, "{mean}");
    }

    #[test]
    fn partners_are_a_permutation() {
        let pairing = Mixup { alpha: Some(0.75) }.draw(500, &mut ChaCha8Rng::seed_from_u64(2)).unwrap();
        let mut partners = pairing.partner.clone();
        partners.sort_unstable();
        assert_eq!(partners, (0..500).collect::<Vec<_>>());
        assert_ne!(pairing.partner, partners, "nobody changed places");
    }

    #[test]
    fn images_and_targets_are_mixed_alike() {
        let pairing = Pairing { lambda: vec![0.75, 1.0], partner: vec![1, 0] };
        let x = Tensor::from_slice(&[0.0f32, 4.0, 8.0, 12.0]).view([2, 2]);
        let mixed: Vec<f32> = pairing.mix(&x).unwrap().view([-1]).try_into().unwrap();
        assert_eq!(mixed, [2.0, 6.0, 8.0, 12.0]);
        let y = Tensor::from_slice(&[1.0f32, 0.0]);
        let mixed: Vec<f32> = pairing.mix(&y).unwrap().try_into().unwrap();
        assert_eq!(mixed, [0.75, 0.0]);
        assert_eq!(pairing.mix(&x.view([2, 1, 1, 2])).unwrap().kind(), Kind::Float);
    }

    #[test]
    fn without_alpha_nothing_is_drawn() {
        assert_eq!(Mixup { alpha: None }.draw(4, &mut ChaCha8Rng::seed_from_u64(0)), None);
    }
}
