//! The compute thread: it owns the loaded models and answers requests batch by batch.
//!
//! Batching is adaptive without a clock: the thread takes what waits, up to the largest batch, and while it
//! computes the next ones gather. A lone request never waits for company. Of what waits it takes as many images as one of
//! the [warm sizes](super::sizes) holds; the others are the beginning of the next batch.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use tch::Device;
use tokio::sync::oneshot;

use super::ServingError;
use super::health::Health;
use super::loaded::Loaded;
use super::sizes;
use crate::allocator;

/// Something for the thread to do, in the order of sending.
pub(super) enum Command {
    /// Keep a model under a key.
    Install { key: String, model: Box<Loaded> },
    /// Forget a model.
    Remove { key: String },
    /// Classify.
    Infer(Request),
    /// Ask the device whether it computes.
    AskDevice,
    /// Answer what was sent before, then end.
    Stop,
}

/// Prepared images of one caller.
pub(super) struct Request {
    /// The model's key.
    pub key: String,
    /// uint8 `[count, size, size, 3]`.
    pub pixels: Vec<u8>,
    /// Images.
    pub count: usize,
    /// When it was sent.
    pub sent: Instant,
    /// Where the answer goes; closed when the caller has gone.
    pub reply: oneshot::Sender<Result<Answer, ServingError>>,
}

/// What the thread found.
pub(super) struct Answer {
    /// Probabilities per image and class.
    pub probabilities: Vec<Vec<f32>>,
    /// Milliseconds between sending and the batch's start.
    pub queue_ms: f64,
    /// Milliseconds of the batch's forward pass.
    pub inference_ms: f64,
    /// Images in the batch.
    pub batch_size: usize,
}

/// libtorch's threads for models on `device`, of `threads` that predictions may have.
///
/// A GPU's are handed operations by one thread. More of them would share nothing but the clearing of memory for a batch's
/// pixels, and wait longer for each other than it takes, as the others decode.
pub(super) fn compute_threads(threads: usize, device: Device) -> i32 {
    if device.is_cuda() { 1 } else { threads as i32 }
}

/// The thread's handle.
pub(super) struct Engine {
    commands: Sender<Command>,
    /// Images sent and not answered.
    pub queued: Arc<AtomicUsize>,
    /// What the thread knows of its device.
    pub health: Arc<Health>,
    thread: JoinHandle<()>,
}

impl Engine {
    /// Starts the thread; its models lie on `device`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(threads: usize, max_batch: usize, device: Device) -> std::io::Result<Self> {
        let (commands, receiver) = channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let health = Arc::<Health>::default();
        let (counter, noted) = (queued.clone(), health.clone());
        let thread = std::thread::Builder::new().name("inference".into()).spawn(move || {
            allocator::keep_what_this_thread_frees();
            tch::set_num_threads(compute_threads(threads, device));
            let (backlog, models) = (VecDeque::new(), HashMap::new());
            Worker { receiver, backlog, models, queued: counter, max_batch, device, health: noted }.run();
        })?;
        Ok(Self { commands, queued, health, thread })
    }

    /// Sends a command; false when the thread is gone.
    pub fn send(&self, command: Command) -> bool {
        self.commands.send(command).is_ok()
    }

    /// Answers what was sent before and ends the thread. Blocks.
    pub fn stop(self) {
        let _gone = self.commands.send(Command::Stop);
        if self.thread.join().is_err() {
            tracing::error!("the inference thread panicked");
        }
    }
}

struct Worker {
    receiver: Receiver<Command>,
    /// Requests taken from the channel that did not fit a batch.
    backlog: VecDeque<Request>,
    models: HashMap<String, Box<Loaded>>,
    queued: Arc<AtomicUsize>,
    max_batch: usize,
    device: Device,
    health: Arc<Health>,
}

impl Worker {
    fn run(mut self) {
        loop {
            if self.backlog.is_empty() {
                match self.receiver.recv() {
                    Ok(command) => {
                        if !self.take(command) {
                            return;
                        }
                    }
                    Err(_) => return,
                }
                continue;
            }
            let mut stop = false;
            // Only requests may overtake: a model is installed or removed when all before it are answered.
            while let Ok(command) = self.receiver.try_recv() {
                match command {
                    Command::Infer(request) => self.backlog.push_back(request),
                    other => {
                        self.answer_all();
                        stop = !self.take(other);
                    }
                }
                if stop {
                    return;
                }
            }
            if let Some(batch) = self.next_batch() {
                self.answer(batch);
            }
        }
    }

    /// Handles a command; false to end.
    fn take(&mut self, command: Command) -> bool {
        let health = self.health.clone();
        let _at_work = health.at_work();
        match command {
            Command::Install { key, model } => self.install(key, model),
            Command::Remove { key } => drop(self.models.remove(&key)),
            Command::Infer(request) => self.backlog.push_back(request),
            Command::AskDevice => self.health.ask(self.device),
            Command::Stop => return false,
        }
        true
    }

    fn install(&mut self, key: String, model: Box<Loaded>) {
        // cuDNN's plans are kept for each thread, so that whoever loaded the model could not warm it for this one.
        if model.is_on_gpu() {
            let warmed = catch_unwind(AssertUnwindSafe(|| model.warm(self.max_batch)))
                .unwrap_or_else(|_| Err(ServingError::Inference("it panicked".into())));
            if let Err(error) = warmed {
                tracing::warn!(model = key, %error, "the model could not be warmed; its first predictions are slow or fail likewise");
                self.health.ask(self.device);
            }
        }
        drop(self.models.insert(key, model));
    }

    fn answer_all(&mut self) {
        while let Some(batch) = self.next_batch() {
            self.answer(batch);
        }
    }

    /// The oldest request and whatever waits for the same model, up to the largest batch. Requests whose
    /// caller has gone are dropped.
    fn next_batch(&mut self) -> Option<Vec<Request>> {
        let queued = &self.queued;
        self.backlog.retain(|request| {
            let gone = request.reply.is_closed();
            if gone {
                queued.fetch_sub(request.count, Ordering::Relaxed);
            }
            !gone
        });
        let first = self.backlog.pop_front()?;
        let alike = self.backlog.iter().filter(|request| request.key == first.key);
        let waiting = first.count + alike.map(|request| request.count).sum::<usize>();
        let on_gpu = self.models.get(&first.key).is_some_and(|model| model.is_on_gpu());
        let most = sizes::largest(if on_gpu { usize::MAX } else { waiting }, self.max_batch);
        let mut images = first.count;
        let mut batch = vec![first];
        let mut rest = VecDeque::with_capacity(self.backlog.len());
        for request in self.backlog.drain(..) {
            if request.key == batch[0].key && images + request.count <= most {
                images += request.count;
                batch.push(request);
            } else {
                rest.push_back(request);
            }
        }
        self.backlog = rest;
        Some(batch)
    }

    fn answer(&mut self, batch: Vec<Request>) {
        let _at_work = self.health.at_work();
        let started = Instant::now();
        let total: usize = batch.iter().map(|request| request.count).sum();
        // A panic inside must fail this batch, not the thread that everybody waits for.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.classify(&batch)))
            .unwrap_or_else(|_| Err(ServingError::Inference("the inference thread panicked on this batch".into())));
        let inference_ms = started.elapsed().as_secs_f64() * 1e3;
        match &outcome {
            Ok(_) => self.health.computed(),
            Err(ServingError::Inference(_)) => self.health.ask(self.device),
            Err(_) => {}
        }
        let mut rows = outcome.as_ref().map(|rows| rows.iter().cloned()).ok();
        for request in batch {
            let answer = match (&mut rows, &outcome) {
                (Some(rows), _) => Ok(Answer {
                    probabilities: rows.by_ref().take(request.count).collect(),
                    queue_ms: (started - request.sent).as_secs_f64() * 1e3,
                    inference_ms,
                    batch_size: total,
                }),
                (None, Err(error)) => Err(error.clone()),
                (None, Ok(_)) => Err(ServingError::Inference("no answer".into())),
            };
            self.queued.fetch_sub(request.count, Ordering::Relaxed);
            // The caller may have gone meanwhile; there is nobody to tell.
            let _gone = request.reply.send(answer);
        }
    }

    fn classify(&self, batch: &[Request]) -> Result<Vec<Vec<f32>>, ServingError> {
        let key = &batch[0].key;
        let model = self.models.get(key).ok_or_else(|| ServingError::NotLoaded(key.clone()))?;
        let pixels: Vec<u8> = batch.iter().flat_map(|request| request.pixels.iter().copied()).collect();
        let count: usize = batch.iter().map(|request| request.count).sum();
        if model.is_on_gpu() {
            in_batches(model, &pixels, count, sizes::filled(count, self.max_batch))
        } else {
            in_batches(model, &pixels, count, sizes::parts(count, self.max_batch).map(|part| (part, part)))
        }
    }
}

/// The answers for `count` images, run in `batches` of so many of them and of that size, filled up with black ones.
fn in_batches(
    model: &Loaded,
    pixels: &[u8],
    count: usize,
    batches: impl Iterator<Item = (usize, usize)>,
) -> Result<Vec<Vec<f32>>, ServingError> {
    let image = pixels.len() / count.max(1);
    let (mut rows, mut rest) = (Vec::with_capacity(count), pixels);
    for (part, size) in batches {
        let (now, later) = rest.split_at(part * image);
        let mut batch = Cow::Borrowed(now);
        if size > part {
            batch.to_mut().resize(size * image, 0);
        }
        rows.extend(model.probabilities(&batch, size)?.into_iter().take(part));
        rest = later;
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::Golden;
    use crate::nn::{self, Weights};
    use crate::serving::Trouble;
    use rand::SeedableRng;
    use tch::Kind;

    #[test]
    fn an_image_in_a_filled_batch_is_answered_as_alone() {
        let network = nn::build("wrn-10-1", nn::Head::Linear, 3, Kind::Float).unwrap();
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(6);
        let weights = Weights::initialise(network.layout(), Device::Cpu, &mut rng).unwrap();
        let model = Loaded::new(network.as_ref(), &weights, Device::Cpu, 16, 1.0).unwrap();
        let (golden, count) = Golden::images(1, 16);
        // Seven images of at most four: one batch that is full, one that is filled up.
        let image = golden.len() / count;
        let pixels: Vec<u8> = golden.iter().cycle().take(7 * image).copied().collect();
        let rows = in_batches(&model, &pixels, 7, sizes::filled(7, 4)).unwrap();
        assert_eq!(rows.len(), 7);
        for (row, image) in rows.iter().zip(pixels.chunks(image)) {
            let alone = model.probabilities(image, 1).unwrap();
            assert!(row.iter().zip(&alone[0]).all(|(a, b)| (a - b).abs() < 1e-5), "{row:?} {alone:?}");
        }
        assert_ne!(rows[0], rows[1], "the model says the same of everything");
    }

    #[test]
    fn a_gpu_is_handed_its_work_by_one_thread() {
        assert_eq!(compute_threads(16, Device::Cuda(0)), 1);
        assert_eq!(compute_threads(16, Device::Cpu), 16);
    }

    #[test]
    fn a_model_that_left_meanwhile_is_told_as_such_and_the_request_is_no_more_in_the_queue() {
        let engine = Engine::start(1, 4, Device::Cpu).unwrap();
        let answer = ask(&engine, "gender:1", 1);
        assert!(matches!(answer.blocking_recv().unwrap(), Err(ServingError::NotLoaded(key)) if key == "gender:1"));
        assert_eq!(engine.queued.load(Ordering::Relaxed), 0);
        engine.stop();
    }

    /// An engine on `device` with the model `here` on the CPU, and the model `there` on a GPU that does not exist.
    fn engine_with_models(device: Device) -> Engine {
        let engine = Engine::start(1, 4, device).unwrap();
        for (key, lies_on) in [("here", Device::Cpu), ("there", Device::Cuda(99))] {
            let network = nn::build("wrn-10-1", nn::Head::Linear, 2, Kind::Float).unwrap();
            let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
            let weights = Weights::initialise(network.layout(), Device::Cpu, &mut rng).unwrap();
            let model = Loaded::new(network.as_ref(), &weights, lies_on, 16, 1.0).unwrap();
            engine.send(Command::Install { key: key.into(), model: Box::new(model) });
        }
        engine
    }

    /// Sends `count` black images, for one of those models.
    fn ask(engine: &Engine, key: &str, count: usize) -> oneshot::Receiver<Result<Answer, ServingError>> {
        let (reply, answer) = oneshot::channel();
        let pixels = vec![0; count * 16 * 16 * 3];
        engine.queued.fetch_add(count, Ordering::Relaxed);
        engine.send(Command::Infer(Request { key: key.into(), pixels, count, sent: Instant::now(), reply }));
        answer
    }

    fn answers(engine: &Engine, key: &str) -> bool {
        ask(engine, key, 1).blocking_recv().unwrap().is_ok()
    }

    #[test]
    fn a_device_that_does_not_compute_is_in_trouble_until_it_does() {
        let engine = engine_with_models(Device::Cuda(99));
        assert!(!answers(&engine, "there"));
        assert!(engine.health.trouble(Duration::MAX).is_some());
        assert!(answers(&engine, "here"));
        assert_eq!(engine.health.trouble(Duration::MAX), None);
        assert!(engine.health.want());
        engine.send(Command::AskDevice);
        // What was sent before is done when this is answered.
        assert!(!answers(&engine, "nowhere"));
        assert!(engine.health.trouble(Duration::MAX).is_some() && engine.health.want(), "it was asked anew");
        engine.stop();
    }

    #[test]
    fn a_batch_that_does_not_end_is_trouble_until_it_ends() {
        let engine = engine_with_models(Device::Cpu);
        assert!(answers(&engine, "here"));
        // Of at most four at a time, so that the whole of it takes a while.
        let answer = ask(&engine, "here", 2000);
        let waiting = std::thread::spawn(move || answer.blocking_recv().unwrap().is_ok());
        let mut seen = false;
        while !waiting.is_finished() {
            seen |= matches!(engine.health.trouble(Duration::from_millis(2)), Some(Trouble::Stuck(_)));
            assert_eq!(engine.health.trouble(Duration::from_secs(600)), None);
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(waiting.join().unwrap() && seen);
        let since = Instant::now();
        while engine.health.trouble(Duration::ZERO).is_some() {
            assert!(since.elapsed() < Duration::from_secs(10), "its end is not noted");
        }
        engine.stop();
    }

    #[test]
    fn a_model_that_fails_is_no_trouble_of_the_device() {
        let engine = engine_with_models(Device::Cpu);
        assert!(!answers(&engine, "there"));
        assert_eq!(engine.health.trouble(Duration::MAX), None);
        engine.stop();
    }
}
