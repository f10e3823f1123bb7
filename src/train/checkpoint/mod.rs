//! Checkpoints: a run's whole state on the disk, so that what is killed goes on where it was.
//!
//! `snapshot` is the state by name, `file` how it becomes one file, and [`Checkpoints`] when it does: which
//! files there are, which one a run continues from, and how seldom they are written for the run not to feel it.
//! What a run consists of is `course`'s to know.

mod file;
mod snapshot;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use snapshot::Snapshot;

/// Whole checkpoints that are kept: the newest, and the one before in case the disk loses that.
const KEPT: usize = 2;

/// A run spends at most one part in so many of its time on checkpoints: where writing one takes long (a gigabyte
/// for `wide_resnet50_2`), they come less often.
const SHARE: u32 = 50;

/// At an epoch's end, where less is in between and less must be done again, one is written after this share of the
/// interval already.
const EPOCH_SHARE: u32 = 10;

/// Why there is no checkpoint. None of these ends a run: it goes on without, and says so.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system refuses.
    #[error("checkpoint {}: {reason}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
    /// The file is not what was written.
    #[error("checkpoint {} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How that shows.
        reason: String,
    },
    /// Another version of the program wrote it.
    #[error("checkpoint {} is of another version, {found}, of the format", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version it says it is.
        found: u8,
    },
    /// It is whole, and of another run.
    #[error("the checkpoint does not fit this run: {0}")]
    Unfit(String),
    /// What it would be put into cannot be made, whatever stands in it.
    #[error("{0}")]
    NotReady(String),
    /// Something cannot be written in the format.
    #[error("a checkpoint cannot hold this: {0}")]
    Encoding(String),
    /// libtorch's.
    #[error("libtorch: {}", .0.to_string().lines().next().unwrap_or("unknown error"))]
    Torch(#[from] tch::TchError),
}

impl CheckpointError {
    /// What the file system refused at `path`.
    fn io(path: &Path) -> impl Fn(std::io::Error) -> Self {
        move |error| Self::Io { path: path.to_owned(), reason: error.to_string() }
    }

    /// True where the machine failed and not the file: the disk did not answer, memory was lacking, or the device is another's.
    /// The same file may be read tomorrow.
    fn is_the_machines(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::NotReady(_) | Self::Torch(_))
    }
}

/// Where and how often a run's state is written.
#[derive(Clone, Copy, Debug)]
pub struct CheckpointPlan<'a> {
    /// A directory that lasts as long as the job, whatever becomes of this attempt at it.
    pub directory: &'a Path,
    /// At most so long between two of them; at the ends of epochs after a tenth of it. Zero writes one after every step,
    /// whatever that costs.
    pub every: Duration,
}

/// The checkpoints of one job.
#[derive(Debug)]
pub struct Checkpoints {
    directory: PathBuf,
    every: Duration,
    /// When the last one was written, and how long that took.
    last: Instant,
    cost: Duration,
    /// The step of the last one.
    newest: Option<u64>,
}

impl Checkpoints {
    /// The checkpoints in a directory, which is made where there is none. What a killed process left half written is
    /// removed.
    ///
    /// # Errors
    /// [`CheckpointError::Io`]: where the directory is not there and cannot be made, or is there and cannot be read.
    pub fn open(plan: CheckpointPlan<'_>) -> Result<Self, CheckpointError> {
        let directory = plan.directory;
        let io = CheckpointError::io(directory);
        fs::create_dir_all(directory).map_err(&io)?;
        for entry in fs::read_dir(directory).map_err(&io)? {
            let path = entry.map_err(&io)?.path();
            if path.extension().is_some_and(|extension| extension == "tmp") {
                // Where it stays, it is in nobody's way.
                let _ = fs::remove_file(&path);
            }
        }
        Ok(Self {
            directory: directory.to_owned(),
            every: plan.every,
            last: Instant::now(),
            cost: Duration::ZERO,
            newest: None,
        })
    }

    /// Whether it is time for one.
    pub fn due(&self, epoch_ends: bool) -> bool {
        if self.every.is_zero() {
            return true;
        }
        let since = self.last.elapsed();
        let wanted = if epoch_ends { self.every / EPOCH_SHARE } else { self.every };
        since >= wanted && since >= self.cost * SHARE
    }

    /// Writes the state after `step` optimiser steps, then forgets all but the last two. The state of that very step
    /// is not written again.
    ///
    /// # Errors
    /// When it cannot be written; those that are there stay.
    pub fn save(
        &mut self,
        step: u64,
        snapshot: impl FnOnce() -> Result<Snapshot, CheckpointError>,
    ) -> Result<(), CheckpointError> {
        if self.newest == Some(step) {
            return Ok(());
        }
        let started = Instant::now();
        let written = snapshot().and_then(|snapshot| file::write(&self.path(step), &snapshot));
        // A disk that refuses is not asked again at once either.
        (self.last, self.cost) = (Instant::now(), started.elapsed());
        written?;
        self.newest = Some(step);
        for (_, path) in self.list().into_iter().flatten().skip(KEPT) {
            let _ = fs::remove_file(path);
        }
        Ok(())
    }

    /// The newest state that `restore` accepts. Each one that it, or its hash, refuses is set aside and told of
    /// through `refused`.
    ///
    /// # Errors
    /// When the machine fails while one is taken up. All files stay where they are then.
    pub fn newest<T>(
        &mut self,
        mut restore: impl FnMut(&Snapshot) -> Result<T, CheckpointError>,
        mut refused: impl FnMut(CheckpointError),
    ) -> Result<Option<T>, CheckpointError> {
        for (step, path) in self.list()? {
            match file::read(&path).and_then(|snapshot| restore(&snapshot)) {
                Ok(restored) => {
                    self.newest = Some(step);
                    return Ok(Some(restored));
                }
                Err(error) if error.is_the_machines() => return Err(error),
                Err(error) => {
                    refused(error);
                    // Kept for a person to look at, but out of the way of the ones that follow.
                    let _ = fs::rename(&path, path.with_extension("unusable"));
                }
            }
        }
        Ok(None)
    }

    /// Steps and files, newest first.
    fn list(&self) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
        let io = CheckpointError::io(&self.directory);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(&io)? {
            let path = entry.map_err(&io)?.path();
            if let Some(step) = step_of(&path) {
                found.push((step, path));
            }
        }
        found.sort_by(|a, b| b.cmp(a));
        Ok(found)
    }

    fn path(&self, step: u64) -> PathBuf {
        self.directory.join(format!("step-{step:012}.checkpoint"))
    }
}

fn step_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix("step-")?.strip_suffix(".checkpoint")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &Path, every: Duration) -> Checkpoints {
        Checkpoints::open(CheckpointPlan { directory, every }).unwrap()
    }

    fn save(checkpoints: &mut Checkpoints, step: u64) {
        let state = || {
            let mut snapshot = Snapshot::default();
            snapshot.put("step", &step)?;
            Ok(snapshot)
        };
        checkpoints.save(step, state).unwrap();
    }

    /// The newest step that is whole, and what was said about the others.
    fn newest(directory: &Path) -> (Option<u64>, Vec<String>) {
        let mut said = Vec::new();
        let step = open(directory, Duration::ZERO)
            .newest(|snapshot| snapshot.get("step"), |error| said.push(error.to_string()))
            .unwrap();
        (step, said)
    }

    #[test]
    fn the_last_two_are_kept_and_a_damaged_one_gives_way_to_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let mut checkpoints = open(directory.path(), Duration::ZERO);
        for step in [5, 10, 15] {
            save(&mut checkpoints, step);
        }
        assert_eq!(checkpoints.list().unwrap().iter().map(|(step, _)| *step).collect::<Vec<_>>(), [15, 10]);
        assert_eq!(newest(directory.path()), (Some(15), vec![]));

        let path = checkpoints.path(15);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 3]).unwrap();
        let (step, said) = newest(directory.path());
        assert_eq!(step, Some(10));
        assert!(said.len() == 1 && said[0].contains("step-000000000015") && said[0].contains("damaged"), "{said:?}");
        // It is out of the way: the next ones are kept beside the good one.
        assert_eq!(newest(directory.path()), (Some(10), vec![]));
        let mut checkpoints = open(directory.path(), Duration::ZERO);
        save(&mut checkpoints, 12);
        assert_eq!(checkpoints.list().unwrap().iter().map(|(step, _)| *step).collect::<Vec<_>>(), [12, 10]);
    }

    #[test]
    fn where_the_machine_fails_no_checkpoint_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let mut checkpoints = open(directory.path(), Duration::ZERO);
        save(&mut checkpoints, 5);
        save(&mut checkpoints, 10);
        let of_the_machine: [fn() -> CheckpointError; 2] = [
            || CheckpointError::NotReady("no room on the GPU".to_owned()),
            || CheckpointError::Torch(tch::TchError::Torch("not enough memory".to_owned())),
        ];
        for failure in of_the_machine {
            let failed = checkpoints.newest(|_| Err::<u64, _>(failure()), |error| panic!("refused: {error}"));
            assert_eq!(failed.unwrap_err().to_string(), failure().to_string());
            assert_eq!(newest(directory.path()), (Some(10), vec![]), "both are still there");
        }

        // A path that cannot be read now: the name leads nowhere but round in a circle.
        let (path, aside) = (checkpoints.path(10), directory.path().join("aside"));
        fs::rename(&path, &aside).unwrap();
        std::os::unix::fs::symlink(&path, &path).unwrap();
        let failed = checkpoints.newest(|snapshot| snapshot.get::<u64>("step"), |error| panic!("refused: {error}"));
        assert!(matches!(failed, Err(CheckpointError::Io { .. })), "{failed:?}");
        fs::rename(&aside, &path).unwrap();
        assert_eq!(newest(directory.path()), (Some(10), vec![]), "it is taken up when the disk answers again");

        let misfit = |_: &Snapshot| Err::<u64, _>(CheckpointError::Unfit("another run's".to_owned()));
        assert_eq!(checkpoints.newest(misfit, |_| {}).unwrap(), None);
        assert_eq!(newest(directory.path()), (None, vec![]), "what never fits is set aside");
    }

    #[test]
    fn what_a_killed_process_left_is_cleared_away() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("step-000000000009.tmp"), b"half").unwrap();
        assert_eq!(newest(directory.path()), (None, vec![]));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn they_are_written_by_the_clock_and_sooner_at_the_end_of_an_epoch() {
        let directory = tempfile::tempdir().unwrap();
        let mut checkpoints = open(directory.path(), Duration::from_secs(60));
        checkpoints.last = Instant::now() - Duration::from_secs(7);
        assert!(checkpoints.due(true) && !checkpoints.due(false));
        checkpoints.cost = Duration::from_secs(1);
        assert!(!checkpoints.due(true), "a file that takes a second is not written every seven");
        checkpoints.last = Instant::now() - Duration::from_secs(61);
        assert!(checkpoints.due(true) && checkpoints.due(false));
    }

    #[test]
    fn a_refusing_disk_leaves_the_old_one_in_place() {
        let directory = tempfile::tempdir().unwrap();
        let mut checkpoints = open(directory.path(), Duration::ZERO);
        save(&mut checkpoints, 3);
        // A directory of that name is in the way of the new file.
        fs::create_dir(checkpoints.path(4).with_extension("tmp")).unwrap();
        assert!(checkpoints.save(4, || Ok(Snapshot::default())).is_err());
        fs::remove_dir(checkpoints.path(4).with_extension("tmp")).unwrap();
        assert_eq!(newest(directory.path()).0, Some(3));
    }
}
