//! Before training: the backbone learns from the images alone, no label asked, which two views show the same image (SimCLR,
//! Chen et al. 2020, arXiv 2002.05709). What MixMatch then begins with is no random network, so that its first guesses are
//! better, and what it has few labels for are only the names of what it tells apart already.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::Tensor;

use super::checkpoint::{CheckpointError, CheckpointPlan, Checkpoints, Snapshot};
use super::config::TrainConfig;
use super::course::computed_on;
use super::data::Sampler;
use super::epochs::is_no_directory;
use super::error::TrainError;
use super::event::{Event, Phase, StepProgress};
use super::learner::{Learner, restore_rng, restore_weights, save_rng, save_weights};
use super::optimizer::Adam;
use super::progress::{REPORT_EVERY, accumulate, finite_in_pretraining};
use super::setting::{Setting, info, warn};
use crate::augment::Augment;
use crate::nn::projection::Projecting;
use crate::nn::weights::copy_backbone;
use crate::nn::{Mode, Network, NnError, Weights, device};
use crate::ssl::contrastive::nt_xent;

/// τ of the loss.
const TEMPERATURE: f64 = 0.2;

/// Adam's learning rate after the first [`RISE`] of the steps; then it falls to 0 as a cosine.
const LEARNING_RATE: f64 = 0.002;

/// Share of the steps over which the learning rate rises.
const RISE: f64 = 0.03;

/// Decoupled weight decay.
const WEIGHT_DECAY: f64 = 0.01;

/// BatchNorm's, PyTorch's convention.
const BN_MOMENTUM: f64 = 0.05;

/// How often the log says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// What makes two views of an image: pieces of it in other colours (the paper's §3; its blur is too coarse for 32 pixels).
fn views(config: &TrainConfig) -> Augment {
    Augment {
        flip: config.augment_flip,
        crop: 0.3,
        brightness: 0.4,
        contrast: 0.4,
        saturation: 0.4,
        hue: 0.05,
        grayscale: 0.2,
        ..Augment::default()
    }
}

/// Where its own checkpoints lie, beside the run's.
fn place(plan: CheckpointPlan<'_>) -> PathBuf {
    plan.directory.join("pretraining")
}

/// What earlier attempts are to be remembered for.
pub(super) struct Earlier {
    /// The time that they spent on it.
    pub(super) took: Duration,
    /// What it was computed on, this attempt among them.
    pub(super) computed_on: Vec<String>,
}

/// Gives `learner`'s backbone what it can learn without labels, from its own checkpoint on if there is one; and what is to be known
/// of earlier attempts.
///
/// # Errors
/// [`TrainError::Stopped`], [`TrainError::Diverged`], [`TrainError::Resume`]; libtorch's.
pub(super) fn pretrain(
    learner: &mut Learner,
    setting: &Setting<'_>,
    keep: bool,
    stop: &dyn Fn() -> bool,
    emit: &mut dyn FnMut(Event),
) -> Result<Earlier, TrainError> {
    emit(Event::Phase { phase: Phase::Pretraining });
    let directory = setting.input.checkpoints.filter(|_| keep).map(|plan| (plan, place(plan)));
    let mut checkpoints = match &directory {
        Some((plan, directory)) => match Checkpoints::open(CheckpointPlan { directory, ..*plan }) {
            Ok(checkpoints) => Some(checkpoints),
            Err(error) if is_no_directory(directory) => {
                warn(emit, format!("{error}; pretraining goes on without checkpoints"));
                None
            }
            Err(error) => return Err(TrainError::Resume(error)),
        },
        None => None,
    };
    let mut stage = Stage::new(learner, setting)?;
    if let Some(checkpoints) = &mut checkpoints {
        let restored = checkpoints.newest(
            |snapshot| Stage::restored(learner, setting, snapshot),
            |error| warn(emit, format!("{error}; it is set aside")),
        );
        if let Some(restored) = restored.map_err(TrainError::Resume)? {
            stage = restored;
            info(emit, format!("pretraining goes on after step {} of {}", stage.done, stage.steps));
        }
    }
    let mut kept = stage.done;
    let mut told = Told::after(stage.done);
    let mut failing = false;
    while stage.done < stage.steps {
        let stopped = stop();
        // One that is no further than the last says that there is progress where there is none.
        let wanted = |checkpoints: &&mut Checkpoints| stage.done > kept && (stopped || checkpoints.due(false));
        if let Some(checkpoints) = checkpoints.as_mut().filter(wanted) {
            let began = Instant::now();
            let saved = checkpoints.save(stage.done, || stage.save(setting));
            told.leave_out(began.elapsed());
            match saved {
                // Of the run itself it is after no step; but there is something to go on from.
                Ok(()) => {
                    kept = stage.done;
                    if std::mem::take(&mut failing) {
                        info(emit, "checkpoints can be written again".to_owned());
                    }
                    emit(Event::Checkpoint { step: 0 });
                }
                Err(error) if !failing => {
                    failing = true;
                    warn(emit, format!("{error}; pretraining goes on, and would start again from the one before"));
                }
                Err(_) => {}
            }
        }
        if stopped {
            return Err(TrainError::Stopped);
        }
        let loss = stage.step(setting)?;
        accumulate(&mut told.unread, loss)?;
        told.tell(&stage, emit)?;
    }
    copy_backbone((&stage.weights, stage.network.layout()), (&learner.weights, learner.network.layout()))?;
    learner.average.copy_from(&learner.weights)?;
    Ok(Earlier { took: stage.earlier, computed_on: stage.computed_on })
}

/// Forgets the checkpoints, once the run's own hold what came of it.
pub(super) fn forget(plan: CheckpointPlan<'_>) {
    // Where they stay, they are only in the way of room on the disk, and go with the run.
    let _ = std::fs::remove_dir_all(place(plan));
}

/// What was told last: as progress every second, in the log now and then.
struct Told {
    progress: Since,
    log: Since,
    /// Sum of the losses since the last progress, on the device: to read it waits for every step before.
    unread: Option<Tensor>,
}

/// The steps since something was told.
struct Since {
    at: Instant,
    done: u64,
    /// Sum of their losses, as far as it was read.
    loss: f64,
}

impl Since {
    fn after(done: u64) -> Self {
        Self { at: Instant::now(), done, loss: 0.0 }
    }

    /// How it goes, by those steps alone.
    fn progress(&self, stage: &Stage) -> StepProgress {
        let steps = (stage.done - self.done) as f64;
        let rate = steps / self.at.elapsed().as_secs_f64().max(1e-9);
        StepProgress {
            epoch: stage.done.div_ceil(stage.steps_per_epoch) as u32,
            epochs: (stage.steps / stage.steps_per_epoch) as u32,
            step: stage.done,
            steps: stage.steps,
            loss: self.loss / steps,
            images_per_second: rate * stage.batch as f64,
            eta_seconds: (stage.steps - stage.done) as f64 / rate,
        }
    }
}

impl Told {
    fn after(done: u64) -> Self {
        Self { progress: Since::after(done), log: Since::after(done), unread: None }
    }

    /// What no step took is no part of their rate.
    fn leave_out(&mut self, took: Duration) {
        self.progress.at += took;
        self.log.at += took;
    }

    /// Tells after a step what is due; the last step always.
    fn tell(&mut self, stage: &Stage, emit: &mut dyn FnMut(Event)) -> Result<(), TrainError> {
        let ends = stage.done == stage.steps;
        let logs = ends || self.log.at.elapsed() >= TELL_EVERY;
        if !logs && self.progress.at.elapsed() < REPORT_EVERY {
            return Ok(());
        }
        let Some(sum) = self.unread.take() else { return Ok(()) };
        let sum = finite_in_pretraining(sum.f_double_value(&[]).map_err(NnError::from)?, stage.done)?;
        self.progress.loss += sum;
        self.log.loss += sum;
        emit(Event::Pretraining(self.progress.progress(stage)));
        self.progress = Since::after(stage.done);
        if logs {
            let StepProgress { epoch, epochs, loss, images_per_second, eta_seconds, .. } = self.log.progress(stage);
            info(
                emit,
                format!(
                    "pretraining, epoch {epoch} of {epochs}: contrastive loss {loss:.3}, {images_per_second:.0} images/s, \
                     {eta_seconds:.0} s left"
                ),
            );
            self.log = Since::after(stage.done);
        }
        Ok(())
    }
}

/// The state of it between two steps.
struct Stage {
    network: Projecting,
    weights: Weights,
    optimizer: Adam,
    images: Sampler,
    augment: Augment,
    rng: ChaCha8Rng,
    batch: usize,
    steps_per_epoch: u64,
    steps: u64,
    done: u64,
    began: Instant,
    /// What earlier attempts took.
    earlier: Duration,
    /// What all of them were computed on.
    computed_on: Vec<String>,
}

impl Stage {
    fn new(learner: &Learner, setting: &Setting<'_>) -> Result<Self, TrainError> {
        let (config, rows) = (setting.config(), &setting.split.unlabelled);
        let device = setting.input.device;
        let precision = device::precision(config.precision, device);
        let network = Projecting::new(&config.network, precision.kind)?;
        // Another stream than the run's: its draws are the same with and without pretraining.
        let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
        rng.set_stream(1);
        let mut weights = Weights::initialise(network.layout(), device, &mut rng)?;
        copy_backbone((&learner.weights, learner.network.layout()), (&weights, network.layout()))?;
        weights.set_bn_momentum(BN_MOMENTUM);
        let batch = (config.pretrain_batch as usize).min(rows.len()).max(2);
        let steps_per_epoch = (rows.len() / batch).max(1) as u64;
        Ok(Self {
            // As the run's own: a backbone that is to stay near where it started is not to leave that here.
            optimizer: Adam::new(&weights, WEIGHT_DECAY, config.backbone_learning_rate_factor)
                .map_err(NnError::from)?,
            images: Sampler::new(rows),
            augment: views(config),
            steps: steps_per_epoch * u64::from(config.pretrain_epochs),
            network,
            weights,
            rng,
            batch,
            steps_per_epoch,
            done: 0,
            began: Instant::now(),
            earlier: Duration::ZERO,
            computed_on: computed_on(setting, Vec::new()),
        })
    }

    /// One optimiser step; its loss, on the device.
    fn step(&mut self, setting: &Setting<'_>) -> Result<Tensor, TrainError> {
        // An image beside itself would be told from itself.
        let rows = self.images.take_different(self.batch, &mut self.rng);
        let images = setting.images.gather(&rows)?;
        let draws = self.augment.draw_views(rows.len(), 2, &mut self.rng);
        let seen = self.augment.apply(&images.f_repeat([2, 1, 1, 1]).map_err(NnError::from)?, &draws);
        let projections = self.network.forward(&self.weights, &seen.map_err(NnError::from)?, Mode::Train)?;
        let loss = nt_xent(&projections, TEMPERATURE).map_err(NnError::from)?;
        let gradient = self.weights.gradient(&loss)?;
        let rates = self.optimizer.next(self.learning_rate(), 0.0);
        let rates = rates.on(self.weights.flat().device()).map_err(NnError::from)?;
        self.optimizer.step(&mut self.weights, &gradient, &rates)?;
        self.done += 1;
        Ok(loss.f_detach().map_err(NnError::from)?)
    }

    fn learning_rate(&self) -> f64 {
        let (done, steps) = (self.done as f64, self.steps.max(1) as f64);
        let rise = ((done + 1.0) / (RISE * steps).max(1.0)).min(1.0);
        LEARNING_RATE * rise * 0.5 * (1.0 + (done / steps * std::f64::consts::PI).cos())
    }

    fn save(&self, setting: &Setting<'_>) -> Result<Snapshot, CheckpointError> {
        let mut snapshot = Snapshot::default();
        setting.sign(&mut snapshot)?;
        snapshot.put("pretraining.steps", &self.done)?;
        snapshot.put("seconds", &(self.earlier + self.began.elapsed()).as_secs_f64())?;
        snapshot.put("computed_on", &self.computed_on)?;
        save_weights("weights", &self.weights, &mut snapshot);
        self.optimizer.save(&mut snapshot)?;
        self.images.save("images", &mut snapshot)?;
        save_rng(&self.rng, &mut snapshot)?;
        Ok(snapshot)
    }

    fn restored(learner: &Learner, setting: &Setting<'_>, snapshot: &Snapshot) -> Result<Self, CheckpointError> {
        setting.check_own(snapshot)?;
        let mut stage = Self::new(learner, setting).map_err(|error| CheckpointError::NotReady(error.to_string()))?;
        stage.done = snapshot.get("pretraining.steps")?;
        let seconds = Duration::try_from_secs_f64(snapshot.get("seconds")?);
        stage.earlier = seconds.map_err(|error| CheckpointError::Unfit(format!("seconds: {error}")))?;
        stage.computed_on = computed_on(setting, snapshot.get("computed_on").unwrap_or_default());
        restore_weights("weights", &stage.weights, snapshot)?;
        stage.optimizer.restore(snapshot)?;
        stage.images.restore("images", snapshot)?;
        stage.rng = restore_rng(snapshot)?;
        Ok(stage)
    }
}
