//! All epochs of a run: step after step, a checkpoint where one is due, and the best of them at the end.

use std::path::Path;

use super::checkpoint::Checkpoints;
use super::course::{Best, Course};
use super::error::TrainError;
use super::event::{Event, Phase};
use super::pretrain;
use super::setting::{Setting, info, warn};
use super::start;
use crate::nn::device;

/// What training left.
pub(super) struct Trained {
    pub(super) best: Best,
    /// Wall-clock seconds of all attempts, as far as their steps count.
    pub(super) seconds: f64,
    /// What all of them were computed on: see [`super::course::computed_on`].
    pub(super) computed_on: Vec<String>,
}

/// Where the state came from that a run begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// Random or imported weights.
    Start,
    /// Pretraining, which has ended just now.
    Pretraining,
    Checkpoint,
}

/// All epochs; gives the best by validation.
pub(super) fn train(
    setting: &Setting<'_>,
    stop: &dyn Fn() -> bool,
    emit: &mut dyn FnMut(Event),
) -> Result<Trained, TrainError> {
    let config = setting.config();
    let mut keeper = Keeper::open(setting, emit)?;
    let (mut course, origin) = keeper.begin(setting, stop, emit)?;
    emit(Event::Phase { phase: Phase::Training });
    emit(Event::Start {
        step: course.pace.done(),
        epoch: course.rows.len() as u32,
        restored: origin == Origin::Checkpoint,
    });
    for row in &course.rows {
        emit(Event::Epoch(row.clone()));
    }
    if origin == Origin::Pretraining {
        // After the start, which makes all that was told before it void.
        keeper.keep(&course, setting, emit)?;
        if let Some(plan) = setting.input.checkpoints.filter(|_| !keeper.failing) {
            pretrain::forget(plan);
        }
    }
    while course.rows.len() < config.epochs as usize {
        while course.sums.steps() < config.steps_per_epoch {
            if stop() {
                keeper.keep(&course, setting, emit)?;
                return Err(TrainError::Stopped);
            }
            course.step(setting, emit)?;
            // Not after an epoch's last step: the state behind its evaluation is worth more, and has the same number.
            if course.sums.steps() < config.steps_per_epoch && keeper.due(false) {
                keeper.keep(&course, setting, emit)?;
            }
        }
        match course.end_epoch(setting, stop, emit) {
            // Of the epoch only its evaluation is lost: all its steps are in the checkpoint.
            Err(TrainError::Stopped) => {
                keeper.keep(&course, setting, emit)?;
                return Err(TrainError::Stopped);
            }
            ended => ended?,
        }
        // The last one always: what comes behind it may fail, and training is what took long.
        if keeper.due(true) || course.rows.len() == config.epochs as usize {
            keeper.keep(&course, setting, emit)?;
        }
    }
    let (seconds, computed_on) = (course.seconds(), course.computed_on);
    // `epochs` is at least 1 (checked where configurations are resolved), so that there is a best one.
    course.best.map(|best| Trained { best, seconds, computed_on }).ok_or(TrainError::Stopped)
}

/// Writes checkpoints, where the run has a place for them.
struct Keeper {
    checkpoints: Option<Checkpoints>,
    /// The last one could not be written, and that was told.
    failing: bool,
}

impl Keeper {
    fn open(setting: &Setting<'_>, emit: &mut dyn FnMut(Event)) -> Result<Self, TrainError> {
        let Some(plan) = setting.input.checkpoints else { return Ok(Self { checkpoints: None, failing: false }) };
        let checkpoints = match Checkpoints::open(plan) {
            Ok(checkpoints) => Some(checkpoints),
            Err(error) if is_no_directory(plan.directory) => {
                warn(emit, format!("{error}; this run goes on without checkpoints"));
                None
            }
            Err(error) => return Err(TrainError::Resume(error)),
        };
        Ok(Self { checkpoints, failing: false })
    }

    /// From the newest checkpoint that is whole and fits, else from the start.
    fn begin(
        &mut self,
        setting: &Setting<'_>,
        stop: &dyn Fn() -> bool,
        emit: &mut dyn FnMut(Event),
    ) -> Result<(Course, Origin), TrainError> {
        let (config, input) = (setting.config(), &setting.input);
        let precision = device::precision(config.precision, input.device);
        info(emit, format!("{} on {}: {}", precision.name(), device::name(input.device), precision.reason));
        if let Some(checkpoints) = &mut self.checkpoints {
            let mut refused = 0;
            let restored = checkpoints.newest(
                |snapshot| Course::restore(setting, snapshot),
                |error| {
                    refused += 1;
                    warn(emit, format!("{error}; it is set aside"));
                },
            );
            let restored = restored.map_err(TrainError::Resume)?;
            if let Some(course) = restored {
                let (step, epochs) = (course.pace.done(), course.rows.len());
                info(emit, format!("goes on from the checkpoint after step {step}, with {epochs} epochs done"));
                return Ok((course, Origin::Checkpoint));
            }
            if refused > 0 {
                // The store tells of those that are gone, and knows by this line's end that it need not (`store/jobs/run.rs`).
                warn(emit, "no checkpoint can be used: the run begins anew".to_owned());
            }
        }
        let mut course = Course::new(setting)?;
        if let Some(path) = input.pretrained {
            info(emit, start::load(&mut course.learner, config, path)?);
        }
        if config.pretrain_epochs == 0 {
            return Ok((course, Origin::Start));
        }
        let keep = self.checkpoints.is_some();
        let earlier = pretrain::pretrain(&mut course.learner, setting, keep, stop, emit)?;
        course.first_epoch_begins(earlier);
        Ok((course, Origin::Pretraining))
    }

    fn due(&self, epoch_ends: bool) -> bool {
        self.checkpoints.as_ref().is_some_and(|checkpoints| checkpoints.due(epoch_ends))
    }

    /// Writes where the run stands. That it cannot be written ends nothing; that the loss is no number does.
    fn keep(&mut self, course: &Course, setting: &Setting<'_>, emit: &mut dyn FnMut(Event)) -> Result<(), TrainError> {
        let Some(checkpoints) = &mut self.checkpoints else { return Ok(()) };
        let step = course.pace.done();
        if step == 0 && setting.config().pretrain_epochs == 0 {
            // There is nothing yet to go on from, and after no step a checkpoint tells of pretraining.
            return Ok(());
        }
        if course.sums.steps() > 0 {
            // A run must not go on from what is broken already.
            course.pace.finite(course.sums.loss()?, course.sums.lambda_u)?;
        }
        match checkpoints.save(step, || course.save(setting)) {
            Ok(()) => {
                if std::mem::take(&mut self.failing) {
                    info(emit, "checkpoints can be written again".to_owned());
                }
                emit(Event::Checkpoint { step });
            }
            Err(error) if !self.failing => {
                self.failing = true;
                warn(emit, format!("{error}; the run goes on, and would start again from the one before"));
            }
            Err(_) => {}
        }
        Ok(())
    }
}

/// Whether there is surely no directory at `path`, and so nothing in it to go on from.
pub(super) fn is_no_directory(path: &Path) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    match std::fs::metadata(path) {
        Ok(metadata) => !metadata.is_dir(),
        Err(error) => matches!(error.kind(), NotFound | NotADirectory),
    }
}
