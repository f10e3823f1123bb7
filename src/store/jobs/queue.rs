//! Into the queue and out of it: insert and claim.

use std::time::Duration;

use sqlx::{Sqlite, Transaction};
use uuid::Uuid;

use super::history::state_event;
use super::row::{BY_ID, Idempotency, JobRow, NewJobs, Raw};
use super::run::finish;
use super::{JobState, parse_id};
use crate::dataset::model_name;
use crate::store::{Result, Store, StoreError, commit, now, to_json};
use crate::train::config::TrainConfig;

/// Without the name of the index SQLite sorted the whole queue for each claim. `?5` is a JSON array of what is passed over: ids of
/// jobs, those of data sets with all jobs on them, and hashes of weights with all jobs that are still to start from them (`artifact_needs!`).
pub(super) const CLAIM: &str = "
    UPDATE jobs SET state = 'running', attempt = attempt + 1, owner = ?1, device = ?2, started_at = ?3,
      lease_expires_at = ?4, phase = NULL, test = NULL,
      progress = CASE WHEN checkpoint_step IS NOT NULL THEN progress END,
      pretraining = CASE WHEN checkpoint_step IS NOT NULL THEN pretraining END
    WHERE id = (SELECT id FROM jobs INDEXED BY jobs_queue WHERE state = 'queued'
      AND id NOT IN (SELECT value FROM json_each(?5)) AND dataset_id NOT IN (SELECT value FROM json_each(?5))
      AND (COALESCE(checkpoint_step, 0) > 0
        OR COALESCE(config ->> '$.pretrained_sha256', '') NOT IN (SELECT value FROM json_each(?5)))
      ORDER BY priority DESC, id LIMIT 1)
    RETURNING id, attempt";

impl Store {
    /// Queues the jobs of a request, all or none, and gives the id that stands for them: the sweep's, or that of
    /// the job that is no baseline. An earlier request with the same key and body gives what it made.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the data set or the weights to start from are gone, [`StoreError::KeyReused`].
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
        for config in new.jobs.iter().map(|job| &job.config) {
            // They were there when the request was read; here nobody can delete them before the job stands.
            weights_are_there(&mut tx, config).await?;
        }
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
            .bind(model_name(&task))
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
        commit(tx).await?;
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
        self.claim_but(&[], boot, device, lease).await
    }

    /// The same, passing over `aside`: the ids of jobs that the machine has no room for at the moment, where others may find some; those of data
    /// sets that it lacks the files of, with all jobs on them; and the hashes of weights that it lacks, with all jobs that still read them.
    ///
    /// # Errors
    /// The database's.
    pub async fn claim_but(
        &self,
        aside: &[String],
        boot: Uuid,
        device: &str,
        lease: Duration,
    ) -> Result<Option<JobRow>> {
        let mut tx = self.write().await?;
        let now = now();
        let claimed: Option<(String, u32)> = sqlx::query_as(CLAIM)
            .bind(boot.to_string())
            .bind(device)
            .bind(now)
            .bind(now + lease.as_millis() as i64)
            .bind(to_json(&aside)?)
            .fetch_optional(&mut *tx)
            .await?;
        let Some((id, attempt)) = claimed else { return Ok(None) };
        // What the last attempt told stays to be seen until this one says from where it goes on (`Event::Start`).
        sqlx::query("UPDATE job_metrics SET attempt = ?1 WHERE job_id = ?2")
            .bind(attempt)
            .bind(&id)
            .execute(&mut *tx)
            .await?;
        state_event(&mut tx, parse_id(&id)?, attempt, JobState::Running).await?;
        let row: Raw = sqlx::query_as(BY_ID).bind(&id).fetch_one(&mut *tx).await?;
        match row.parse_to_run() {
            Ok(row) => {
                commit(tx).await?;
                Ok(Some(row))
            }
            // Claimed, it would be running for good with nobody at work on it; left in the queue, it would be the next one for ever.
            Err(error) => {
                let reason = ("unreadable", &*format!("{error}; delete the job, and queue it anew"));
                finish(&mut tx, parse_id(&id)?, attempt, JobState::Failed, Some(reason), None).await?;
                commit(tx).await?;
                Err(error)
            }
        }
    }
}

async fn weights_are_there(tx: &mut Transaction<'_, Sqlite>, config: &TrainConfig) -> Result<()> {
    let (Some(name), Some(sha256)) = (&config.pretrained, &config.pretrained_sha256) else { return Ok(()) };
    if has_weights(tx, sha256).await? { Ok(()) } else { Err(StoreError::not_found("set of weights", name)) }
}

/// Whether weights of that content are there to start from, under whatever name.
pub(super) async fn has_weights(tx: &mut Transaction<'_, Sqlite>, sha256: &str) -> Result<bool> {
    let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM pretrained_weights WHERE sha256 = ?")
        .bind(sha256)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(found.is_some())
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
