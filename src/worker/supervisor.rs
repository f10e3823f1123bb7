//! The supervisor: one task a slot that claims a job, carries it out, and claims the next.
//!
//! The wake-up is registered *before* the query for work: a job inserted in between wakes the task
//! instead of waiting for the next look.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::changes::Changes;
use super::process::{ChildCommand, Launcher};
use super::run::{Outcome, Run};
use super::slots::Slot;
use crate::config::WorkerConfig;
use crate::data_dir::DataDir;
use crate::dataset::MANIFEST_FILE;
use crate::store::{JobRow, Store};

/// A slot looks for work this often even if nobody wakes it.
const LOOK: Duration = Duration::from_secs(15);

/// The longest that a slot waits before it tries again to begin what the machine had no room for.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// After so many refusals in a row it waits longer: what has lasted for minutes may last for days, and every attempt leaves rows.
const PATIENT: u32 = 10;

/// The longest that it waits then.
const LONGEST_PATIENT_WAIT: Duration = Duration::from_secs(5 * 60);

/// What the slots share.
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) data: DataDir,
    pub(super) config: WorkerConfig,
    pub(super) child: ChildCommand,
    pub(super) launcher: Launcher,
    pub(super) changes: Changes,
    pub(super) stop: CancellationToken,
    /// Nothing more is claimed, and what runs goes on.
    holding: AtomicBool,
    wake: Notify,
    nudges: Mutex<HashMap<Uuid, Arc<Notify>>>,
    busy: AtomicUsize,
    slots: Vec<Slot>,
    boot: Uuid,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Shared {
    /// The notifier of a running job.
    pub(super) fn nudge(&self, job: Uuid) -> Arc<Notify> {
        Arc::clone(self.nudges.lock().expect("no panic while held").entry(job).or_default())
    }

    /// The job runs no more.
    pub(super) fn forget(&self, job: Uuid) {
        self.nudges.lock().expect("no panic while held").remove(&job);
    }

    /// Where the job's data set lies. It is there if its manifest is: a directory alone may be one that nothing is mounted on.
    pub(super) async fn dataset_dir(&self, job: &JobRow) -> std::io::Result<PathBuf> {
        let directory = tokio::fs::canonicalize(self.data.dataset(job.dataset_id)).await?;
        tokio::fs::metadata(directory.join(MANIFEST_FILE)).await?;
        Ok(directory)
    }

    /// Where the weights lie that the job starts from. They are there if they can be opened, and need not be where a checkpoint after a step
    /// holds others already: of such a job they may have been deleted.
    pub(super) async fn weights(&self, job: &JobRow) -> std::io::Result<Option<PathBuf>> {
        let Some(sha256) = job.config.pretrained_sha256.as_deref() else { return Ok(None) };
        let path = self.store.artifact(sha256);
        // The child works in another directory than the one that a relative data directory counts from.
        let path = std::path::absolute(&path).unwrap_or(path);
        if job.checkpoint_step.unwrap_or(0) == 0 {
            tokio::fs::File::open(&path).await?;
        }
        Ok(Some(path))
    }
}

/// A handle on the running slots. Cheap to clone.
#[derive(Clone)]
pub struct Supervisor(Arc<Shared>);

impl Supervisor {
    /// Takes back the leases of an earlier boot and starts the slots.
    ///
    /// # Errors
    /// When the store cannot be read or the system refuses a thread.
    pub async fn start(
        store: Store,
        data: DataDir,
        config: WorkerConfig,
        slots: Vec<Slot>,
        changes: Changes,
    ) -> anyhow::Result<Self> {
        let child = match &config.child {
            Some(child) => child.clone(),
            None => ChildCommand::own()?,
        };
        let boot = Uuid::now_v7();
        let reclaimed = store.reclaim(boot).await?;
        if reclaimed > 0 {
            tracing::warn!(jobs = reclaimed, "jobs that an earlier server left running go back to the queue");
        }
        let supervisor = Self(Arc::new(Shared {
            store,
            data,
            config,
            child,
            launcher: Launcher::start()?,
            changes,
            stop: CancellationToken::new(),
            holding: AtomicBool::new(false),
            wake: Notify::new(),
            nudges: Mutex::default(),
            busy: AtomicUsize::new(0),
            slots: slots.clone(),
            boot,
            tasks: Mutex::default(),
        }));
        let tasks = slots.into_iter().map(|slot| tokio::spawn(work(Arc::clone(&supervisor.0), slot))).collect();
        *supervisor.0.tasks.lock().expect("no panic while held") = tasks;
        Ok(supervisor)
    }

    /// There may be work: call it after a job was queued.
    pub fn wake(&self) {
        self.0.wake.notify_waiters();
    }

    /// A wish about this job was stored: its run looks at once instead of at the next heartbeat.
    pub fn nudge(&self, job: Uuid) {
        if let Some(nudge) = self.0.nudges.lock().expect("no panic while held").get(&job) {
            nudge.notify_one();
        }
        self.0.changes.announce(job);
    }

    /// Who announces changes.
    pub fn changes(&self) -> &Changes {
        &self.0.changes
    }

    /// The slots, in order.
    pub fn slots(&self) -> &[Slot] {
        &self.0.slots
    }

    /// Slots with a run.
    pub fn busy(&self) -> usize {
        self.0.busy.load(Ordering::Relaxed)
    }

    /// Claims nothing more; what runs goes on.
    pub fn hold(&self) {
        self.0.holding.store(true, Ordering::Relaxed);
    }

    /// Claims nothing more, stops the children, puts their jobs back into the queue, and waits for all of
    /// it. Repeating is harmless.
    pub async fn shutdown(&self) {
        self.0.stop.cancel();
        let tasks = std::mem::take(&mut *self.0.tasks.lock().expect("no panic while held"));
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a slot's task failed");
            }
        }
    }
}

async fn work(shared: Arc<Shared>, slot: Slot) {
    // Attempts in a row that the machine could not begin or end.
    let mut refused = 0;
    // Jobs among them that found no room, and data sets and weights whose files are not there: one that needs what the disk does not have
    // would keep all others waiting.
    let mut aside = Vec::new();
    // Whether any of them lacks files. It costs nothing to find that they are not there: nobody waits before the queue was walked.
    let mut absent = false;
    while !shared.stop.is_cancelled() {
        let woken = shared.wake.notified();
        tokio::pin!(woken);
        woken.as_mut().enable();
        if shared.holding.load(Ordering::Relaxed) {
            shared.stop.cancelled().await;
            return;
        }
        let device = slot.device.to_string();
        let pause = match shared.store.claim_but(&aside, shared.boot, &device, shared.config.lease).await {
            Ok(Some(job)) => {
                let (id, dataset) = (job.id.to_string(), job.dataset_id.to_string());
                let weights = job.config.pretrained_sha256.clone();
                match attempt(&shared, &slot, job).await {
                    Outcome::Ended => {
                        // What ended may have made room.
                        aside.clear();
                        (refused, absent) = (0, false);
                        continue;
                    }
                    Outcome::NoDataset => {
                        aside.push(dataset);
                        absent = true;
                        continue;
                    }
                    Outcome::NoWeights => {
                        aside.push(weights.unwrap_or(id));
                        absent = true;
                        continue;
                    }
                    Outcome::NoRoom => aside.push(id),
                    Outcome::Refused => {}
                }
                refused += 1;
                wait_after(refused)
            }
            // Behind the last of them it is the first one's turn again.
            Ok(None) if !aside.is_empty() => {
                aside.clear();
                if !std::mem::take(&mut absent) {
                    continue;
                }
                refused += 1;
                wait_after(refused)
            }
            // What was refused is gone: canceled, or deleted.
            Ok(None) => {
                refused = 0;
                LOOK
            }
            Err(error) => {
                tracing::error!(%error, slot = slot.index, "the queue could not be read");
                Duration::from_secs(2)
            }
        };
        tokio::select! {
            () = woken, if heeds_a_wake(refused) => {}
            () = tokio::time::sleep(pause) => {}
            () = shared.stop.cancelled() => {}
        }
    }
}

/// Whether a slot looks at once where a job was queued. A new one changes nothing about a full disk, while that is tried again within half a
/// minute; who comes back after hours has made room and is not to wait for minutes.
fn heeds_a_wake(refused: u32) -> bool {
    refused == 0 || refused > PATIENT
}

/// How long a slot waits after so many attempts in a row that the machine refused.
fn wait_after(refused: u32) -> Duration {
    match refused.saturating_sub(PATIENT) {
        0 => LONGEST_WAIT.min(Duration::from_secs(1 << refused)),
        more => LONGEST_PATIENT_WAIT.min(LONGEST_WAIT * (1 + more.min(10))),
    }
}

async fn attempt(shared: &Arc<Shared>, slot: &Slot, job: JobRow) -> Outcome {
    let (id, attempt) = (job.id, job.attempt);
    shared.busy.fetch_add(1, Ordering::Relaxed);
    shared.changes.announce(id);
    // A bug in following one run must cost neither the slot nor the job's final state.
    let carried_out = AssertUnwindSafe(Run::new(shared, slot, job).carry_out()).catch_unwind().await;
    if carried_out.is_err() {
        tracing::error!(job = %id, "following a run panicked");
        let detail = "the server failed while following this run; the cause is in its log";
        let _ = shared.store.finish_failed(id, attempt, "internal", detail).await;
    }
    shared.busy.fetch_sub(1, Ordering::Relaxed);
    carried_out.unwrap_or(Outcome::Ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_is_refused_for_long_waits_for_minutes() {
        let seconds = |refused| wait_after(refused).as_secs();
        assert_eq!([1, 2, 4, 5, 10].map(seconds), [2, 4, 16, 30, 30]);
        assert_eq!([11, 12, 19, 1000, u32::MAX].map(seconds), [60, 90, 300, 300, 300]);
        assert_eq!([0, 1, 10, 11, 1000].map(heeds_a_wake), [true, false, false, true, true]);
    }
}
