//! One attempt at a job, from the claimed row to its final state.
//!
//! The loop listens to five things at once: the child's lines, the heartbeat, a nudge (somebody asked to
//! cancel or pause), the server's stop, and the clocks for silence and for grace. Whatever happens, it ends with
//! the child gone and exactly one final write, which the attempt number fences.

mod end;

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::events::Collector;
use super::lines::Line;
use super::places::Places;
use super::process::Running;
use super::silence::Silence;
use super::slots::Slot;
use super::spec::RunSpec;
use super::supervisor::Shared;
use crate::failpoint;
use crate::store::{JobRow, StoreError, Wish};
use crate::train::event::{Event, LogLevel};

/// Collected events are written at once from this many on.
const BATCH: usize = 500;

/// Once the store has failed, what is collected waits so long for the next trial.
const AFTER_FAILURE: Duration = Duration::from_secs(2);

/// How long the lines are read that a child left in the pipe, once its end has been waited for.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// How the log's lines begin that a child wrote to its standard error.
const STDERR: &str = "stderr: ";

/// Why a child is being stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Somebody asked to cancel or to pause the job.
    Wish(Wish),
    /// The server stops; the job goes back to the queue.
    Shutdown,
    /// The child said nothing for too long.
    Silent,
    /// The lease is gone: another attempt owns the job now.
    Lost,
}

/// What an attempt says of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It ended by itself, or as it was asked to.
    Ended,
    /// The machine could not begin it: nor would it begin another one.
    Refused,
    /// There was no room for what this job needs: another may need less.
    NoRoom,
    /// The files of its data set are not there: nor are they for others on that data set.
    NoDataset,
    /// The weights that it starts from are not there: nor are they for others that start from them.
    NoWeights,
}

/// Why an attempt could not begin.
#[derive(Debug)]
struct NotStarted {
    detail: String,
    /// Whether the machine is why, so that it passes and the job is as good as before; else the job has ended.
    outcome: Outcome,
}

impl NotStarted {
    fn new(what: &str, error: &std::io::Error) -> Self {
        use std::io::ErrorKind::{OutOfMemory, QuotaExceeded, ResourceBusy, StorageFull, WouldBlock};
        let kinds = [StorageFull, QuotaExceeded, OutOfMemory, ResourceBusy, WouldBlock];
        let files = error.raw_os_error().is_some_and(|number| [libc::EMFILE, libc::ENFILE].contains(&number));
        let passes = files || kinds.contains(&error.kind());
        Self { detail: format!("{what}: {error}"), outcome: if passes { Outcome::Refused } else { Outcome::Ended } }
    }

    /// Files that somebody may bring back: the job waits for them, however the system says that they cannot be read.
    fn lacking(what: &str, error: &std::io::Error, outcome: Outcome) -> Self {
        match Self::new(what, error) {
            Self { detail, outcome: Outcome::Ended } => Self { detail, outcome },
            refused => refused,
        }
    }
}

/// One attempt.
pub(super) struct Run<'a> {
    shared: &'a Shared,
    slot: &'a Slot,
    job: JobRow,
    collector: Collector,
    places: Places,
    model: Option<PathBuf>,
    problem: Option<(String, String)>,
    stop: Option<Stop>,
    /// Events could not be written; until that goes well again it is tried by the clock alone.
    failing: bool,
    /// The job's checkpoints are of no use any more.
    spent: bool,
}

impl<'a> Run<'a> {
    pub(super) fn new(shared: &'a Shared, slot: &'a Slot, job: JobRow) -> Self {
        Self {
            shared,
            slot,
            job,
            collector: Collector::default(),
            places: Places::default(),
            model: None,
            problem: None,
            stop: None,
            failing: false,
            spent: false,
        }
    }

    /// Carries the attempt out. Where it did not end, the job is in the queue again, and the slot had better wait.
    pub(super) async fn carry_out(mut self) -> Outcome {
        let mut outcome = Outcome::Ended;
        let job_dir = self.shared.data.run(self.job.id);
        let run_dir = job_dir.join(self.job.attempt.to_string());
        match self.start(&run_dir).await {
            Ok(child) => {
                let (status, stderr) = self.follow(child).await;
                let stderr = self.places.hide(stderr);
                self.note_stderr(&stderr);
                outcome = self.finish(status, &stderr).await;
            }
            Err(NotStarted { detail, outcome: Outcome::Ended }) => self.fail("start_failed", &detail).await,
            Err(NotStarted { detail, outcome: why }) => {
                outcome = why;
                self.postpone("begin", &detail).await;
            }
        }
        // The checkpoints beside it stay, for whoever goes on with the job; once it has succeeded, they go as well.
        remove(if self.spent { &job_dir } else { &run_dir }).await;
        self.shared.changes.announce(self.job.id);
        outcome
    }

    async fn start(&mut self, run_dir: &std::path::Path) -> Result<Running, NotStarted> {
        let failed = NotStarted::new;
        // A stale directory of the same attempt can only be left from before a crash of the server.
        let _ = tokio::fs::remove_dir_all(run_dir).await;
        let create = async {
            failpoint::pass("run.create")?;
            tokio::fs::create_dir_all(run_dir).await
        };
        create.await.map_err(|error| failed("the run's directory could not be made", &error))?;
        let run_dir = tokio::fs::canonicalize(run_dir).await.map_err(|error| failed("the run's directory", &error))?;
        let dataset_dir = self.shared.dataset_dir(&self.job).await;
        let dataset_dir = dataset_dir.map_err(|error| self.without_dataset(&error))?;
        let pretrained = self.shared.weights(&self.job).await.map_err(|error| self.without_weights(&error))?;
        let spec = RunSpec {
            job_id: self.job.id,
            attempt: self.job.attempt,
            dataset_dir,
            run_dir: run_dir.clone(),
            config: self.job.config.clone(),
            device: self.slot.device_in_child().to_owned(),
            pretrained,
            checkpoint_dir: run_dir.parent().map(|job_dir| job_dir.join("checkpoints")),
            checkpoint_seconds: self.shared.config.checkpoint.as_secs_f64(),
            threads: self.slot.threads,
        };
        self.places = Places::of(&spec);
        let text = serde_json::to_vec(&spec).map_err(|error| failed("the run specification", &error.into()))?;
        let mut child = self
            .shared
            .launcher
            .spawn(&self.shared.child, self.slot, &run_dir)
            .await
            .map_err(|error| failed("the child process could not be started", &error))?;
        tracing::info!(job = %self.job.id, attempt = self.job.attempt, device = %self.slot.device, pid = child.pid(), "run started");
        child.tell(&text).await;
        Ok(child)
    }

    /// The data set's files cannot be read. It has its row, or the job would not be there (`store/in_use.rs`): what is missing is a disk that
    /// somebody may mount, or a right that somebody may give, and to fail would fail all the jobs on it, one after another.
    fn without_dataset(&self, error: &std::io::Error) -> NotStarted {
        let directory = self.shared.data.dataset(self.job.dataset_id);
        tracing::warn!(job = %self.job.id, directory = %directory.display(), %error, "a data set's files cannot be read");
        NotStarted::lacking(&format!("the files of data set {:?}", self.job.dataset_name), error, Outcome::NoDataset)
    }

    /// The file of the weights that the job starts from cannot be read. It is no more deleted than a data set's files are, while the job needs it
    /// (`store/orphans.rs`).
    fn without_weights(&self, error: &std::io::Error) -> NotStarted {
        let name = self.job.config.pretrained.as_deref().unwrap_or_default();
        let sha256 = self.job.config.pretrained_sha256.as_deref().unwrap_or_default();
        let file = self.shared.store.artifact(sha256);
        tracing::warn!(job = %self.job.id, file = %file.display(), %error, "the weights that a job starts from cannot be read");
        NotStarted::lacking(&format!("the file of the weights {name:?}"), error, Outcome::NoWeights)
    }

    /// Follows the child to its end.
    async fn follow(&mut self, mut child: Running) -> (Option<ExitStatus>, String) {
        let config = self.shared.config.clone();
        let mut lines = child.take_lines();
        let nudge = self.shared.nudge(self.job.id);
        let shutdown = self.shared.stop.clone();
        let far = Duration::from_secs(86_400 * 365);
        let mut heartbeat = tokio::time::interval(config.heartbeat);
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut silence = Silence::new(config.silence);
        let mut grace = Instant::now() + far;
        let mut flush = Instant::now() + far;
        let mut talking = true;
        let mut exited = None;

        // The pipe's end and the process' end may come in either order; a grandchild may even keep the
        // pipe open, so after the exit only what is already there is read.
        while talking || exited.is_none() {
            let stopped_before = self.stop;
            tokio::select! {
                line = lines.next(), if talking => match line {
                    Ok(Some(line)) => {
                        silence.heard();
                        if self.collector.is_empty() {
                            flush = Instant::now() + config.flush;
                        }
                        self.hear(line);
                        if self.collector.len() >= BATCH && !self.failing {
                            self.write().await;
                        }
                    }
                    Ok(None) | Err(_) => talking = false,
                },
                status = child.wait(), if exited.is_none() => {
                    exited = Some(status.ok());
                    grace = Instant::now() + Duration::from_secs(2);
                }
                () = sleep_until(grace) => {
                    if exited.is_some() {
                        // A write that the store kept waiting may have used up that time.
                        let rest = async { while let Ok(Some(line)) = lines.next().await { self.hear(line) } };
                        let _ended = tokio::time::timeout(LAST_WORDS, rest).await;
                        break;
                    }
                    tracing::warn!(job = %self.job.id, pid = child.pid(), "the child did not stop in time and is killed");
                    child.kill();
                    grace = Instant::now() + far;
                }
                () = sleep_until(silence.until()), if exited.is_none() && self.stop.is_none() => {
                    if silence.judge() {
                        self.stop = Some(Stop::Silent);
                    }
                }
                () = sleep_until(flush) => {
                    self.write().await;
                    let wait = if self.failing { AFTER_FAILURE } else { config.flush };
                    flush = Instant::now() + if self.collector.is_empty() { far } else { wait };
                }
                _ = heartbeat.tick() => self.renew().await,
                () = nudge.notified() => self.renew().await,
                () = shutdown.cancelled(), if self.waits_for_nothing_sooner() => self.stop = Some(Stop::Shutdown),
            }
            if self.stop != stopped_before && exited.is_none() {
                if matches!(self.stop, Some(Stop::Silent | Stop::Lost)) {
                    child.kill();
                } else {
                    child.terminate();
                    // Who asks for a pause wants the state kept, however long the step under way takes: until the child would have been
                    // taken for hung in any case.
                    let pause = self.stop == Some(Stop::Wish(Wish::Pause));
                    let left = silence.until().saturating_duration_since(Instant::now());
                    grace = Instant::now() + if pause { config.grace.max(left) } else { config.grace };
                }
            }
        }
        self.shared.forget(self.job.id);
        let stderr = child.stderr().await;
        (exited.flatten(), stderr)
    }

    /// Whether the child is not being stopped yet, or only paused, which may take long.
    fn waits_for_nothing_sooner(&self) -> bool {
        matches!(self.stop, None | Some(Stop::Wish(Wish::Pause)))
    }

    fn hear(&mut self, line: Line) {
        match self.collector.line(line) {
            Some(Event::Model { directory }) => self.model = Some(directory),
            Some(Event::Problem { code, detail }) => self.problem = Some((code, detail)),
            _ => {}
        }
    }

    /// Renews the lease and hears whether somebody wants the job canceled or paused.
    async fn renew(&mut self) {
        match self.shared.store.heartbeat(self.job.id, self.job.attempt, self.shared.config.lease).await {
            // A finished model is not thrown away for a wish that came too late.
            Ok(Some(wish)) if self.waits_for_nothing_sooner() && self.model.is_none() => {
                self.stop = Some(Stop::Wish(wish));
            }
            Ok(_) => {}
            Err(error) => self.store_failed("renewing the lease", &error),
        }
    }

    /// Writes what has been collected. False where that failed for a reason that passes, another process that holds the database or
    /// a full disk: behind the final write it could not be written any more.
    async fn write(&mut self) -> bool {
        if self.collector.is_empty() || self.stop == Some(Stop::Lost) {
            return true;
        }
        let events = self.collector.take();
        match self.shared.store.record(self.job.id, self.job.attempt, &events).await {
            Ok(()) => {
                self.failing = false;
                self.shared.changes.announce(self.job.id);
                true
            }
            Err(error) => {
                self.store_failed("writing events", &error);
                // A busy or full disk may recover.
                self.failing = true;
                self.collector.put_back(events);
                !(error.is_busy() || error.is_full())
            }
        }
    }

    fn store_failed(&mut self, doing: &str, error: &StoreError) {
        if matches!(error, StoreError::Fenced { .. }) {
            tracing::warn!(job = %self.job.id, attempt = self.job.attempt, "the lease is lost; the run is dropped");
            self.stop = Some(Stop::Lost);
        } else {
            tracing::error!(job = %self.job.id, %error, "{doing} failed");
        }
    }

    fn note_stderr(&mut self, stderr: &str) {
        for line in stderr.lines().filter(|line| !line.trim().is_empty()) {
            self.collector.event(Event::Log { level: LogLevel::Warn, message: format!("{STDERR}{line}") });
        }
    }
}

/// Removes a run's directory; that it cannot be is no reason to stop.
async fn remove(directory: &std::path::Path) {
    if let Err(error) = tokio::fs::remove_dir_all(directory).await
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %directory.display(), %error, "a run's directory could not be removed");
    }
}

#[cfg(test)]
mod tests {
    use std::io::Error;

    use super::*;

    /// Else a machine that is short of something for a moment would fail all that waits, one job after another.
    #[test]
    fn what_a_machine_lacks_for_a_moment_is_waited_for_and_what_is_wrong_with_it_is_not() {
        let of = |number| NotStarted::new("the child process", &Error::from_raw_os_error(number)).outcome;
        for number in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EAGAIN, libc::ENOSPC, libc::EDQUOT] {
            assert_eq!(of(number), Outcome::Refused, "{}", Error::from_raw_os_error(number));
        }
        assert_eq!((of(libc::ENOENT), of(libc::EACCES)), (Outcome::Ended, Outcome::Ended));
        let lacking =
            |number| NotStarted::lacking("the weights", &Error::from_raw_os_error(number), Outcome::NoWeights).outcome;
        assert_eq!((lacking(libc::ENOENT), lacking(libc::EMFILE)), (Outcome::NoWeights, Outcome::Refused));
    }
}
