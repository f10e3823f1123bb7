//! Models into a predictor's memory and out of it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};

use tokio::sync::oneshot;

use super::super::ServingError;
use super::super::engine::{Command, compute_threads};
use super::super::loaded::{Loaded, ModelFiles};
use super::super::memory::Held;
use super::Predictor;
use crate::model::ModelManifest;
use crate::nn::device;
use crate::openmp::compute_with;

/// A model that was read and checked; and the seconds that an image takes it, where it was warmed.
pub(super) struct Opened {
    pub model: Loaded,
    pub manifest: ModelManifest,
    pub seconds: Option<f64>,
}

/// As long as there is one, a model is being loaded.
pub(super) struct Loading<'a> {
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
pub(super) enum Wish {
    /// A caller, who waits for it.
    Asked,
    /// Nobody yet: it is the first to make room.
    Foreseen,
}

impl Predictor {
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
    pub(super) fn begin<'a>(&'a self, key: &'a str) -> Result<Loading<'a>, ServingError> {
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
                let (model, manifest) = Loaded::open(&name, &files, device, options.int8)?;
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
    pub(super) fn spawn_loader(&self, load: impl FnOnce() + Send + 'static) -> Result<(), ServingError> {
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

    pub(super) fn install(&self, key: &str, opened: Opened, wish: Wish) -> Result<Held, ServingError> {
        let Opened { model, manifest, seconds } = opened;
        let held = Held { int8: model.is_in_int8(), ..Held::new(key, manifest) };
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
}
