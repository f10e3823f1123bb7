//! Sums over an epoch, and the progress events between.
//!
//! The sums stay on the device: reading a loss waits for every step before it, so it happens once a second
//! and not at every step. They are float64: in float32 a mean over a million steps is off by most of a percent.

use std::time::{Duration, Instant};

use tch::{Device, Kind, TchError, Tensor};

use super::checkpoint::{CheckpointError, Snapshot};
use super::config::{AlgorithmName, TrainConfig};
use super::error::{TrainError, guesses_count};
use super::event::StepProgress;
use super::learner::Step;
use crate::nn::NnError;

/// How often a run says where it stands.
pub(super) const REPORT_EVERY: Duration = Duration::from_secs(1);

/// What the sums are called in a checkpoint.
const SUMS: [&str; 6] =
    ["sums.total", "sums.labelled", "sums.unlabelled", "sums.guesses", "sums.confidence", "sums.said"];

/// Running sums of one epoch.
#[derive(Debug)]
pub struct EpochSums {
    steps: u32,
    /// Steps that guessed labels: fewer than `steps` in the epoch in which a warm-up ends.
    guessed: u32,
    total: Option<Tensor>,
    labelled: Option<Tensor>,
    unlabelled: Option<Tensor>,
    guesses: Option<Tensor>,
    confidence: Option<Tensor>,
    said: Option<Tensor>,
    /// Steps in `said`: fewer than `guessed` where an earlier version, which had none, began the epoch.
    said_steps: u32,
    /// λ_U at the last step.
    pub lambda_u: Option<f64>,
}

impl EpochSums {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            steps: 0,
            guessed: 0,
            total: None,
            labelled: None,
            unlabelled: None,
            guesses: None,
            confidence: None,
            said: None,
            said_steps: 0,
            lambda_u: None,
        }
    }

    /// Adds a step.
    ///
    /// # Errors
    /// libtorch's.
    pub fn add(&mut self, step: &Step) -> Result<(), NnError> {
        let _no_grad = tch::no_grad_guard();
        let losses = &step.losses;
        self.steps += 1;
        accumulate(&mut self.total, losses.total.f_detach()?)?;
        accumulate(&mut self.labelled, losses.labelled.shallow_clone())?;
        if let Some(unlabelled) = &losses.unlabelled {
            self.guessed += 1;
            accumulate(&mut self.unlabelled, unlabelled.loss.shallow_clone())?;
            accumulate(&mut self.guesses, unlabelled.guesses.f_mean_dim([0i64].as_slice(), false, None)?)?;
            accumulate(&mut self.confidence, unlabelled.guesses.f_amax([1i64].as_slice(), false)?.f_mean(None)?)?;
            accumulate(&mut self.said, unlabelled.said.shallow_clone())?;
            self.said_steps += 1;
            self.lambda_u = step.lambda_u;
        }
        Ok(())
    }

    /// Steps so far.
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// Puts the sums into a checkpoint.
    ///
    /// # Errors
    /// See [`Snapshot::put`].
    pub fn save(&self, snapshot: &mut Snapshot) -> Result<(), CheckpointError> {
        let sums = [&self.total, &self.labelled, &self.unlabelled, &self.guesses, &self.confidence, &self.said];
        for (name, sum) in SUMS.iter().zip(sums) {
            if let Some(sum) = sum {
                snapshot.put_tensor(name, sum);
            }
        }
        snapshot.put("sums.steps", &self.steps)?;
        snapshot.put("sums.guessed", &self.guessed)?;
        snapshot.put("sums.said_steps", &self.said_steps)?;
        snapshot.put("sums.lambda_u", &self.lambda_u)
    }

    /// Takes them out again, onto `device`.
    ///
    /// # Errors
    /// [`CheckpointError::Unfit`].
    pub fn restore(snapshot: &Snapshot, device: Device) -> Result<Self, CheckpointError> {
        // Sums that were not begun were not put in.
        let mut sums = SUMS.iter().map(|name| snapshot.tensor(name).ok().map(|sum| sum_of(sum, device)).transpose());
        let mut next = || sums.next().unwrap_or(Ok(None));
        Ok(Self {
            total: next()?,
            labelled: next()?,
            unlabelled: next()?,
            guesses: next()?,
            confidence: next()?,
            said: next()?,
            said_steps: snapshot.get("sums.said_steps").unwrap_or_default(),
            steps: snapshot.get("sums.steps")?,
            // Absent from what an earlier version wrote.
            guessed: snapshot.get("sums.guessed").or_else(|_| snapshot.get("sums.steps"))?,
            lambda_u: snapshot.get("sums.lambda_u")?,
        })
    }

    /// Mean total loss so far.
    pub fn loss(&self) -> Result<f64, NnError> {
        Ok(mean(self.total.as_ref(), self.steps)?.unwrap_or(f64::NAN))
    }

    /// Mean labelled loss so far.
    pub fn labelled(&self) -> Result<f64, NnError> {
        Ok(mean(self.labelled.as_ref(), self.steps)?.unwrap_or(f64::NAN))
    }

    /// Mean unlabelled loss so far.
    pub fn unlabelled(&self) -> Result<Option<f64>, NnError> {
        mean(self.unlabelled.as_ref(), self.guessed)
    }

    /// Mean largest probability of the guesses so far.
    pub fn confidence(&self) -> Result<Option<f64>, NnError> {
        mean(self.confidence.as_ref(), self.guessed)
    }

    /// Mean guessed probability per class so far.
    pub fn guess_classes(&self) -> Result<Vec<f64>, NnError> {
        means(self.guesses.as_ref(), self.guessed)
    }

    /// Mean probability per class that the network itself gives the unlabelled images, so far.
    pub fn unlabelled_classes(&self) -> Result<Vec<f64>, NnError> {
        means(self.said.as_ref(), self.said_steps)
    }
}

fn means(sum: Option<&Tensor>, steps: u32) -> Result<Vec<f64>, NnError> {
    let Some(sum) = sum else { return Ok(Vec::new()) };
    let sums = Vec::<f64>::try_from(sum)?;
    Ok(sums.into_iter().map(|sum| sum / f64::from(steps)).collect())
}

fn mean(sum: Option<&Tensor>, steps: u32) -> Result<Option<f64>, NnError> {
    sum.map(|sum| Ok(sum.f_double_value(&[])? / f64::from(steps))).transpose()
}

/// A sum as a checkpoint has it: a float64, or the float32 of an earlier version.
fn sum_of(stored: &Tensor, device: Device) -> Result<Tensor, TchError> {
    stored.f_to_kind(Kind::Double)?.f_to_device(device)
}

/// Adds `value` to `sum` in float64, on the device.
///
/// # Errors
/// libtorch's.
pub(super) fn accumulate(sum: &mut Option<Tensor>, value: Tensor) -> Result<(), NnError> {
    *sum = Some(match sum.take() {
        Some(mut sum) => sum.f_add_(&value)?,
        // A copy in any case: the value may be part of the step's graph or a view that later steps overwrite.
        None => value.f_to_dtype(Kind::Double, false, true)?,
    });
    Ok(())
}

/// When to speak, and how fast the run goes.
#[derive(Debug)]
pub struct Pace {
    epochs: u32,
    steps: u64,
    steps_per_epoch: u64,
    batch: f64,
    /// Steps on the labelled images alone, and what each after them costs in such steps.
    warmup: u64,
    guessing: f64,
    /// What the end of an epoch took last, its evaluations above all: nothing until one has ended.
    epoch_end: Duration,
    last: Instant,
    /// Time spent in steps (not in evaluations) since the last report, and how many they were.
    training: Duration,
    recent: u64,
    done: u64,
    /// Whether the run started from imported weights.
    imported: bool,
}

impl Pace {
    /// The pace of a run that starts now, with `done` steps behind it.
    pub fn new(config: &TrainConfig, done: u64) -> Self {
        Self {
            epochs: config.epochs,
            steps: config.steps(),
            steps_per_epoch: u64::from(config.steps_per_epoch.max(1)),
            batch: f64::from(config.batch),
            warmup: config.warmup_steps(),
            guessing: guessing_cost(config),
            epoch_end: Duration::ZERO,
            last: Instant::now(),
            training: Duration::ZERO,
            recent: 0,
            done,
            imported: config.pretrained.is_some(),
        }
    }

    /// Notes a step that began `at` that time; gives a report when one is due, and waits then for what a GPU has still to do: such
    /// steps, the last one of each epoch among them, take the time that those before them left to it.
    ///
    /// # Errors
    /// [`TrainError::Diverged`] when the loss is no number any more.
    pub fn step(&mut self, at: Instant, epoch: u32, sums: &EpochSums) -> Result<Option<StepProgress>, TrainError> {
        self.recent += 1;
        self.done += 1;
        // An epoch's last step is always told: whoever reads the job between two epochs sees where it stands.
        let ends_epoch = self.done.is_multiple_of(self.steps_per_epoch);
        if self.last.elapsed() < REPORT_EVERY && !ends_epoch {
            self.training += at.elapsed();
            return Ok(None);
        }
        let loss = self.finite(sums.loss()?, sums.lambda_u)?;
        self.training += at.elapsed();
        // Since the last report alone: steps of the warm-up are cheaper than those after it.
        let seconds = self.training.as_secs_f64().max(1e-9);
        let rate = self.recent as f64 / seconds;
        let left = self.cost(self.done, self.steps) / self.cost(self.done - self.recent, self.done);
        // The last step has all ends of epochs before it but that of its own.
        let ends = self.epoch_end.as_secs_f64() * f64::from(self.epochs.saturating_sub(epoch));
        (self.last, self.training, self.recent) = (Instant::now(), Duration::ZERO, 0);
        Ok(Some(StepProgress {
            epoch,
            epochs: self.epochs,
            step: self.done,
            steps: self.steps,
            loss,
            images_per_second: rate * self.batch,
            eta_seconds: seconds * left + ends,
        }))
    }

    /// Notes what an epoch's end took, which the others will take too. The next report is due when it would be without that time: else it
    /// told the rate of a single step.
    pub fn epoch_ended(&mut self, took: Duration) {
        (self.epoch_end, self.last) = (took, Instant::now());
    }

    /// Optimiser steps done.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// `loss`, unless it is no number; λ_U is that of the epoch's last step.
    ///
    /// # Errors
    /// [`TrainError::Diverged`].
    pub fn finite(&self, loss: f64, lambda_u: Option<f64>) -> Result<f64, TrainError> {
        let advice = match (guesses_count(lambda_u), self.imported) {
            (false, false) => "lower learning_rate",
            (false, true) => "lower learning_rate, or start from other weights",
            (true, false) => "lower learning_rate or lambda_u",
            (true, true) => "lower learning_rate or lambda_u, or start from other weights",
        };
        finite(loss, TrainError::Diverged { step: self.done, stage: "training", loss, advice })
    }

    /// What the steps behind the first `from`, up to the first `to`, cost together, in steps on the labelled images alone.
    fn cost(&self, from: u64, to: u64) -> f64 {
        let guessing = to.saturating_sub(from.max(self.warmup));
        let warming = to.saturating_sub(from) - guessing;
        warming as f64 + guessing as f64 * self.guessing
    }
}

/// What a step that guesses labels costs in steps on the labelled images alone, by the images that pass through the network: K times as
/// many more there and back, the way back at twice the cost, and K times as many there once more for the guesses. 2.3 with K = 1, where
/// 1.9 was measured on a GPU (docs/benchmarks.md).
fn guessing_cost(config: &TrainConfig) -> f64 {
    if config.algorithm == AlgorithmName::Supervised {
        return 1.0;
    }
    // Through a frozen backbone no way leads back.
    let back = if config.backbone_learning_rate_factor == 0.0 { 0.0 } else { 2.0 };
    let k = f64::from(config.k);
    1.0 + k + k / (1.0 + back)
}

/// `loss` after so many steps of pretraining, unless it is no number. Of what sets the rate of training the factor of the
/// backbone alone holds there.
///
/// # Errors
/// [`TrainError::Diverged`].
pub fn finite_in_pretraining(loss: f64, step: u64) -> Result<f64, TrainError> {
    let advice =
        "start from other weights, lower backbone_learning_rate_factor, or leave pretraining out (pretrain_epochs 0)";
    finite(loss, TrainError::Diverged { step, stage: "pretraining", loss, advice })
}

fn finite(loss: f64, diverged: TrainError) -> Result<f64, TrainError> {
    if loss.is_finite() { Ok(loss) } else { Err(diverged) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssl::StepLosses;
    use crate::ssl::algorithm::UnlabelledLosses;

    #[test]
    fn figures_of_the_guesses_are_means_over_the_steps_that_guessed() {
        let number = |value: f64| Tensor::from(value).to_kind(Kind::Float);
        let step = |losses, lambda_u| Step { losses, lambda_u, note: None };
        let warm_up = step(StepLosses { total: number(1.0), labelled: number(1.0), unlabelled: None }, None);
        let guesses = Tensor::from_slice(&[0.9f32, 0.1, 0.3, 0.7]).view([2, 2]);
        let said = Tensor::from_slice(&[0.75f32, 0.25]);
        let unlabelled = Some(UnlabelledLosses { loss: number(0.2), guesses, said });
        let mixed = step(StepLosses { total: number(2.0), labelled: number(2.0), unlabelled }, Some(3.0));
        let mut sums = EpochSums::new();
        [&warm_up, &warm_up, &warm_up, &mixed].into_iter().for_each(|step| sums.add(step).unwrap());
        let mut snapshot = Snapshot::default();
        sums.save(&mut snapshot).unwrap();
        for sums in [sums, EpochSums::restore(&snapshot, Device::Cpu).unwrap()] {
            assert_eq!((sums.steps(), sums.loss().unwrap(), sums.labelled().unwrap()), (4, 1.25, 1.25));
            let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} is not {b}");
            assert_eq!(sums.lambda_u, Some(3.0));
            close(sums.unlabelled().unwrap().unwrap(), 0.2);
            close(sums.confidence().unwrap().unwrap(), 0.8);
            let shares = sums.guess_classes().unwrap();
            close(shares[0], 0.6);
            close(shares.iter().sum(), 1.0);
            assert_eq!(sums.unlabelled_classes().unwrap(), [0.75, 0.25]);
        }
    }

    #[test]
    fn a_loss_that_is_no_number_is_told_with_what_its_run_reads() {
        let told = |loss: Result<f64, TrainError>| loss.unwrap_err().to_string();
        let config = TrainConfig { pretrained: None, ..TrainConfig::default() };
        let pace = Pace::new(&config, 7);
        assert_eq!(pace.finite(0.5, None).unwrap(), 0.5);
        let plain = "the loss is NaN after step 7 of training; lower learning_rate";
        // A supervised run and a warm-up have no λ_U, and where a ramp begins it is 0.
        for lambda_u in [None, Some(0.0)] {
            assert_eq!(told(pace.finite(f64::NAN, lambda_u)), plain);
        }
        assert_eq!(told(pace.finite(f64::NAN, Some(3.0))), format!("{plain} or lambda_u"));
        let imported = Pace::new(&TrainConfig { pretrained: Some("start".to_owned()), ..config }, 7);
        assert_eq!(told(imported.finite(f64::NAN, None)), format!("{plain}, or start from other weights"));
        let pretraining = told(finite_in_pretraining(f64::INFINITY, 1));
        assert!(pretraining.starts_with("the loss is inf after step 1 of pretraining; "), "{pretraining}");
        assert!(!pretraining.contains("lambda_u") && !pretraining.contains("lower learning_rate"), "{pretraining}");
    }

    #[test]
    fn the_time_left_counts_each_step_as_what_it_costs() {
        let config = TrainConfig { epochs: 5, steps_per_epoch: 2, warmup: 0.3, k: 1, ..TrainConfig::default() };
        let mut sums = EpochSums::new();
        let number = || Tensor::from(1.0);
        let losses = StepLosses { total: number(), labelled: number(), unlabelled: None };
        sums.add(&Step { losses, lambda_u: None, note: None }).unwrap();
        // What is told after steps that took so many seconds, the last of an epoch at their end.
        let left = |config: &TrainConfig, done: u64, seconds: &[u64]| {
            let mut pace = Pace::new(config, done);
            let mut told = None;
            for &seconds in seconds {
                let began = Instant::now() - Duration::from_secs(seconds);
                told = pace.step(began, 1, &sums).unwrap();
            }
            told.unwrap().eta_seconds
        };
        let close = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 0.01, "{a} is not about {b}");
        // Ten steps, the first three of 300 seconds each and the others of 700.
        close(left(&config, 0, &[300, 300]), 300.0 + 7.0 * 700.0);
        close(left(&config, 2, &[300, 700]), 6.0 * 700.0);
        close(left(&config, 4, &[700, 700]), 4.0 * 700.0);
        let supervised = TrainConfig { algorithm: AlgorithmName::Supervised, ..config.clone() };
        close(left(&supervised, 0, &[300, 300]), 8.0 * 300.0);
        let frozen = TrainConfig { backbone_learning_rate_factor: 0.0, ..config.clone() };
        close(left(&frozen, 0, &[300, 300]), 300.0 + 7.0 * 900.0);
        // Twice the guesses: 1 + 2 + 2 / 3 times a step of the warm-up.
        let guesses_twice = TrainConfig { k: 2, ..config };
        close(left(&guesses_twice, 0, &[300, 300]), 300.0 + 7.0 * 1100.0);
    }

    #[test]
    fn a_rate_is_told_in_images() {
        let config = TrainConfig {
            epochs: 1,
            steps_per_epoch: 2,
            batch: 16,
            algorithm: AlgorithmName::Supervised,
            ..TrainConfig::default()
        };
        let mut sums = EpochSums::new();
        let number = || Tensor::from(1.0);
        let losses = StepLosses { total: number(), labelled: number(), unlabelled: None };
        sums.add(&Step { losses, lambda_u: None, note: None }).unwrap();
        let mut pace = Pace::new(&config, 0);
        let mut step = || pace.step(Instant::now() - Duration::from_secs(8), 1, &sums).unwrap();
        step();
        let rate = step().unwrap().images_per_second;
        assert!((rate - 2.0).abs() < 0.01, "{rate}: a step of 16 images in 8 seconds");
    }

    #[test]
    fn the_time_left_counts_the_ends_of_epochs_that_the_last_step_waits_for() {
        let algorithm = AlgorithmName::Supervised;
        let config = TrainConfig { epochs: 4, steps_per_epoch: 2, algorithm, ..TrainConfig::default() };
        let mut sums = EpochSums::new();
        let number = || Tensor::from(1.0);
        let losses = StepLosses { total: number(), labelled: number(), unlabelled: None };
        sums.add(&Step { losses, lambda_u: None, note: None }).unwrap();
        let mut pace = Pace::new(&config, 0);
        for (epoch, expected) in [(1, 600.0), (2, 400.0 + 2.0 * 1000.0), (3, 200.0 + 1000.0), (4, 0.0)] {
            let mut step = || pace.step(Instant::now() - Duration::from_secs(100), epoch, &sums).unwrap();
            step();
            let left = step().unwrap().eta_seconds;
            assert!((left - expected).abs() < 5.0, "epoch {epoch}: {left} is not about {expected}");
            let ended = Instant::now();
            pace.epoch_ended(Duration::from_secs(1000));
            assert!(pace.last >= ended, "an evaluation makes no report due");
        }
    }

    #[test]
    fn means_stay_exact_over_very_many_steps() {
        let (steps, value) = (50_000, 0.99f32);
        let (mut sum, loss) = (None, Tensor::from(value));
        for _ in 0..steps {
            accumulate(&mut sum, loss.shallow_clone()).unwrap();
        }
        // In float32 it is off by 4e-4.
        let average = mean(sum.as_ref(), steps).unwrap().unwrap();
        assert!((average - f64::from(value)).abs() < 1e-6, "{average}");
    }

    #[test]
    fn sums_are_restored_bit_by_bit_and_those_of_an_earlier_version_gone_on_from() {
        let step = |loss: f64| {
            let number = || Tensor::from(loss).to_kind(Kind::Float);
            let losses = StepLosses { total: number(), labelled: number(), unlabelled: None };
            Step { losses, lambda_u: None, note: None }
        };
        // A float32 sum of an earlier version, which has no room for another 1.
        let full = f64::from(1 << 24);
        let mut snapshot = Snapshot::default();
        EpochSums::new().save(&mut snapshot).unwrap();
        snapshot.put_tensor("sums.total", &Tensor::from(full).to_kind(Kind::Float));
        let mut sums = EpochSums::restore(&snapshot, Device::Cpu).unwrap();
        sums.add(&step(1.0)).unwrap();
        assert_eq!((sums.steps(), sums.loss().unwrap()), (1, full + 1.0));

        sums.save(&mut snapshot).unwrap();
        let restored = EpochSums::restore(&snapshot, Device::Cpu).unwrap();
        assert_eq!((restored.steps(), restored.loss().unwrap()), (1, full + 1.0));
    }
}
