//! Into the queue and out of it: insert, claim, cancel, retry, delete, and what a new boot finds.
//!
//! Cancel, retry and delete reach a sweep's jobs through its id, and a job's baseline through the job's.

use std::time::Duration;

use sqlx::Sqlite;
use uuid::Uuid;

use super::history::state_event;
use super::row::{Idempotency, JobRow, NewJobs, Raw, select_job};
use super::sweeps::{Member, members};
use super::{JobState, parse_id};
use crate::store::{Result, Store, StoreError, models, names, now, to_json};

/// Crashes of the server while a job ran after which it is not tried again.
const MOST_CRASHES: i64 = 3;

impl Store {
    /// Queues the jobs of a request, all or none, and gives the id that stands for them: the sweep's, or that of
    /// the job that is no baseline. An earlier request with the same key and body gives what it made.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the data set is gone, [`StoreError::KeyReused`].
    pub async fn insert_jobs(&self, new: NewJobs) -> Result<Uuid> {
        let mut tx = self.write().await?;
        if let Some(idempotency) = &new.idempotency
            && let Some(earlier) = earlier_request(&mut *tx, idempotency).await?
        {
            return Ok(earlier);
        }
        if let Some(idempotency) = &new.idempotency {
            // What is left of it is too old to count.
            sqlx::query("UPDATE jobs SET idempotency_key = NULL, request_sha256 = NULL WHERE idempotency_key = ?")
                .bind(&idempotency.key)
                .execute(&mut *tx)
                .await?;
        }
        let (name, task): (String, String) = sqlx::query_as("SELECT name, task FROM datasets WHERE id = ?")
            .bind(new.dataset_id.to_string())
            .fetch_optional(&mut *tx)
            .await?
            .ok_or_else(|| StoreError::not_found("data set", new.dataset_id))?;
        let sweep = new.sweep.as_ref().map(|sweep| sweep.id);
        if let Some(sweep) = &new.sweep {
            sqlx::query(
                "INSERT INTO sweeps (id, dataset_id, dataset_name, request, created_at) VALUES (?, ?, ?, ?, ?)",
            )
            .bind(sweep.id.to_string())
            .bind(new.dataset_id.to_string())
            .bind(&name)
            .bind(to_json(&sweep.request)?)
            .bind(now())
            .execute(&mut *tx)
            .await?;
        }
        let own = new.jobs.iter().find(|job| job.baseline_of.is_none()).map(|job| job.id);
        let own = own.ok_or_else(|| StoreError::stored("request", "it asks for no job"))?;
        for job in &new.jobs {
            // One of the jobs carries the request's key, so that the column's UNIQUE holds for sweeps as well.
            let idempotency = new.idempotency.as_ref().filter(|_| job.id == own);
            sqlx::query(
                "INSERT INTO jobs (id, dataset_id, dataset_name, model_name, state, config, created_at,
                   idempotency_key, request_sha256, sweep_id, baseline_of)
                 VALUES (?, ?, ?, ?, 'queued', ?, ?, ?, ?, ?, ?)",
            )
            .bind(job.id.to_string())
            .bind(new.dataset_id.to_string())
            .bind(&name)
            .bind(names::of_task(&task))
            .bind(to_json(&job.config)?)
            .bind(now())
            .bind(idempotency.map(|idempotency| &idempotency.key))
            .bind(idempotency.map(|idempotency| &idempotency.request_sha256))
            .bind(sweep.map(|id| id.to_string()))
            .bind(job.baseline_of.map(|id| id.to_string()))
            .execute(&mut *tx)
            .await?;
            state_event(&mut tx, job.id, 0, JobState::Queued).await?;
        }
        tx.commit().await?;
        Ok(sweep.unwrap_or(own))
    }

    /// The job or sweep that an earlier request with this key made.
    ///
    /// # Errors
    /// [`StoreError::KeyReused`] when that request had another body.
    pub async fn job_of_request(&self, idempotency: &Idempotency) -> Result<Option<Uuid>> {
        earlier_request(&self.reader, idempotency).await
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
    /// Gives the jobs that the wish reaches.
    ///
    /// # Errors
    /// [`StoreError::State`] when everything has succeeded or failed already.
    pub async fn cancel_job(&self, id: Uuid) -> Result<Vec<Uuid>> {
        let mut tx = self.write().await?;
        let members = members(&mut tx, id).await?;
        let over = |member: &Member| matches!(member.state, JobState::Succeeded | JobState::Failed);
        if members.iter().all(over) {
            return Err(refused(&members, "canceled"));
        }
        for Member { id, state, attempt } in &members {
            match state {
                JobState::Queued => {
                    sqlx::query(
                        "UPDATE jobs SET state = 'canceled', cancel_requested_at = ?1, finished_at = ?1 WHERE id = ?2",
                    )
                    .bind(now())
                    .bind(id.to_string())
                    .execute(&mut *tx)
                    .await?;
                    state_event(&mut tx, *id, *attempt, JobState::Canceled).await?;
                    models::crown(&mut tx, *id).await?;
                }
                JobState::Running => {
                    sqlx::query("UPDATE jobs SET cancel_requested_at = COALESCE(cancel_requested_at, ?) WHERE id = ?")
                        .bind(now())
                        .bind(id.to_string())
                        .execute(&mut *tx)
                        .await?;
                }
                JobState::Canceled | JobState::Succeeded | JobState::Failed => {}
            }
        }
        tx.commit().await?;
        Ok(members.iter().map(|member| member.id).collect())
    }

    /// Queues what has failed or was canceled again, behind those that wait; the rest is left as it is:
    /// repeating is harmless. Gives the jobs that are queued or running now.
    ///
    /// # Errors
    /// [`StoreError::State`] when everything has succeeded.
    pub async fn retry_job(&self, id: Uuid) -> Result<Vec<Uuid>> {
        let mut tx = self.write().await?;
        let members = members(&mut tx, id).await?;
        if members.iter().all(|member| member.state == JobState::Succeeded) {
            return Err(refused(&members, "retried"));
        }
        let ended = |member: &&Member| member.state.is_final() && member.state.may_become(JobState::Queued);
        for Member { id, attempt, .. } in members.iter().filter(ended) {
            let there: Option<i64> =
                sqlx::query_scalar("SELECT 1 FROM datasets WHERE id = (SELECT dataset_id FROM jobs WHERE id = ?)")
                    .bind(id.to_string())
                    .fetch_optional(&mut *tx)
                    .await?;
            if there.is_none() {
                return Err(StoreError::State {
                    detail: "the job's data set was deleted; it cannot be retried".into(),
                });
            }
            sqlx::query(
                "UPDATE jobs SET state = 'queued', crashes = 0, finished_at = NULL, error_code = NULL,
                   error_detail = NULL, cancel_requested_at = NULL, phase = NULL, progress = NULL WHERE id = ?",
            )
            .bind(id.to_string())
            .execute(&mut *tx)
            .await?;
            state_event(&mut tx, *id, *attempt, JobState::Queued).await?;
        }
        tx.commit().await?;
        Ok(members.iter().filter(|member| member.state != JobState::Succeeded).map(|member| member.id).collect())
    }

    /// Deletes what is finished with its metrics, events and log. What was published stays.
    ///
    /// # Errors
    /// [`StoreError::State`] when not all of it is finished.
    pub async fn delete_job(&self, id: Uuid) -> Result<()> {
        let mut tx = self.write().await?;
        let members = members(&mut tx, id).await?;
        if !members.iter().all(|member| member.state.is_final()) {
            return Err(refused(&members, "deleted; cancel it first"));
        }
        for member in &members {
            sqlx::query("DELETE FROM jobs WHERE id = ?").bind(member.id.to_string()).execute(&mut *tx).await?;
        }
        // A sweep ends with its last job.
        sqlx::query("DELETE FROM sweeps WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE sweep_id = sweeps.id)")
            .execute(&mut *tx)
            .await?;
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
            models::crown(&mut tx, parse_id(id)?).await?;
        }
        tx.commit().await?;
        Ok(left.len() as u64)
    }
}

async fn earlier_request<'e>(
    executor: impl sqlx::Executor<'e, Database = Sqlite>,
    idempotency: &Idempotency,
) -> Result<Option<Uuid>> {
    let found: Option<(String, String)> = sqlx::query_as(
        "SELECT COALESCE(sweep_id, id), request_sha256 FROM jobs WHERE idempotency_key = ? AND created_at > ?",
    )
    .bind(&idempotency.key)
    .bind(now() - Idempotency::LIFE.as_millis() as i64)
    .fetch_optional(executor)
    .await?;
    idempotency.same_request(found)
}

fn refused(members: &[Member], what: &str) -> StoreError {
    let detail = match members {
        [one] => format!("the job is {} and cannot be {what}", one.state.as_str()),
        many => {
            let count = |state| many.iter().filter(|member| member.state == state).count();
            let states = JobState::ALL.into_iter().filter(|&state| count(state) > 0);
            let states: Vec<String> = states.map(|state| format!("{} {}", count(state), state.as_str())).collect();
            format!("of its {} jobs {}: it cannot be {what}", many.len(), states.join(", "))
        }
    };
    StoreError::State { detail }
}
