//! A request's answer must be there in time, counted from when its body is: how long that may take to arrive is told by its pace
//! (`pace.rs`), and a caller that stalls is not told that the server was slow.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::body::{Frame, SizeHint};
use tokio::sync::oneshot;

/// The layer: 504 where the answer is not there `within` after the body has ended, was given up, or is wanted by nobody.
pub async fn in_time(State(within): State<Duration>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    answer_in_time(within, body, |body| next.run(Request::from_parts(head, body))).await
}

async fn answer_in_time<A>(within: Duration, body: Body, answer: impl FnOnce(Body) -> A) -> Response
where
    A: Future<Output = Response>,
{
    let (arriving, over) = oneshot::channel::<()>();
    let arriving = (!body.is_end_stream()).then_some(arriving);
    let answer = answer(Body::new(Arriving { body, arriving }));
    let late = async {
        // An error is what is waited for: the other end has gone.
        let _ = over.await;
        tokio::time::sleep(within).await;
    };
    tokio::select! {
        answer = answer => answer,
        () = late => StatusCode::GATEWAY_TIMEOUT.into_response(),
    }
}

/// A body that lets go of `arriving` at its end, or with itself.
struct Arriving {
    body: Body,
    arriving: Option<oneshot::Sender<()>>,
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) || self.body.is_end_stream() {
            self.arriving = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use futures::StreamExt;

    const WITHIN: Duration = Duration::from_millis(400);

    /// The status of an answer that takes `work` after a body of two pieces, `pause` before each.
    async fn answered(pause: Duration, work: Duration) -> StatusCode {
        let pieces = futures::stream::iter(0..2).then(move |_| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, std::io::Error>(Bytes::from_static(b"{}"))
        });
        let answer = async |body| {
            assert_eq!(axum::body::to_bytes(body, usize::MAX).await.unwrap(), "{}{}");
            tokio::time::sleep(work).await;
            StatusCode::OK.into_response()
        };
        answer_in_time(WITHIN, Body::from_stream(pieces), answer).await.status()
    }

    #[tokio::test]
    async fn the_time_in_which_a_body_arrives_does_not_count() {
        assert_eq!(answered(WITHIN, Duration::ZERO).await, StatusCode::OK);
        assert_eq!(answered(Duration::ZERO, WITHIN * 5).await, StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(answered(WITHIN / 4, WITHIN * 5).await, StatusCode::GATEWAY_TIMEOUT);
    }
}
