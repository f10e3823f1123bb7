//! What waits for the models, and how long it takes them: who could not be answered in time is refused at once, and not
//! computed for nobody.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::ServingError;

/// The share of a deadline that may be waited for. The rest is for whichever of decoding and the model is quicker, and for batches that
/// take longer than those before.
const HOPEFUL: f64 = 0.8;

/// How much the newest batch counts in the average.
const NEWEST: f64 = 0.3;

/// How much the newest decoded image counts in the average, once there were so many that it counts no more than that.
const ONE_IMAGE: f64 = 0.05;

/// So many times the average is what one counts as at most: one that something disturbed shall not close the door.
const STEEPEST: f64 = 4.0;

/// The images of all models. Whoever waits counts them, the compute thread and those that decode say how long they take.
#[derive(Debug, Default)]
pub(super) struct Queue {
    lines: Mutex<HashMap<String, Line>>,
}

/// What waits for one model.
#[derive(Debug, Default)]
struct Line {
    /// From before they are decoded until their caller has the answer, or has gone.
    images: usize,
    /// Seconds that an image takes, averaged over the last batches; none before the first.
    seconds: Option<f64>,
    /// Seconds that the decoders, all together, need for an image, averaged over the last ones; none before the first.
    decoding: Option<f64>,
    /// Images in that average.
    decoded: u32,
}

impl Line {
    /// Seconds for so many images; none at all as long as nothing is known. Some are decoded while others are computed: what takes longer
    /// is what is waited for.
    fn takes(&self, images: usize) -> f64 {
        let each = self.seconds.unwrap_or(0.0).max(self.decoding.unwrap_or(0.0));
        each * images as f64
    }

    /// Notes one more decoded image. Each counts as it is: large pictures among small ones take most of the time, however rare they are.
    fn decoded(&mut self, now: f64) {
        self.decoded = self.decoded.saturating_add(1);
        let weight = ONE_IMAGE.max(1.0 / f64::from(self.decoded));
        let before = self.decoding.unwrap_or(now);
        self.decoding = Some(before + weight * (now - before));
    }
}

/// The average of batches once there is one more.
fn averaged(before: Option<f64>, now: f64) -> f64 {
    before.map_or(now, |before| before + NEWEST * (now.min(STEEPEST * before) - before))
}

/// Images in the queue, until it is dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    queue: Arc<Queue>,
    key: String,
    images: usize,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.queue.leave(&self.key, self.images);
    }
}

impl Queue {
    /// Takes `images` on for the model `key`: `most` together, and no more than can be answered before `deadline`.
    ///
    /// Where nobody waits they are taken on in any case, as a request that is larger than the queue could never pass otherwise; and where
    /// nobody waits for this model its own time does not count: only by a batch is it found out that a model is quicker than it was.
    ///
    /// # Errors
    /// [`ServingError::Overloaded`].
    pub fn enter(
        self: &Arc<Self>,
        key: &str,
        images: usize,
        most: usize,
        deadline: Duration,
    ) -> Result<Waiting, ServingError> {
        let mut lines = self.lines();
        let queued: usize = lines.values().map(|line| line.images).sum();
        let seconds: f64 = lines.values().map(|line| line.takes(line.images)).sum();
        let own = lines.get(key).filter(|line| line.images > 0).map_or(0.0, |line| line.takes(images));
        let late = seconds + own > HOPEFUL * deadline.as_secs_f64();
        if queued > 0 && (late || queued + images > most) {
            return Err(ServingError::Overloaded { queued, seconds });
        }
        lines.entry(key.to_owned()).or_default().images += images;
        Ok(Waiting { queue: Arc::clone(self), key: key.to_owned(), images })
    }

    fn leave(&self, key: &str, images: usize) {
        let mut lines = self.lines();
        let Some(line) = lines.get_mut(key) else { return };
        line.images = line.images.saturating_sub(images);
        // Of a model that nobody loaded, or that has left the memory, nothing is to be known.
        if line.images == 0 && line.seconds.is_none() {
            lines.remove(key);
        }
    }

    /// Notes that so many images of a model were computed in that time.
    pub fn computed(&self, key: &str, images: usize, took: Duration) {
        let now = took.as_secs_f64() / images.max(1) as f64;
        let mut lines = self.lines();
        let line = lines.entry(key.to_owned()).or_default();
        line.seconds = Some(averaged(line.seconds, now));
    }

    /// Notes that one of `threads` that decode took so long for an image of a model.
    pub fn decoded(&self, key: &str, took: Duration, threads: usize) {
        // Nothing is kept of a model that has left the memory meanwhile.
        if let Some(line) = self.lines().get_mut(key) {
            line.decoded(took.as_secs_f64() / threads.max(1) as f64);
        }
    }

    /// Seconds that the decoders, all together, need for an image of a model, as far as that is known.
    pub fn decoding(&self, key: &str) -> Option<f64> {
        self.lines().get(key).and_then(|line| line.decoding)
    }

    /// Seconds that all images take which wait or are worked on, as far as that is known.
    pub fn waits(&self) -> f64 {
        self.lines().values().map(|line| line.takes(line.images)).sum()
    }

    /// Notes what is known of a model before its first batch.
    pub fn expect(&self, key: &str, seconds: Option<f64>) {
        self.lines().entry(key.to_owned()).or_default().seconds = seconds;
    }

    /// Notes that a model has left the memory.
    pub fn forget(&self, key: &str) {
        self.expect(key, None);
        self.leave(key, 0);
    }

    /// Seconds that an image of a model takes, as far as that is known.
    pub fn seconds(&self, key: &str) -> Option<f64> {
        self.lines().get(key).and_then(|line| line.seconds)
    }

    /// All images that wait or are worked on.
    #[cfg(test)]
    pub fn images(&self) -> usize {
        self.lines().values().map(|line| line.images).sum()
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<String, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    fn enter(queue: &Arc<Queue>, key: &str, images: usize) -> Result<Waiting, ServingError> {
        queue.enter(key, images, 256, DEADLINE)
    }

    #[test]
    fn as_many_wait_as_can_be_answered_in_time_and_whoever_goes_makes_room() {
        let queue = Arc::<Queue>::default();
        let all = enter(&queue, "a", 256).unwrap();
        assert!(enter(&queue, "a", 1).is_err(), "there is no place for more");
        drop(all);
        queue.computed("a", 1, Duration::from_millis(195));
        let mut waiting: Vec<Waiting> = (0..41).map(|_| enter(&queue, "a", 1).unwrap()).collect();
        let refused = enter(&queue, "a", 1).unwrap_err();
        assert_eq!(refused.to_string(), "the model's queue is full (41 images wait, for about 8 s)");
        drop(waiting.pop());
        drop(enter(&queue, "a", 1).unwrap());
        drop(waiting);
        assert_eq!(queue.images(), 0);
        drop(enter(&queue, "a", 300).unwrap());
    }

    #[test]
    fn the_time_of_all_models_counts_but_the_first_for_each_is_let_in() {
        let queue = Arc::<Queue>::default();
        queue.computed("a", 1, Duration::from_millis(500));
        queue.computed("b", 1, Duration::from_secs(60));
        let first = enter(&queue, "a", 10).unwrap();
        let other = enter(&queue, "b", 1).unwrap();
        assert!(enter(&queue, "a", 1).is_err() && enter(&queue, "b", 1).is_err() && enter(&queue, "c", 1).is_err());
        drop(other);
        drop((enter(&queue, "a", 1).unwrap(), first));
        assert_eq!(queue.images(), 0);
        queue.forget("b");
        let _one = enter(&queue, "b", 1).unwrap();
        assert!(enter(&queue, "b", 200).is_ok(), "it may be quicker when it comes back");
    }

    #[test]
    fn what_takes_longer_counts_be_it_decoding_or_the_model() {
        let queue = Arc::<Queue>::default();
        queue.decoded("a", Duration::from_secs(1), 4);
        assert_eq!(queue.decoding("a"), None, "nobody waits for a model of that name");
        let waiting = enter(&queue, "a", 1).unwrap();
        queue.computed("a", 1, Duration::from_millis(10));
        queue.decoded("a", Duration::from_secs(1), 4);
        assert_eq!((queue.decoding("a"), queue.waits()), (Some(0.25), 0.25));
        // 32 of them can be decoded in four fifths of ten seconds.
        let more = enter(&queue, "a", 31).unwrap();
        assert!(enter(&queue, "a", 1).is_err());
        drop((waiting, more));
        // Lone ones go on being taken, and each of them tells how it is now.
        for _ in 0..40 {
            let _one = enter(&queue, "a", 1).unwrap();
            queue.decoded("a", Duration::from_millis(4), 4);
        }
        let _first = enter(&queue, "a", 1).unwrap();
        assert!(enter(&queue, "a", 200).is_ok(), "{queue:?}");
        assert!((queue.seconds("a").unwrap() - 0.01).abs() < 1e-9, "the batches' own are another matter");
    }

    #[test]
    fn a_few_large_images_among_small_ones_count_by_their_time() {
        let queue = Arc::<Queue>::default();
        let _waiting = enter(&queue, "a", 1).unwrap();
        let mean = (8.0 * 0.004 + 2.0 * 0.5) / 10.0;
        for round in 0..40 {
            for milliseconds in [4, 4, 4, 4, 4, 4, 4, 4, 500, 500] {
                queue.decoded("a", Duration::from_millis(milliseconds), 1);
                let told = queue.decoding("a").unwrap();
                // What all images are is known once some of each kind were seen.
                assert!(round == 0 || (mean / 2.0..mean * 2.0).contains(&told), "{told} s in round {round}");
            }
        }
    }

    #[test]
    fn a_batch_that_was_disturbed_is_forgotten() {
        let queue = Arc::<Queue>::default();
        queue.computed("a", 1, Duration::from_millis(100));
        queue.computed("a", 1, Duration::from_secs(600));
        assert!(queue.seconds("a").unwrap() < 0.2, "{queue:?}");
        queue.forget("a");
        queue.computed("a", 1, Duration::from_secs(600));
        // Lone ones go on being taken, and each of them tells how it is now.
        for _ in 0..40 {
            drop(enter(&queue, "a", 1).unwrap());
            queue.computed("a", 1, Duration::from_millis(100));
        }
        assert!((queue.seconds("a").unwrap() - 0.1).abs() < 0.01, "{queue:?}");
        drop((enter(&queue, "a", 1).unwrap(), enter(&queue, "a", 50).unwrap()));
    }
}
