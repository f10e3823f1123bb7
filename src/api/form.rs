//! A multipart form from a stranger, read with bounded memory.
//!
//! The parser takes in everything that is ready before it looks at any of it, and keeps what it can make nothing of: with
//! a body in which no part begins, or a part's head never ends, it would take in all of that and search it anew with every
//! piece. So it gets one piece at a time, only once it has looked at what it holds, and is given up when it got
//! [`UNREAD`] bytes of which nothing came out.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest, Multipart, Request};
use axum::http::{HeaderMap, StatusCode};
use futures::{Stream, StreamExt};

use super::extract::{BodyLimit, body_too_large};
use super::problem::Problem;

/// Bytes that may go into the parser without a part, or a piece of one, coming out; heads are a hundredth of that. The
/// piece that reaches it is taken whole: as much as the connection reads at once.
const UNREAD: usize = 64 << 10;

/// A form.
#[derive(Debug)]
pub struct Form {
    parts: Multipart,
    progress: Arc<Progress>,
    limit: Option<BodyLimit>,
}

/// A part of it.
#[derive(Debug)]
pub struct FormField<'a> {
    part: Field<'a>,
    progress: &'a Progress,
    limit: Option<BodyLimit>,
}

/// What the parser got, and what it made of it.
#[derive(Debug, Default)]
struct Progress {
    /// Bytes that went in since something came out.
    unread: AtomicUsize,
    /// It has not looked yet at what it holds.
    to_look: AtomicBool,
}

impl Progress {
    /// A part began, or a piece of it came out; more may lie behind it.
    fn made(&self) {
        self.unread.store(0, Ordering::Relaxed);
        self.to_look.store(true, Ordering::Relaxed);
    }
}

impl Form {
    /// The form that a request brings. How much it may bring is the route's `DefaultBodyLimit`.
    ///
    /// # Errors
    /// 400 where the content type names no boundary.
    pub async fn of(request: Request) -> Result<Self, Problem> {
        let limit = BodyLimit::of(&request);
        let progress = Arc::<Progress>::default();
        let watched = Arc::clone(&progress);
        let request =
            request.map(|body| Body::from_stream(Pieces { body: body.into_data_stream(), progress: watched }));
        let parts = Multipart::from_request(request, &()).await.map_err(|error| unreadable(&error.body_text()))?;
        Ok(Self { parts, progress, limit })
    }

    /// The next part. The one before must have been read to its end.
    ///
    /// # Errors
    /// 413 beyond the limit, 400 for what is no form.
    pub async fn next_field(&mut self) -> Result<Option<FormField<'_>>, Problem> {
        let limit = self.limit;
        let part = self.parts.next_field().await.map_err(|error| problem(&error, limit))?;
        self.progress.made();
        Ok(part.map(|part| FormField { part, progress: &self.progress, limit }))
    }
}

impl FormField<'_> {
    /// The field's name.
    pub fn name(&self) -> Option<&str> {
        self.part.name()
    }

    /// The name of the file that it is.
    pub fn file_name(&self) -> Option<&str> {
        self.part.file_name()
    }

    /// Its head.
    pub fn headers(&self) -> &HeaderMap {
        self.part.headers()
    }

    /// The next piece of its contents.
    ///
    /// # Errors
    /// As for the next part.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Problem> {
        let limit = self.limit;
        let chunk = self.part.chunk().await.map_err(|error| problem(&error, limit))?;
        self.progress.made();
        Ok(chunk)
    }

    /// All of its contents.
    ///
    /// # Errors
    /// As for the next part.
    pub async fn bytes(mut self) -> Result<Vec<u8>, Problem> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

/// A body as the parser gets it.
struct Pieces {
    body: BodyDataStream,
    progress: Arc<Progress>,
}

/// The parser was given up.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("nothing comes out of a form")]
struct NothingFound;

impl Stream for Pieces {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // The parser looks when nothing more is ready, and comes back at once where that was not enough.
        if self.progress.to_look.swap(false, Ordering::Relaxed) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.progress.unread.load(Ordering::Relaxed) >= UNREAD {
            return Poll::Ready(Some(Err(axum::Error::new(NothingFound))));
        }
        let piece = ready!(self.body.poll_next_unpin(context));
        if let Some(Ok(bytes)) = &piece {
            self.progress.unread.fetch_add(bytes.len(), Ordering::Relaxed);
            self.progress.to_look.store(true, Ordering::Relaxed);
        }
        Poll::Ready(piece)
    }
}

/// What is wrong with a form.
fn problem(error: &MultipartError, limit: Option<BodyLimit>) -> Problem {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return body_too_large(limit);
    }
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<NothingFound>() {
            return unreadable(&format!(
                "in {} KiB of it no part began or no head of a part ended; before each part stand two hyphens and the \
                 boundary that content-type names, behind its head an empty line",
                UNREAD >> 10
            ));
        }
        cause = error.source();
    }
    unreadable(&error.body_text())
}

fn unreadable(why: &str) -> Problem {
    Problem::bad_request(format!("the multipart body cannot be read: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A form that comes in these pieces, and how many bytes of it have been taken.
    async fn coming(pieces: impl Iterator<Item = Vec<u8>> + Send + 'static) -> (Form, Arc<AtomicUsize>) {
        let taken = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&taken);
        let pieces = futures::stream::iter(pieces.map(move |piece| {
            counted.fetch_add(piece.len(), Ordering::Relaxed);
            Ok::<_, std::io::Error>(piece)
        }));
        let request = axum::http::Request::builder()
            .header("content-type", "multipart/form-data; boundary=b")
            .body(Body::from_stream(pieces))
            .unwrap();
        (Form::of(request).await.unwrap(), taken)
    }

    #[tokio::test]
    async fn a_body_in_which_no_part_begins_is_given_up() {
        // Nothing, a boundary without an end, a head without one.
        for begun in ["", "--b", "--b\r\ncontent-disposition: form-data; name=\""] {
            let rest = (0..256).map(|_| vec![b' '; 4096]);
            let (mut form, taken) = coming(std::iter::once(begun.as_bytes().to_vec()).chain(rest)).await;
            let refused = form.next_field().await.unwrap_err();
            assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{begun:?}");
            assert!(refused.detail().contains("boundary"), "{begun:?}: {}", refused.detail());
            let taken = taken.load(Ordering::Relaxed);
            assert!(taken <= 2 * UNREAD, "{begun:?}: {taken} bytes were taken");
        }
    }

    #[tokio::test]
    async fn what_is_there_is_read_before_more_is_taken() {
        let first = "--b\r\ncontent-disposition: form-data; name=\"x\"\r\n\r\ny\r\n".repeat(20).into_bytes();
        let length = first.len();
        let rest = (0..16).map(|_| vec![b'y'; 60_000]);
        let (mut form, taken) = coming(std::iter::once(first).chain(rest)).await;
        // The end of the last one is still to come.
        for _ in 0..19 {
            let field = form.next_field().await.unwrap().unwrap();
            assert_eq!((field.name(), field.file_name()), (Some("x"), None));
            assert_eq!(field.bytes().await.unwrap(), b"y");
        }
        assert_eq!(taken.load(Ordering::Relaxed), length);
    }

    #[tokio::test]
    async fn a_form_arrives_whole_in_whatever_pieces_it_comes() {
        let large: Vec<u8> = (0..500_000_u32).map(|at| (at % 251) as u8).collect();
        let mut body = Vec::new();
        for (name, contents) in [("first", &large[..]), ("empty", &large[..0]), ("last", &large[..70_000])] {
            body.extend(format!("--b\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n").into_bytes());
            body.extend_from_slice(contents);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"--b--\r\n");
        for size in [7, 1000, UNREAD, 3 * UNREAD, body.len()] {
            let pieces: Vec<Vec<u8>> = body.chunks(size).map(<[u8]>::to_vec).collect();
            let (mut form, _taken) = coming(pieces.into_iter()).await;
            let mut seen = Vec::new();
            while let Some(field) = form.next_field().await.unwrap() {
                let name = field.name().unwrap_or_default().to_owned();
                seen.push((name, field.bytes().await.unwrap()));
            }
            let names: Vec<&str> = seen.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, ["first", "empty", "last"], "pieces of {size}");
            let whole = seen[0].1 == large && seen[1].1.is_empty() && seen[2].1 == large[..70_000];
            assert!(whole, "pieces of {size}");
        }
    }
}
