//! What a set of weights answers to a list of images.

use std::ops::ControlFlow;

use tch::{Device, Kind, TchError, Tensor};

use super::data::Images;
use super::error::TrainError;
use super::metrics::Confusion;
use crate::augment::network_input;
use crate::nn::{Mode, Network, Weights};

/// Images in one forward pass of an evaluation.
const BATCH: usize = 128;

/// Answers to labelled images.
#[derive(Debug)]
pub struct Evaluation {
    /// Logits of each image.
    pub logits: Vec<Vec<f32>>,
    /// Answered class of each image.
    pub answers: Vec<usize>,
    /// True and answered classes, counted.
    pub confusion: Confusion,
    /// Mean cross-entropy at temperature 1, nats.
    pub loss: f64,
}

/// Runs `network` in evaluation mode over the rows `indices`, whose true classes are `labels`. `progress` hears before
/// each batch how many images are done, and may end it.
///
/// # Errors
/// [`TrainError::Stopped`] where `progress` ended it; libtorch's.
pub fn evaluate(
    network: &dyn Network,
    weights: &Weights,
    images: &Images,
    (indices, labels): (&[u32], &[usize]),
    classes: usize,
    progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Evaluation, TrainError> {
    let (mut all_logits, mut answers) = (Vec::with_capacity(indices.len()), Vec::with_capacity(indices.len()));
    let mut loss = 0.0;
    batches(network, weights, images, indices, progress, &mut |logits| {
        let log_probabilities = logits.f_log_softmax(-1, Kind::Float)?;
        let most = Vec::<i64>::try_from(log_probabilities.f_argmax(1, false)?)?;
        let truth: Vec<i64> = labels[answers.len()..][..most.len()].iter().map(|&class| class as i64).collect();
        let truth = Tensor::from_slice(&truth).f_to_device(logits.device())?.f_view([-1, 1])?;
        loss -= log_probabilities.f_gather(1, &truth, false)?.f_sum(Kind::Double)?.f_double_value(&[])?;
        all_logits.extend(Vec::<Vec<f32>>::try_from(logits.f_to_device(Device::Cpu)?)?);
        answers.extend(most.into_iter().map(|class| class as usize));
        Ok(())
    })?;
    let confusion = Confusion::new(classes, labels, &answers);
    Ok(Evaluation { logits: all_logits, answers, confusion, loss: loss / indices.len().max(1) as f64 })
}

/// The logits of the rows `indices`, whatever their classes are; `progress` as in [`evaluate`].
///
/// # Errors
/// [`TrainError::Stopped`] where `progress` ended it; libtorch's.
pub fn logits(
    network: &dyn Network,
    weights: &Weights,
    images: &Images,
    indices: &[u32],
    progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Vec<Vec<f32>>, TrainError> {
    let mut all = Vec::with_capacity(indices.len());
    batches(network, weights, images, indices, progress, &mut |logits| {
        all.extend(Vec::<Vec<f32>>::try_from(logits.f_to_device(Device::Cpu)?)?);
        Ok(())
    })?;
    Ok(all)
}

/// Gives `each` the logits `[B, C]` of one batch after the other.
fn batches(
    network: &dyn Network,
    weights: &Weights,
    images: &Images,
    indices: &[u32],
    progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    each: &mut dyn FnMut(&Tensor) -> Result<(), TchError>,
) -> Result<(), TrainError> {
    let _no_grad = tch::no_grad_guard();
    // On a CPU by the engine that will serve it, which is also the faster one.
    let folded = match weights.flat().device() {
        Device::Cpu if !indices.is_empty() => Some(network.fold(weights, images.side())?),
        _ => None,
    };
    for (at, rows) in indices.chunks(BATCH).enumerate() {
        if progress(at * BATCH).is_break() {
            return Err(TrainError::Stopped);
        }
        let input = network_input(&images.gather(rows)?)?;
        let logits = match &folded {
            Some(folded) => folded.forward(&input)?,
            None => network.forward(weights, &input, Mode::Eval)?,
        };
        each(&logits)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::learner::build_network;
    use super::super::resume_tests::{anchored, data_set, lean, prepared};
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn images_of_every_batch_are_held_against_their_own_classes() {
        let directory = tempfile::tempdir().unwrap();
        let (dataset, config) = (data_set(directory.path()), anchored());
        let setting = prepared(&dataset, &config);
        let network = build_network(&config, 2, Kind::Float).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let weights = Weights::initialise(network.layout(), Device::Cpu, &mut rng).unwrap();
        lean(&weights, 0, 20.0);
        // The same 60 pictures again and again; those of the first batch are of the class that is answered, all others are not.
        let rows: Vec<u32> = (0..150).map(|at| at % 60).collect();
        let labels: Vec<usize> = (0..150).map(|at| usize::from(at >= BATCH)).collect();
        let mut done = Vec::new();
        let mut progress = |images: usize| -> ControlFlow<()> {
            done.push(images);
            ControlFlow::Continue(())
        };
        let asked = (rows.as_slice(), labels.as_slice());
        let found = evaluate(network.as_ref(), &weights, &setting.images, asked, 2, &mut progress).unwrap();
        assert_eq!(done, [0, 128]);
        assert_eq!(found.confusion.counts(), [vec![128_u64, 0], vec![22, 0]]);
        let surprise = |(row, &class): (&Vec<f32>, &usize)| {
            row.iter().map(|&logit| f64::from(logit - row[class]).exp()).sum::<f64>().ln()
        };
        let by_hand = found.logits.iter().zip(&labels).map(surprise).sum::<f64>() / 150.0;
        assert!(by_hand > 1.0 && (found.loss - by_hand).abs() < 1e-4, "{}, by hand {by_hand}", found.loss);
    }
}
