//! Bodies must keep arriving, and not in drops: a caller that sends a byte now and then would hold a connection and a
//! half-written upload for hours.
//!
//! Only the time is counted in which the server waits for the caller; one that is slow to read makes nobody late, and
//! neither does one that stood still.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::body::{Frame, SizeHint};
use tokio::time::Sleep;

use super::problem::Problem;
use super::standstill::stood_still;
use crate::config::ConnectionsConfig;

/// Why a body is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum TooSlow {
    #[error("nothing of the body came for {} seconds", .0.as_secs_f64())]
    Stopped(Duration),
    #[error("{arrived} bytes came in {} seconds; a body must bring {slowest} bytes a second", over.as_secs_f64())]
    Trickles { arrived: u64, over: Duration, slowest: u64 },
}

/// The layer: a body that is too slow is a 408, whatever the handler made of its end, and the connection closes.
pub async fn keep_pace(State(limits): State<ConnectionsConfig>, request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let verdict = Arc::new(OnceLock::new());
    let given = Arc::clone(&verdict);
    let request = request.map(|body| Body::new(Paced { body, clock: Clock::new(limits), verdict: given }));
    let response = next.run(request).await;
    match verdict.get() {
        Some(slow) if !response.status().is_success() => Problem::request_timeout(TooSlow::to_string(slow))
            .with_header(header::CONNECTION, HeaderValue::from_static("close"))
            .into_response(),
        _ => response,
    }
}

/// A body that ends with an error once it is too slow.
struct Paced {
    body: Body,
    clock: Clock,
    verdict: Arc<OnceLock<TooSlow>>,
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // What has arrived counts before the clock does.
        let judged = match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => match self.clock.arrived(frame.data_ref().map_or(0, Bytes::len)) {
                Ok(()) => return Poll::Ready(Some(Ok(frame))),
                Err(slow) => slow,
            },
            Poll::Ready(end) => return Poll::Ready(end),
            Poll::Pending => ready!(self.clock.wait(context)),
        };
        let _first_counts = self.verdict.set(judged);
        Poll::Ready(Some(Err(axum::Error::new(judged))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How long a body was waited for, and what came.
struct Clock {
    limits: ConnectionsConfig,
    /// Waited in the window under way, without the wait under way.
    waited: Duration,
    /// Bytes of the window under way.
    arrived: u64,
    wait: Option<Wait>,
}

/// From one piece of the body to the next.
struct Wait {
    began: Instant,
    /// From here on it counts into the window.
    counted: Instant,
    deadline: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Clock {
    fn new(limits: ConnectionsConfig) -> Self {
        Self { limits, waited: Duration::ZERO, arrived: 0, wait: None }
    }

    /// A piece came.
    fn arrived(&mut self, bytes: usize) -> Result<(), TooSlow> {
        self.arrived += bytes as u64;
        let Some(wait) = self.wait.take() else { return Ok(()) };
        if stood_still(wait.deadline) {
            self.next_window();
            return Ok(());
        }
        self.waited += wait.counted.elapsed();
        if self.waited >= self.limits.pace_window { self.judge_window() } else { Ok(()) }
    }

    /// Nothing is there; ready when that has been so for too long.
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<TooSlow> {
        loop {
            let now = Instant::now();
            let left = self.limits.pace_window.saturating_sub(self.waited);
            let stall = self.limits.stall;
            let wait = self.wait.get_or_insert_with(|| {
                let deadline = now + stall.min(left);
                Wait { began: now, counted: now, deadline, sleep: Box::pin(tokio::time::sleep_until(deadline.into())) }
            });
            ready!(wait.sleep.as_mut().poll(context));
            if stood_still(wait.deadline) {
                self.wait = None;
                self.next_window();
                continue;
            }
            if wait.began.elapsed() >= stall {
                return Poll::Ready(TooSlow::Stopped(stall));
            }
            self.waited += wait.counted.elapsed();
            wait.counted = Instant::now();
            wait.deadline = (wait.began + stall).min(wait.counted + self.limits.pace_window);
            let deadline = wait.deadline.into();
            wait.sleep.as_mut().reset(deadline);
            if let Err(slow) = self.judge_window() {
                return Poll::Ready(slow);
            }
        }
    }

    fn judge_window(&mut self) -> Result<(), TooSlow> {
        let (arrived, over, slowest) = (self.arrived, self.waited, self.limits.slowest);
        self.next_window();
        let enough = slowest as f64 * over.as_secs_f64();
        if (arrived as f64) < enough { Err(TooSlow::Trickles { arrived, over, slowest }) } else { Ok(()) }
    }

    fn next_window(&mut self) {
        (self.waited, self.arrived) = (Duration::ZERO, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use futures::StreamExt;

    /// Whether a body of so many pieces, one every so often, arrives whole.
    async fn arrives(
        limits: ConnectionsConfig,
        piece: usize,
        every: Duration,
        number: usize,
    ) -> Result<usize, TooSlow> {
        let pieces = futures::stream::iter(0..number).then(move |_| async move {
            tokio::time::sleep(every).await;
            Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; piece]))
        });
        let verdict = Arc::new(OnceLock::new());
        let paced = Paced { body: Body::from_stream(pieces), clock: Clock::new(limits), verdict: Arc::clone(&verdict) };
        match axum::body::to_bytes(Body::new(paced), usize::MAX).await {
            Ok(bytes) => Ok(bytes.len()),
            Err(_) => Err(*verdict.get().unwrap()),
        }
    }

    fn limits(slowest: u64) -> ConnectionsConfig {
        ConnectionsConfig {
            stall: Duration::from_millis(600),
            slowest,
            pace_window: Duration::from_millis(400),
            ..ConnectionsConfig::default()
        }
    }

    const OFTEN: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_body_that_trickles_is_given_up_and_one_that_is_fast_enough_is_not() {
        // 50 and 100,000 bytes a second; the limit is 1,000. On a busy machine a piece comes every 150 ms instead of 20.
        let slow = arrives(limits(1000), 1, OFTEN, 500).await.unwrap_err();
        assert!(matches!(slow, TooSlow::Trickles { arrived: 1..=25, slowest: 1000, .. }), "{slow}");
        assert_eq!(arrives(limits(1000), 2000, OFTEN, 60).await, Ok(120_000));
        assert_eq!(arrives(limits(0), 1, OFTEN, 60).await, Ok(60), "without a limit");
    }

    #[tokio::test]
    async fn a_body_that_stops_is_given_up_even_without_a_rate() {
        let stopped = arrives(limits(0), 1, Duration::from_secs(5), 2).await;
        assert_eq!(stopped, Err(TooSlow::Stopped(Duration::from_millis(600))));
    }

    #[tokio::test]
    async fn a_burst_does_not_pay_for_later_windows() {
        let pieces = futures::stream::iter(0..500).then(|number| async move {
            tokio::time::sleep(OFTEN).await;
            Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; if number == 0 { 100_000 } else { 1 }]))
        });
        let verdict = Arc::new(OnceLock::new());
        let (body, clock) = (Body::from_stream(pieces), Clock::new(limits(1000)));
        let paced = Paced { body, clock, verdict: Arc::clone(&verdict) };
        assert!(axum::body::to_bytes(Body::new(paced), usize::MAX).await.is_err());
        assert!(matches!(verdict.get(), Some(TooSlow::Trickles { .. })), "{verdict:?}");
    }

    #[tokio::test]
    async fn the_time_in_which_nobody_reads_is_not_the_callers() {
        let limits = limits(1000);
        let mut clock = Clock::new(limits);
        assert_eq!(clock.arrived(1), Ok(()));
        // Between one piece and the next the handler was busy for longer than any limit.
        tokio::time::sleep(limits.stall * 2).await;
        assert_eq!((clock.arrived(1), clock.waited), (Ok(()), Duration::ZERO));
    }

    #[tokio::test]
    async fn a_standstill_is_not_the_callers_either() {
        let mut clock = Clock::new(limits(1000));
        let mut first = true;
        let judged = std::future::poll_fn(|context| {
            let waiting = clock.wait(context);
            if std::mem::take(&mut first) {
                assert!(waiting.is_pending());
                std::thread::sleep(super::super::standstill::LATE + limits(0).stall * 2);
            }
            waiting
        });
        let woken = Instant::now() + super::super::standstill::LATE + limits(0).stall * 2;
        judged.await;
        assert!(woken.elapsed() >= limits(0).pace_window, "{:?}", woken.elapsed());
    }
}
