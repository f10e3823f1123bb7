//! How many requests a key may send: a bucket for each key that refills evenly. What a server can bear as a whole is
//! not decided here (the predict queue answers 503); this keeps one caller from taking all of it, as does what one key may
//! have of the places and the memory for predictions (`admission.rs`).

use std::num::NonZeroU32;

use governor::clock::{Clock, MonotonicClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use uuid::Uuid;

use super::problem::Problem;

/// The buckets.
pub struct RateLimits {
    buckets: Option<RateLimiter<Uuid, HashMapStateStore<Uuid>, MonotonicClock>>,
}

impl RateLimits {
    /// `per_second` requests for each key, as many at once after a second's rest; none: no limit.
    pub fn new(per_second: Option<NonZeroU32>) -> Self {
        let buckets = per_second
            .map(|number| RateLimiter::new(Quota::per_second(number), HashMapStateStore::default(), MonotonicClock));
        Self { buckets }
    }

    /// Takes one request from the key's bucket.
    ///
    /// # Errors
    /// 429 with the whole seconds until there is one again.
    pub fn check(&self, key: Uuid) -> Result<(), Problem> {
        let Some(buckets) = &self.buckets else { return Ok(()) };
        buckets.check_key(&key).map_err(|until| {
            let wait = until.wait_time_from(MonotonicClock.now());
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            let rate = until.quota().burst_size();
            Problem::too_many_requests(format!("this key may send {rate} requests a second"))
                .retry_after(seconds.max(1))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_a_bucket_of_its_own() {
        let limits = RateLimits::new(NonZeroU32::new(2));
        let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
        assert!(limits.check(one).is_ok() && limits.check(one).is_ok());
        let refused = limits.check(one).unwrap_err();
        assert_eq!(refused.status(), 429);
        assert!(limits.check(other).is_ok(), "another key is not held back");
        std::thread::sleep(std::time::Duration::from_millis(600));
        assert!(limits.check(one).is_ok(), "the bucket refills");
        let open = RateLimits::new(None);
        assert!((0..1000).all(|_| open.check(one).is_ok()));
    }
}
