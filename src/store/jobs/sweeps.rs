//! Jobs that belong together: a sweep with all of its jobs, a job with its baseline.

use serde_json::{Map, Value};
use sqlx::{FromRow, Sqlite, Transaction};
use uuid::Uuid;

use super::row::{parse_state, select_job};
use super::{JobRow, JobState, parse_id};
use crate::store::{Result, Store, StoreError, from_json, time};

/// A sweep with its jobs.
#[derive(Clone, Debug)]
pub struct SweepRow {
    /// UUID v7.
    pub id: Uuid,
    /// What its jobs learn from.
    pub dataset_id: Uuid,
    /// That data set's name when the sweep was queued.
    pub dataset_name: String,
    /// The request, less its data set.
    pub request: Map<String, Value>,
    /// When it was queued.
    pub created_at: jiff::Timestamp,
    /// Its jobs in their order; one at least. Without what is there for each class, as in [`Store::jobs`].
    pub jobs: Vec<JobRow>,
}

impl SweepRow {
    /// The hyper-parameters that take several values besides labels, seed and algorithm.
    pub fn axes(&self) -> Vec<String> {
        let grid = self.request.get("grid").and_then(Value::as_object);
        grid.map(|grid| grid.keys().cloned().collect()).unwrap_or_default()
    }
}

/// What an id under `/jobs` may stand for.
#[derive(Clone, Debug)]
pub enum JobEntry {
    /// One job.
    Job(Box<JobRow>),
    /// Many.
    Sweep(SweepRow),
}

#[derive(FromRow)]
struct RawSweep {
    dataset_id: String,
    dataset_name: String,
    request: String,
    created_at: i64,
}

impl Store {
    /// A job, or a sweep with all of its jobs.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn job_or_sweep(&self, id: Uuid) -> Result<JobEntry> {
        match self.job(id).await {
            Err(StoreError::IsSweep { .. }) => self.sweep(id).await.map(JobEntry::Sweep),
            job => job.map(Box::new).map(JobEntry::Job),
        }
    }

    /// A sweep with all of its jobs.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn sweep(&self, id: Uuid) -> Result<SweepRow> {
        let raw: RawSweep =
            sqlx::query_as("SELECT dataset_id, dataset_name, request, created_at FROM sweeps WHERE id = ?")
                .bind(id.to_string())
                .fetch_optional(&self.reader)
                .await?
                .ok_or_else(|| StoreError::not_found("sweep", id))?;
        let jobs = sqlx::query_as(select_job!(lines "WHERE j.sweep_id = ? ORDER BY j.id"))
            .bind(id.to_string())
            .fetch_all(&self.reader)
            .await?;
        Ok(SweepRow {
            id,
            dataset_id: parse_id(&raw.dataset_id)?,
            dataset_name: raw.dataset_name,
            request: from_json("request", &raw.request)?,
            created_at: time(raw.created_at)?,
            jobs: self.placed(jobs).await?,
        })
    }

    /// The baseline that was queued with a job that belongs to no sweep.
    ///
    /// # Errors
    /// The database's.
    pub async fn baseline_of(&self, id: Uuid) -> Result<Option<JobRow>> {
        let found = sqlx::query_as(select_job!("WHERE j.baseline_of = ? LIMIT 1"))
            .bind(id.to_string())
            .fetch_all(&self.reader)
            .await?;
        Ok(self.placed(found).await?.pop())
    }

    /// Nothing, if there is such a job.
    pub(super) async fn require_job(&self, id: Uuid) -> Result<()> {
        let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM jobs WHERE id = ?")
            .bind(id.to_string())
            .fetch_optional(&self.reader)
            .await?;
        if found.is_some() { Ok(()) } else { Err(self.no_job(id).await?) }
    }

    /// Why there is no job with this id.
    pub(super) async fn no_job(&self, id: Uuid) -> Result<StoreError> {
        let sweep: Option<i64> = sqlx::query_scalar("SELECT 1 FROM sweeps WHERE id = ?")
            .bind(id.to_string())
            .fetch_optional(&self.reader)
            .await?;
        Ok(if sweep.is_some() { StoreError::IsSweep { id } } else { StoreError::not_found("job", id) })
    }
}

/// A job that a wish reaches.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: Uuid,
    pub(super) state: JobState,
    pub(super) attempt: u32,
    /// Somebody asked to cancel it.
    pub(super) cancel_requested: bool,
}

impl Member {
    /// Whether it still runs, and ends as soon as its worker has heard of the wish.
    pub(super) fn is_being_canceled(&self) -> bool {
        self.state == JobState::Running && self.cancel_requested
    }
}

/// The jobs that are meant by an id: a sweep's, or a job and the baseline that was queued with it. A sweep's
/// job is meant alone, as its baseline may be that of others too.
pub(super) async fn members(tx: &mut Transaction<'_, Sqlite>, id: Uuid) -> Result<Vec<Member>> {
    let found: Vec<(String, String, u32, bool)> = sqlx::query_as(
        "SELECT id, state, attempt, cancel_requested_at IS NOT NULL FROM jobs
         WHERE id = ?1 OR sweep_id = ?1 OR (baseline_of = ?1 AND sweep_id IS NULL) ORDER BY id",
    )
    .bind(id.to_string())
    .fetch_all(&mut **tx)
    .await?;
    if found.is_empty() {
        return Err(StoreError::not_found("job", id));
    }
    let member = |(id, state, attempt, cancel_requested): (String, String, u32, bool)| {
        Ok(Member { id: parse_id(&id)?, state: parse_state(&state)?, attempt, cancel_requested })
    };
    found.into_iter().map(member).collect()
}
