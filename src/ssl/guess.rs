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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
    fn a_temperature_of_one_changes_nothing_and_zeros_do_no_harm() {
        let p = Tensor::from_slice(&[0.0f32, 1.0, 0.25, 0.75]).view([2, 2]);
        assert!((sharpen(&p, 1.0).unwrap() - &p).abs().max().double_value(&[]) < 1e-6);
        assert!(sharpen(&p, 0.1).unwrap().isfinite().all().int64_value(&[]) == 1);
    }
}
