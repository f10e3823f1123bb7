//! What becomes of a job whose run, or whose server, died without a last word.
//!
//! A run that crashes may crash again at the same place, so it is tried again by itself only while it gets further: only
//! where a checkpoint moved since the crash before. The death of a server is rarely the job's fault (a power cut, an
//! update), so that a job outlives some of those without a checkpoint too, and none of them counts as a crash.

use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Sqlite, Transaction};
use uuid::Uuid;

use super::history::state_event;
use super::run::{finish, worked};
use super::{JobState, parse_id};
use crate::store::{Result, Store, champion, commit, now};

/// Deaths of the server in a row, without a checkpoint moving in between, after which a job is given up.
const MOST_CRASHES: i64 = 3;

/// What is known of a job when its attempt has died.
struct Dead {
    cancel: bool,
    pause: bool,
    checkpoint: Option<i64>,
    /// The checkpoint at the last crash of a child.
    crash: Option<i64>,
    /// The checkpoint at the last death of the server.
    death: Option<i64>,
}

impl Dead {
    async fn read(tx: &mut Transaction<'_, Sqlite>, id: Uuid) -> Result<Self> {
        let (cancel, pause, checkpoint, crash, death) = sqlx::query_as(
            "SELECT cancel_requested_at IS NOT NULL, pause_requested_at IS NOT NULL, checkpoint_step, crash_step, death_step
             FROM jobs WHERE id = ?",
        )
        .bind(id.to_string())
        .fetch_one(&mut **tx)
        .await?;
        Ok(Self { cancel, pause, checkpoint, crash, death })
    }

    /// Whether it got further than where it was `before`.
    fn moved(&self, before: Option<i64>) -> bool {
        self.checkpoint.is_some_and(|checkpoint| before.is_none_or(|before| checkpoint > before))
    }
}

impl Store {
    /// Ends an attempt whose child died without saying why: the job goes on from its checkpoint if that moved since
    /// the last crash, else it fails with `code` and `detail`. A wish to cancel or to pause is met instead. Gives
    /// what the job is now.
    ///
    /// # Errors
    /// [`crate::store::StoreError::Fenced`].
    pub async fn finish_crashed(&self, id: Uuid, attempt: u32, code: &str, detail: &str) -> Result<JobState> {
        let mut tx = self.fenced(id, attempt).await?;
        let dead = Dead::read(&mut tx, id).await?;
        let next = match &dead {
            Dead { cancel: true, .. } => JobState::Canceled,
            Dead { pause: true, .. } => JobState::Paused,
            dead if dead.moved(dead.crash) => JobState::Queued,
            _ => JobState::Failed,
        };
        match next {
            JobState::Queued | JobState::Paused => {
                let died = "UPDATE jobs SET crashes = 0, crash_step = checkpoint_step WHERE id = ?";
                requeue(&mut tx, id, attempt, next, sqlx::query(died)).await?;
            }
            JobState::Failed => {
                let detail = match dead.checkpoint {
                    None => format!("{detail}; it left no checkpoint to go on from"),
                    Some(step) => format!(
                        "{detail}; that happened before, and it came no further than its checkpoint after step {step}, so \
                         it is not tried again by itself"
                    ),
                };
                finish(&mut tx, id, attempt, JobState::Failed, Some((code, &detail)), None).await?;
            }
            _ => finish(&mut tx, id, attempt, next, None, None).await?,
        }
        commit(tx).await?;
        Ok(next)
    }

    /// Takes back the jobs that an earlier boot left running: canceled or paused where that was asked for, failed
    /// after too many crashes in a row that got no further, else queued again. Gives their number.
    ///
    /// # Errors
    /// The database's.
    pub async fn reclaim(&self, boot: Uuid) -> Result<u64> {
        let mut tx = self.write().await?;
        let left: Vec<(String, u32, i64)> =
            sqlx::query_as("SELECT id, attempt, crashes FROM jobs WHERE state = 'running' AND owner <> ?")
                .bind(boot.to_string())
                .fetch_all(&mut *tx)
                .await?;
        for (id, attempt, crashes) in &left {
            let (id, attempt) = (parse_id(id)?, *attempt);
            let dead = Dead::read(&mut tx, id).await?;
            let crashes = if dead.moved(dead.death) { 1 } else { crashes + 1 };
            let died =
                sqlx::query("UPDATE jobs SET crashes = ?, death_step = checkpoint_step WHERE id = ?").bind(crashes);
            if dead.cancel {
                finish(&mut tx, id, attempt, JobState::Canceled, None, None).await?;
            } else if dead.pause {
                requeue(&mut tx, id, attempt, JobState::Paused, died).await?;
            } else if crashes >= MOST_CRASHES {
                let detail = format!(
                    "the server ended {crashes} times while this job ran and came no further; it is not tried again by \
                     itself"
                );
                finish(&mut tx, id, attempt, JobState::Failed, Some(("crashed_repeatedly", &detail)), None).await?;
            } else {
                requeue(&mut tx, id, attempt, JobState::Queued, died).await?;
            }
            champion::crown(&mut tx, id).await?;
        }
        commit(tx).await?;
        Ok(left.len() as u64)
    }
}

/// Takes the job from its dead attempt; `died` remembers how far it had come, and lacks the job's id.
async fn requeue(
    tx: &mut Transaction<'_, Sqlite>,
    id: Uuid,
    attempt: u32,
    next: JobState,
    died: Query<'_, Sqlite, SqliteArguments>,
) -> Result<()> {
    died.bind(id.to_string()).execute(&mut **tx).await?;
    sqlx::query(concat!(
        "UPDATE jobs SET state = ?1, owner = NULL, lease_expires_at = NULL,
           pause_requested_at = CASE WHEN ?1 = 'paused' THEN COALESCE(pause_requested_at, ?2) END, ",
        worked!("?2"),
        " WHERE id = ?3"
    ))
    .bind(next.as_str())
    .bind(now())
    .bind(id.to_string())
    .execute(&mut **tx)
    .await?;
    state_event(tx, id, attempt, next).await
}
