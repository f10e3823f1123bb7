//! What happened in a job: events, metrics, log lines. Read here, written in `run`.

use std::num::NonZeroU32;

use sqlx::{Sqlite, Transaction};
use uuid::Uuid;

use super::JobState;
use crate::store::{Result, Store, from_json, now, time};
use crate::train::event::EpochMetrics;

/// An event; `seq` grows over all jobs, so that a client can say what it saw last.
#[derive(Clone, Debug, PartialEq)]
pub struct EventRow {
    /// Its number.
    pub seq: i64,
    /// When it was written.
    pub at: jiff::Timestamp,
    /// `state`, `phase`, `start`, `step`, `epoch`, `test`, `log` or `problem`.
    pub kind: String,
    /// What the kind says.
    pub data: serde_json::Value,
}

/// A log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRow {
    /// Its number.
    pub seq: i64,
    /// When it was written.
    pub at: jiff::Timestamp,
    /// `info`, `warn` or `error`.
    pub level: String,
    /// The line.
    pub message: String,
}

pub(super) const EVENTS: &str =
    "SELECT seq, at, kind, data FROM job_events WHERE job_id = ? AND seq > ? ORDER BY seq LIMIT ?";

pub(super) const METRICS: &str = "
    SELECT metrics FROM job_metrics
    WHERE job_id = ?1 AND attempt = (SELECT attempt FROM jobs WHERE id = ?1) AND epoch > ?2
    ORDER BY epoch LIMIT ?3";

/// From each epoch to the next one that is wanted by its key, so that what lies between is not read. A run's epochs
/// have no gaps; were one there, the epoch behind it would stand in, so that a page is never short before the end.
pub(super) const METRICS_EVERY: &str = "
    WITH RECURSIVE
      run (attempt) AS (SELECT attempt FROM jobs WHERE id = ?1),
      spaced (epoch) AS (
        SELECT (SELECT m.epoch FROM job_metrics m
                WHERE m.job_id = ?1 AND m.attempt = run.attempt AND m.epoch >= (?2 / ?4 + 1) * ?4
                ORDER BY m.epoch LIMIT 1) FROM run
        UNION ALL
        SELECT (SELECT m.epoch FROM job_metrics m
                WHERE m.job_id = ?1 AND m.attempt = (SELECT attempt FROM run) AND m.epoch >= (s.epoch / ?4 + 1) * ?4
                ORDER BY m.epoch LIMIT 1) FROM spaced s WHERE s.epoch IS NOT NULL
        LIMIT ?3),
      chosen (epoch) AS (
        SELECT epoch FROM spaced
        UNION SELECT (SELECT m.epoch FROM job_metrics m WHERE m.job_id = ?1 AND m.attempt = run.attempt
                      ORDER BY m.epoch LIMIT 1) FROM run
        UNION SELECT (SELECT m.epoch FROM job_metrics m WHERE m.job_id = ?1 AND m.attempt = run.attempt
                      ORDER BY m.epoch DESC LIMIT 1) FROM run
        UNION SELECT (SELECT m.epoch FROM job_metrics m WHERE m.job_id = ?1 AND m.attempt = run.attempt
                      ORDER BY m.collapsed, m.validation_accuracy DESC, m.validation_loss, m.epoch LIMIT 1) FROM run)
    SELECT m.metrics FROM chosen c CROSS JOIN job_metrics m
    WHERE m.job_id = ?1 AND m.attempt = (SELECT attempt FROM run) AND m.epoch = c.epoch AND c.epoch > ?2
    ORDER BY c.epoch LIMIT ?3";

impl Store {
    /// At most `limit` events behind number `after`, oldest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn job_events(&self, id: Uuid, after: i64, limit: u32) -> Result<Vec<EventRow>> {
        let rows: Vec<(i64, i64, String, String)> =
            sqlx::query_as(EVENTS).bind(id.to_string()).bind(after).bind(limit).fetch_all(&self.reader).await?;
        rows.into_iter()
            .map(|(seq, at, kind, data)| Ok(EventRow { seq, at: time(at)?, kind, data: from_json("event", &data)? }))
            .collect()
    }

    /// The number of a job's newest event, 0 before the first.
    ///
    /// # Errors
    /// The database's.
    pub async fn newest_event(&self, id: Uuid) -> Result<i64> {
        let newest = sqlx::query_scalar("SELECT COALESCE(MAX(seq), 0) FROM job_events WHERE job_id = ?");
        Ok(newest.bind(id.to_string()).fetch_one(&self.reader).await?)
    }

    /// At most `limit` of the last attempt's epochs behind epoch `after`, in order.
    ///
    /// # Errors
    /// [`crate::store::StoreError::NotFound`] for a job that is not there.
    pub async fn job_metrics(&self, id: Uuid, after: u32, limit: u32) -> Result<Vec<EpochMetrics>> {
        let query = sqlx::query_scalar(METRICS).bind(id.to_string()).bind(after).bind(limit);
        self.epochs(id, query.fetch_all(&self.reader).await?).await
    }

    /// The same of a part of the epochs: those that `every` divides, the first, the last, and the best (as
    /// [`JobRow::best`](super::JobRow::best)).
    ///
    /// # Errors
    /// [`crate::store::StoreError::NotFound`] for a job that is not there.
    pub async fn job_metrics_every(
        &self,
        id: Uuid,
        every: NonZeroU32,
        after: u32,
        limit: u32,
    ) -> Result<Vec<EpochMetrics>> {
        let query = sqlx::query_scalar(METRICS_EVERY).bind(id.to_string()).bind(after).bind(limit).bind(every.get());
        self.epochs(id, query.fetch_all(&self.reader).await?).await
    }

    /// Rows of a job, which may have none only if it is there.
    async fn epochs(&self, id: Uuid, rows: Vec<String>) -> Result<Vec<EpochMetrics>> {
        if rows.is_empty() {
            self.require_job(id).await?;
        }
        rows.iter().map(|row| from_json("metrics row", row)).collect()
    }

    /// At most `limit` log lines behind number `after`, oldest first.
    ///
    /// # Errors
    /// [`crate::store::StoreError::NotFound`] for a job that is not there.
    pub async fn job_logs(&self, id: Uuid, after: i64, limit: u32) -> Result<Vec<LogRow>> {
        self.require_job(id).await?;
        let rows: Vec<(i64, i64, String, String)> = sqlx::query_as(
            "SELECT seq, at, level, message FROM job_logs WHERE job_id = ? AND seq > ? ORDER BY seq LIMIT ?",
        )
        .bind(id.to_string())
        .bind(after)
        .bind(limit)
        .fetch_all(&self.reader)
        .await?;
        rows.into_iter().map(|(seq, at, level, message)| Ok(LogRow { seq, at: time(at)?, level, message })).collect()
    }

    /// The job's last log lines, newest first.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn last_logs(&self, id: Uuid, limit: u32) -> Result<Vec<String>> {
        let last = sqlx::query_scalar("SELECT message FROM job_logs WHERE job_id = ? ORDER BY seq DESC LIMIT ?");
        Ok(last.bind(id.to_string()).bind(limit).fetch_all(&self.reader).await?)
    }
}

/// Appends an event.
pub(super) async fn event(
    tx: &mut Transaction<'_, Sqlite>,
    job: Uuid,
    attempt: u32,
    kind: &str,
    data: String,
) -> Result<i64> {
    let inserted = sqlx::query("INSERT INTO job_events (job_id, attempt, at, kind, data) VALUES (?, ?, ?, ?, ?)")
        .bind(job.to_string())
        .bind(attempt)
        .bind(now())
        .bind(kind)
        .bind(data)
        .execute(&mut **tx)
        .await?;
    Ok(inserted.last_insert_rowid())
}

/// Appends the event that every change of state is.
pub(super) async fn state_event(
    tx: &mut Transaction<'_, Sqlite>,
    job: Uuid,
    attempt: u32,
    state: JobState,
) -> Result<()> {
    let data = serde_json::json!({ "state": state.as_str(), "attempt": attempt }).to_string();
    event(tx, job, attempt, "state", data).await.map(drop)
}
