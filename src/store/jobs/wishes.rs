//! What people ask of jobs: cancel, pause, resume, retry (to delete them: `deletion`). Where a child is at work the wish
//! is a column that its worker reads with the next heartbeat; else it is done at once.
//!
//! Each reaches a sweep's jobs through its id, and a job's baseline through the job's. Repeating is harmless.

use sqlx::{Sqlite, Transaction};
use uuid::Uuid;

use super::JobState;
use super::history::state_event;
use super::queue::has_weights;
use super::sweeps::{Member, members};
use crate::store::{Result, Store, StoreError, champion, commit, now};

impl Store {
    /// Asks to cancel: a queued or paused job is canceled at once, a running one by its worker. Gives the jobs that
    /// the wish reaches.
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
        for Member { id, state, attempt, .. } in &members {
            match state {
                JobState::Queued | JobState::Paused => {
                    sqlx::query(
                        "UPDATE jobs SET state = 'canceled', cancel_requested_at = ?1, finished_at = ?1 WHERE id = ?2",
                    )
                    .bind(now())
                    .bind(id.to_string())
                    .execute(&mut *tx)
                    .await?;
                    state_event(&mut tx, *id, *attempt, JobState::Canceled).await?;
                    champion::crown(&mut tx, *id).await?;
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
        commit(tx).await?;
        Ok(members.iter().map(|member| member.id).collect())
    }

    /// Asks to pause: a queued job waits from now on, a running one once its child has written a checkpoint. What is
    /// over stays as it is. Gives the jobs that the wish reaches.
    ///
    /// # Errors
    /// [`StoreError::State`] when everything is over.
    pub async fn pause_job(&self, id: Uuid) -> Result<Vec<Uuid>> {
        let mut tx = self.write().await?;
        let members = members(&mut tx, id).await?;
        if members.iter().all(|member| member.state.is_final()) {
            return Err(refused(&members, "paused"));
        }
        for Member { id, state, attempt, .. } in &members {
            let next = match state {
                JobState::Queued => JobState::Paused,
                JobState::Running => JobState::Running,
                JobState::Paused | JobState::Succeeded | JobState::Failed | JobState::Canceled => continue,
            };
            sqlx::query("UPDATE jobs SET state = ?, pause_requested_at = COALESCE(pause_requested_at, ?) WHERE id = ?")
                .bind(next.as_str())
                .bind(now())
                .bind(id.to_string())
                .execute(&mut *tx)
                .await?;
            if next != *state {
                state_event(&mut tx, *id, *attempt, next).await?;
            }
        }
        commit(tx).await?;
        Ok(members.iter().map(|member| member.id).collect())
    }

    /// Queues what is paused again and takes the wish to pause back where it was not met yet. What is over stays as it
    /// is. Gives the jobs that the wish reaches.
    ///
    /// # Errors
    /// [`StoreError::State`] when everything is over.
    pub async fn resume_job(&self, id: Uuid) -> Result<Vec<Uuid>> {
        let mut tx = self.write().await?;
        let members = members(&mut tx, id).await?;
        if members.iter().all(|member| member.state.is_final()) {
            return Err(refused(&members, "resumed"));
        }
        for Member { id, state, attempt, .. } in members.iter().filter(|member| !member.state.is_final()) {
            if *state == JobState::Paused {
                queue(
                    &mut tx,
                    *id,
                    *attempt,
                    "UPDATE jobs SET state = 'queued', pause_requested_at = NULL WHERE id = ?",
                )
                .await?;
            } else {
                // A child that stops already is queued when it has (`release` reads the wish anew).
                sqlx::query("UPDATE jobs SET pause_requested_at = NULL WHERE id = ?")
                    .bind(id.to_string())
                    .execute(&mut *tx)
                    .await?;
            }
        }
        commit(tx).await?;
        Ok(members.iter().map(|member| member.id).collect())
    }

    /// Queues what has failed or was canceled again, in the place of its age; the rest is left as it is. It goes on from
    /// its last checkpoint, where it left one. Gives the jobs that are not over now.
    ///
    /// A job that would begin with weights which were deleted stays as it is too, while others of them go on.
    ///
    /// While one of them is still being canceled none is retried: that one would end canceled all the same, and whoever asked for all
    /// would have all but one.
    ///
    /// # Errors
    /// [`StoreError::State`] when everything has succeeded, is paused, or lacks its data set or its weights, and when something is still
    /// being canceled.
    pub async fn retry_job(&self, id: Uuid) -> Result<Vec<Uuid>> {
        let mut tx = self.write().await?;
        let members = members(&mut tx, id).await?;
        if members.iter().all(|member| matches!(member.state, JobState::Succeeded | JobState::Paused)) {
            let resume = members.iter().any(|member| member.state == JobState::Paused);
            return Err(refused(&members, if resume { "retried; resume it" } else { "retried" }));
        }
        let stopping = members.iter().filter(|member| member.is_being_canceled()).count();
        if stopping > 0 {
            return Err(too_early(members.len(), stopping));
        }
        let (mut unfinished, mut lacks) = (Vec::new(), None);
        let mut goes_on = members.iter().any(|member| matches!(member.state, JobState::Queued | JobState::Running));
        for Member { id, state, attempt, .. } in &members {
            match state {
                JobState::Failed | JobState::Canceled => {}
                JobState::Succeeded => continue,
                JobState::Queued | JobState::Running | JobState::Paused => {
                    unfinished.push(*id);
                    continue;
                }
            }
            if !has_dataset(&mut tx, *id).await? {
                return Err(StoreError::State {
                    detail: "the job's data set was deleted; it cannot be retried".into(),
                });
            }
            if let Some(name) = lacking(&mut tx, *id).await? {
                lacks.get_or_insert(name);
                continue;
            }
            unfinished.push(*id);
            goes_on = true;
            queue(
                &mut tx,
                *id,
                *attempt,
                "UPDATE jobs SET state = 'queued', crashes = 0, crash_step = NULL, death_step = NULL, finished_at = NULL, error_code = NULL,
                   error_detail = NULL, cancel_requested_at = NULL, pause_requested_at = NULL, phase = NULL WHERE id = ?",
            )
            .await?;
        }
        if let Some(name) = lacks.filter(|_| !goes_on) {
            let detail = format!(
                "the weights {name:?} that the job starts from were deleted, and there is no checkpoint to go on from without them; import \
                 the same file again, under whatever name, to retry it"
            );
            return Err(StoreError::State { detail });
        }
        commit(tx).await?;
        Ok(unfinished)
    }
}

async fn has_dataset(tx: &mut Transaction<'_, Sqlite>, id: Uuid) -> Result<bool> {
    let there: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM datasets WHERE id = (SELECT dataset_id FROM jobs WHERE id = ?)")
            .bind(id.to_string())
            .fetch_optional(&mut **tx)
            .await?;
    Ok(there.is_some())
}

/// The name of the weights that a job would begin with and that were deleted. One with a checkpoint after a step does not read them
/// any more; pretraining does, whose own checkpoints count as after none.
async fn lacking(tx: &mut Transaction<'_, Sqlite>, id: Uuid) -> Result<Option<String>> {
    let starts_from: Option<(String, String)> = sqlx::query_as(
        "SELECT config ->> '$.pretrained', config ->> '$.pretrained_sha256' FROM jobs
         WHERE id = ? AND COALESCE(checkpoint_step, 0) = 0
           AND config ->> '$.pretrained' IS NOT NULL AND config ->> '$.pretrained_sha256' IS NOT NULL",
    )
    .bind(id.to_string())
    .fetch_optional(&mut **tx)
    .await?;
    let Some((name, sha256)) = starts_from else { return Ok(None) };
    Ok(if has_weights(tx, &sha256).await? { None } else { Some(name) })
}

/// Puts a job into the queue by `statement`.
async fn queue(tx: &mut Transaction<'_, Sqlite>, id: Uuid, attempt: u32, statement: &'static str) -> Result<()> {
    sqlx::query(statement).bind(id.to_string()).execute(&mut **tx).await?;
    state_event(tx, id, attempt, JobState::Queued).await
}

/// Why a wish is refused: what it is that all of them are.
pub(super) fn refused(members: &[Member], what: &str) -> StoreError {
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

/// Why a retry must wait: how many of so many jobs are still being canceled.
fn too_early(jobs: usize, stopping: usize) -> StoreError {
    let detail = match jobs {
        1 => "the job is still being canceled: retry it when it is canceled".to_owned(),
        many => format!("of its {many} jobs {stopping} still being canceled: retry it when no job is"),
    };
    StoreError::State { detail }
}
