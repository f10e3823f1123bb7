//! The door to serving: load a model, classify images.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, oneshot};

use super::engine::{Command, Engine, Request, compute_threads};
use super::health::Trouble;
use super::loaded::{Loaded, ModelFiles};
use super::memory::{Held, Refused, put_out};
use super::queue::Waiting;
use super::result::{PredictOptions, Prediction, Timings, classified};
use super::together::Together;
use super::{ServingError, ending};
use crate::imaging::{self, DecodeLimits, Fit, ImagingError, Prepared, Preprocess};
use crate::model::ModelManifest;
use crate::nn::device::{self, PrecisionWish};
use crate::openmp::compute_with;

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

/// A model that was read and checked; and the seconds that an image takes it, where it was warmed.
struct Opened {
    model: Loaded,
    manifest: ModelManifest,
    seconds: Option<f64>,
}

/// As long as there is one, a model is being loaded.
struct Loading<'a> {
    predictor: &'a Predictor,
    key: &'a str,
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        if let Some(running) = self.predictor.running().as_mut() {
            running.loading.retain(|loading| loading != self.key);
        }
    }
}

/// Who wants a model in memory.
#[derive(Clone, Copy)]
enum Wish {
    /// A caller, who waits for it.
    Asked,
    /// Nobody yet: it is the first to make room.
    Foreseen,
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

    /// Whether somebody has it loaded already, or waits for his turn to.
    pub fn is_wanted(&self, key: &str) -> bool {
        let turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.get(key).is_some_and(|turn| turn.strong_count() > 0)
    }

    /// The model under `key`, if it is in memory; it is now the most recently used.
    ///
    /// # Errors
    /// [`ServingError::ShuttingDown`]; or when the threads cannot be started.
    pub fn loaded(&self, key: &str) -> Result<Option<Held>, ServingError> {
        self.with_running(|running| {
            let at = running.models.iter().position(|held| held.key == key)?;
            let used = running.models.remove(at);
            running.models.push(used.clone());
            running.make_room(self.options.models);
            Some(used)
        })
    }

    /// Puts a model into memory under `key`, checked and warm, unless it is there. Another one that is loaded meanwhile does not keep
    /// it waiting.
    ///
    /// # Errors
    /// When its files cannot be read, do not fit, or the golden check fails; [`ServingError::NotLoaded`] if it was
    /// [unloaded](Self::unload) meanwhile.
    pub async fn load(&self, key: &str, files: ModelFiles) -> Result<Held, ServingError> {
        self.bring(key, files, Wish::Asked).await
    }

    /// The same for a model that nobody has asked for yet: no other makes room for it. False where there is none.
    ///
    /// # Errors
    /// As of [`Self::load`].
    pub async fn preload(&self, key: &str, files: ModelFiles) -> Result<bool, ServingError> {
        let models = self.with_running(|running| running.models.len() + running.loading.len())?;
        if models >= self.options.models.max(1) {
            return Ok(false);
        }
        self.bring(key, files, Wish::Foreseen).await.map(|_held| true)
    }

    async fn bring(&self, key: &str, files: ModelFiles, wish: Wish) -> Result<Held, ServingError> {
        let turn = self.turn(key);
        let _alone = turn.lock().await;
        if let Some(held) = self.loaded(key)? {
            return Ok(held);
        }
        let lately = self.refused().lately(key);
        if let Some(error) = lately {
            return Err(error);
        }
        let _place = self.places.acquire().await.map_err(|_closed| ServingError::ShuttingDown)?;
        let _loading = self.begin(key)?;
        let opened = self.open(key, files).await.inspect_err(|error| {
            self.refused().note(key, error);
            // A device that is gone fails here first, where no model is in memory.
            self.ask_device();
        })?;
        self.install(key, opened, wish)
    }

    /// The lock of a model's loads.
    fn turn(&self, key: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        let there = turns.get(key).and_then(Weak::upgrade);
        there.unwrap_or_else(|| {
            let turn = Arc::default();
            turns.insert(key.to_owned(), Arc::downgrade(&turn));
            turn
        })
    }

    /// Notes that a model is being loaded, where there is room for it. Models that answer somebody stay beyond what is allowed,
    /// but not more than as many again.
    fn begin<'a>(&'a self, key: &'a str) -> Result<Loading<'a>, ServingError> {
        let most = self.options.models.max(1);
        self.with_running(|running| {
            running.make_room(most);
            let models = running.models.len() + running.loading.len();
            if models >= 2 * most {
                return Err(ServingError::Crowded { models });
            }
            running.loading.push(key.to_owned());
            Ok(Loading { predictor: self, key })
        })?
    }

    /// Reads, checks and warms a model on a thread of its own.
    async fn open(&self, key: &str, files: ModelFiles) -> Result<Opened, ServingError> {
        let (name, options, closing) = (key.to_owned(), self.options.clone(), Arc::clone(&self.closing));
        let (reply, answer) = oneshot::channel();
        self.spawn_loader(move || {
            let open = || {
                let device = device::parse(&options.device).map_err(|e| ServingError::Inference(e.to_string()))?;
                // As many as the inference thread has: oneDNN's kernels are made for a number of threads.
                compute_with(compute_threads(options.threads, device));
                let (model, manifest) = Loaded::open(&name, &files, device)?;
                let mut seconds = None;
                if !model.is_on_gpu() {
                    seconds = Some(model.warm(options.max_batch, || !closing.load(Ordering::Acquire))?);
                }
                Ok(Opened { model, manifest, seconds })
            };
            // The caller may have gone; the model is then dropped with the message.
            let _gone = reply.send(open());
        })?;
        answer.await.unwrap_or_else(|_| Err(ServingError::Inference("loading the model panicked".into())))
    }

    /// Starts a thread that [`Self::shutdown`] waits for, whoever else still does.
    fn spawn_loader(&self, load: impl FnOnce() + Send + 'static) -> Result<(), ServingError> {
        let mut loaders = self.loaders.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: `shutdown` closes first and takes the threads then.
        if self.closing.load(Ordering::Acquire) {
            return Err(ServingError::ShuttingDown);
        }
        loaders.retain(|loader| !loader.is_finished());
        let loader = std::thread::Builder::new().name("load".into()).spawn(load);
        loaders.push(loader.map_err(|e| ServingError::Inference(format!("no thread to load the model: {e}")))?);
        Ok(())
    }

    fn install(&self, key: &str, opened: Opened, wish: Wish) -> Result<Held, ServingError> {
        let Opened { model, manifest, seconds } = opened;
        let held = Held::new(key, manifest);
        let wanted = self.with_running(|running| {
            let wanted = running.loading.iter().any(|loading| loading == key);
            if wanted {
                running.engine.send(Command::Install { key: key.to_owned(), model: Box::new(model), seconds });
                match wish {
                    Wish::Asked => {
                        running.models.push(held.clone());
                        running.make_room(self.options.models);
                    }
                    Wish::Foreseen => running.models.insert(0, held.clone()),
                }
            }
            wanted
        })?;
        if wanted { Ok(held) } else { Err(ServingError::NotLoaded(key.to_owned())) }
    }

    /// Takes a model out of memory once what was sent before is answered, and keeps one out that is still being loaded; nothing where
    /// it is not there.
    pub fn unload(&self, key: &str) {
        let mut running = self.running();
        let Some(running) = running.as_mut() else { return };
        running.loading.retain(|loading| loading != key);
        if let Some(at) = running.models.iter().position(|held| held.key == key) {
            running.models.remove(at);
            running.engine.send(Command::Remove { key: key.to_owned() });
        }
    }

    /// Classifies encoded images. `held` is dropped no sooner than the last of their bytes, also where the caller has gone: what they
    /// take of a budget, for instance.
    ///
    /// # Errors
    /// Of the request as a whole, [`ServingError::NotLoaded`] if the model was [unloaded](Self::unload) meanwhile; a bad image is
    /// an error in its own place of the results.
    pub async fn predict(
        &self,
        model: &Held,
        images: Vec<Vec<u8>>,
        options: PredictOptions,
        held: impl Send + Sync + 'static,
    ) -> Result<Prediction, ServingError> {
        self.predict_since(Instant::now(), model, images, options, held).await
    }

    /// The same for a caller who has waited since `began`, as for the model: the deadline is one for all of it.
    ///
    /// # Errors
    /// As of [`Self::predict`].
    pub async fn predict_since(
        &self,
        began: Instant,
        model: &Held,
        images: Vec<Vec<u8>>,
        options: PredictOptions,
        held: impl Send + Sync + 'static,
    ) -> Result<Prediction, ServingError> {
        let left = self.options.deadline.saturating_sub(began.elapsed());
        let answer = tokio::time::timeout(left, self.answer(model, images, options, (began, held))).await;
        answer.map_err(|_elapsed| self.late())?
    }

    fn late(&self) -> ServingError {
        ServingError::Deadline { seconds: self.options.deadline.as_secs_f64() }
    }

    async fn answer(
        &self,
        model: &Held,
        images: Vec<Vec<u8>>,
        options: PredictOptions,
        (began, held): (Instant, impl Send + Sync + 'static),
    ) -> Result<Prediction, ServingError> {
        let called = Instant::now();
        let manifest = &model.manifest;
        let _waiting = self.wait_for(&model.key, images.len(), began)?;
        let prepared = self.prepare(images, model, (began, held)).await?;
        let decode_ms = called.elapsed().as_secs_f64() * 1e3;

        let count = prepared.iter().filter(|image| image.is_ok()).count();
        let mut timings = Timings { decode_ms, ..Timings::default() };
        let mut probabilities = Vec::new();
        if count > 0 {
            let pixels = prepared.iter().flatten().flat_map(|image| &image.pixels).copied().collect();
            let pixels: Arc<Vec<u8>> = Arc::new(pixels);
            let (reply, answer) = oneshot::channel();
            let request = Request {
                key: model.key.clone(),
                pixels: Arc::downgrade(&pixels),
                count,
                began,
                deadline: self.options.deadline,
                sent: Instant::now(),
                reply,
            };
            self.with_running(|running| running.engine.send(Command::Infer(request)))?;
            let answer = answer.await.map_err(|_| ServingError::ShuttingDown)??;
            drop(pixels);
            timings.queue_ms = answer.queue_ms;
            timings.inference_ms = answer.inference_ms;
            timings.batch_size = answer.batch_size;
            probabilities = answer.probabilities;
        }
        let mut rows = probabilities.into_iter();
        let looked = manifest.preprocess.fit == Fit::Face;
        let mut one = |image: Prepared| {
            let row = rows.next().unwrap_or_default();
            classified(&manifest.classes, &row, looked.then_some(image.face), options)
        };
        let results = prepared.into_iter().map(|image| image.map(&mut one)).collect();
        timings.total_ms = called.elapsed().as_secs_f64() * 1e3;
        Ok(Prediction { results, timings })
    }

    /// Decodes and cuts or resizes on the pool, all images of the request side by side.
    async fn prepare(
        &self,
        images: Vec<Vec<u8>>,
        model: &Held,
        (began, held): (Instant, impl Send + Sync + 'static),
    ) -> Result<Vec<Result<Prepared, ImagingError>>, ServingError> {
        let (prepare, limits, preprocess) = (self.prepare_image, self.options.limits, model.manifest.preprocess);
        let (pool, queue) =
            self.with_running(|running| (running.decoders.clone(), Arc::clone(&running.engine.queue)))?;
        let (deadline, threads, number) = (self.options.deadline, pool.current_num_threads(), images.len());
        let (together, answer) = Together::new(number, held);
        let (together, key) = (Arc::new(together), Arc::<str>::from(model.key.as_str()));
        // One task an image, first come, first served: a task that waited for others would take up whole requests meanwhile.
        for (place, bytes) in images.into_iter().enumerate() {
            let (together, queue, key) = (Arc::clone(&together), Arc::clone(&queue), Arc::clone(&key));
            pool.spawn_fifo(move || {
                // Where nobody waits any more, as the deadline passed meanwhile, the rest is not looked at.
                if together.is_given_up() {
                    return;
                }
                let left = deadline.saturating_sub(began.elapsed());
                if left < least(queue.decoding(&key), threads, deadline) {
                    together.give_up();
                    return;
                }
                let started = Instant::now();
                let prepared = prepare(&bytes, &limits, &preprocess);
                drop(bytes);
                queue.decoded(&key, started.elapsed(), threads);
                together.put(place, prepared);
            });
        }
        drop(together);
        let prepared = answer.await.map_err(|_| ServingError::Inference("decoding panicked".into()))?;
        if prepared.len() == number { Ok(prepared) } else { Err(self.late()) }
    }

    /// A place in the queue, until it is dropped: whoever goes makes room.
    fn wait_for(&self, key: &str, images: usize, began: Instant) -> Result<Waiting, ServingError> {
        let (queue, trouble) =
            self.with_running(|running| (Arc::clone(&running.engine.queue), self.trouble(running)))?;
        // Behind a batch that does not end nobody is answered in time; one at a time finds out whether it has.
        let most = if matches!(trouble, Some(Trouble::Stuck(_))) { 0 } else { self.options.queue_images };
        queue.enter(key, images, most, self.options.deadline.saturating_sub(began.elapsed()))
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
        let loaded = |running: &Running| running.models.iter().map(|held| held.key.clone()).collect();
        PredictorStatus {
            device: self.options.device.clone(),
            precision: precision.name().to_owned(),
            reason: precision.reason,
            loaded: running.as_ref().map(loaded).unwrap_or_default(),
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

/// What a caller must have left of his deadline for an image of his to be decoded: what one thread needs for it, as far as the decoders'
/// average tells. Not more than half of the deadline, or it would never be found out that images have become smaller.
fn least(decoding: Option<f64>, threads: usize, deadline: Duration) -> Duration {
    let needed = decoding.map_or(0.0, |seconds| seconds * threads as f64);
    Duration::try_from_secs_f64(needed).map_or(deadline / 2, |needed| needed.min(deadline / 2))
}

#[cfg(test)]
mod tests;
