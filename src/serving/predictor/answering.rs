//! A request's way through a predictor: a place in the queue, decoding, the network, the answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::super::ServingError;
use super::super::engine::{Command, Request};
use super::super::health::Trouble;
use super::super::memory::Held;
use super::super::queue::Waiting;
use super::super::result::{PredictOptions, Prediction, Timings, classified};
use super::super::together::Together;
use super::Predictor;
use crate::imaging::{Fit, ImagingError, Prepared};

impl Predictor {
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
}

/// What a caller must have left of his deadline for an image of his to be decoded: what one thread needs for it, as far as the decoders'
/// average tells. Not more than half of the deadline, or it would never be found out that images have become smaller.
pub(super) fn least(decoding: Option<f64>, threads: usize, deadline: Duration) -> Duration {
    let needed = decoding.map_or(0.0, |seconds| seconds * threads as f64);
    Duration::try_from_secs_f64(needed).map_or(deadline / 2, |needed| needed.min(deadline / 2))
}
