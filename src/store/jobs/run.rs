//! What the worker writes while a job runs. Every write carries the attempt and is refused when the job
//! belongs to another one by now: a worker that was thought dead can spoil nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::{Sqlite, Transaction};
use uuid::Uuid;

use super::JobState;
use super::history::{event, state_event};
use crate::store::artifacts::{self, Staged};
use crate::store::models::{self, NewVersion};
use crate::store::{Result, Store, StoreError, VersionRow, champion, commit, now, orphans, to_json};
use crate::train::event::{Event, LogLevel};

/// What somebody asked of a running job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To end it.
    Cancel,
    /// To stop it with a checkpoint until it is resumed.
    Pause,
}

/// Codes of failures after which the checkpoints are of no use: what is in them led there.
pub const NOTHING_TO_GO_ON_FROM: [&str; 2] = ["diverged", "collapsed"];

/// The code of a run that could not read the weights it starts from: it has no checkpoint then, whatever was noted of one.
const NO_START: &str = "pretrained";

/// How the line ends that says so in a job's log: the one here, and that of a run which finds checkpoints and can use none of them
/// (`train/epochs.rs`).
const BEGINS_ANEW: &str = "the run begins anew";

/// Adds the attempt that ends at the moment `$now` to what was worked before. One whose server died is known to have lived
/// to the end of its lease.
macro_rules! worked {
    ($now:literal) => {
        concat!(
            "worked_ms = worked_ms + MAX(0, MIN(",
            $now,
            ", COALESCE(lease_expires_at, ",
            $now,
            ")) - COALESCE(started_at, ",
            $now,
            "))"
        )
    };
}
pub(super) use worked;

/// Whether an epoch is among the events.
pub(super) const EPOCH_TOLD: &str =
    "SELECT 1 FROM job_events WHERE job_id = ? AND kind = 'epoch' AND data ->> '$.epoch' = ? LIMIT 1";

impl Store {
    /// Renews the lease, and tells what somebody asked of the job.
    ///
    /// # Errors
    /// [`StoreError::Fenced`].
    pub async fn heartbeat(&self, id: Uuid, attempt: u32, lease: Duration) -> Result<Option<Wish>> {
        let wishes: Option<(bool, bool)> = sqlx::query_as(
            "UPDATE jobs SET lease_expires_at = ? WHERE id = ? AND attempt = ? AND state = 'running'
             RETURNING cancel_requested_at IS NOT NULL, pause_requested_at IS NOT NULL",
        )
        .bind(now() + lease.as_millis() as i64)
        .bind(id.to_string())
        .bind(attempt)
        .fetch_optional(self.writable()?)
        .await?;
        match wishes {
            None => Err(StoreError::Fenced { job: id, attempt }),
            Some((true, _)) => Ok(Some(Wish::Cancel)),
            Some((false, true)) => Ok(Some(Wish::Pause)),
            Some((false, false)) => Ok(None),
        }
    }

    /// Writes a child's events, all or none.
    ///
    /// # Errors
    /// [`StoreError::Fenced`].
    pub async fn record(&self, id: Uuid, attempt: u32, events: &[Event]) -> Result<()> {
        let mut tx = self.fenced(id, attempt).await?;
        for event in events {
            record_one(&mut tx, id, attempt, event).await?;
        }
        commit(tx).await
    }

    /// Publishes the model in `model_dir` and ends the job, in one transaction. The files are noted before they come, and in place
    /// before any row names them.
    ///
    /// # Errors
    /// [`StoreError::Fenced`], or when the files cannot be read or kept.
    pub async fn finish_succeeded(&self, id: Uuid, attempt: u32, model_dir: &Path) -> Result<VersionRow> {
        let _files = self.files.read().await;
        let (new, files) = stage_model(model_dir, self.artifacts.clone()).await?;
        self.keep_artifacts(files).await?;
        let mut tx = self.fenced(id, attempt).await?;
        let name: String = sqlx::query_scalar("SELECT model_name FROM jobs WHERE id = ?")
            .bind(id.to_string())
            .fetch_one(&mut *tx)
            .await?;
        orphans::settle(&mut *tx, &new.artifacts()).await?;
        let row = models::publish(&mut tx, &name, id, new).await?;
        finish(&mut tx, id, attempt, JobState::Succeeded, None, Some(row.version)).await?;
        commit(tx).await?;
        Ok(row)
    }

    /// Ends the job with a reason.
    ///
    /// # Errors
    /// [`StoreError::Fenced`].
    pub async fn finish_failed(&self, id: Uuid, attempt: u32, code: &str, detail: &str) -> Result<()> {
        let mut tx = self.fenced(id, attempt).await?;
        finish(&mut tx, id, attempt, JobState::Failed, Some((code, detail)), None).await?;
        commit(tx).await
    }

    /// Ends the job because somebody asked.
    ///
    /// # Errors
    /// [`StoreError::Fenced`].
    pub async fn finish_canceled(&self, id: Uuid, attempt: u32) -> Result<()> {
        let mut tx = self.fenced(id, attempt).await?;
        finish(&mut tx, id, attempt, JobState::Canceled, None, None).await?;
        commit(tx).await
    }

    /// Ends an attempt that stopped in order: canceled or paused where somebody asks for that now, else back into the
    /// queue. No crash is counted. Gives what the job is now.
    ///
    /// # Errors
    /// [`StoreError::Fenced`].
    pub async fn release(&self, id: Uuid, attempt: u32) -> Result<JobState> {
        let mut tx = self.fenced(id, attempt).await?;
        let (cancel, pause): (bool, bool) = sqlx::query_as(
            "SELECT cancel_requested_at IS NOT NULL, pause_requested_at IS NOT NULL FROM jobs WHERE id = ?",
        )
        .bind(id.to_string())
        .fetch_one(&mut *tx)
        .await?;
        if cancel {
            finish(&mut tx, id, attempt, JobState::Canceled, None, None).await?;
            return commit(tx).await.map(|()| JobState::Canceled);
        }
        let next = if pause { JobState::Paused } else { JobState::Queued };
        sqlx::query(concat!(
            "UPDATE jobs SET state = ?1, owner = NULL, lease_expires_at = NULL, ",
            worked!("?3"),
            " WHERE id = ?2"
        ))
        .bind(next.as_str())
        .bind(id.to_string())
        .bind(now())
        .execute(&mut *tx)
        .await?;
        state_event(&mut tx, id, attempt, next).await?;
        commit(tx).await.map(|()| next)
    }

    /// A transaction on a job that this attempt still owns.
    pub(super) async fn fenced(&self, id: Uuid, attempt: u32) -> Result<Transaction<'static, Sqlite>> {
        let mut tx = self.write().await?;
        let owned: Option<i64> =
            sqlx::query_scalar("SELECT 1 FROM jobs WHERE id = ? AND attempt = ? AND state = 'running'")
                .bind(id.to_string())
                .bind(attempt)
                .fetch_optional(&mut *tx)
                .await?;
        if owned.is_none() {
            return Err(StoreError::Fenced { job: id, attempt });
        }
        Ok(tx)
    }
}

/// A run's model, and its files on their way to the artifacts in `root`.
async fn stage_model(directory: &Path, root: PathBuf) -> Result<(NewVersion, Vec<Staged>)> {
    let path = directory.to_owned();
    let stage = move || {
        let mut files = Vec::new();
        let new = NewVersion::from_files(&path, |file| {
            let staged = artifacts::stage_own(&root, file)?;
            let sha256 = staged.sha256.clone();
            files.push(staged);
            Ok(sha256)
        })?;
        Ok((new, files))
    };
    tokio::task::spawn_blocking(stage)
        .await
        .map_err(|error| StoreError::Artifact { path: directory.to_owned(), reason: error.to_string() })?
}

/// Ends a job.
pub(super) async fn finish(
    tx: &mut Transaction<'_, Sqlite>,
    id: Uuid,
    attempt: u32,
    state: JobState,
    error: Option<(&str, &str)>,
    version: Option<u32>,
) -> Result<()> {
    // Its checkpoints go with the run (`worker/run.rs`); who looked for the weights to start from found none.
    let without = |(code, _): (&str, &str)| code == NO_START || NOTHING_TO_GO_ON_FROM.contains(&code);
    let spent = state == JobState::Succeeded || error.is_some_and(without);
    sqlx::query(concat!(
        "UPDATE jobs SET state = ?1, owner = NULL, lease_expires_at = NULL, finished_at = MAX(?2, COALESCE(started_at, 0)),
           error_code = ?3, error_detail = ?4, model_version = ?5,
           checkpoint_step = CASE WHEN ?6 THEN NULL ELSE checkpoint_step END, ",
        worked!("?2"),
        " WHERE id = ?7"
    ))
    .bind(state.as_str())
    // A clock that was set back must not end a job before it began.
    .bind(now())
    .bind(error.map(|(code, _)| code))
    .bind(error.map(|(_, detail)| detail))
    .bind(version)
    .bind(spent)
    .bind(id.to_string())
    .execute(&mut **tx)
    .await?;
    champion::crown(tx, id).await?;
    state_event(tx, id, attempt, state).await
}

/// Progress that is no news any more: by its index, which names the kind as it is written here.
pub(super) const OVERTAKEN_STEPS: &str = "DELETE FROM job_events WHERE job_id = ? AND kind = 'step' AND seq < ?";
pub(super) const OVERTAKEN_PRETRAINING: &str =
    "DELETE FROM job_events WHERE job_id = ? AND kind = 'pretraining' AND seq < ?";

/// Forgets such events of a job before the one with this number.
async fn forget_before(tx: &mut Transaction<'_, Sqlite>, id: Uuid, seq: i64, overtaken: &'static str) -> Result<()> {
    sqlx::query(overtaken).bind(id.to_string()).bind(seq).execute(&mut **tx).await?;
    Ok(())
}

async fn record_one(tx: &mut Transaction<'_, Sqlite>, id: Uuid, attempt: u32, said: &Event) -> Result<()> {
    match said {
        Event::Phase { phase } => {
            set(tx, id, "UPDATE jobs SET phase = ? WHERE id = ?", phase.as_str()).await?;
            sqlx::query("INSERT INTO job_phases (job_id, attempt, phase, at) VALUES (?, ?, ?, ?)")
                .bind(id.to_string())
                .bind(attempt)
                .bind(phase.as_str())
                .bind(now())
                .execute(&mut **tx)
                .await?;
            event(tx, id, attempt, "phase", to_json(&serde_json::json!({ "phase": phase }))?).await?;
        }
        Event::Start { step, epoch, restored } => {
            restart(tx, id, attempt, (*step, *epoch), *restored).await?;
        }
        Event::Checkpoint { step } => {
            if *step == 0 {
                // Only a run without a checkpoint of its own pretrains.
                lose_checkpoint(tx, id, attempt).await?;
            }
            // One of pretraining is after no step, and yet further than the one before; not than what came after a step and was lost.
            sqlx::query(
                "UPDATE jobs SET checkpoint_step = ?1, crash_step = CASE WHEN ?1 > 0 OR crash_step > 0 THEN crash_step END,
                   death_step = CASE WHEN ?1 > 0 OR death_step > 0 THEN death_step END
                 WHERE id = ?2",
            )
            .bind(*step as i64)
            .bind(id.to_string())
            .execute(&mut **tx)
            .await?;
        }
        Event::Pretraining(progress) => {
            let progress = to_json(progress)?;
            set(tx, id, "UPDATE jobs SET pretraining = ? WHERE id = ?", &progress).await?;
            let seq = event(tx, id, attempt, "pretraining", progress).await?;
            forget_before(tx, id, seq, OVERTAKEN_PRETRAINING).await?;
        }
        Event::Step(progress) => {
            let progress = to_json(progress)?;
            set(tx, id, "UPDATE jobs SET progress = ? WHERE id = ?", &progress).await?;
            let seq = event(tx, id, attempt, "step", progress).await?;
            forget_before(tx, id, seq, OVERTAKEN_STEPS).await?;
        }
        Event::Epoch(metrics) => {
            let row = to_json(metrics)?;
            sqlx::query(
                "INSERT OR REPLACE INTO job_metrics
                   (job_id, attempt, epoch, collapsed, validation_accuracy, validation_loss, metrics)
                 VALUES (?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(id.to_string())
            .bind(attempt)
            .bind(metrics.epoch)
            .bind(metrics.validation_collapsed)
            .bind(metrics.validation_accuracy)
            .bind(metrics.validation_loss)
            .bind(&row)
            .execute(&mut **tx)
            .await?;
            // A resumed run tells the epochs before again; whoever reads the events has heard of them.
            let told: Option<i64> = sqlx::query_scalar(EPOCH_TOLD)
                .bind(id.to_string())
                .bind(metrics.epoch)
                .fetch_optional(&mut **tx)
                .await?;
            if told.is_none() {
                event(tx, id, attempt, "epoch", row).await?;
            }
        }
        Event::Test(metrics) => {
            let test = to_json(metrics)?;
            set(tx, id, "UPDATE jobs SET test = ? WHERE id = ?", &test).await?;
            event(tx, id, attempt, "test", test).await?;
        }
        Event::Log { level, message } => log(tx, id, attempt, *level, message).await?,
        Event::Problem { code, detail } => {
            let data = to_json(&serde_json::json!({ "code": code, "detail": detail }))?;
            event(tx, id, attempt, "problem", data).await?;
        }
        // The files are published by `finish_succeeded`; where they lie meanwhile is nobody's business. Nor is a sign of life.
        Event::Model { .. } | Event::Alive => {}
    }
    Ok(())
}

/// Appends a line to the job's log, and the event that it is.
async fn log(tx: &mut Transaction<'_, Sqlite>, id: Uuid, attempt: u32, level: LogLevel, message: &str) -> Result<()> {
    sqlx::query("INSERT INTO job_logs (job_id, attempt, at, level, message) VALUES (?, ?, ?, ?, ?)")
        .bind(id.to_string())
        .bind(attempt)
        .bind(now())
        .bind(level.as_str())
        .bind(message)
        .execute(&mut **tx)
        .await?;
    let data = to_json(&serde_json::json!({ "level": level, "message": message }))?;
    event(tx, id, attempt, "log", data).await.map(drop)
}

/// Training begins after so many steps and whole epochs: what was told of later ones is void. Where it was `restored`, a checkpoint after
/// that step is there, be it after none.
async fn restart(
    tx: &mut Transaction<'_, Sqlite>,
    id: Uuid,
    attempt: u32,
    (step, epoch): (u64, u32),
    restored: bool,
) -> Result<()> {
    if !restored {
        lose_checkpoint(tx, id, attempt).await?;
    }
    sqlx::query("DELETE FROM job_metrics WHERE job_id = ? AND epoch > ?")
        .bind(id.to_string())
        .bind(epoch)
        .execute(&mut **tx)
        .await?;
    sqlx::query("DELETE FROM job_events WHERE job_id = ? AND kind = 'epoch' AND data ->> '$.epoch' > ?")
        .bind(id.to_string())
        .bind(epoch)
        .execute(&mut **tx)
        .await?;
    sqlx::query("UPDATE jobs SET checkpoint_step = ?1, progress = CASE WHEN ?1 > 0 THEN progress END WHERE id = ?2")
        .bind(restored.then_some(step as i64))
        .bind(id.to_string())
        .execute(&mut **tx)
        .await?;
    let data = to_json(&serde_json::json!({ "step": step, "epoch": epoch }))?;
    event(tx, id, attempt, "start", data).await.map(drop)
}

/// Before a run begins from nothing: where the job had a checkpoint, what it held is lost, and whoever reads the log is to know. Where the
/// run or its server died before is no measure then of how far it gets. But what is lost again and again stays measured, or a run that
/// always dies at one place, and whose checkpoints can never be used, would be tried without end.
async fn lose_checkpoint(tx: &mut Transaction<'_, Sqlite>, id: Uuid, attempt: u32) -> Result<()> {
    let lost: Option<i64> = sqlx::query_scalar("SELECT checkpoint_step FROM jobs WHERE id = ? AND checkpoint_step > 0")
        .bind(id.to_string())
        .fetch_optional(&mut **tx)
        .await?;
    let Some(step) = lost else { return Ok(()) };
    let before: Option<u32> = sqlx::query_scalar(
        "SELECT attempt FROM job_events WHERE job_id = ? AND kind = 'start' ORDER BY seq DESC LIMIT 1",
    )
    .bind(id.to_string())
    .fetch_optional(&mut **tx)
    .await?;
    let again = match before {
        Some(before) => began_anew(tx, id, before).await?,
        None => false,
    };
    if !again {
        sqlx::query("UPDATE jobs SET crash_step = NULL, death_step = NULL WHERE id = ?")
            .bind(id.to_string())
            .execute(&mut **tx)
            .await?;
    }
    if began_anew(tx, id, attempt).await? {
        return Ok(());
    }
    let message = format!("its checkpoint after step {step} is not there any more: {BEGINS_ANEW}");
    log(tx, id, attempt, LogLevel::Warn, &message).await
}

/// Whether this attempt at the job has said that it begins anew.
async fn began_anew(tx: &mut Transaction<'_, Sqlite>, id: Uuid, attempt: u32) -> Result<bool> {
    let said: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM job_logs WHERE job_id = ? AND attempt = ? AND message LIKE '%' || ? LIMIT 1")
            .bind(id.to_string())
            .bind(attempt)
            .bind(BEGINS_ANEW)
            .fetch_optional(&mut **tx)
            .await?;
    Ok(said.is_some())
}

async fn set(tx: &mut Transaction<'_, Sqlite>, id: Uuid, statement: &'static str, value: &str) -> Result<()> {
    sqlx::query(statement).bind(value).bind(id.to_string()).execute(&mut **tx).await?;
    Ok(())
}
