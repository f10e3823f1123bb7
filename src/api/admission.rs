//! How many predictions are taken on at once: bytes before a body is read, images before they are decoded. What does not
//! fit is refused at once (503), so that what was taken is answered in time and memory stays what it is.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::problem::Problem;
use crate::config::{LimitsConfig, PredictConfig};

/// Bytes of a unit of the budget: permits are counted in 32 bits.
const UNIT: usize = 1024;

/// The budgets of one server.
#[derive(Debug)]
pub struct Admission {
    units: Arc<Semaphore>,
    most_units: u32,
    images: Semaphore,
    most_images: u32,
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
            images: Semaphore::new(most_images as usize),
            most_images,
        }
    }

    /// Room for a body of so many bytes, until the permit is dropped, wherever that is.
    ///
    /// # Errors
    /// 503 when bodies under way leave no room for it.
    pub fn body(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, self.most_units);
        Arc::clone(&self.units)
            .try_acquire_many_owned(units)
            .map_err(|_full| full("too many images are on their way in"))
    }

    /// Room for so many images, until the permit is dropped. More than there is room for at all pass when nobody waits.
    ///
    /// # Errors
    /// 503 when the images that wait or are worked on leave no room for them.
    pub fn images(&self, number: usize) -> Result<SemaphorePermit<'_>, Problem> {
        let number = u32::try_from(number).unwrap_or(u32::MAX).clamp(1, self.most_images);
        self.images.try_acquire_many(number).map_err(|_full| full("the model's queue is full"))
    }
}

fn full(detail: &str) -> Problem {
    Problem::unavailable(detail).retry_after(1)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let body = admission.body(3000).unwrap();
        assert_eq!(admission.body(2000).unwrap_err().status(), 503);
        drop(body);
        assert!(admission.body(1 << 30).is_ok());
    }
}
