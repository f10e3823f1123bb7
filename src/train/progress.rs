//! Sums over an epoch, and the progress events between.
//!
//! The sums stay on the device: reading a loss waits for every step before it, so it happens once a second
//! and not at every step.

use std::time::{Duration, Instant};

use tch::{Device, Tensor};

use super::checkpoint::{CheckpointError, Snapshot};
use super::config::TrainConfig;
use super::error::TrainError;
use super::event::StepProgress;
use crate::nn::NnError;
use crate::ssl::StepLosses;

/// How often a run says where it stands.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// What the sums are called in a checkpoint.
const SUMS: [&str; 5] = ["sums.total", "sums.labelled", "sums.unlabelled", "sums.guesses", "sums.confidence"];

/// Running sums of one epoch.
#[derive(Debug)]
pub struct EpochSums {
    steps: u32,
    total: Option<Tensor>,
    labelled: Option<Tensor>,
    unlabelled: Option<Tensor>,
    guesses: Option<Tensor>,
    confidence: Option<Tensor>,
    /// λ_U at the last step.
    pub lambda_u: Option<f64>,
}

impl EpochSums {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            steps: 0,
            total: None,
            labelled: None,
            unlabelled: None,
            guesses: None,
            confidence: None,
            lambda_u: None,
        }
    }

    /// Adds a step.
    ///
    /// # Errors
    /// libtorch's.
    pub fn add(&mut self, losses: &StepLosses) -> Result<(), NnError> {
        let _no_grad = tch::no_grad_guard();
        self.steps += 1;
        accumulate(&mut self.total, losses.total.f_detach()?)?;
        accumulate(&mut self.labelled, losses.labelled.shallow_clone())?;
        if let Some(unlabelled) = &losses.unlabelled {
            accumulate(&mut self.unlabelled, unlabelled.loss.shallow_clone())?;
            accumulate(&mut self.guesses, unlabelled.guesses.f_mean_dim([0i64].as_slice(), false, None)?)?;
            accumulate(&mut self.confidence, unlabelled.guesses.f_amax([1i64].as_slice(), false)?.f_mean(None)?)?;
            self.lambda_u = Some(unlabelled.lambda_u);
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
        let sums = [&self.total, &self.labelled, &self.unlabelled, &self.guesses, &self.confidence];
        for (name, sum) in SUMS.iter().zip(sums) {
            if let Some(sum) = sum {
                snapshot.put_tensor(name, sum);
            }
        }
        snapshot.put("sums.steps", &self.steps)?;
        snapshot.put("sums.lambda_u", &self.lambda_u)
    }

    /// Takes them out again, onto `device`.
    ///
    /// # Errors
    /// [`CheckpointError::Unfit`].
    pub fn restore(snapshot: &Snapshot, device: Device) -> Result<Self, CheckpointError> {
        // Sums that were not begun were not put in.
        let mut sums =
            SUMS.iter().map(|name| snapshot.tensor(name).ok().map(|sum| sum.f_to_device(device)).transpose());
        let mut next = || sums.next().unwrap_or(Ok(None));
        Ok(Self {
            total: next()?,
            labelled: next()?,
            unlabelled: next()?,
            guesses: next()?,
            confidence: next()?,
            steps: snapshot.get("sums.steps")?,
            lambda_u: snapshot.get("sums.lambda_u")?,
        })
    }

    /// Mean total loss so far.
    pub fn loss(&self) -> Result<f64, NnError> {
        Ok(self.mean(&self.total)?.unwrap_or(f64::NAN))
    }

    /// Mean labelled loss so far.
    pub fn labelled(&self) -> Result<f64, NnError> {
        Ok(self.mean(&self.labelled)?.unwrap_or(f64::NAN))
    }

    /// Mean unlabelled loss so far.
    pub fn unlabelled(&self) -> Result<Option<f64>, NnError> {
        self.mean(&self.unlabelled)
    }

    /// Mean largest probability of the guesses so far.
    pub fn confidence(&self) -> Result<Option<f64>, NnError> {
        self.mean(&self.confidence)
    }

    /// Mean guessed probability per class so far.
    pub fn guess_classes(&self) -> Result<Vec<f64>, NnError> {
        let Some(sum) = &self.guesses else { return Ok(Vec::new()) };
        let sums = Vec::<f32>::try_from(sum)?;
        Ok(sums.into_iter().map(|sum| f64::from(sum) / f64::from(self.steps)).collect())
    }

    fn mean(&self, sum: &Option<Tensor>) -> Result<Option<f64>, NnError> {
        let mean = |sum: &Tensor| Ok(sum.f_double_value(&[])? / f64::from(self.steps));
        sum.as_ref().map(mean).transpose()
    }
}

fn accumulate(sum: &mut Option<Tensor>, value: Tensor) -> Result<(), NnError> {
    *sum = Some(match sum.take() {
        Some(mut sum) => sum.f_add_(&value)?,
        // A copy: the value may be part of the step's graph or a view that later steps overwrite.
        None => value.copy(),
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
    last: Instant,
    /// Time spent in steps (not in evaluations) since the last report, and how many they were.
    training: Duration,
    recent: u64,
    done: u64,
}

impl Pace {
    /// The pace of a run that starts now, with `done` steps behind it.
    pub fn new(config: &TrainConfig, done: u64) -> Self {
        Self {
            epochs: config.epochs,
            steps: config.steps(),
            steps_per_epoch: u64::from(config.steps_per_epoch.max(1)),
            batch: f64::from(config.batch),
            last: Instant::now(),
            training: Duration::ZERO,
            recent: 0,
            done,
        }
    }

    /// Notes a step that took `spent`; gives a report when one is due.
    ///
    /// # Errors
    /// [`TrainError::Diverged`] when the loss is no number any more.
    pub fn step(&mut self, spent: Duration, epoch: u32, sums: &EpochSums) -> Result<Option<StepProgress>, TrainError> {
        self.training += spent;
        self.recent += 1;
        self.done += 1;
        // An epoch's last step is always told: whoever reads the job between two epochs sees where it stands.
        let ends_epoch = self.done.is_multiple_of(self.steps_per_epoch);
        if self.last.elapsed() < REPORT_EVERY && !ends_epoch {
            return Ok(None);
        }
        let loss = finite(sums.loss()?, self.done)?;
        // Since the last report alone: steps of the warm-up are several times cheaper than those after it.
        let rate = self.recent as f64 / self.training.as_secs_f64().max(1e-9);
        (self.last, self.training, self.recent) = (Instant::now(), Duration::ZERO, 0);
        Ok(Some(StepProgress {
            epoch,
            epochs: self.epochs,
            step: self.done,
            steps: self.steps,
            loss,
            images_per_second: rate * self.batch,
            eta_seconds: self.steps.saturating_sub(self.done) as f64 / rate,
        }))
    }

    /// Optimiser steps done.
    pub fn done(&self) -> u64 {
        self.done
    }
}

/// `loss`, unless it is no number.
///
/// # Errors
/// [`TrainError::Diverged`].
pub fn finite(loss: f64, step: u64) -> Result<f64, TrainError> {
    if loss.is_finite() { Ok(loss) } else { Err(TrainError::Diverged { step, loss }) }
}
