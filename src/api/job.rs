//! A job as callers see it.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::line::{OF_EPOCH, OF_TEST, leave_out};
use super::problem::Problem;
use crate::store::{JobRow, JobState};
use crate::train::config::{AlgorithmName, TrainConfig};
use crate::train::event::{EpochMetrics, Phase, StepProgress, TestMetrics};

/// A job, and how far it is. In a list it has no `guess_classes`, `unlabelled_classes` and `validation_classes` in `last` and `best`, and no
/// `confusion`, `classes` and `groups` in `test`: `GET /jobs/{id}` has them.
#[derive(Debug, Serialize, ToSchema)]
pub struct Job {
    /// UUID v7.
    id: Uuid,
    /// `job`: a sweep says `sweep` here.
    kind: JobKind,
    /// What it learns from.
    dataset: DatasetName,
    /// `mixmatch` or `supervised`.
    algorithm: AlgorithmName,
    /// The preset its configuration was laid over.
    #[schema(example = "quick")]
    preset: String,
    /// `queued`, `running`, `paused`, `succeeded`, `failed` or `canceled`.
    #[schema(value_type = JobState)]
    state: &'static str,
    /// The part of the run it is in, or was in last: `importing`, `pretraining`, `training`, `evaluating` or
    /// `exporting`.
    #[schema(value_type = Option<Phase>)]
    phase: Option<String>,
    /// The current epoch, from 1; 0 before the first.
    epoch: u32,
    /// Epochs in the run.
    epochs: u32,
    /// Optimiser steps done.
    step: u64,
    /// Optimiser steps in the run.
    steps: u64,
    /// Labelled images a second.
    images_per_second: Option<f64>,
    /// Seconds until the last step at the current rate, while it runs; while a warm-up lasts an estimate, as the steps after it cost more.
    eta_seconds: Option<f64>,
    /// How far contrastive pretraining is, or came, which goes before the steps above; `null` in a run without, and before it begins.
    pretraining: Option<Pretraining>,
    /// Jobs before this one in the queue, plus one; only while queued.
    queue_position: Option<u64>,
    /// When it was queued.
    #[schema(value_type = String, format = DateTime)]
    created_at: jiff::Timestamp,
    /// When its present attempt began.
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<jiff::Timestamp>,
    /// When it reached its final state.
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<jiff::Timestamp>,
    /// Wall-clock seconds that it was worked on, in all attempts that have ended.
    seconds: f64,
    /// Which attempt this is; 0 before the first.
    attempt: u32,
    /// Where it runs or ran.
    device: Option<String>,
    /// True once somebody asked to cancel it.
    cancel_requested: bool,
    /// True once somebody asked to pause it; it is paused when its checkpoint is written.
    pause_requested: bool,
    /// Optimiser steps in its newest checkpoint: where it goes on when it is resumed or retried; 0 where it is pretrained and no more. `null`
    /// without one.
    checkpoint_step: Option<u64>,
    /// The fully resolved configuration.
    config: TrainConfig,
    /// The last epoch.
    last: Option<EpochMetrics>,
    /// The best epoch so far, by validation accuracy.
    best: Option<EpochMetrics>,
    /// The test split, once, at the end.
    test: Option<TestMetrics>,
    /// What it published; it may have been deleted since.
    model: Option<ModelName>,
    /// Why it failed.
    error: Option<JobError>,
    /// The sweep that it belongs to.
    sweep: Option<Uuid>,
    /// The supervised run on the same labels that was queued with it.
    baseline: Option<Baseline>,
    /// The job that this one is the baseline of.
    baseline_of: Option<Uuid>,
}

impl Job {
    /// As a line of a list.
    pub(super) fn line(row: JobRow) -> Result<Value, Problem> {
        let mut job = serde_json::to_value(Self::from(row))
            .map_err(|error| Problem::bug("the list of jobs could not be written", &error))?;
        for (fields, figures) in [(OF_EPOCH, "last"), (OF_EPOCH, "best"), (OF_TEST, "test")] {
            leave_out(fields, &mut job, figures);
        }
        Ok(job)
    }
}

/// What a job says of itself, beside sweeps.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// One job.
    Job,
}

/// The baseline of a job; a job of its own.
#[derive(Debug, Serialize, ToSchema)]
pub struct Baseline {
    /// UUID v7.
    id: Uuid,
    /// As a job's.
    #[schema(value_type = JobState)]
    state: &'static str,
}

/// A data set by id and name.
#[derive(Debug, Serialize, ToSchema)]
pub struct DatasetName {
    /// UUID v7.
    pub(super) id: Uuid,
    /// Its name.
    pub(super) name: String,
}

/// A model version.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelName {
    /// The model's name: the data set's task.
    name: String,
    /// Counts from 1.
    version: u32,
}

impl ModelName {
    /// That version.
    pub(super) fn new(name: String, version: u32) -> Self {
        Self { name, version }
    }
}

/// Why a job failed.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobError {
    /// A stable word.
    code: String,
    /// A sentence for people.
    detail: String,
}

/// Progress within contrastive pretraining (`pretrain_epochs`): epochs and steps are its own.
#[derive(Debug, Serialize, ToSchema)]
pub struct Pretraining {
    /// The current epoch, from 1.
    epoch: u32,
    /// `pretrain_epochs`.
    epochs: u32,
    /// Optimiser steps done.
    step: u64,
    /// Optimiser steps of all of it.
    steps: u64,
    /// Images a second, each in two views.
    images_per_second: f64,
    /// Seconds until its last step at the current rate, while it pretrains.
    eta_seconds: Option<f64>,
}

impl Pretraining {
    fn new(progress: &StepProgress, pretrains: bool) -> Self {
        let &StepProgress { epoch, epochs, step, steps, images_per_second, eta_seconds, .. } = progress;
        Self { epoch, epochs, step, steps, images_per_second, eta_seconds: pretrains.then_some(eta_seconds) }
    }
}

impl From<JobRow> for Job {
    fn from(row: JobRow) -> Self {
        let step = row.step();
        let progress = row.progress;
        // What was left to do at the last step told is not what is left once the run has stopped.
        let runs = row.state == JobState::Running;
        let pretrains = runs && row.phase.as_deref() == Some(Phase::Pretraining.as_str());
        Self {
            id: row.id,
            kind: JobKind::Job,
            dataset: DatasetName { id: row.dataset_id, name: row.dataset_name },
            algorithm: row.config.algorithm,
            preset: row.config.preset.clone(),
            state: row.state.as_str(),
            phase: row.phase,
            epoch: progress.as_ref().map_or(0, |progress| progress.epoch),
            epochs: row.config.epochs,
            step,
            steps: row.config.steps(),
            images_per_second: progress.as_ref().map(|progress| progress.images_per_second),
            eta_seconds: progress.as_ref().filter(|_| runs).map(|progress| progress.eta_seconds),
            pretraining: row.pretraining.as_ref().map(|progress| Pretraining::new(progress, pretrains)),
            queue_position: row.queue_position,
            created_at: row.created_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            seconds: row.worked.as_secs_f64(),
            attempt: row.attempt,
            device: row.device,
            cancel_requested: row.cancel_requested,
            pause_requested: row.pause_requested,
            checkpoint_step: row.checkpoint_step,
            config: row.config,
            last: row.last,
            best: row.best,
            test: row.test,
            model: row.model.map(|(name, version)| ModelName::new(name, version)),
            error: row.error.map(|(code, detail)| JobError { code, detail }),
            sweep: row.sweep,
            baseline: row.baseline.map(|(id, state)| Baseline { id, state: state.as_str() }),
            baseline_of: row.baseline_of,
        }
    }
}
