//! Contrastive learning without labels: SimCLR (Chen et al. 2020, arXiv 2002.05709).

use tch::{Kind, Reduction, TchError, Tensor};

/// Added to the similarity of a view with itself, which is no candidate: e to the power of it is 0 in float32.
const NEVER: f64 = -1e9;

/// NT-Xent (paper §2.1, equation 1): the mean over all 2·B views of the cross-entropy of finding the image's other view among the
/// 2·B − 1 others by the cosine similarity of their projections divided by `temperature`; nats.
///
/// `projections` `[2·B, D]`: rows b and B + b are the two views of image b.
///
/// # Errors
/// libtorch's, for example for an odd number of rows.
pub fn nt_xent(projections: &Tensor, temperature: f64) -> Result<Tensor, TchError> {
    let (views, device) = (projections.size2()?.0, projections.device());
    let z = projections.f_to_kind(Kind::Float)?;
    // Clamped before the root, whose slope at 0 is infinite: a projection of nothing has no direction and no gradient.
    let square = z.f_square()?.f_sum_dim_intlist([-1i64].as_slice(), true, Kind::Float)?;
    let z = z.f_div(&square.f_clamp_min(1e-16)?.f_sqrt()?)?;
    let itself = Tensor::f_eye(views, (Kind::Float, device))?.f_mul_scalar(NEVER)?;
    let similarities = z.f_matmul(&z.f_tr()?)?.f_div_scalar(temperature)?.f_add(&itself)?;
    let other = Tensor::f_arange(views, (Kind::Int64, device))?.f_roll([views / 2], [0])?;
    similarities.f_cross_entropy_loss::<Tensor>(&other, None, Reduction::Mean, -100, 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn the_loss_is_the_formula_written_out() {
        let rows = [[0.9f64, 0.1, -0.3], [-0.2, 0.8, 0.4], [0.7, 0.3, -0.1], [-0.5, 0.6, 0.2]];
        let cosine = |a: &[f64; 3], b: &[f64; 3]| {
            let dot = |a: &[f64; 3], b: &[f64; 3]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
        };
        let loss = |view: usize| {
            let power = |other: usize| (cosine(&rows[view], &rows[other]) / 0.5).exp();
            let all: f64 = (0..4).filter(|&other| other != view).map(power).sum();
            -(power((view + 2) % 4) / all).ln()
        };
        let expected = (0..4).map(loss).sum::<f64>() / 4.0;
        let flat: Vec<f32> = rows.iter().flatten().map(|&value| value as f32).collect();
        let found = nt_xent(&Tensor::from_slice(&flat).view([4, 3]), 0.5).unwrap().double_value(&[]);
        assert!((found - expected).abs() < 1e-5, "{found}, expected is {expected}");
    }

    #[test]
    fn views_that_agree_cost_less_and_their_length_nothing() {
        let pairs = Tensor::from_slice(&[1.0f32, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0]).view([4, 2]);
        let crossed = Tensor::from_slice(&[1.0f32, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0]).view([4, 2]);
        let loss = |rows: &Tensor| nt_xent(rows, 0.2).unwrap().double_value(&[]);
        assert!(loss(&pairs) < 0.02 && loss(&crossed) > 4.0, "{} {}", loss(&pairs), loss(&crossed));
        assert!((loss(&pairs) - loss(&(&pairs * 7.0))).abs() < 1e-5);
    }

    #[test]
    fn projections_of_nothing_have_a_loss_and_no_gradient() {
        let nothing = Tensor::zeros([4, 2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let loss = nt_xent(&nothing, 0.2).unwrap();
        let gradient = Tensor::run_backward(&[&loss], &[&nothing], false, false).remove(0);
        assert!((loss.double_value(&[]) - 3f64.ln()).abs() < 1e-5, "three others look alike");
        assert_eq!(gradient.isfinite().all().int64_value(&[]), 1);
    }
}
