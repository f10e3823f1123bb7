//! The door to serving: load a model, classify images. Here is what a predictor is made of, its threads and their end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

use super::engine::{Command, Engine};
use super::health::Trouble;
use super::memory::{Held, Refused, put_out};
use super::{ServingError, ending};
use crate::imaging::{self, DecodeLimits, ImagingError, Prepared, Preprocess};
use crate::nn::device::{self, PrecisionWish};
use crate::nn::int8;

mod answering;
mod loading;
#[cfg(test)]
mod tests;

/// Deadlines that pass before a batch that has not ended is trouble of the device: one may pass while a model is warmed.
const PATIENCE: u32 = 3;

/// Models loaded at once: one that takes long to load keeps no other waiting.
const LOADS: usize = 2;

/// What decodes an image and makes of it what a network sees: [`imaging::prepare`].
type Prepare = fn(&[u8], &DecodeLimits, &Preprocess) -> Result<Prepared, ImagingError>;

/// How a predictor runs.
#[derive(Clone, Debug)]
pub struct PredictorOptions {
    /// `cpu` or `cuda:<index>`.
    pub device: String,
    /// Threads of the network on a CPU, and of the decoding pool.
    pub threads: usize,
    /// Images in one forward pass at most.
    pub max_batch: usize,
    /// In int8 on a CPU, models that were measured to answer nearly the same in it.
    pub int8: bool,
    /// Models kept in memory, one at least: the one not used for longest makes room, but none that answers somebody.
    pub models: usize,
    /// Images that may wait; more are refused.
    pub queue_images: usize,
    /// How long a caller waits for an answer.
    pub deadline: Duration,
    /// What an image may be.
    pub limits: DecodeLimits,
    /// How long threads that compute may take to end: a device that never answers must not keep the process from it.
    pub ending: Duration,
}

impl Default for PredictorOptions {
    fn default() -> Self {
        Self {
            device: "cpu".into(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            max_batch: 64,
            int8: false,
            models: 8,
            queue_images: 1024,
            deadline: Duration::from_secs(30),
            limits: DecodeLimits::default(),
            ending: Duration::from_secs(10),
        }
    }
}

/// What a predictor says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct PredictorStatus {
    /// The device.
    pub device: String,
    /// `float32` or `bf16`: of models that do not ask for float32.
    pub precision: String,
    /// Why that number format.
    pub reason: String,
    /// Keys of the models in memory.
    pub loaded: Vec<String>,
    /// Those among them that compute in int8.
    pub int8: Vec<String>,
    /// Why the device does not compute, where it was found not to.
    pub trouble: Option<Trouble>,
}

/// Loads models and classifies images. Cheap to make: its threads start with the first model.
pub struct Predictor {
    options: PredictorOptions,
    prepare_image: Prepare,
    running: Mutex<Option<Running>>,
    /// One load of a model at a time, so that two callers do not load the same one twice.
    turns: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    /// Places for [`LOADS`], and no more than for models: each takes the memory of one.
    places: Semaphore,
    /// What could not be loaded.
    refused: Mutex<Refused>,
    /// Threads that load: a caller may have gone while its goes on.
    loaders: Mutex<Vec<JoinHandle<()>>>,
    closing: Arc<AtomicBool>,
}

struct Running {
    engine: Engine,
    decoders: Arc<rayon::ThreadPool>,
    /// Least recently used first.
    models: Vec<Held>,
    /// The keys of the models that are being loaded; [`Predictor::unload`] takes them away.
    loading: Vec<String>,
}

impl Running {
    fn make_room(&mut self, most: usize) {
        for key in put_out(&mut self.models, most) {
            self.engine.send(Command::Remove { key });
        }
    }
}

/// What is said of the number format where int8 was asked for.
fn with_int8(reason: &str, device: tch::Device) -> String {
    let int8 = match device {
        tch::Device::Cpu if int8::is_fast() => {
            "those that were measured to answer nearly the same in it compute in int8"
        }
        tch::Device::Cpu => "int8 was asked for, but this processor is not fast at it",
        _ => "int8 was asked for, but it is for processors alone",
    };
    format!("{reason}; {int8}")
}

impl Predictor {
    /// A predictor without models or threads.
    pub fn new(options: PredictorOptions) -> Self {
        Self {
            places: Semaphore::new(options.models.clamp(1, LOADS)),
            options,
            prepare_image: imaging::prepare,
            running: Mutex::new(None),
            turns: Mutex::default(),
            refused: Mutex::default(),
            loaders: Mutex::new(Vec::new()),
            closing: Arc::default(),
        }
    }

    /// How long a caller waits for an answer.
    pub fn deadline(&self) -> Duration {
        self.options.deadline
    }

    /// Seconds that what waits takes, as far as that is known.
    pub fn waiting_seconds(&self) -> f64 {
        self.running().as_ref().map_or(0.0, |running| running.engine.queue.waits())
    }

    fn trouble(&self, running: &Running) -> Option<Trouble> {
        running.engine.health.trouble(self.options.deadline.saturating_mul(PATIENCE))
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self) -> MutexGuard<'_, Refused> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `act` on the threads, which start now if they did not yet.
    fn with_running<T>(&self, act: impl FnOnce(&mut Running) -> T) -> Result<T, ServingError> {
        let mut running = self.running();
        // Under the lock: `shutdown` closes first and takes the threads then.
        if self.closing.load(Ordering::Acquire) {
            return Err(ServingError::ShuttingDown);
        }
        if running.is_none() {
            *running = Some(self.start().map_err(ServingError::Inference)?);
        }
        running.as_mut().map(act).ok_or(ServingError::ShuttingDown)
    }

    fn start(&self) -> Result<Running, String> {
        let closing = Arc::clone(&self.closing);
        let engine = Engine::start(self.options.threads, self.options.max_batch, self.device(), closing)
            .map_err(|e| format!("no inference thread: {e}"))?;
        let decoders = rayon::ThreadPoolBuilder::new()
            .num_threads(self.options.threads)
            .thread_name(|index| format!("decode-{index}"))
            // The request is answered, as its reply is dropped; without a handler rayon would end the process.
            .panic_handler(|_| tracing::error!("an image's preparation panicked"))
            .build()
            .map_err(|e| format!("no decoding threads: {e}"))?;
        Ok(Running { engine, decoders: Arc::new(decoders), models: Vec::new(), loading: Vec::new() })
    }

    /// Its device; the CPU where that cannot be had, which a load says.
    fn device(&self) -> tch::Device {
        device::parse(&self.options.device).unwrap_or(tch::Device::Cpu)
    }

    /// What this predictor runs on and holds.
    pub fn status(&self) -> PredictorStatus {
        let precision = device::precision(PrecisionWish::Auto, self.device());
        let running = self.running();
        let keys = |which: fn(&Held) -> bool| -> Vec<String> {
            let models = running.as_ref().map_or(&[][..], |running| &running.models);
            models.iter().filter(|held| which(held)).map(|held| held.key.clone()).collect()
        };
        PredictorStatus {
            device: self.options.device.clone(),
            precision: precision.name().to_owned(),
            reason: if self.options.int8 { with_int8(&precision.reason, self.device()) } else { precision.reason },
            loaded: keys(|_| true),
            int8: keys(|held| held.int8),
            trouble: running.as_ref().and_then(|running| self.trouble(running)),
        }
    }

    /// Has the device asked whether it computes, after what was sent before: [`Self::status`] knows it then.
    pub fn ask_device(&self) {
        let running = self.running();
        if let Some(running) = running.as_ref()
            && running.engine.health.want()
        {
            running.engine.send(Command::AskDevice);
        }
    }

    /// Answers what was accepted, takes no more, gives up loads, and joins the threads: a process that exits while a thread
    /// is inside libtorch crashes. Where one does not end in time the process will end without it.
    pub async fn shutdown(&self) {
        self.closing.store(true, Ordering::Release);
        let running = self.running().take();
        let loaders = std::mem::take(&mut *self.loaders.lock().unwrap_or_else(PoisonError::into_inner));
        let loading = running.as_ref().map(|running| running.loading.join(", "));
        let health = running.as_ref().map(|running| Arc::clone(&running.engine.health));
        let (done, ended) = oneshot::channel();
        let join = move || {
            // One that panicked has told its caller so.
            loaders.into_iter().for_each(|loader| drop(loader.join()));
            if let Some(running) = running {
                running.engine.stop();
            }
            let _late = done.send(());
        };
        // Not on one of tokio's threads, for which the runtime would wait once more.
        if let Err(error) = std::thread::Builder::new().name("join".into()).spawn(join) {
            tracing::error!(%error, "no thread to join the inference threads");
        }
        if !matches!(tokio::time::timeout(self.options.ending, ended).await, Ok(Ok(()))) {
            let at_work = health.and_then(|health| health.trouble(Duration::ZERO)).map(|trouble| trouble.to_string());
            tracing::error!(
                device = self.options.device,
                loading,
                at_work,
                "a thread that computes has not ended within {} seconds; the process ends without it",
                self.options.ending.as_secs_f64()
            );
            ending::without_destructors();
        }
    }
}
