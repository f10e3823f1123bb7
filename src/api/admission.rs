//! How many predictions are taken on at once: bytes before a body is read, images before they are decoded, and images whose model is
//! not in memory yet. What does not fit is refused at once (503), so that memory stays what it is; and no key gets more than half of
//! any of it (429), so that others find room beside it. That what was taken is answered in time is the predictor's care
//! (`serving/queue.rs`), which knows how long a model takes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use futures::StreamExt;
use uuid::Uuid;

use super::problem::Problem;
use crate::config::{LimitsConfig, PredictConfig};

/// The budgets of one server.
#[derive(Debug)]
pub struct Admission {
    bytes: Arc<Budget>,
    images: Arc<Budget>,
    loading: Arc<Budget>,
}

/// What there is so much of, for all callers together.
#[derive(Debug)]
struct Budget {
    most: usize,
    /// What one key has of it at most.
    of_a_key: usize,
    taken: Mutex<Counts>,
}

/// What is taken of a budget.
#[derive(Debug, Default)]
struct Counts {
    all: usize,
    /// Of those keys that have something.
    of_keys: HashMap<Uuid, usize>,
}

/// Who has taken what somebody else would need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// All callers together.
    All,
    /// The caller's own key, though there may be room for others.
    Key,
}

/// A part of a budget, until it is dropped.
#[derive(Debug)]
pub struct Taken {
    budget: Arc<Budget>,
    key: Option<Uuid>,
    number: usize,
}

/// What a body takes of the memory for bodies: as much as has arrived, until the last owner drops it.
#[derive(Debug)]
pub struct Room {
    state: Mutex<Arriving>,
}

#[derive(Debug)]
struct Arriving {
    bytes: usize,
    taken: Taken,
    refused: Option<Lack>,
}

impl Admission {
    /// Room for `limits.predict_memory` bytes of bodies (at least one largest), for `predict.queue_images` images, and for half as many that
    /// wait for their models. One largest request has room in each, whoever sends it, where nothing else is there.
    pub fn new(limits: &LimitsConfig, predict: &PredictConfig) -> Self {
        let (bytes, images) = (limits.predict_bytes, limits.predict_images);
        Self {
            bytes: Budget::new(limits.predict_memory.max(bytes), bytes),
            images: Budget::new(predict.queue_images, images),
            loading: Budget::new((predict.queue_images / 2).max(images.min(predict.queue_images)), images),
        }
    }

    /// Room for a body of so many bytes, as far as they are known before it comes. It is taken while they arrive: who only says
    /// that he will send much keeps nobody out.
    ///
    /// # Errors
    /// 503 when bodies under way leave no room for it, 429 where that is the key's own doing.
    pub fn body(&self, key: Option<Uuid>, announced: usize) -> Result<Arc<Room>, Problem> {
        self.bytes.has(key, announced).map_err(no_room)?;
        let taken = Taken { budget: Arc::clone(&self.bytes), key, number: 0 };
        Ok(Arc::new(Room { state: Mutex::new(Arriving { bytes: 0, taken, refused: None }) }))
    }

    /// Whether [`Self::images`] would take one.
    ///
    /// # Errors
    /// Who has taken all of them.
    pub fn has_place(&self, key: Option<Uuid>) -> Result<(), Lack> {
        self.images.has(key, 1)
    }

    /// Places for so many images. More than there are at all pass when nobody waits.
    ///
    /// # Errors
    /// Whose images, waiting or worked on, leave too few places.
    pub fn images(&self, key: Option<Uuid>, number: usize) -> Result<Taken, Lack> {
        Budget::take(&self.images, key, number)
    }

    /// Places for so many images while their model is loaded: those of models that are there stay free.
    ///
    /// # Errors
    /// Whose images, waiting likewise, leave too few places.
    pub fn loading(&self, key: Option<Uuid>, number: usize) -> Result<Taken, Lack> {
        Budget::take(&self.loading, key, number)
    }

    /// Places of images that are taken: where they all are, [`Self::images`] refuses.
    pub fn taken(&self) -> usize {
        self.images.counts().all
    }
}

impl Budget {
    /// So much for all, at least one; half of it for a key, or as much as one largest request needs.
    fn new(most: usize, request: usize) -> Arc<Self> {
        let most = most.max(1);
        let of_a_key = (most / 2).max(request).clamp(1, most);
        Arc::new(Self { most, of_a_key, taken: Mutex::default() })
    }

    /// What somebody can have at most, where nobody else has any.
    fn most_of(&self, key: Option<Uuid>) -> usize {
        if key.is_some() { self.of_a_key } else { self.most }
    }

    fn has(&self, key: Option<Uuid>, number: usize) -> Result<(), Lack> {
        self.lack(&self.counts(), key, number.clamp(1, self.most_of(key)))
    }

    fn take(budget: &Arc<Self>, key: Option<Uuid>, number: usize) -> Result<Taken, Lack> {
        let mut taken = Taken { budget: Arc::clone(budget), key, number: 0 };
        taken.grow(number.clamp(1, budget.most_of(key)))?;
        Ok(taken)
    }

    fn lack(&self, counts: &Counts, key: Option<Uuid>, number: usize) -> Result<(), Lack> {
        let own = key.and_then(|key| counts.of_keys.get(&key)).copied().unwrap_or_default();
        if key.is_some() && own + number > self.of_a_key {
            return Err(Lack::Key);
        }
        if counts.all + number > self.most { Err(Lack::All) } else { Ok(()) }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// Takes so much more.
    fn grow(&mut self, more: usize) -> Result<(), Lack> {
        let mut counts = self.budget.counts();
        self.budget.lack(&counts, self.key, more)?;
        counts.all += more;
        if let Some(key) = self.key {
            *counts.of_keys.entry(key).or_default() += more;
        }
        self.number += more;
        Ok(())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut counts = self.budget.counts();
        counts.all = counts.all.saturating_sub(self.number);
        let Some(key) = self.key else { return };
        if let Some(own) = counts.of_keys.get_mut(&key) {
            *own = own.saturating_sub(self.number);
            if *own == 0 {
                counts.of_keys.remove(&key);
            }
        }
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
        self.arriving().refused.map(no_room)
    }

    /// Takes so many bytes more; false where they are not to be had.
    fn take(&self, bytes: usize) -> bool {
        let mut arriving = self.arriving();
        let Arriving { bytes: arrived, taken, refused } = &mut *arriving;
        *arrived = arrived.saturating_add(bytes);
        let needs = (*arrived).min(taken.budget.most_of(taken.key));
        let grown = taken.grow(needs.saturating_sub(taken.number));
        *refused = refused.or(grown.err());
        grown.is_ok()
    }

    fn arriving(&self) -> MutexGuard<'_, Arriving> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_room(lack: Lack) -> Problem {
    match lack {
        Lack::All => Problem::unavailable("too many images are on their way in").retry_after(1),
        Lack::Key => crowding("this key has too many images on their way in"),
    }
}

/// A key has as much as one may have, and there may be more for others.
pub fn crowding(detail: &str) -> Problem {
    Problem::too_many_requests(detail).retry_after(1)
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
        let taken = server.app().admission.images(None, 3).unwrap();
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
        let first = admission.images(None, 2).unwrap();
        assert_eq!(admission.images(None, 2).unwrap_err(), Lack::All);
        let second = admission.images(None, 1).unwrap();
        assert_eq!(admission.has_place(None), Err(Lack::All));
        drop((first, second));
        assert_eq!(admission.has_place(None), Ok(()));
        // Larger than the whole queue, and nobody waits.
        let all = admission.images(None, 100).unwrap();
        assert!(admission.images(None, 1).is_err());
        drop(all);
        // What is announced takes nothing, what arrives does.
        let (body, other) = (admission.body(None, 3000).unwrap(), admission.body(None, 3000).unwrap());
        assert!(body.take(1) && body.take(2999));
        assert_eq!(admission.body(None, 2000).unwrap_err().status(), 503);
        assert!(other.take(1000) && other.refused().is_none());
        assert!(!other.take(1000), "more than there is");
        assert_eq!(other.refused().unwrap().status(), 503);
        drop((body, other));
        assert!(admission.body(None, 1 << 30).unwrap().take(1 << 30), "one largest body has room");
    }

    #[test]
    fn one_key_leaves_half_of_everything_to_the_others() {
        let limits =
            LimitsConfig { predict_memory: 8000, predict_bytes: 1000, predict_images: 2, ..LimitsConfig::default() };
        let predict = PredictConfig { queue_images: 8, ..PredictConfig::default() };
        let admission = Admission::new(&limits, &predict);
        let (one, other) = (Some(Uuid::now_v7()), Some(Uuid::now_v7()));
        let bodies: Vec<Arc<Room>> =
            (0..8).map_while(|_| admission.body(one, 1000).ok().filter(|b| b.take(1000))).collect();
        assert_eq!(bodies.len(), 4);
        assert_eq!(admission.body(one, 1).unwrap_err().status(), 429);
        let theirs = admission.body(other, 1000).unwrap();
        assert!(theirs.take(1000), "another key finds room");
        drop(bodies);
        let (late, large) = (admission.body(one, 1).unwrap(), admission.body(one, 1).unwrap());
        assert!(large.take(1 << 20) && !late.take(1), "its half is taken meanwhile");
        assert_eq!(late.refused().unwrap().status(), 429);

        for take in [Admission::images, Admission::loading] {
            let own: Vec<Taken> = (0..9).map_while(|_| take(&admission, one, 1).ok()).collect();
            assert_eq!(take(&admission, one, 1).unwrap_err(), Lack::Key, "{} are taken", own.len());
            let theirs: Vec<Taken> = (0..9).map_while(|_| take(&admission, other, 1).ok()).collect();
            assert_eq!(own.len(), theirs.len());
            // Two keys can have all of it.
            assert_eq!(take(&admission, Some(Uuid::now_v7()), 1).unwrap_err(), Lack::All);
            drop(own);
            assert!(take(&admission, one, 2).is_ok());
        }
        let all = admission.images(None, 8).unwrap();
        assert_eq!(all.number, 8, "without keys there is nobody to leave anything to");
        drop(all);
        assert!(admission.images.counts().of_keys.is_empty(), "of keys that have nothing nothing is kept");
    }

    #[test]
    fn one_largest_request_fits_whatever_the_limits() {
        let limits =
            LimitsConfig { predict_memory: 0, predict_bytes: 5000, predict_images: 64, ..LimitsConfig::default() };
        let key = Some(Uuid::now_v7());
        for queue_images in [1, 50, 64, 100, 256] {
            let admission = Admission::new(&limits, &PredictConfig { queue_images, ..PredictConfig::default() });
            assert!(admission.images(key, 64).is_ok() && admission.loading(key, 64).is_ok(), "{queue_images}");
            let body = admission.body(key, 5000).unwrap();
            assert!((0..5).all(|_| body.take(1000)) && body.refused().is_none());
        }
    }
}
