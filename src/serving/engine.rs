//! The compute thread: it owns the loaded models and answers requests batch by batch.
//!
//! Batching is adaptive without a clock: the thread takes what waits, up to the largest batch, and while it
//! computes the next ones gather. A lone request never waits for company. Of what waits it takes as many images as one of
//! the [warm sizes](super::sizes) holds; the others are the beginning of the next batch. Whom no batch can answer before its deadline
//! is told so instead: under overload the time is for the others.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tch::Device;
use tokio::sync::oneshot;

use super::ServingError;
use super::health::{AtWork, Health};
use super::loaded::Loaded;
use super::queue::Queue;
use super::sizes;
use crate::allocator;
use crate::openmp::compute_with;

/// Something for the thread to do, in the order of sending.
pub(super) enum Command {
    /// Keep a model under a key; `seconds` is what an image takes it, where that is known.
    Install { key: String, model: Box<Loaded>, seconds: Option<f64> },
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
    /// uint8 `[count, size, size, 3]`. They are the caller's, and go with it: what waits behind a batch that never ends takes no memory.
    pub pixels: Weak<Vec<u8>>,
    /// Images.
    pub count: usize,
    /// When the caller began to wait.
    pub began: Instant,
    /// How long it waits.
    pub deadline: Duration,
    /// When it was sent.
    pub sent: Instant,
    /// Where the answer goes; closed when the caller has gone.
    pub reply: oneshot::Sender<Result<Answer, ServingError>>,
}

impl Request {
    /// How long the caller still waits.
    fn left(&self) -> Duration {
        self.deadline.saturating_sub(self.began.elapsed())
    }

    fn refuse(self) {
        let seconds = self.deadline.as_secs_f64();
        let _gone = self.reply.send(Err(ServingError::Deadline { seconds }));
    }
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
    /// What waits, and how long it takes.
    pub queue: Arc<Queue>,
    /// What the thread knows of its device.
    pub health: Arc<Health>,
    thread: JoinHandle<()>,
}

impl Engine {
    /// Starts the thread; its models lie on `device`. Once it is `closing` no more of them is warmed.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(threads: usize, max_batch: usize, device: Device, closing: Arc<AtomicBool>) -> std::io::Result<Self> {
        let (commands, receiver) = channel();
        let (queue, health) = (Arc::<Queue>::default(), Arc::<Health>::default());
        let (noted, told) = (queue.clone(), health.clone());
        let thread = std::thread::Builder::new().name("inference".into()).spawn(move || {
            allocator::keep_what_this_thread_frees();
            compute_with(compute_threads(threads, device));
            let (backlog, models) = (VecDeque::new(), HashMap::new());
            Worker { receiver, backlog, models, queue: noted, max_batch, device, health: told, closing }.run();
        })?;
        Ok(Self { commands, queue, health, thread })
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
    queue: Arc<Queue>,
    max_batch: usize,
    device: Device,
    health: Arc<Health>,
    closing: Arc<AtomicBool>,
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
        let at_work = health.at_work();
        match command {
            Command::Install { key, model, seconds } => self.install(key, model, seconds, &at_work),
            Command::Remove { key } => {
                self.queue.forget(&key);
                drop(self.models.remove(&key));
            }
            Command::Infer(request) => self.backlog.push_back(request),
            Command::AskDevice => self.health.ask(self.device),
            Command::Stop => return false,
        }
        true
    }

    fn install(&mut self, key: String, model: Box<Loaded>, mut seconds: Option<f64>, at_work: &AtWork<'_>) {
        // cuDNN's plans are kept for each thread, so that whoever loaded the model could not warm it for this one.
        if model.is_on_gpu() {
            let go_on = || {
                at_work.goes_on();
                !self.closing.load(Ordering::Acquire)
            };
            let warmed = catch_unwind(AssertUnwindSafe(|| model.warm(self.max_batch, go_on)))
                .unwrap_or_else(|_| Err(ServingError::Inference("it panicked".into())));
            match warmed {
                Ok(each) => seconds = Some(each),
                Err(ServingError::ShuttingDown) => {}
                Err(error) => {
                    tracing::warn!(model = key, %error, "the model could not be warmed; its first predictions are slow or fail likewise");
                    self.health.ask(self.device);
                }
            }
        }
        self.queue.expect(&key, seconds);
        drop(self.models.insert(key, model));
    }

    fn answer_all(&mut self) {
        while let Some(batch) = self.next_batch() {
            self.answer(batch);
        }
    }

    /// The oldest request and whatever waits for the same model, up to the largest batch that ends before the oldest one's deadline.
    fn next_batch(&mut self) -> Option<Vec<Request>> {
        self.leave_out_the_late();
        let first = self.backlog.pop_front()?;
        let alike = self.backlog.iter().filter(|request| request.key == first.key);
        let waiting = first.count + alike.map(|request| request.count).sum::<usize>();
        let on_gpu = self.models.get(&first.key).is_some_and(|model| model.is_on_gpu());
        let seconds = self.queue.seconds(&first.key);
        let in_time = seconds.map_or(usize::MAX, |seconds| (first.left().as_secs_f64() / seconds) as usize);
        let most = sizes::largest(if on_gpu { usize::MAX } else { waiting }, self.max_batch.min(in_time));
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

    /// Drops requests whose caller has gone, and refuses those that would not be answered in time though they were next. The newest for a
    /// model that would be left without any stays: only by a batch is it found out that a model is quicker than it was.
    fn leave_out_the_late(&mut self) {
        self.backlog.retain(|request| !request.reply.is_closed());
        let late: Vec<bool> = self.backlog.iter().map(|request| self.is_late(request)).collect();
        if !late.contains(&true) {
            return;
        }
        let in_time = self.backlog.iter().zip(&late).filter(|(_, late)| !**late);
        let mut models: HashSet<String> = in_time.map(|(request, _)| request.key.clone()).collect();
        for (request, late) in std::mem::take(&mut self.backlog).into_iter().zip(late).rev() {
            if !late || models.insert(request.key.clone()) {
                self.backlog.push_front(request);
            } else {
                request.refuse();
            }
        }
    }

    fn is_late(&self, request: &Request) -> bool {
        let takes = self.queue.seconds(&request.key).map_or(0.0, |seconds| seconds * request.count as f64);
        request.left().as_secs_f64() <= takes
    }

    fn answer(&mut self, batch: Vec<Request>) {
        let with_pixels =
            batch.into_iter().filter_map(|request| request.pixels.upgrade().map(|pixels| (request, pixels)));
        let (batch, pixels): (Vec<Request>, Vec<Arc<Vec<u8>>>) = with_pixels.unzip();
        if batch.is_empty() {
            return;
        }
        let at_work = self.health.at_work();
        let started = Instant::now();
        let total: usize = batch.iter().map(|request| request.count).sum();
        // A panic inside must fail this batch, not the thread that everybody waits for.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.classify(&batch, pixels, &at_work)))
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
            // The caller may have gone meanwhile; there is nobody to tell.
            let _gone = request.reply.send(answer);
        }
    }

    /// The answers for `batch`; not all of them where nobody waits for one any more.
    fn classify(
        &self,
        batch: &[Request],
        pixels: Vec<Arc<Vec<u8>>>,
        at_work: &AtWork<'_>,
    ) -> Result<Vec<Vec<f32>>, ServingError> {
        let key = &batch[0].key;
        let model = self.models.get(key).ok_or_else(|| ServingError::NotLoaded(key.clone()))?;
        let whole: Vec<u8> = pixels.iter().flat_map(|pixels| pixels.iter().copied()).collect();
        drop(pixels);
        let count: usize = batch.iter().map(|request| request.count).sum();
        let computed = |images: usize, took: Duration| {
            at_work.goes_on();
            self.queue.computed(key, images, took);
            batch.iter().any(|request| !request.reply.is_closed())
        };
        if model.is_on_gpu() {
            in_batches(model, &whole, count, sizes::filled(count, self.max_batch), computed)
        } else {
            in_batches(model, &whole, count, sizes::parts(count, self.max_batch).map(|part| (part, part)), computed)
        }
    }
}

/// The answers for `count` images, run in `batches` of so many of them and of that size, filled up with black ones. After each
/// `computed` is told how many images took how long, and says whether somebody waits for the next.
fn in_batches(
    model: &Loaded,
    pixels: &[u8],
    count: usize,
    batches: impl Iterator<Item = (usize, usize)>,
    computed: impl Fn(usize, Duration) -> bool,
) -> Result<Vec<Vec<f32>>, ServingError> {
    let image = pixels.len() / count.max(1);
    let (mut rows, mut rest) = (Vec::with_capacity(count), pixels);
    for (part, size) in batches {
        let (now, later) = rest.split_at(part * image);
        let mut batch = Cow::Borrowed(now);
        if size > part {
            batch.to_mut().resize(size * image, 0);
        }
        let began = Instant::now();
        rows.extend(model.probabilities(&batch, size)?.into_iter().take(part));
        if !computed(part, began.elapsed()) {
            break;
        }
        rest = later;
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Golden;
    use crate::nn::{self, Weights};
    use crate::serving::Trouble;
    use crate::serving::loaded::Slow;
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
        let rows = in_batches(&model, &pixels, 7, sizes::filled(7, 4), |_, _| true).unwrap();
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
    fn a_model_that_left_meanwhile_is_told_as_such() {
        let engine = engine(Device::Cpu);
        let answer = ask(&engine, "gender:1", 1).wait();
        assert!(matches!(answer, Err(ServingError::NotLoaded(key)) if key == "gender:1"));
        engine.stop();
    }

    fn engine(device: Device) -> Engine {
        Engine::start(1, 4, device, Arc::default()).unwrap()
    }

    /// An engine on `device` with the model `here` on the CPU, and the model `there` on a GPU that does not exist.
    fn engine_with_models(device: Device) -> Engine {
        let engine = engine(device);
        for (key, lies_on) in [("here", Device::Cpu), ("there", Device::Cuda(99))] {
            let network = nn::build("wrn-10-1", nn::Head::Linear, 2, Kind::Float).unwrap();
            let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
            let weights = Weights::initialise(network.layout(), Device::Cpu, &mut rng).unwrap();
            let model = Loaded::new(network.as_ref(), &weights, lies_on, 16, 1.0).unwrap();
            engine.send(Command::Install { key: key.into(), model: Box::new(model), seconds: None });
        }
        engine
    }

    /// An engine with the model `slow`, which takes so long for each image; and how many it has computed.
    fn engine_with_slow(each: Duration) -> (Engine, Arc<std::sync::atomic::AtomicUsize>) {
        let (network, images) = Slow::boxed(each);
        let engine = engine(Device::Cpu);
        let model = Box::new(Loaded::stand_in(network, 16));
        engine.send(Command::Install { key: "slow".into(), model, seconds: Some(each.as_secs_f64()) });
        (engine, images)
    }

    /// A caller that waits.
    struct Asked {
        answer: oneshot::Receiver<Result<Answer, ServingError>>,
        _pixels: Arc<Vec<u8>>,
    }

    impl Asked {
        fn wait(self) -> Result<Answer, ServingError> {
            self.answer.blocking_recv().unwrap()
        }
    }

    /// Sends `count` black images, for one of those models.
    fn ask(engine: &Engine, key: &str, count: usize) -> Asked {
        ask_within(engine, key, count, Duration::from_secs(600))
    }

    fn ask_within(engine: &Engine, key: &str, count: usize, deadline: Duration) -> Asked {
        let (reply, answer) = oneshot::channel();
        let (pixels, now) = (Arc::new(vec![0; count * 16 * 16 * 3]), Instant::now());
        let request =
            Request { key: key.into(), pixels: Arc::downgrade(&pixels), count, began: now, deadline, sent: now, reply };
        engine.send(Command::Infer(request));
        Asked { answer, _pixels: pixels }
    }

    fn answers(engine: &Engine, key: &str) -> bool {
        ask(engine, key, 1).wait().is_ok()
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

    /// Whether the device is seen to be stuck before `asked` is answered.
    fn is_stuck_at(engine: &Engine, asked: Asked, patience: Duration) -> bool {
        let waiting = std::thread::spawn(move || asked.wait().is_ok());
        let mut seen = false;
        while !waiting.is_finished() {
            seen |= matches!(engine.health.trouble(patience), Some(Trouble::Stuck(_)));
            assert_eq!(engine.health.trouble(Duration::from_secs(600)), None);
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(waiting.join().unwrap());
        seen
    }

    #[test]
    fn a_batch_that_does_not_end_is_trouble_until_it_ends() {
        let (engine, _) = engine_with_slow(Duration::from_millis(100));
        assert!(is_stuck_at(&engine, ask(&engine, "slow", 3), Duration::from_millis(20)));
        let since = Instant::now();
        while engine.health.trouble(Duration::ZERO).is_some() {
            assert!(since.elapsed() < Duration::from_secs(10), "its end is not noted");
        }
        engine.stop();
    }

    #[test]
    fn a_request_of_many_parts_that_each_end_in_time_is_no_trouble() {
        let (engine, _) = engine_with_slow(Duration::from_millis(5));
        assert!(
            !is_stuck_at(&engine, ask(&engine, "slow", 300), Duration::from_millis(700)),
            "1.5 s in parts of 20 ms"
        );
        engine.stop();
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_not_computed_to_its_end() {
        let (engine, images) = engine_with_slow(Duration::from_millis(10));
        let given_up = ask(&engine, "slow", 400);
        while images.load(Ordering::Relaxed) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(given_up);
        assert!(answers(&engine, "slow"));
        let computed = images.load(Ordering::Relaxed);
        assert!(computed < 400, "{computed}");
        engine.stop();
    }

    #[test]
    fn who_cannot_be_answered_in_time_is_told_so_and_not_computed_for_nobody() {
        let (engine, images) = engine_with_slow(Duration::from_millis(50));
        let refused = |asked: Asked| matches!(asked.wait(), Err(ServingError::Deadline { .. }));
        let first = ask(&engine, "slow", 4);
        // Of these two the second is too late when the first four are done, though its caller still waits.
        let (patient, late) = (ask(&engine, "slow", 1), ask_within(&engine, "slow", 3, Duration::from_millis(1)));
        assert!(first.wait().is_ok() && patient.wait().is_ok() && refused(late));
        assert_eq!(images.load(Ordering::Relaxed), 5);
        // Without another one it is tried, as the model may be quicker than it was.
        assert!(ask_within(&engine, "slow", 1, Duration::from_millis(1)).wait().is_ok());
        engine.stop();
    }

    #[test]
    fn a_batch_is_no_larger_than_ends_before_the_deadline_of_its_oldest() {
        let (engine, _) = engine_with_slow(Duration::from_millis(20));
        assert!(answers(&engine, "slow"));
        // As it once was: the next batch makes 70 s of that, of which three go into 250 s.
        engine.queue.expect("slow", Some(100.0));
        let busy = ask(&engine, "slow", 4);
        let oldest = ask_within(&engine, "slow", 1, Duration::from_secs(250));
        let others = [(); 3].map(|()| ask(&engine, "slow", 1));
        assert!(busy.wait().is_ok());
        assert!(oldest.wait().unwrap().batch_size < 4);
        assert!(others.into_iter().all(|other| other.wait().is_ok()));
        engine.stop();
    }

    #[test]
    fn each_model_answers_its_own_requests_alone() {
        let (engine, images) = engine_with_slow(Duration::from_millis(20));
        let (network, others) = Slow::boxed(Duration::from_millis(1));
        let model = Box::new(Loaded::stand_in(network, 16));
        engine.send(Command::Install { key: "other".into(), model, seconds: Some(0.001) });
        let busy = ask(&engine, "slow", 4);
        let [first, other, last] = ["slow", "other", "slow"].map(|key| ask(&engine, key, 1));
        for (asked, batch_size) in [(busy, 4), (first, 2), (last, 2), (other, 1)] {
            assert_eq!(asked.wait().unwrap().batch_size, batch_size);
        }
        assert_eq!((images.load(Ordering::Relaxed), others.load(Ordering::Relaxed)), (6, 1));
        engine.stop();
    }

    #[test]
    fn a_request_is_late_by_all_of_its_images() {
        let (engine, images) = engine_with_slow(Duration::from_millis(20));
        assert!(answers(&engine, "slow"));
        // As above: 70 s each after the next batch, so that four are not done in 250 s and one is.
        engine.queue.expect("slow", Some(100.0));
        let busy = ask(&engine, "slow", 4);
        let (patient, late) = (ask(&engine, "slow", 1), ask_within(&engine, "slow", 4, Duration::from_secs(250)));
        assert!(busy.wait().is_ok() && patient.wait().is_ok());
        assert!(matches!(late.wait(), Err(ServingError::Deadline { .. })));
        assert_eq!(images.load(Ordering::Relaxed), 6);
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
