//! The end of an attempt: what its child left behind becomes the one final write, made as often as it takes.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use super::{Outcome, Run, STDERR, Stop, remove};
use crate::failpoint;
use crate::store::{JobState, NOTHING_TO_GO_ON_FROM, StoreError};
use crate::train::event::{Event, LogLevel};
use crate::worker::process::explain;

/// How often a write that must be made is tried while the server stops: for about ten seconds, and longer where the database
/// is busy. Until then it is tried without end.
const TRIALS: u32 = 6;

/// The longest pause between two trials.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// The longest pause between two trials to publish a model that finds no room.
const LONGEST_FOR_ROOM: Duration = Duration::from_secs(16);

/// How an attempt without a model ends.
#[derive(Debug, Clone, Copy)]
enum Final<'a> {
    /// It stopped because it was asked to: what the job is then depends on what is wished for by then.
    Released,
    /// It died without a word: the job may go on from its checkpoint.
    Crashed {
        code: &'a str,
        detail: &'a str,
    },
    Failed {
        code: &'a str,
        detail: &'a str,
    },
}

impl Run<'_> {
    /// The one final write, and whether the machine, and not the run, is why it ended.
    pub(super) async fn finish(&mut self, status: Option<ExitStatus>, stderr: &str) -> Outcome {
        let done = status.is_some_and(|status| status.success());
        match (self.stop, self.model.take()) {
            (Some(Stop::Lost), _) => {}
            (_, Some(directory)) if done => self.publish(directory).await,
            (Some(Stop::Wish(_) | Stop::Shutdown), _) => {
                self.settle(Final::Released).await;
            }
            (Some(Stop::Silent), _) => {
                let minutes = self.shared.config.silence.as_secs_f64() / 60.0;
                let detail = format!("the run said nothing for {minutes:.1} minutes and was ended: it hung");
                self.crash("hung", &detail).await;
            }
            (None, _) => match self.problem.take() {
                // Whoever stops the server may signal its children too (systemd does), and first.
                Some((code, _)) if code == "stopped" => self.settle(Final::Released).await,
                // A GPU that has fallen off the bus would fail every job of the queue, one after another.
                Some((code, detail)) if code == "device" => {
                    self.postpone("begin", &detail).await;
                    return Outcome::Refused;
                }
                // So would a full disk, as they pack their images; what is trained waits for room in the child (`train/room.rs`).
                Some((code, detail)) if code == "no_room" => {
                    self.postpone("go on", &detail).await;
                    return Outcome::NoRoom;
                }
                // What a run says of itself it would say again; a panic is a crash that could still speak, and a GPU that failed may
                // be another's tomorrow.
                Some((code, detail)) if !["panic", "gpu"].contains(&code.as_str()) => {
                    if NOTHING_TO_GO_ON_FROM.contains(&code.as_str()) {
                        // Before the final write: behind it, the checkpoints may be those of a retry already.
                        remove(&self.shared.data.run(self.job.id)).await;
                    }
                    self.fail(&code, &detail).await;
                }
                Some((code, detail)) => self.crash(&code, &detail).await,
                // Before it could heed the signal, libtorch was still being loaded.
                None if status.is_some_and(|status| status.signal() == Some(libc::SIGTERM)) => {
                    self.settle(Final::Released).await;
                }
                None => {
                    let (code, detail) = reason(status, stderr);
                    self.crash(code, &detail).await;
                }
            },
        }
        Outcome::Ended
    }

    /// Files first, then the row that names them.
    async fn publish(&mut self, directory: PathBuf) {
        let (job, attempt) = (self.job.id, self.job.attempt);
        let mut refused = 0;
        for trial in 0.. {
            if !self.write().await && !self.gives_up(trial) {
                pause(trial).await;
                self.renew().await;
                // Whoever could store a wish, and this process that it was read, does not find the database held: there is no room.
                if matches!(self.stop, Some(Stop::Wish(_))) && !self.write().await {
                    return self.settle(Final::Released).await;
                }
                continue;
            }
            match self.shared.store.finish_succeeded(job, attempt, &directory).await {
                Ok(model) => {
                    tracing::info!(%job, model = %model.name, version = model.version, "run finished, model published");
                    self.spent = true;
                    return;
                }
                Err(error @ StoreError::Fenced { .. }) => return self.store_failed("publishing", &error),
                // Given up, it is the next server's: the job goes on from its checkpoint there.
                Err(error) if error.is_busy() => {
                    self.store_failed("publishing", &error);
                    if self.gives_up(trial) {
                        return;
                    }
                    pause(trial).await;
                }
                Err(error) if error.is_full() => {
                    if !self.waits_for_room(refused, &error).await {
                        return self.settle(Final::Released).await;
                    }
                    refused += 1;
                }
                Err(error) => {
                    tracing::error!(%job, %error, "the model could not be published");
                    let detail = format!("the model could not be published: {}", told(&error));
                    return self.fail("publish_failed", &detail).await;
                }
            }
        }
    }

    /// Waits before another trial to publish, as `train/room.rs` does and for the same reason: these files may be all that is left of what
    /// was trained. False where somebody wants the job or the server to stop.
    async fn waits_for_room(&mut self, refused: u32, error: &StoreError) -> bool {
        if refused == 0 {
            let message =
                format!("the model could not be published: {}; it is published as soon as there is room", told(error));
            tracing::warn!(job = %self.job.id, "{message}");
            self.collector.event(Event::Log { level: LogLevel::Warn, message });
        }
        let nudge = self.shared.nudge(self.job.id);
        tokio::select! {
            () = tokio::time::sleep(LONGEST_FOR_ROOM.min(Duration::from_secs(1 << refused.min(10)))) => {}
            () = nudge.notified() => {}
            () = self.shared.stop.cancelled() => {}
        }
        self.shared.forget(self.job.id);
        self.renew().await;
        self.stop.is_none() && !self.shared.stop.is_cancelled()
    }

    /// Back into the queue, as it was.
    pub(super) async fn postpone(&mut self, what: &str, detail: &str) {
        let outcome = format!("could not {what} ({detail}); the job waits in the queue");
        let message = format!("attempt {} {outcome}", self.job.attempt);
        tracing::warn!(job = %self.job.id, "{message}");
        if !self.said_last(&outcome).await {
            self.collector.event(Event::Log { level: LogLevel::Warn, message });
        }
        self.settle(Final::Released).await;
    }

    /// Whether an attempt before this one ended with these words: what is wrong with the machine may stay so for days, and each attempt
    /// would say it again. What its children wrote to stderr, where libraries complain, is not counted.
    async fn said_last(&self, outcome: &str) -> bool {
        let lines = self.shared.store.last_logs(self.job.id, 20).await.unwrap_or_default();
        lines.iter().find(|line| !line.starts_with(STDERR)).is_some_and(|line| line.ends_with(outcome))
    }

    async fn crash(&mut self, code: &str, detail: &str) {
        tracing::warn!(job = %self.job.id, code, detail, "run crashed");
        // In the log too: where the job goes on, that is the only place that tells of it.
        self.collector
            .event(Event::Log { level: LogLevel::Error, message: format!("attempt {}: {detail}", self.job.attempt) });
        self.settle(Final::Crashed { code, detail }).await;
    }

    pub(super) async fn fail(&mut self, code: &str, detail: &str) {
        tracing::warn!(job = %self.job.id, code, detail, "run failed");
        self.settle(Final::Failed { code, detail }).await;
    }

    /// Makes the final write behind all others, as often as it takes: a row that stays `running` would be reclaimed only at the next start,
    /// and until then nobody could cancel or delete the job. What the attempt leaves of its model goes before: no end but a publication has a
    /// use for it, and it may take the very room that the write waits for.
    async fn settle(&mut self, end: Final<'_>) {
        let (job, attempt) = (self.job.id, self.job.attempt);
        remove(&self.shared.data.run(job).join(attempt.to_string())).await;
        for trial in 0.. {
            if self.write().await || self.gives_up(trial) {
                match self.write_end(end).await {
                    Ok(state) => {
                        tracing::info!(%job, attempt, state = state.as_str(), "run ended");
                        return;
                    }
                    Err(error) => self.store_failed("the final write", &error),
                }
            }
            if self.stop == Some(Stop::Lost) || self.gives_up(trial) {
                return;
            }
            pause(trial).await;
        }
    }

    async fn write_end(&self, end: Final<'_>) -> Result<JobState, StoreError> {
        failpoint::pass("run.settle").map_err(|error| StoreError::Database(error.into()))?;
        let (store, job, attempt) = (&self.shared.store, self.job.id, self.job.attempt);
        match end {
            Final::Released => store.release(job, attempt).await,
            Final::Crashed { code, detail } => store.finish_crashed(job, attempt, code, detail).await,
            Final::Failed { code, detail } => {
                store.finish_failed(job, attempt, code, detail).await.map(|()| JobState::Failed)
            }
        }
    }

    /// Whether a write that must be made is given up after this trial: the next server reclaims the job.
    fn gives_up(&self, trial: u32) -> bool {
        trial + 1 >= TRIALS && self.shared.stop.is_cancelled()
    }
}

/// What whoever reads the job hears of it: where files lie on this machine is in the server's log.
fn told(error: &StoreError) -> String {
    match error {
        // What no system call said has been given the path of a temporary file (`tempfile`).
        StoreError::Io { error, .. } if error.raw_os_error().is_none() => {
            format!("a file of it cannot be kept: {}", error.kind())
        }
        StoreError::Io { error, .. } => format!("a file of it cannot be kept: {error}"),
        StoreError::Artifact { reason, .. } => format!("a file of it cannot be used: {reason}"),
        error => error.to_string(),
    }
}

/// Between two trials of a write that must be made.
async fn pause(trial: u32) {
    let doubled = Duration::from_millis(200).saturating_mul(1 << trial.min(10));
    tokio::time::sleep(doubled.min(LONGEST_PAUSE)).await;
}

/// Why a run without a word of its own ended.
fn reason(status: Option<ExitStatus>, stderr: &str) -> (&'static str, String) {
    let (code, mut detail) = match status {
        Some(status) => explain(status),
        None => ("exited", "the run ended and the system did not say how".to_owned()),
    };
    if let Some(last) = stderr.lines().rev().find(|line| !line.trim().is_empty()) {
        let last: String = last.chars().take(300).collect();
        detail.push_str(&format!(" (last line on stderr: {last})"));
    }
    (code, detail)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn where_a_file_cannot_be_kept_its_place_is_not_told() {
        let io = |error| StoreError::Io { path: "/data/artifacts".into(), error };
        let wrapped = tempfile::NamedTempFile::new_in(Path::new("/nowhere/at/all")).unwrap_err();
        assert!(wrapped.to_string().contains("/nowhere"), "{wrapped}");
        let said = told(&io(wrapped));
        assert!(!said.contains('/') && said.contains("not found"), "{said}");
        let said = told(&io(std::io::Error::from_raw_os_error(libc::EROFS)));
        assert!(said.contains("Read-only file system"), "{said}");
    }
}
