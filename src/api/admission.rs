//! How many predictions are taken on at once: bytes before a body is read, images before they are decoded. What does not
//! fit is refused at once (503), so that memory stays what it is. That what was taken is answered in time is the predictor's care
//! (`serving/queue.rs`), which knows how long a model takes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Problem;
use crate::config::{LimitsConfig, PredictConfig};

/// Bytes of a unit of the budget: permits are counted in 32 bits.
const UNIT: usize = 1024;

/// The budgets of one server.
#[derive(Debug)]
pub struct Admission {
    units: Arc<Semaphore>,
    most_units: u32,
    images: Arc<Semaphore>,
    most_images: u32,
}

/// What a body takes of the memory for bodies: as much as has arrived, until the last owner drops it.
#[derive(Debug)]
pub struct Room {
    units: Arc<Semaphore>,
    most_units: u32,
    taken: Mutex<(usize, Option<OwnedSemaphorePermit>)>,
    refused: AtomicBool,
}

impl Admission {
    /// Room for `predict.queue_images` images, and for `limits.predict_memory` bytes of bodies (at least one largest).
    pub fn new(limits: &LimitsConfig, predict: &PredictConfig) -> Self {
        let units = limits.predict_memory.max(limits.predict_bytes).div_ceil(UNIT);
        let most = |number: usize| u32::try_from(number.clamp(1, Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        let (most_units, most_images) = (most(units), most(predict.queue_images));
        Self {
            units: Arc::new(Semaphore::new(most_units as usize)),
            most_units,
            images: Arc::new(Semaphore::new(most_images as usize)),
            most_images,
        }
    }

    /// Room for a body of so many bytes, as far as they are known before it comes. It is taken while they arrive: who only says
    /// that he will send much keeps nobody out.
    ///
    /// # Errors
    /// 503 when bodies under way leave no room for it.
    pub fn body(&self, announced: usize) -> Result<Arc<Room>, Problem> {
        if self.units.available_permits() < units_of(announced, self.most_units) as usize {
            return Err(no_room());
        }
        Ok(Arc::new(Room {
            units: Arc::clone(&self.units),
            most_units: self.most_units,
            taken: Mutex::default(),
            refused: AtomicBool::new(false),
        }))
    }

    /// Room for so many images, until the permit is dropped. More than there is room for at all pass when nobody waits.
    ///
    /// # Errors
    /// 503 when the images that wait or are worked on leave no room for them.
    pub fn images(&self, number: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let number = u32::try_from(number).unwrap_or(u32::MAX).clamp(1, self.most_images);
        let taken = Arc::clone(&self.images).try_acquire_many_owned(number);
        taken.map_err(|_full| full("the model's queue is full"))
    }

    /// Places of images that are taken: where they all are, [`Self::images`] refuses.
    pub fn taken(&self) -> usize {
        (self.most_images as usize).saturating_sub(self.images.available_permits())
    }
}

impl Room {
    /// The body, which ends with an error where there is no room for more of it: [`Room::refused`] then.
    pub fn counted(self: &Arc<Self>, body: Body) -> Body {
        let room = Arc::clone(self);
        Body::from_stream(body.into_data_stream().map(move |frame| match frame {
            Ok(bytes) if !room.take(bytes.len()) => Err(axum::Error::new("no room in memory")),
            frame => frame,
        }))
    }

    /// Why the body came to an end, where that was for lack of room.
    pub fn refused(&self) -> Option<Problem> {
        self.refused.load(Ordering::Relaxed).then(no_room)
    }

    /// Takes so many bytes more; false where they are not to be had.
    fn take(&self, bytes: usize) -> bool {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (arrived, held) = &mut *taken;
        *arrived = arrived.saturating_add(bytes);
        let has = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let lacks = units_of(*arrived, self.most_units).saturating_sub(u32::try_from(has).unwrap_or(u32::MAX));
        if lacks == 0 {
            return true;
        }
        let Ok(more) = Arc::clone(&self.units).try_acquire_many_owned(lacks) else {
            self.refused.store(true, Ordering::Relaxed);
            return false;
        };
        match held {
            Some(held) => held.merge(more),
            None => *held = Some(more),
        }
        true
    }
}

fn units_of(bytes: usize, most: u32) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, most)
}

fn no_room() -> Problem {
    full("too many images are on their way in")
}

fn full(detail: &str) -> Problem {
    Problem::unavailable(detail).retry_after(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Server;
    use crate::config::ServeConfig;
    use crate::nn::device::CudaStatus;

    #[tokio::test]
    async fn what_is_told_of_the_queue_is_what_refuses() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = ServeConfig::new(directory.path().join("data"), ([127, 0, 0, 1], 0).into());
        config.worker.devices = "cpu".parse().unwrap();
        let server = Server::start(config, CudaStatus::NoDriver).await.unwrap();
        let get = async |path: &str| {
            let answer = reqwest::get(format!("http://{}{path}", server.address())).await.unwrap();
            answer.text().await.unwrap()
        };
        let taken = server.app().admission.images(3).unwrap();
        assert!(get("/metrics").await.contains("mixmatch_predict_queue_images 3"));
        assert!(get("/readyz").await.contains(r#""queued":3"#));
        drop(taken);
        assert!(get("/readyz").await.contains(r#""queued":0"#));
        server.stop().await;
    }

    #[test]
    fn what_does_not_fit_is_refused_until_there_is_room_again() {
        let limits = LimitsConfig { predict_memory: 4096, predict_bytes: 4096, ..LimitsConfig::default() };
        let predict = PredictConfig { queue_images: 3, ..PredictConfig::default() };
        let admission = Admission::new(&limits, &predict);
        let first = admission.images(2).unwrap();
        assert_eq!(admission.images(2).unwrap_err().status(), 503);
        let second = admission.images(1).unwrap();
        drop((first, second));
        // Larger than the whole queue, and nobody waits.
        let all = admission.images(100).unwrap();
        assert!(admission.images(1).is_err());
        drop(all);
        // What is announced takes nothing, what arrives does.
        let (body, other) = (admission.body(3000).unwrap(), admission.body(3000).unwrap());
        assert!(body.take(1) && body.take(2999), "three units of four");
        assert_eq!(admission.body(2000).unwrap_err().status(), 503);
        assert!(other.take(1000) && other.refused().is_none());
        assert!(!other.take(1000), "a unit more than there is");
        assert_eq!(other.refused().unwrap().status(), 503);
        drop((body, other));
        assert!(admission.body(1 << 30).unwrap().take(1 << 30), "one largest body has room");
    }
}
