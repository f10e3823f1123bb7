//! A job as stored, and how it is read.

use std::time::Duration;

use serde_json::{Map, Value};
use sqlx::FromRow;
use uuid::Uuid;

use super::JobState;
use crate::store::{BEHIND_EVERY_ID, Result, Store, StoreError, from_json, time};
use crate::train::config::TrainConfig;
use crate::train::event::{EpochMetrics, StepProgress, TestMetrics};
use crate::train::sweep::{Plan, PlannedRun};

/// The jobs of one request.
#[derive(Clone, Debug)]
pub struct NewJobs {
    /// What they learn from.
    pub dataset_id: Uuid,
    /// In the order in which they are to be claimed: their ids grow.
    pub jobs: Vec<NewJob>,
    /// Set where the request spans a grid; else one of the jobs is no baseline.
    pub sweep: Option<NewSweep>,
    /// How a repeated request is known.
    pub idempotency: Option<Idempotency>,
}

/// A job to be queued.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// UUID v7.
    pub id: Uuid,
    /// The fully resolved configuration.
    pub config: TrainConfig,
    /// The job that this one is the baseline of.
    pub baseline_of: Option<Uuid>,
}

/// What stands for the jobs of a request that spans a grid.
#[derive(Clone, Debug)]
pub struct NewSweep {
    /// UUID v7.
    pub id: Uuid,
    /// The request as it was sent, less its data set.
    pub request: Map<String, Value>,
}

impl NewJobs {
    /// The jobs of a plan, with fresh ids.
    pub fn of_plan(dataset_id: Uuid, plan: Plan, request: Map<String, Value>) -> Self {
        let sweep = plan.sweep.then(|| NewSweep { id: Uuid::now_v7(), request });
        let ids: Vec<Uuid> = plan.runs.iter().map(|_| Uuid::now_v7()).collect();
        let job = |(run, &id): (PlannedRun, &Uuid)| NewJob {
            id,
            config: run.config,
            baseline_of: run.baseline_of.and_then(|of| ids.get(of).copied()),
        };
        let jobs = plan.runs.into_iter().zip(&ids).map(job).collect();
        Self { dataset_id, jobs, sweep, idempotency: None }
    }
}

/// What makes a repeated request the same request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// Whose it is, and the caller's key: `<caller>:<key>`. Two callers may count alike.
    pub key: String,
    /// SHA-256 of the request's body.
    pub request_sha256: String,
}

impl Idempotency {
    /// Of a caller, none for one without a key, with the key that it sent and its body's hash.
    pub fn new(caller: Option<Uuid>, key: &str, request_sha256: String) -> Self {
        let caller = caller.map_or("-".to_owned(), |caller| caller.to_string());
        Self { key: format!("{caller}:{key}"), request_sha256 }
    }

    /// The key as the caller sent it.
    fn given(&self) -> &str {
        self.key.split_once(':').map_or(&*self.key, |(_caller, key)| key)
    }

    /// How long a key stands for its request.
    pub const LIFE: Duration = Duration::from_secs(24 * 60 * 60);

    /// What an earlier request with this key made, from its id and its body's hash.
    ///
    /// # Errors
    /// [`StoreError::KeyReused`] when that request had another body.
    pub(in crate::store) fn same_request(&self, earlier: Option<(String, String)>) -> Result<Option<Uuid>> {
        match earlier {
            None => Ok(None),
            Some((id, sha256)) if sha256 == self.request_sha256 => parse_id(&id).map(Some),
            Some(_) => Err(StoreError::KeyReused { key: self.given().to_owned() }),
        }
    }
}

/// A job with what it has reached.
#[derive(Clone, Debug)]
pub struct JobRow {
    /// UUID v7.
    pub id: Uuid,
    /// What it learns from.
    pub dataset_id: Uuid,
    /// That data set's name when the job was queued.
    pub dataset_name: String,
    /// Where it stands.
    pub state: JobState,
    /// The phase it is or was in last.
    pub phase: Option<String>,
    /// The fully resolved configuration.
    pub config: TrainConfig,
    /// Attempts begun.
    pub attempt: u32,
    /// Where the last attempt ran.
    pub device: Option<String>,
    /// How far the last attempt came.
    pub progress: Option<StepProgress>,
    /// How far pretraining came, in steps of its own.
    pub pretraining: Option<StepProgress>,
    /// 1 for the next to be claimed; only while queued.
    pub queue_position: Option<u64>,
    /// Somebody asked to cancel it.
    pub cancel_requested: bool,
    /// Somebody asked to pause it.
    pub pause_requested: bool,
    /// Optimiser steps in its newest checkpoint: where another attempt would go on.
    pub checkpoint_step: Option<u64>,
    /// When it was queued.
    pub created_at: jiff::Timestamp,
    /// When the last attempt began.
    pub started_at: Option<jiff::Timestamp>,
    /// When it reached its final state.
    pub finished_at: Option<jiff::Timestamp>,
    /// How long it was worked on, in all attempts that have ended.
    pub worked: Duration,
    /// The last attempt's last epoch.
    pub last: Option<EpochMetrics>,
    /// The last attempt's best epoch, as training chooses it: one that does not leave a class out, validation accuracy, then loss.
    pub best: Option<EpochMetrics>,
    /// The test split's figures.
    pub test: Option<TestMetrics>,
    /// What it published.
    pub model: Option<(String, u32)>,
    /// Why it failed: code and detail.
    pub error: Option<(String, String)>,
    /// The sweep it belongs to.
    pub sweep: Option<Uuid>,
    /// The job that this one is the baseline of; that may be deleted by now.
    pub baseline_of: Option<Uuid>,
    /// The baseline that was queued with it.
    pub baseline: Option<(Uuid, JobState)>,
}

impl JobRow {
    /// Optimiser steps done, as far as is known: a run that stops leaves a checkpoint and tells no step any more.
    pub fn step(&self) -> u64 {
        self.progress.as_ref().map_or(0, |progress| progress.step).max(self.checkpoint_step.unwrap_or(0))
    }
}

/// A query for whole jobs with the given rest; [`Store::placed`] adds their places in the queue. Of many at once it is a query for `lines`,
/// without what is there for each class (`by_class`).
macro_rules! select_job {
    ($rest:literal) => {
        select_job!(["j.test"] ["m.metrics"] $rest)
    };
    (lines $rest:literal) => {
        select_job!(
            ["json_remove(j.test", crate::store::by_class::by_class!(test => at "$"), ")"]
            ["json_remove(m.metrics", crate::store::by_class::by_class!(epoch => at "$"), ")"]
            $rest
        )
    };
    ([$($test:tt)+] [$($epoch:tt)+] $rest:literal) => {
        concat!(
            "SELECT j.id, j.dataset_id, j.dataset_name, j.model_name, j.state, j.priority, j.phase, j.config, j.attempt, j.device,
               j.progress, j.pretraining, j.model_version, j.error_code, j.error_detail, j.cancel_requested_at, j.pause_requested_at,
               j.checkpoint_step, j.created_at, j.started_at, j.finished_at, j.worked_ms, j.sweep_id, j.baseline_of,
               ",
            $($test)+,
            " AS test,
               (SELECT ",
            $($epoch)+,
            " FROM job_metrics m WHERE m.job_id = j.id AND m.attempt = j.attempt
                ORDER BY m.epoch DESC LIMIT 1) AS last,
               (SELECT ",
            $($epoch)+,
            " FROM job_metrics m WHERE m.job_id = j.id AND m.attempt = j.attempt
                ORDER BY m.collapsed, m.validation_accuracy DESC, m.validation_loss, m.epoch LIMIT 1) AS best,
               (SELECT b.id FROM jobs b WHERE b.baseline_of = j.id) AS baseline_id,
               (SELECT b.state FROM jobs b WHERE b.baseline_of = j.id) AS baseline_state
             FROM jobs j ",
            $rest
        )
    };
}
pub(super) use select_job;

pub(super) const BY_ID: &str = select_job!("WHERE j.id = ?");
pub(super) const PAGE: &str = select_job!(lines "WHERE j.id < ?1 ORDER BY j.id DESC LIMIT ?2");
pub(super) const PAGE_OF_STATE: &str =
    select_job!(lines "WHERE j.id < ?1 AND j.state = ?3 ORDER BY j.id DESC LIMIT ?2");

#[derive(FromRow)]
pub(super) struct Raw {
    pub(super) id: String,
    dataset_id: String,
    dataset_name: String,
    model_name: String,
    pub(super) state: String,
    pub(super) priority: i64,
    phase: Option<String>,
    config: String,
    attempt: u32,
    device: Option<String>,
    progress: Option<String>,
    pretraining: Option<String>,
    test: Option<String>,
    model_version: Option<u32>,
    error_code: Option<String>,
    error_detail: Option<String>,
    cancel_requested_at: Option<i64>,
    pause_requested_at: Option<i64>,
    checkpoint_step: Option<i64>,
    created_at: i64,
    started_at: Option<i64>,
    finished_at: Option<i64>,
    worked_ms: i64,
    last: Option<String>,
    best: Option<String>,
    #[sqlx(default)]
    pub(super) queue_position: Option<i64>,
    sweep_id: Option<String>,
    baseline_of: Option<String>,
    baseline_id: Option<String>,
    baseline_state: Option<String>,
}

impl Raw {
    /// A job that is to run: it must be understood whole.
    pub(super) fn parse_to_run(self) -> Result<JobRow> {
        from_json::<TrainConfig>("configuration", &self.config)?;
        self.parse()
    }

    pub(super) fn parse(self) -> Result<JobRow> {
        let state = parse_state(&self.state)?;
        let id = |text: Option<String>| text.as_deref().map(parse_id).transpose();
        let baseline_state = self.baseline_state.as_deref().map(parse_state).transpose()?;
        Ok(JobRow {
            id: parse_id(&self.id)?,
            dataset_id: parse_id(&self.dataset_id)?,
            dataset_name: self.dataset_name,
            state,
            phase: self.phase,
            config: configuration(&self.config).map_err(|error| of_job(&self.id, error))?,
            attempt: self.attempt,
            device: self.device,
            progress: optional("progress", self.progress.as_deref())?,
            pretraining: optional("pretraining", self.pretraining.as_deref())?,
            queue_position: self.queue_position.map(|position| position as u64),
            cancel_requested: self.cancel_requested_at.is_some(),
            pause_requested: self.pause_requested_at.is_some(),
            checkpoint_step: self.checkpoint_step.map(|step| step as u64),
            created_at: time(self.created_at)?,
            started_at: self.started_at.map(time).transpose()?,
            finished_at: self.finished_at.map(time).transpose()?,
            worked: Duration::from_millis(self.worked_ms.max(0) as u64),
            last: optional("metrics row", self.last.as_deref())?,
            best: optional("metrics row", self.best.as_deref())?,
            test: optional("test result", self.test.as_deref())?,
            model: self.model_version.map(|version| (self.model_name, version)),
            error: self.error_code.zip(self.error_detail),
            sweep: id(self.sweep_id)?,
            baseline_of: id(self.baseline_of)?,
            baseline: id(self.baseline_id)?.zip(baseline_state),
        })
    }
}

/// A stored configuration, to be looked at: fields and values that only a newer version of the program knows are left out, so that
/// going back to an earlier one does not hide every job. [`Raw::parse_to_run`] takes no such liberty.
fn configuration(text: &str) -> Result<TrainConfig> {
    from_json("configuration", text).or_else(|error| {
        let Ok(Value::Object(stored)) = serde_json::from_str(text) else { return Err(error) };
        let read = |fields: &Map<String, Value>| serde_json::from_value::<TrainConfig>(Value::Object(fields.clone()));
        let mut known = Map::new();
        for (name, value) in stored {
            known.insert(name.clone(), value);
            if read(&known).is_err() {
                known.remove(&name);
            }
        }
        read(&known).map_err(|_also| error)
    })
}

/// The same trouble with the job's id: who reads it is to know which one to delete.
fn of_job(id: &str, error: StoreError) -> StoreError {
    match error {
        StoreError::Stored { what, reason } => StoreError::Stored { what, reason: format!("{reason} (job {id})") },
        other => other,
    }
}

fn optional<T: serde::de::DeserializeOwned>(what: &'static str, text: Option<&str>) -> Result<Option<T>> {
    text.map(|text| from_json(what, text)).transpose()
}

/// A stored state.
pub(super) fn parse_state(text: &str) -> Result<JobState> {
    text.parse().map_err(|()| StoreError::stored("job state", text))
}

/// A stored id.
pub(in crate::store) fn parse_id(text: &str) -> Result<Uuid> {
    Uuid::parse_str(text).map_err(|e| StoreError::stored("id", e))
}

impl Store {
    /// A job.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::IsSweep`].
    pub async fn job(&self, id: Uuid) -> Result<JobRow> {
        let found = sqlx::query_as(BY_ID).bind(id.to_string()).fetch_all(&self.reader).await?;
        match self.placed(found).await?.pop() {
            Some(job) => Ok(job),
            None => Err(self.no_job(id).await?),
        }
    }

    /// At most `limit` jobs older than `before`, newest first, in `state` where one is given; without what is there for each class: the
    /// confusion and the classes of their test, and the shares by class of their epochs.
    ///
    /// # Errors
    /// The database's.
    pub async fn jobs(&self, state: Option<JobState>, before: Option<Uuid>, limit: u32) -> Result<Vec<JobRow>> {
        let before = before.map_or(BEHIND_EVERY_ID.to_owned(), |id| id.to_string());
        let query = match state {
            None => sqlx::query_as(PAGE).bind(before).bind(limit),
            Some(state) => sqlx::query_as(PAGE_OF_STATE).bind(before).bind(limit).bind(state.as_str()),
        };
        self.placed(query.fetch_all(&self.reader).await?).await
    }

    /// How many jobs are in each state.
    ///
    /// # Errors
    /// The database's.
    pub async fn count_jobs(&self) -> Result<Vec<(JobState, u64)>> {
        let found: Vec<(String, i64)> =
            sqlx::query_as("SELECT state, COUNT(*) FROM jobs GROUP BY state").fetch_all(&self.reader).await?;
        let count = |state: JobState| {
            found.iter().find(|(name, _)| name == state.as_str()).map_or(0, |(_, count)| *count as u64)
        };
        Ok(JobState::ALL.into_iter().map(|state| (state, count(state))).collect())
    }
}
