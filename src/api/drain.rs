//! Refusals that arrive. A client that is still writing its body when the connection closes sees a broken pipe instead
//! of the answer: what is left of a refused body is therefore read and thrown away, within reason. This is the one place
//! for it; handlers simply return.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, HttpBody};
use axum::extract::Request;
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use futures::StreamExt;

/// Bytes of a refused body that are read all the same. Of a body that says that it is longer nothing is: it would not come to
/// its end here, and the answer is the sooner there for who looks for it while writing.
const BYTES: usize = 128 << 20;

/// How long that may take.
const TIME: Duration = Duration::from_secs(20);

/// A client that does not go on writing for so long waits for nothing but the answer.
const STALL: Duration = Duration::from_secs(1);

/// A body that the handler reads, and of which the rest can be had afterwards.
#[derive(Clone)]
struct Rest {
    stream: Arc<Mutex<BodyDataStream>>,
    asked: Arc<AtomicBool>,
}

impl Rest {
    fn of(body: Body) -> Self {
        Self { stream: Arc::new(Mutex::new(body.into_data_stream())), asked: Arc::default() }
    }

    fn as_body(&self) -> Body {
        let rest = self.clone();
        Body::from_stream(futures::stream::poll_fn(move |context| {
            rest.asked.store(true, Ordering::Relaxed);
            rest.stream.lock().unwrap_or_else(PoisonError::into_inner).poll_next_unpin(context)
        }))
    }

    async fn drain(self) {
        let mut room = BYTES;
        let reading = async {
            loop {
                let next = futures::future::poll_fn(|context| -> Poll<_> {
                    self.stream.lock().unwrap_or_else(PoisonError::into_inner).poll_next_unpin(context)
                });
                let Ok(Some(Ok(chunk))) = tokio::time::timeout(STALL, next).await else { return };
                room = room.saturating_sub(chunk.len());
                if room == 0 {
                    return;
                }
            }
        };
        // Whoever is slower than that sees the broken pipe.
        let _in_time = tokio::time::timeout(TIME, reading).await;
    }
}

/// The layer.
pub async fn drain_refused(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    // Whoever waits to be told to go on, and was not, sends no body after a refusal; reading would tell it to.
    let waits = request.headers().contains_key(header::EXPECT);
    let too_long = request.body().size_hint().lower() > BYTES as u64;
    let (parts, body) = request.into_parts();
    let rest = Rest::of(body);
    let response = next.run(Request::from_parts(parts, rest.as_body())).await;
    let refused = response.status().is_client_error() || response.status().is_server_error();
    // Whoever is hung up on was given up as too slow: the rest would come no faster.
    let given_up = response.headers().get(header::CONNECTION).is_some_and(|value| value == "close");
    if refused && !given_up && !too_long && (!waits || rest.asked.load(Ordering::Relaxed)) {
        rest.drain().await;
    }
    response
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::atomic::AtomicUsize;
    use std::task::Context;

    use axum::Router;
    use axum::body::Bytes;
    use axum::http::StatusCode;
    use axum::middleware::from_fn;
    use hyper::body::{Frame, SizeHint};
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;

    use super::*;

    /// A body that says how long it is.
    struct Announced {
        left: usize,
        read: Arc<AtomicUsize>,
    }

    impl HttpBody for Announced {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            let piece = self.left.min(64 << 10);
            self.left -= piece;
            self.read.fetch_add(piece, Ordering::Relaxed);
            Poll::Ready((piece > 0).then(|| Ok(Frame::data(Bytes::from(vec![0; piece])))))
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.left as u64)
        }
    }

    #[tokio::test]
    async fn the_rest_of_a_refused_body_is_read_unless_it_is_too_long() {
        let router = Router::new().fallback(async || StatusCode::FORBIDDEN).layer(from_fn(drain_refused));
        let service = TowerToHyperService::new(router);
        for (length, expected) in [(0, 0), (1 << 20, 1 << 20), (BYTES + 1, 0)] {
            let read = Arc::<AtomicUsize>::default();
            let body = Body::new(Announced { left: length, read: Arc::clone(&read) });
            let response = service.call(Request::new(body)).await.unwrap();
            assert_eq!(response.status(), StatusCode::FORBIDDEN);
            assert_eq!(read.load(Ordering::Relaxed), expected, "of {length}");
        }
    }
}
