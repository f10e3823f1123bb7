//! Into the queue and out of it: insert, claim, cancel, retry, delete, and what a new boot finds.

use std::time::Duration;

use sqlx::{Sqlite, Transaction};
use uuid::Uuid;

use super::history::state_event;
use super::row::{Idempotency, JobRow, NewJob, Raw, select_job};
use super::{JobState, parse_id};
use crate::store::{Result, Store, StoreError, names, now, to_json};

/// Crashes of the server while a job ran after which it is not tried again.
const MOST_CRASHES: i64 = 3;

impl Store {
    /// Queues a job and gives its id: that of the job which an earlier request with the same key and body made,
    /// if there is one.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the data set is gone, [`StoreError::KeyReused`].
    pub async fn insert_job(&self, new: NewJob) -> Result<Uuid> {
        let mut tx = self.write().await?;
        if let Some(idempotency) = &new.idempotency
            && let Some(earlier) = earlier_job(&mut *tx, idempotency).await?
        {
            return Ok(earlier);
        }
        let (name, task): (String, String) = sqlx::query_as("SELECT name, task FROM datasets WHERE id = ?")
            .bind(new.dataset_id.to_string())
            .fetch_optional(&mut *tx)
            .await?
            .ok_or_else(|| StoreError::not_found("data set", new.dataset_id))?;
        sqlx::query(
            "INSERT INTO jobs (id, dataset_id, dataset_name, model_name, state, config, created_at, idempotency_key,
               request_sha256) VALUES (?, ?, ?, ?, 'queued', ?, ?, ?, ?)",
        )
        .bind(new.id.to_string())
        .bind(new.dataset_id.to_string())
        .bind(name)
        .bind(names::of_task(&task))
        .bind(to_json(&new.config)?)
        .bind(now())
        .bind(new.idempotency.as_ref().map(|idempotency| &idempotency.key))
        .bind(new.idempotency.as_ref().map(|idempotency| &idempotency.request_sha256))
        .execute(&mut *tx)
        .await?;
        state_event(&mut tx, new.id, 0, JobState::Queued).await?;
        tx.commit().await?;
        Ok(new.id)
    }

    /// The job that an earlier request with this key made.
    ///
    /// # Errors
    /// [`StoreError::KeyReused`] when that request had another body.
    pub async fn job_of_request(&self, idempotency: &Idempotency) -> Result<Option<Uuid>> {
        earlier_job(&self.reader, idempotency).await
    }

    /// Takes the next job for the server `boot` on `device`: highest priority, then oldest. One statement,
    /// so that no two claimers get the same.
    ///
    /// # Errors
    /// The database's.
    pub async fn claim(&self, boot: Uuid, device: &str, lease: Duration) -> Result<Option<JobRow>> {
        let mut tx = self.write().await?;
        let now = now();
        let claimed: Option<(String, u32)> = sqlx::query_as(
            "UPDATE jobs SET state = 'running', attempt = attempt + 1, owner = ?1, device = ?2, started_at = ?3,
               lease_expires_at = ?4, phase = NULL, progress = NULL, test = NULL
             WHERE id = (SELECT id FROM jobs WHERE state = 'queued' ORDER BY priority DESC, id LIMIT 1)
             RETURNING id, attempt",
        )
        .bind(boot.to_string())
        .bind(device)
        .bind(now)
        .bind(now + lease.as_millis() as i64)
        .fetch_optional(&mut *tx)
        .await?;
        let Some((id, attempt)) = claimed else { return Ok(None) };
        state_event(&mut tx, parse_id(&id)?, attempt, JobState::Running).await?;
        let row: Raw = sqlx::query_as(select_job!("WHERE j.id = ?")).bind(id).fetch_one(&mut *tx).await?;
        tx.commit().await?;
        row.parse().map(Some)
    }

    /// Asks to cancel: a queued job is canceled at once, a running one by its worker. Repeating is harmless.
    ///
    /// # Errors
    /// [`StoreError::State`] when the job has succeeded or failed already.
    pub async fn cancel_job(&self, id: Uuid) -> Result<()> {
        let mut tx = self.write().await?;
        let (state, attempt) = state_of(&mut tx, id).await?;
        match state {
            JobState::Queued => {
                sqlx::query(
                    "UPDATE jobs SET state = 'canceled', cancel_requested_at = ?1, finished_at = ?1 WHERE id = ?2",
                )
                .bind(now())
                .bind(id.to_string())
                .execute(&mut *tx)
                .await?;
                state_event(&mut tx, id, attempt, JobState::Canceled).await?;
            }
            JobState::Running => {
                sqlx::query("UPDATE jobs SET cancel_requested_at = COALESCE(cancel_requested_at, ?) WHERE id = ?")
                    .bind(now())
                    .bind(id.to_string())
                    .execute(&mut *tx)
                    .await?;
            }
            JobState::Canceled => {}
            JobState::Succeeded | JobState::Failed => return Err(refused(state, "canceled")),
        }
        Ok(tx.commit().await?)
    }

    /// Queues a failed or canceled job again, behind those that wait. A queued or running one is left as it
    /// is: repeating is harmless.
    ///
    /// # Errors
    /// [`StoreError::State`] when the job has succeeded.
    pub async fn retry_job(&self, id: Uuid) -> Result<()> {
        let mut tx = self.write().await?;
        let (state, attempt) = state_of(&mut tx, id).await?;
        if matches!(state, JobState::Queued | JobState::Running) {
            return Ok(());
        }
        if !state.may_become(JobState::Queued) {
            return Err(refused(state, "retried"));
        }
        let there: Option<i64> =
            sqlx::query_scalar("SELECT 1 FROM datasets WHERE id = (SELECT dataset_id FROM jobs WHERE id = ?)")
                .bind(id.to_string())
                .fetch_optional(&mut *tx)
                .await?;
        if there.is_none() {
            return Err(StoreError::State { detail: "the job's data set was deleted; it cannot be retried".into() });
        }
        sqlx::query(
            "UPDATE jobs SET state = 'queued', crashes = 0, finished_at = NULL, error_code = NULL,
               error_detail = NULL, cancel_requested_at = NULL, phase = NULL, progress = NULL WHERE id = ?",
        )
        .bind(id.to_string())
        .execute(&mut *tx)
        .await?;
        state_event(&mut tx, id, attempt, JobState::Queued).await?;
        Ok(tx.commit().await?)
    }

    /// Deletes a finished job with its metrics, events and log. What it published stays.
    ///
    /// # Errors
    /// [`StoreError::State`] when the job is not finished.
    pub async fn delete_job(&self, id: Uuid) -> Result<()> {
        let mut tx = self.write().await?;
        let (state, _) = state_of(&mut tx, id).await?;
        if !state.is_final() {
            return Err(refused(state, "deleted; cancel it first"));
        }
        sqlx::query("DELETE FROM jobs WHERE id = ?").bind(id.to_string()).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }

    /// Takes back the jobs that an earlier boot left running: canceled where that was asked for, failed
    /// after too many crashes, else queued again. Gives their number.
    ///
    /// # Errors
    /// The database's.
    pub async fn reclaim(&self, boot: Uuid) -> Result<u64> {
        let mut tx = self.write().await?;
        let left: Vec<(String, u32, i64, bool)> = sqlx::query_as(
            "SELECT id, attempt, crashes + 1, cancel_requested_at IS NOT NULL FROM jobs
             WHERE state = 'running' AND owner <> ?",
        )
        .bind(boot.to_string())
        .fetch_all(&mut *tx)
        .await?;
        for (id, attempt, crashes, cancel) in &left {
            let next = match (cancel, *crashes >= MOST_CRASHES) {
                (true, _) => JobState::Canceled,
                (false, true) => JobState::Failed,
                (false, false) => JobState::Queued,
            };
            let failed = next == JobState::Failed;
            let detail =
                format!("the server ended {crashes} times while this job ran; it is not tried again by itself");
            sqlx::query(
                "UPDATE jobs SET state = ?1, crashes = ?2, owner = NULL, lease_expires_at = NULL,
                   finished_at = CASE WHEN ?1 = 'queued' THEN NULL ELSE ?3 END, error_code = ?4, error_detail = ?5
                 WHERE id = ?6",
            )
            .bind(next.as_str())
            .bind(crashes)
            .bind(now())
            .bind(failed.then_some("crashed_repeatedly"))
            .bind(failed.then_some(detail))
            .bind(id)
            .execute(&mut *tx)
            .await?;
            state_event(&mut tx, parse_id(id)?, *attempt, next).await?;
        }
        tx.commit().await?;
        Ok(left.len() as u64)
    }
}

async fn earlier_job<'e>(
    executor: impl sqlx::Executor<'e, Database = Sqlite>,
    idempotency: &Idempotency,
) -> Result<Option<Uuid>> {
    let found: Option<(String, String)> =
        sqlx::query_as("SELECT id, request_sha256 FROM jobs WHERE idempotency_key = ?")
            .bind(&idempotency.key)
            .fetch_optional(executor)
            .await?;
    match found {
        None => Ok(None),
        Some((id, sha256)) if sha256 == idempotency.request_sha256 => parse_id(&id).map(Some),
        Some(_) => Err(StoreError::KeyReused { key: idempotency.key.clone() }),
    }
}

async fn state_of(tx: &mut Transaction<'_, Sqlite>, id: Uuid) -> Result<(JobState, u32)> {
    let (state, attempt): (String, u32) = sqlx::query_as("SELECT state, attempt FROM jobs WHERE id = ?")
        .bind(id.to_string())
        .fetch_optional(&mut **tx)
        .await?
        .ok_or_else(|| StoreError::not_found("job", id))?;
    let state = state.parse().map_err(|()| StoreError::stored("job state", &state))?;
    Ok((state, attempt))
}

fn refused(state: JobState, what: &str) -> StoreError {
    StoreError::State { detail: format!("the job is {} and cannot be {what}", state.as_str()) }
}
