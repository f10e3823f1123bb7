//! A trained model that finds the disk full. What it took hours to learn may lie in this process's memory alone, as its checkpoints had no
//! room either: so the run waits until there is room, and writes again.
//!
//! It waits without end, although it holds a slot. Whatever else ran there would find the same full disk at its own end, and a run that
//! gave up would come next in that slot, to learn again what it has here. Who wants the slot pauses or cancels the job.

use std::path::Path;
use std::time::{Duration, Instant};

use super::error::TrainError;
use super::event::Event;
use super::setting::{info, warn};

/// How often a pause looks whether it shall stop.
const LOOK: Duration = Duration::from_millis(100);

/// The pauses between two trials, each twice the one before.
#[derive(Clone, Copy, Debug)]
struct Pauses {
    first: Duration,
    longest: Duration,
}

/// The run says nothing meanwhile: the longest is well within a minute, the least that `--run-silence` allows.
const PAUSES: Pauses = Pauses { first: Duration::from_secs(1), longest: Duration::from_secs(30) };

/// Has `write` make `directory`, again and again while there is no room for it; what is half written is removed each time.
///
/// # Errors
/// [`TrainError::Stopped`], and `write`'s but for a full disk.
pub(super) fn write_when_there_is_room(
    directory: &Path,
    write: &mut dyn FnMut() -> Result<(), TrainError>,
    stop: &dyn Fn() -> bool,
    emit: &mut dyn FnMut(Event),
) -> Result<(), TrainError> {
    write_between(PAUSES, directory, write, stop, emit)
}

fn write_between(
    pauses: Pauses,
    directory: &Path,
    write: &mut dyn FnMut() -> Result<(), TrainError>,
    stop: &dyn Fn() -> bool,
    emit: &mut dyn FnMut(Event),
) -> Result<(), TrainError> {
    let (mut pause, mut waits) = (pauses.first, false);
    loop {
        match write() {
            Err(error) if error.is_full() => {
                // Whoever else writes needs that room. What cannot be removed is written over.
                let _ = std::fs::remove_dir_all(directory);
                if std::mem::replace(&mut waits, true) {
                    emit(Event::Alive);
                } else {
                    let kept = "the trained model stays in memory and is written as soon as there is room";
                    warn(emit, format!("{error}; {kept}"));
                }
            }
            written => {
                if waits && written.is_ok() {
                    info(emit, "there is room again, and the model is written".to_owned());
                }
                return written;
            }
        }
        rest(pause, stop)?;
        pause = (pause * 2).min(pauses.longest);
    }
}

/// Sleeps, and looks meanwhile whether it shall stop.
fn rest(pause: Duration, stop: &dyn Fn() -> bool) -> Result<(), TrainError> {
    let until = Instant::now() + pause;
    loop {
        if stop() {
            return Err(TrainError::Stopped);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(LOOK));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::ErrorKind;

    use super::*;
    use crate::train::event::LogLevel;

    const SHORT: Pauses = Pauses { first: Duration::from_millis(1), longest: Duration::from_millis(2) };

    /// A model's directory, and a writer that fails with these reasons, one after another, and then no more. Each time it must find
    /// nothing of what it left before.
    fn written(
        pauses: Pauses,
        failures: &[ErrorKind],
        stop: &dyn Fn() -> bool,
    ) -> (Result<(), TrainError>, Vec<Event>, bool) {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("model");
        let (mut failures, mut said) = (failures.iter(), Vec::new());
        let mut write = || {
            assert!(!directory.exists(), "half of a model was left");
            std::fs::create_dir(&directory).unwrap();
            std::fs::write(directory.join("weights.safetensors"), "half").unwrap();
            match failures.next() {
                Some(&kind) => Err(TrainError::RunDirectory { path: "model".to_owned(), source: kind.into() }),
                None => Ok(()),
            }
        };
        let outcome = write_between(pauses, &directory, &mut write, stop, &mut |event| said.push(event));
        (outcome, said, directory.exists())
    }

    fn level(event: &Event) -> Option<LogLevel> {
        match event {
            Event::Log { level, .. } => Some(*level),
            _ => None,
        }
    }

    #[test]
    fn a_model_without_room_is_written_when_there_is_some_and_that_is_told_once() {
        let full = [ErrorKind::StorageFull, ErrorKind::QuotaExceeded, ErrorKind::StorageFull];
        let (outcome, said, there) = written(SHORT, &full, &|| false);
        assert!(outcome.is_ok() && there);
        assert_eq!(level(&said[0]), Some(LogLevel::Warn), "{said:?}");
        // Who says nothing is taken for hung.
        assert_eq!(said[1..3], [Event::Alive, Event::Alive]);
        assert_eq!(said[3..].iter().map(level).collect::<Vec<_>>(), [Some(LogLevel::Info)]);

        let (outcome, said, there) = written(SHORT, &[], &|| true);
        assert!(outcome.is_ok() && there && said.is_empty(), "nothing waits where there is room: {said:?}");
    }

    #[test]
    fn a_wish_to_stop_ends_the_wait_at_once() {
        let endless = Pauses { first: Duration::from_secs(3600), longest: Duration::from_secs(3600) };
        let asked = Cell::new(0);
        let stop = || asked.replace(asked.get() + 1) == 2;
        let (outcome, _, there) = written(endless, &[ErrorKind::StorageFull], &stop);
        assert!(matches!(outcome, Err(TrainError::Stopped)) && !there, "{outcome:?}");
    }

    #[test]
    fn another_failure_is_not_waited_for() {
        let (outcome, said, _) = written(SHORT, &[ErrorKind::ReadOnlyFilesystem], &|| false);
        assert!(matches!(outcome, Err(error) if error.code() == "storage") && said.is_empty(), "{said:?}");
        let later = [ErrorKind::StorageFull, ErrorKind::PermissionDenied];
        let (outcome, said, _) = written(SHORT, &later, &|| false);
        assert!(matches!(outcome, Err(error) if error.code() == "storage") && said.len() == 1, "{said:?}");
    }
}
