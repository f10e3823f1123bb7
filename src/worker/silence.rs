//! How long a child may say nothing.

use std::time::Duration;

use tokio::time::Instant;

/// A clock that rings later than this rings after a standstill of the server itself: the child, which stood still with it
/// or whose words wait in the pipe, is not to blame.
const LATE: Duration = Duration::from_secs(1);

/// The clock of one child.
#[derive(Debug)]
pub(super) struct Silence {
    allowed: Duration,
    until: Instant,
}

impl Silence {
    /// From now on.
    pub(super) fn new(allowed: Duration) -> Self {
        Self { allowed, until: Instant::now() + allowed }
    }

    /// The child said something.
    pub(super) fn heard(&mut self) {
        self.until = Instant::now() + self.allowed;
    }

    /// When to judge.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// At that time: whether the child has hung. Not where the judgement comes late; then the clock starts anew.
    pub(super) fn judge(&mut self) -> bool {
        let on_time = self.until.elapsed() <= LATE;
        if !on_time {
            self.heard();
        }
        on_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_judgement_that_comes_late_is_put_off() {
        let allowed = Duration::from_millis(50);
        let mut punctual = Silence::new(allowed);
        tokio::time::sleep_until(punctual.until()).await;
        assert!(punctual.judge(), "hung");

        let mut late = Silence::new(allowed);
        // On the test's one thread this is a standstill for the clock, too.
        std::thread::sleep(allowed + LATE + Duration::from_millis(100));
        tokio::time::sleep_until(late.until()).await;
        assert!(!late.judge() && late.until() > Instant::now(), "it is heard once more");
    }
}
