//! Jobs that are deleted: their rows first, then what happened in them.
//!
//! A sweep's history may be hundreds of thousands of rows, and whoever else writes waits for the end of each transaction. So the jobs
//! go in a short one that notes them in `forgotten_jobs`; from then on nobody finds them. Their events, metrics, phases and log lines
//! go after it, a bounded number in a transaction. What a kill cuts off, the next start does: the table says of which jobs. Another one,
//! `passing_runs`, says whose directory may still be there.

use sqlx::{Sqlite, Transaction};
use uuid::Uuid;

use super::parse_id;
use super::sweeps::members;
use super::wishes::refused;
use crate::store::{Result, Store, commit};

/// Rows that go in one transaction: whoever else writes does so in between.
const BATCH: u32 = 1000;

/// What happened in the job ?1, at most ?2 rows of it. Whoever adds a table of that kind adds it here.
pub(super) const HISTORY: [&str; 4] = [
    "DELETE FROM job_events WHERE seq IN (SELECT seq FROM job_events WHERE job_id = ?1 LIMIT ?2)",
    "DELETE FROM job_metrics WHERE job_id = ?1
       AND (attempt, epoch) IN (SELECT attempt, epoch FROM job_metrics WHERE job_id = ?1 LIMIT ?2)",
    "DELETE FROM job_logs WHERE seq IN (SELECT seq FROM job_logs WHERE job_id = ?1 LIMIT ?2)",
    "DELETE FROM job_phases WHERE rowid IN (SELECT rowid FROM job_phases WHERE job_id = ?1 LIMIT ?2)",
];

impl Store {
    /// Deletes what is finished with its metrics, events and log. What was published stays. Gives the jobs that are
    /// gone: their directories are the caller's to remove, afterwards.
    ///
    /// # Errors
    /// [`StoreError::State`](crate::store::StoreError::State) when not all of it is finished.
    pub async fn delete_job(&self, id: Uuid) -> Result<Vec<Uuid>> {
        let jobs = self.forget_jobs(id).await?;
        // Those of earlier deletions too, where the disk was full meanwhile.
        if let Err(error) = self.erase_forgotten().await {
            // The jobs are gone, as was asked.
            tracing::warn!(%error, "rows of deleted jobs are left; the next deletion or start removes them");
        }
        Ok(jobs)
    }

    /// Deletes the rows of the jobs that are meant by an id, and notes that their history is still there.
    pub(super) async fn forget_jobs(&self, id: Uuid) -> Result<Vec<Uuid>> {
        let mut tx = self.write().await?;
        let members = members(&mut tx, id).await?;
        if !members.iter().all(|member| member.state.is_final()) {
            return Err(refused(&members, "deleted; cancel it first"));
        }
        for member in &members {
            forget(&mut tx, member.id).await?;
        }
        commit(tx).await?;
        Ok(members.iter().map(|member| member.id).collect())
    }

    /// Removes what is left of the history of deleted jobs: what an earlier process was killed over.
    ///
    /// # Errors
    /// The database's.
    pub(in crate::store) async fn erase_forgotten(&self) -> Result<()> {
        let ids: Vec<String> = sqlx::query_scalar("SELECT id FROM forgotten_jobs").fetch_all(&self.reader).await?;
        let jobs = ids.iter().map(|id| parse_id(id)).collect::<Result<Vec<_>>>()?;
        self.erase_histories(&jobs).await
    }

    async fn erase_histories(&self, jobs: &[Uuid]) -> Result<()> {
        let mut left = jobs;
        while !left.is_empty() {
            left = self.erase_batch(left, BATCH).await?;
        }
        Ok(())
    }

    /// Removes at most `limit` rows of the history of deleted jobs, in one transaction; gives the jobs that are not done yet.
    pub(super) async fn erase_batch<'a>(&self, jobs: &'a [Uuid], limit: u32) -> Result<&'a [Uuid]> {
        let (mut left, mut room) = (jobs, i64::from(limit));
        let mut tx = self.write().await?;
        while room > 0
            && let Some((job, rest)) = left.split_first()
        {
            for erase in HISTORY {
                let gone = sqlx::query(erase).bind(job.to_string()).bind(room).execute(&mut *tx).await?;
                room -= gone.rows_affected() as i64;
            }
            if room <= 0 {
                // There may be more of it.
                break;
            }
            sqlx::query("DELETE FROM forgotten_jobs WHERE id = ?").bind(job.to_string()).execute(&mut *tx).await?;
            // Of jobs without a history, too, not all go at once.
            room -= 1;
            left = rest;
        }
        commit(tx).await?;
        Ok(left)
    }
}

/// Deletes a job's row, and its sweep's with the last one.
async fn forget(tx: &mut Transaction<'_, Sqlite>, id: Uuid) -> Result<()> {
    let (sweep, key, request): (Option<String>, Option<String>, Option<String>) =
        sqlx::query_as("DELETE FROM jobs WHERE id = ? RETURNING sweep_id, idempotency_key, request_sha256")
            .bind(id.to_string())
            .fetch_one(&mut **tx)
            .await?;
    for note in ["INSERT INTO forgotten_jobs (id) VALUES (?)", "INSERT INTO passing_runs (id) VALUES (?)"] {
        sqlx::query(note).bind(id.to_string()).execute(&mut **tx).await?;
    }
    let Some(sweep) = sweep else { return Ok(()) };
    // The sweep is there as long as one of its jobs is: its request, sent again, is to find it.
    if let (Some(key), Some(request)) = (key, request) {
        sqlx::query(
            "UPDATE jobs SET idempotency_key = ?2, request_sha256 = ?3
             WHERE id = (SELECT id FROM jobs WHERE sweep_id = ?1 ORDER BY id LIMIT 1)",
        )
        .bind(&sweep)
        .bind(key)
        .bind(request)
        .execute(&mut **tx)
        .await?;
    }
    sqlx::query("DELETE FROM sweeps WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM jobs WHERE sweep_id = ?1)")
        .bind(sweep)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
