//! Label guessing and sharpening (paper §3.2).

use tch::{Kind, TchError, Tensor};

/// q̄ = (1/K) Σ_k softmax(logits_k): logits `[K·B, C]`, view by view, to probabilities `[B, C]`.
///
/// # Errors
/// libtorch's, for example when the rows are no multiple of `k`.
pub fn average_views(logits: &Tensor, k: usize) -> Result<Tensor, TchError> {
    let classes = logits.size2()?.1;
    let probabilities = logits.f_softmax(-1, Kind::Float)?.f_view([k as i64, -1, classes])?;
    probabilities.f_mean_dim([0i64].as_slice(), false, Kind::Float)
}

/// q_c = q̄_c^(1/T) / Σ_j q̄_j^(1/T), over the classes (the last dimension): `[B, C]` → `[B, C]`.
///
/// Written as softmax(log q̄ / T), which is the same and does not lose small probabilities.
///
/// # Errors
/// libtorch's.
pub fn sharpen(probabilities: &Tensor, temperature: f64) -> Result<Tensor, TchError> {
    let log = probabilities.f_clamp_min(f64::from(f32::MIN_POSITIVE))?.f_log()?;
    log.f_div_scalar(temperature)?.f_softmax(-1, Kind::Float)
}

/// Distribution alignment (ReMixMatch §3.1, arXiv 1911.09785): q̄ · prior / running mean of q̄, normalised.
#[derive(Debug)]
pub struct Alignment {
    prior: Tensor,
    /// Running mean of the guesses, `[C]`; starts at the prior.
    running: Tensor,
}

impl Alignment {
    /// Aligns to `prior`, one share a class.
    pub fn new(prior: Vec<f32>) -> Self {
        let prior = Tensor::from_slice(&prior);
        Self { running: prior.copy(), prior }
    }

    /// The running mean of the guesses, `[C]`; writing to it moves the alignment.
    pub fn running(&self) -> &Tensor {
        &self.running
    }

    /// Share of the old value in the running mean after a batch: 20 batches are remembered, and the more the more classes there
    /// are beyond ten, since a batch then holds few of each.
    fn decay(&self) -> f64 {
        1.0 - 0.5 / (self.prior.numel() as f64).max(10.0)
    }

    /// Guesses `[B, C]`, whose mean over the batch is `mean` `[C]`, → aligned guesses `[B, C]`; the running mean takes that in.
    ///
    /// # Errors
    /// libtorch's.
    pub fn apply(&mut self, guesses: &Tensor, mean: &Tensor) -> Result<Tensor, TchError> {
        let device = guesses.device();
        if self.prior.device() != device {
            self.prior = self.prior.f_to_device(device)?;
            self.running = self.running.f_to_device(device)?;
        }
        let decay = self.decay();
        let _ = self.running.f_lerp_(mean, 1.0 - decay)?;
        // A class that is never guessed must not divide by nothing: a hundredth of a tenth, or of its share of many classes.
        let least = (0.01 / self.prior.numel() as f64).min(1e-3);
        let scale = self.prior.f_div(&self.running.f_clamp_min(least)?)?;
        let scaled = guesses.f_mul(&scale)?;
        scaled.f_div(&scaled.f_sum_dim_intlist([-1i64].as_slice(), true, Kind::Float)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tch::Device;

    fn mean(guesses: &Tensor) -> Tensor {
        guesses.mean_dim([0i64].as_slice(), false, Kind::Float)
    }

    fn rows() -> impl Strategy<Value = Vec<f32>> {
        prop::collection::vec(0.001f32..1.0, 4 * 5)
    }

    proptest! {
        #[test]
        fn sharpening_keeps_a_distribution_and_its_argmax(values in rows(), temperature in 0.1f64..1.0) {
            let p = Tensor::from_slice(&values).view([4, 5]);
            let p = &p / p.sum_dim_intlist([1i64].as_slice(), true, Kind::Float);
            let q = sharpen(&p, temperature).unwrap();
            let sums: Vec<f32> = q.sum_dim_intlist([1i64].as_slice(), false, Kind::Float).try_into().unwrap();
            for sum in sums {
                prop_assert!((sum - 1.0).abs() < 1e-5);
            }
            prop_assert_eq!(q.argmax(1, false), p.argmax(1, false));
            let (sharper, before) = (q.amax([1i64].as_slice(), false), p.amax([1i64].as_slice(), false));
            prop_assert!((sharper - before).min().double_value(&[]) > -1e-5, "the largest may only grow");
        }
    }

    #[test]
    fn sharpening_is_over_the_classes_not_over_the_batch() {
        // One row alone and the same row beside another must give the same answer.
        let alone = sharpen(&Tensor::from_slice(&[0.6f32, 0.4]).view([1, 2]), 0.5).unwrap();
        let beside = sharpen(&Tensor::from_slice(&[0.6f32, 0.4, 0.1, 0.9]).view([2, 2]), 0.5).unwrap();
        assert_eq!(alone.get(0), beside.get(0));
        assert!((alone.double_value(&[0, 0]) - 0.36 / 0.52).abs() < 1e-6);
    }

    #[test]
    fn alignment_brings_lopsided_guesses_to_the_prior() {
        let mut alignment = Alignment::new(vec![0.5, 0.5]);
        let lopsided = Tensor::from_slice(&[0.9f32, 0.1, 0.7, 0.3]).view([2, 2]);
        let mut aligned = alignment.apply(&lopsided, &mean(&lopsided)).unwrap();
        for _ in 0..200 {
            aligned = alignment.apply(&lopsided, &mean(&lopsided)).unwrap();
        }
        let shares: Vec<f32> = aligned.mean_dim([0i64].as_slice(), false, Kind::Float).try_into().unwrap();
        assert!((shares[0] - 0.5).abs() < 0.05, "{shares:?}");
        let sums: Vec<f32> = aligned.sum_dim_intlist([1i64].as_slice(), false, Kind::Float).try_into().unwrap();
        assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-6));
    }

    #[test]
    fn one_sure_guess_of_a_thousand_classes_does_not_count_against_its_class() {
        let mut alignment = Alignment::new(vec![1e-3; 1000]);
        let mut sure = vec![0.0f32; 16_000];
        // Sixteen images of sixteen classes: what they are is known to .9.
        for (image, row) in sure.chunks_mut(1000).enumerate() {
            row.fill(1e-4);
            row[image * 50] = 0.9001;
        }
        let sure = Tensor::from_slice(&sure).view([16, 1000]);
        let aligned = alignment.apply(&sure, &mean(&sure)).unwrap();
        let own = aligned.double_value(&[3, 150]);
        assert!(own > 0.85, "a batch in which a class is met weighs it down to {own}");
    }

    #[test]
    fn twenty_batches_are_remembered_and_the_more_the_more_classes_there_are_beyond_ten() {
        // All of a batch is guessed to be of the first class.
        for (classes, expected) in [(2, 0.525), (10, 0.145), (100, 0.014_95)] {
            let mut alignment = Alignment::new(vec![1.0 / classes as f32; classes]);
            let mut first = vec![0f32; classes];
            first[0] = 1.0;
            let guesses = Tensor::from_slice(&first).view([1, classes as i64]);
            let _ = alignment.apply(&guesses, &mean(&guesses)).unwrap();
            let running = alignment.running().double_value(&[0]);
            assert!((running - expected).abs() < 1e-6, "{classes} classes: {running}");
        }
    }

    #[test]
    fn a_class_that_is_guessed_too_seldom_is_aligned_up_among_however_many() {
        for classes in [10, 1000] {
            let due = 1.0 / classes as f32;
            let mut alignment = Alignment::new(vec![due; classes]);
            // The first is guessed a tenth as often as it should, the third never.
            let mut guessed = vec![due; classes];
            (guessed[0], guessed[2]) = (due / 10.0, 0.0);
            let guessed = Tensor::from_slice(&guessed);
            alignment.running().shallow_clone().copy_(&guessed);
            let unsure = Tensor::full([1, classes as i64], f64::from(due), (Kind::Float, Device::Cpu));
            let aligned = alignment.apply(&unsure, &guessed).unwrap();
            let raised = |class: i64| aligned.double_value(&[0, class]) / aligned.double_value(&[0, 1]);
            let found = [raised(0), raised(2)];
            assert!((found[0] - 10.0).abs() < 1e-3 && (found[1] - 100.0).abs() < 1e-2, "{classes} classes: {found:?}");
        }
    }

    #[test]
    fn a_temperature_of_one_changes_nothing_and_zeros_do_no_harm() {
        let p = Tensor::from_slice(&[0.0f32, 1.0, 0.25, 0.75]).view([2, 2]);
        assert!((sharpen(&p, 1.0).unwrap() - &p).abs().max().double_value(&[]) < 1e-6);
        assert!(sharpen(&p, 0.1).unwrap().isfinite().all().int64_value(&[]) == 1);
    }
}
