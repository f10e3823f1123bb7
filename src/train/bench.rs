//! How fast a step is: the very steps of a run, timed whole and by phase.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tch::{Device, Kind, Tensor};
use tracing::span::Id;
use tracing_subscriber::filter::{FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};

use super::config::TrainConfig;
use super::data::Images;
use super::error::TrainError;
use super::learner::Learner;
use crate::dataset::{DatasetError, Manifest, PackedImages, split};
use crate::nn::device;
use crate::ssl::phase;
use crate::statistics::{mean_and_sd, median};

/// Steps that are handed to a GPU before it is waited for.
const STEPS_AHEAD: u32 = 10;

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct StepTimes {
    /// `float32` or `bf16`.
    pub precision: String,
    /// Steps that were timed, after those that warmed up.
    pub steps: u32,
    /// Labelled images a second: B · steps / seconds.
    pub labelled_images_per_second: f64,
    /// Median of the steps, milliseconds.
    pub step_ms: f64,
    /// Standard deviation over the steps, milliseconds.
    pub step_ms_sd: f64,
    /// Milliseconds of each part of a step, the mean over the steps. On a GPU, where operations are only queued, it
    /// says where the host's time goes.
    pub phases_ms: BTreeMap<&'static str, f64>,
    /// The loss of the last step: what was timed did learn.
    pub last_loss: f64,
    /// Why the steps are slower than they might be: they could not be recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Times `steps` steps of `config` on an imported data set, after `warm` others.
///
/// # Errors
/// What a run with this configuration would fail with.
pub fn measure(
    dataset_dir: &Path,
    config: &TrainConfig,
    device: Device,
    warm: u32,
    steps: u32,
) -> Result<StepTimes, TrainError> {
    let manifest = Manifest::read(dataset_dir)?;
    let packed =
        PackedImages::open_or_build(dataset_dir, &manifest, &config.preprocess(), &mut |_| ControlFlow::Continue(()))?;
    let images = Images::new(packed, device)?;
    let split = split(&manifest, &config.split_spec()).map_err(DatasetError::from)?;
    let labels: Vec<Option<usize>> =
        manifest.samples.iter().map(|sample| sample.label.map(|label| label as usize)).collect();
    let classes = manifest.classes.len();
    let prior = vec![1.0 / classes as f32; classes];
    let precision = device::precision(config.precision, device);
    let mut learner = Learner::new(config, &split, &labels, &prior, device, precision.kind)?;

    // What a step leaves behind on the device, read as a run reads it: it waits for the device.
    let mut note = None;
    let mut step = || -> Result<Tensor, TrainError> {
        let made = learner.step(config, &images, &labels, classes)?;
        note = note.take().or(made.note);
        Ok(made.losses.total)
    };
    let wait = |loss: &Tensor| Ok::<f64, TrainError>(loss.f_to_kind(Kind::Double)?.f_double_value(&[])?);
    // A run reads its losses once a second: a GPU is never waited for after each step.
    let together = if device.is_cuda() { STEPS_AHEAD } else { 1 };
    for _ in 0..warm {
        wait(&step()?)?;
    }
    let phases = PhaseTimes::default();
    let sums = phases.sums.clone();
    let ours = filter_fn(|metadata| metadata.target() == phase::TARGET).and(LevelFilter::TRACE);
    let (mut times, mut last_loss) = (Vec::new(), f64::NAN);
    let started = Instant::now();
    tracing::subscriber::with_default(Registry::default().with(phases.with_filter(ours)), || {
        let mut left = steps;
        while left > 0 {
            let (at, now) = (Instant::now(), together.min(left));
            for _ in 1..now {
                let _ahead = step()?;
            }
            last_loss = wait(&step()?)?;
            times.push(at.elapsed().as_secs_f64() * 1e3 / f64::from(now));
            left -= now;
        }
        Ok::<(), TrainError>(())
    })?;
    let seconds = started.elapsed().as_secs_f64();
    let sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
    let mean = |name| sums.get(name).map_or(0.0, |sum| sum.as_secs_f64() * 1e3 / f64::from(steps.max(1)));
    Ok(StepTimes {
        precision: precision.name().to_owned(),
        steps,
        labelled_images_per_second: f64::from(config.batch) * f64::from(steps) / seconds,
        step_ms: median(&times).unwrap_or(f64::NAN),
        step_ms_sd: mean_and_sd(&times).and_then(|(_, sd)| sd).unwrap_or(f64::NAN),
        phases_ms: phase::NAMES.iter().map(|&name| (name, mean(name))).collect(),
        last_loss,
        note,
    })
}

/// Adds up how long each span of [`phase::TARGET`] was entered.
#[derive(Debug, Default)]
struct PhaseTimes {
    sums: Arc<Mutex<BTreeMap<&'static str, Duration>>>,
}

/// When a span was entered.
struct EnteredAt(Instant);

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for PhaseTimes {
    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            span.extensions_mut().replace(EnteredAt(Instant::now()));
        }
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(EnteredAt(at)) = span.extensions_mut().remove::<EnteredAt>() {
            let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
            *sums.entry(span.name()).or_default() += at.elapsed();
        }
    }
}
