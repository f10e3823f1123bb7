//! The moving parts of a run: network, weights, their average, optimiser, algorithm, batches. One method
//! makes one step.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use super::checkpoint::{CheckpointError, Snapshot};
use super::config::{AlgorithmName, GuessFrom, Schedule, TrainConfig};
use super::data::{Images, Sampler, one_hot};
use super::error::TrainError;
use super::optimizer::{Adam, move_average, warmed_decay};
use super::replay::Replay;
use crate::augment::Augment;
use crate::dataset::Split;
use crate::nn::{self, Network, NnError, Weights};
use crate::ssl::algorithm::{Hyper, Kind as AlgorithmKind};
use crate::ssl::{self, Algorithm, Batch, DrawContext, StepContext, StepInputs, StepLosses, phase};

/// The state of a run between two steps.
pub struct Learner {
    /// The network.
    pub network: Box<dyn Network>,
    /// Its raw weights.
    pub weights: Weights,
    /// Their moving average: what is evaluated, chosen and published.
    pub average: Weights,
    /// The labelled images alone: the first steps of every run.
    warmup: Box<dyn Algorithm>,
    algorithm: Box<dyn Algorithm>,
    optimizer: Adam,
    augment: Augment,
    /// What guesses are made on, where that is not what is trained on.
    anchor: Option<Augment>,
    labelled: Sampler,
    unlabelled: Sampler,
    /// How the steps of the warm-up, and then of the algorithm, are made on a GPU.
    replay: Option<Replay>,
    rng: ChaCha8Rng,
    steps_done: u64,
}

/// What one step gave.
#[derive(Debug)]
pub struct Step {
    /// Its losses.
    pub losses: StepLosses,
    /// λ_U at this step; none without unlabelled images.
    pub lambda_u: Option<f64>,
    /// What whoever follows the run should know.
    pub note: Option<String>,
}

impl Learner {
    /// Everything at its start, decided by `config.seed`; `labels[row]` is the class of a labelled row, `prior` each
    /// class's share of the labelled images.
    ///
    /// # Errors
    /// An unknown network, or libtorch's.
    pub fn new(
        config: &TrainConfig,
        split: &Split,
        labels: &[Option<usize>],
        prior: &[f32],
        device: Device,
        compute: Kind,
    ) -> Result<Self, TrainError> {
        nn::device::search_convolutions(device);
        let network = build_network(config, prior.len(), compute)?;
        let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
        let mut weights = Weights::initialise(network.layout(), device, &mut rng)?;
        let mut average = Weights::zeros(network.layout(), device)?;
        average.copy_from(&weights)?;
        for set in [&mut weights, &mut average] {
            set.set_bn_momentum(config.bn_momentum);
            if config.backbone_learning_rate_factor == 0.0 {
                set.freeze_backbone();
            }
        }
        let hyper = hyper(config, prior);
        let kind = match config.algorithm {
            AlgorithmName::Mixmatch => AlgorithmKind::MixMatch,
            AlgorithmName::Supervised => AlgorithmKind::Supervised,
        };
        Ok(Self {
            optimizer: Adam::new(&weights, config.weight_decay, config.backbone_learning_rate_factor)?,
            network,
            weights,
            average,
            warmup: ssl::build(AlgorithmKind::Supervised, hyper.clone()),
            algorithm: ssl::build(kind, hyper),
            augment: config.augment(),
            anchor: config.anchor.then(|| config.augment().weak()),
            labelled: if config.class_balanced {
                Sampler::balanced(&split.labelled, labels, prior.len())
            } else {
                Sampler::new(&split.labelled)
            },
            unlabelled: Sampler::new(&split.unlabelled),
            replay: Replay::new(device),
            rng,
            steps_done: 0,
        })
    }

    /// Replaces the random start by the weights in `bytes`; gives the names of tensors that stay random.
    ///
    /// # Errors
    /// When they do not fit the network.
    pub fn start_from(&mut self, bytes: &[u8]) -> Result<Vec<String>, TrainError> {
        let new = nn::pretrained::start(self.network.as_ref(), &mut self.weights, bytes)?;
        self.average.copy_from(&self.weights)?;
        Ok(new)
    }

    /// Optimiser steps done.
    pub fn steps_done(&self) -> u64 {
        self.steps_done
    }

    /// Puts all of it into a checkpoint.
    ///
    /// # Errors
    /// See [`Snapshot::put`].
    pub fn save(&self, snapshot: &mut Snapshot) -> Result<(), CheckpointError> {
        snapshot.put("steps", &self.steps_done)?;
        for (name, weights) in [("weights", &self.weights), ("average", &self.average)] {
            save_weights(name, weights, snapshot);
        }
        self.optimizer.save(snapshot)?;
        self.labelled.save("labelled", snapshot)?;
        self.unlabelled.save("unlabelled", snapshot)?;
        for (name, tensor) in self.algorithm.state() {
            snapshot.put_tensor(&format!("algorithm.{name}"), tensor);
        }
        save_rng(&self.rng, snapshot)
    }

    /// Takes all of it out again; `self` is the learner as it was at the run's start.
    ///
    /// # Errors
    /// [`CheckpointError::Unfit`]; `self` is of no use then.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<(), CheckpointError> {
        self.steps_done = snapshot.get("steps")?;
        for (name, weights) in [("weights", &self.weights), ("average", &self.average)] {
            restore_weights(name, weights, snapshot)?;
        }
        self.optimizer.restore(snapshot)?;
        self.labelled.restore("labelled", snapshot)?;
        self.unlabelled.restore("unlabelled", snapshot)?;
        for (name, tensor) in self.algorithm.state() {
            snapshot.fill(&format!("algorithm.{name}"), tensor)?;
        }
        self.rng = restore_rng(snapshot)?;
        Ok(())
    }

    /// One optimiser step on fresh batches; `labels[row]` is the class of a labelled row.
    ///
    /// # Errors
    /// libtorch's.
    pub fn step(
        &mut self,
        config: &TrainConfig,
        images: &Images,
        labels: &[Option<usize>],
        classes: usize,
    ) -> Result<Step, TrainError> {
        let gathering = phase::gather().entered();
        let count = config.batch as usize;
        let rows = self.labelled.take(count, &mut self.rng);
        // The sampler walks over labelled rows only, so that each has a class.
        let truth: Vec<usize> = rows.iter().filter_map(|&row| labels[row as usize]).collect();
        let device = self.weights.flat().device();
        let warming = self.steps_done < config.warmup_steps();
        let algorithm = if warming { &mut self.warmup } else { &mut self.algorithm };
        if self.steps_done == config.warmup_steps()
            && let Some(replay) = &mut self.replay
        {
            // Other operations from here on; the memory of the warm-up's is wanted for them.
            replay.begin_anew();
        }
        let unlabelled = if algorithm.needs_unlabelled() {
            Some(images.gather(&self.unlabelled.take(count, &mut self.rng))?)
        } else {
            None
        };
        let batch = Batch { labelled: images.gather(&rows)?, targets: one_hot(&truth, classes, device)?, unlabelled };
        drop(gathering);
        let context = DrawContext {
            augment: &self.augment,
            anchor: self.anchor.as_ref(),
            rng: &mut self.rng,
            progress: progress(config, self.steps_done),
        };
        let inputs = algorithm.draw(context, &batch)?;
        let lambda_u = inputs.unlabelled.as_ref().map(|half| half.lambda_u_value);
        let rate = learning_rate(config, self.steps_done);
        self.steps_done += 1;
        let rates = self.optimizer.next(rate, warmed_decay(config.ema_decay, self.steps_done)).on(device)?;

        let (network, optimizer) = (self.network.as_ref(), &mut self.optimizer);
        let (weights, average) = (&mut self.weights, &mut self.average);
        let mut compute = |inputs: &StepInputs, rates: &Tensor| -> Result<StepLosses, NnError> {
            let teacher = if config.guess_from == GuessFrom::Ema { &*average } else { &*weights };
            let mut losses = algorithm.losses(StepContext { network, weights, teacher }, inputs)?;
            if crate::failpoint::pass("train.loss").is_err() {
                losses.total = losses.total.f_mul_scalar(f64::NAN)?;
            }
            let gradient = phase::backward().in_scope(|| weights.gradient(&losses.total))?;
            losses.total = losses.total.f_detach()?;
            let _phase = phase::optimise().entered();
            optimizer.step(weights, &gradient, rates)?;
            move_average(average, weights, rates)?;
            Ok(losses)
        };
        let (losses, note) = match &mut self.replay {
            Some(replay) => phase::compute().in_scope(|| replay.step(inputs, rates, &mut compute))?,
            None => (compute(&inputs, &rates)?, None),
        };
        Ok(Step { losses, lambda_u, note })
    }
}

/// Puts into a checkpoint where a generator stands, exactly: seed, stream and word position, which is 68 bits long and
/// therefore text.
pub fn save_rng(rng: &ChaCha8Rng, snapshot: &mut Snapshot) -> Result<(), CheckpointError> {
    snapshot.put("rng.seed", &rng.get_seed())?;
    snapshot.put("rng.stream", &rng.get_stream())?;
    snapshot.put("rng.word", &rng.get_word_pos().to_string())
}

/// Takes it out again.
///
/// # Errors
/// [`CheckpointError::Unfit`].
pub fn restore_rng(snapshot: &Snapshot) -> Result<ChaCha8Rng, CheckpointError> {
    let word: String = snapshot.get("rng.word")?;
    let mut rng = ChaCha8Rng::from_seed(snapshot.get("rng.seed")?);
    rng.set_stream(snapshot.get("rng.stream")?);
    rng.set_word_pos(word.parse().map_err(|_| CheckpointError::Unfit(format!("rng.word is {word:?}")))?);
    Ok(rng)
}

/// Puts parameters and BatchNorm's statistics into a checkpoint.
pub fn save_weights(name: &str, weights: &Weights, snapshot: &mut Snapshot) {
    snapshot.put_tensor(&format!("{name}.flat"), weights.flat());
    snapshot.put_tensor(&format!("{name}.statistics"), weights.statistics());
}

/// Takes them out again.
///
/// # Errors
/// [`CheckpointError::Unfit`] for another network's.
pub fn restore_weights(name: &str, weights: &Weights, snapshot: &Snapshot) -> Result<(), CheckpointError> {
    snapshot.fill(&format!("{name}.flat"), weights.flat())?;
    snapshot.fill(&format!("{name}.statistics"), weights.statistics())
}

/// What of a configuration its algorithm reads; `prior` is each class's share of the labelled images.
fn hyper(config: &TrainConfig, prior: &[f32]) -> Hyper {
    Hyper {
        alpha: config.mixup.then_some(config.alpha),
        k: config.k as usize,
        temperature: config.temperature,
        lambda_u: config.lambda_u,
        ramp: config.ramp,
        prior: config.align.then(|| prior.to_vec()),
    }
}

/// The network of a run.
///
/// # Errors
/// When there is none of that name or with that head.
pub fn build_network(config: &TrainConfig, classes: usize, compute: Kind) -> Result<Box<dyn Network>, TrainError> {
    Ok(nn::build(&config.network, config.head, classes, compute)?)
}

/// Share of the steps after the warm-up that is done, 0 to 1.
fn progress(config: &TrainConfig, done: u64) -> f64 {
    let warmup = config.warmup_steps();
    done.saturating_sub(warmup) as f64 / (config.steps() - warmup).max(1) as f64
}

/// The learning rate when `done` steps are done.
pub fn learning_rate(config: &TrainConfig, done: u64) -> f64 {
    match config.schedule {
        Schedule::Constant => config.learning_rate,
        Schedule::Cosine => config.learning_rate * 0.5 * (1.0 + (progress(config, done) * std::f64::consts::PI).cos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cosine_schedule_begins_after_the_warm_up_and_ends_at_nothing() {
        let config = TrainConfig {
            schedule: Schedule::Cosine,
            learning_rate: 1.0,
            warmup: 0.2,
            epochs: 10,
            steps_per_epoch: 10,
            ..TrainConfig::default()
        };
        assert_eq!(learning_rate(&config, 0), 1.0);
        assert_eq!(learning_rate(&config, 20), 1.0);
        assert!((learning_rate(&config, 60) - 0.5).abs() < 1e-12);
        assert!(learning_rate(&config, 100).abs() < 1e-12);
    }

    #[test]
    fn every_hyper_parameter_reaches_the_algorithm() {
        let config = TrainConfig {
            mixup: true,
            alpha: 0.6,
            k: 3,
            temperature: 0.4,
            lambda_u: 7.0,
            ramp: 0.3,
            align: true,
            ..TrainConfig::default()
        };
        let prior = vec![0.7, 0.3];
        let expected =
            Hyper { alpha: Some(0.6), k: 3, temperature: 0.4, lambda_u: 7.0, ramp: 0.3, prior: Some(prior.clone()) };
        assert_eq!(hyper(&config, &prior), expected);
        let config = TrainConfig { mixup: false, align: false, ..config };
        assert_eq!(hyper(&config, &prior), Hyper { alpha: None, prior: None, ..expected });
    }
}
