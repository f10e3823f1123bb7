//! Clocks that judge callers, and a process that stands still: paused with its machine, stopped, or starved of its cores.
//!
//! When it runs again, every deadline that passed meanwhile fires at once, before anything is read that callers sent,
//! and before callers on the same machine could send anything. A timer that fires late says so: then nobody is judged by
//! it. Deadlines of our own work (504) are not meant here: they are for the caller's sake.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

/// A timer that fires later than this fires after a standstill.
pub const LATE: Duration = Duration::from_secs(1);

/// What a caller has once more after a standstill.
const AGAIN: Duration = Duration::from_secs(5);

/// True when this moment is so long after `deadline` that the process did not run in between.
pub fn stood_still(deadline: Instant) -> bool {
    deadline.elapsed() > LATE
}

/// hyper's clock for the heads of requests, and ours for answers that wait to be taken; it forgives standstills.
#[derive(Clone, Copy, Debug)]
pub struct ForgivingTimer;

impl Timer for ForgivingTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Forgiving { deadline, sleep: Box::pin(tokio::time::sleep_until(deadline.into())) })
    }
}

struct Forgiving {
    deadline: Instant,
    sleep: Pin<Box<tokio::time::Sleep>>,
}

impl Future for Forgiving {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(context));
            if !stood_still(self.deadline) {
                return Poll::Ready(());
            }
            self.deadline = Instant::now() + AGAIN;
            let deadline = self.deadline.into();
            self.sleep.as_mut().reset(deadline);
        }
    }
}

impl Sleep for Forgiving {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_late_timer_waits_again_and_a_punctual_one_does_not() {
        let began = Instant::now();
        ForgivingTimer.sleep(Duration::from_millis(100)).await;
        assert!(began.elapsed() < AGAIN, "{:?}", began.elapsed());

        let late = ForgivingTimer.sleep(Duration::from_millis(100));
        // On the test's one thread this is a standstill for the timer, too.
        std::thread::sleep(LATE + Duration::from_millis(300));
        let woken = Instant::now();
        late.await;
        assert!(woken.elapsed() >= AGAIN, "{:?}", woken.elapsed());
    }
}
