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
use axum::http::{HeaderMap, StatusCode, header};
use futures::{Stream, StreamExt};

use super::extract::{BodyLimit, body_too_large};
use super::problem::Problem;

/// Bytes that may go into the parser without a part, or a piece of one, coming out; heads are a hundredth of that. The
/// piece that reaches it is taken whole: as much as the connection reads at once.
const UNREAD: usize = 64 << 10;

/// Characters of a boundary, as RFC 2046 (§5.1.1) has it. The parser searches what it holds for all of a boundary again and
/// again: with one of many kilobytes, that takes longer than whoever sends it waits.
const LONGEST_BOUNDARY: usize = 70;

/// Bytes that are gathered in one block.
const BLOCK: usize = 256 << 10;

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
    /// 400 where the content type names no boundary, or one of more than 70 characters.
    pub async fn of(request: Request) -> Result<Self, Problem> {
        if longest_boundary(request.headers()) > LONGEST_BOUNDARY {
            return Err(unreadable(&format!("its boundary has more than {LONGEST_BOUNDARY} characters")));
        }
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
        let mut bytes = Gathered::default();
        while let Some(chunk) = self.chunk().await? {
            bytes.add(&chunk);
        }
        Ok(bytes.whole())
    }
}

/// Bytes of which nobody knows how many will come. One vector that grows would move again and again, and what it moves out
/// of stays with the allocator for a minute: several times what came. Blocks stay where they are until all are there.
#[derive(Debug, Default)]
pub struct Gathered {
    full: Vec<Vec<u8>>,
    last: Vec<u8>,
}

impl Gathered {
    /// How many have come.
    pub fn length(&self) -> usize {
        self.full.len() * BLOCK + self.last.len()
    }

    /// Copies what comes next, so that nothing of the connection's own buffers is kept.
    pub fn add(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            if self.last.len() == BLOCK {
                self.full.push(std::mem::replace(&mut self.last, Vec::with_capacity(BLOCK)));
            }
            let (fits, rest) = piece.split_at(piece.len().min(BLOCK - self.last.len()));
            if self.last.capacity() - self.last.len() < fits.len() {
                // Doubled, up to a block: whoever sends a byte shall not take a whole one.
                let doubled = self.last.len().min(BLOCK - self.last.len());
                self.last.reserve_exact(fits.len().max(doubled));
            }
            self.last.extend_from_slice(fits);
            piece = rest;
        }
    }

    /// All of them in one vector that has room for no more.
    pub fn whole(mut self) -> Vec<u8> {
        if self.full.is_empty() {
            self.last.shrink_to_fit();
            return self.last;
        }
        let mut whole = Vec::with_capacity(self.length());
        for block in self.full {
            // Gone as soon as it is copied.
            whole.extend_from_slice(&block);
        }
        whole.extend_from_slice(&self.last);
        whole
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

/// Characters of the longest text in the content type that could be taken for the boundary: which one the parser takes is its own
/// affair.
fn longest_boundary(headers: &HeaderMap) -> usize {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let content_type = content_type.to_ascii_lowercase();
    let values = content_type.match_indices("boundary=").map(|(at, name)| &content_type[at + name.len()..]);
    let ends = |value: &str| match value.strip_prefix('"') {
        Some(quoted) => quoted.find('"').unwrap_or(quoted.len()),
        None => value.find(';').unwrap_or(value.len()),
    };
    values.map(ends).max().unwrap_or(0)
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
    async fn a_boundary_is_no_longer_than_its_standard_has_it() {
        let of = |parameters: String| {
            let request =
                axum::http::Request::builder().header("content-type", format!("multipart/form-data{parameters}"));
            Form::of(request.body(Body::empty()).unwrap())
        };
        let (fits, long) = ("b".repeat(70), "b".repeat(71));
        for taken in [format!("; boundary={fits}"), format!("; BOUNDARY=\"{fits}\"; charset=utf-8")] {
            assert!(of(taken.clone()).await.is_ok(), "{taken}");
        }
        let within = "boundary=".repeat(8);
        for refused in [
            format!("; boundary={long}"),
            format!("; Boundary=\"{long}\""),
            format!("; boundary=\"{within}\""),
            format!("; charset=utf-8; boundary={long}; x=y"),
            format!("; x=\"; boundary=b\"; boundary={long}"),
        ] {
            let problem = of(refused.clone()).await.unwrap_err();
            assert_eq!(problem.status(), StatusCode::BAD_REQUEST, "{refused}");
            assert!(problem.detail().contains("70 characters"), "{}", problem.detail());
        }
    }

    #[test]
    fn what_is_gathered_takes_hardly_more_room_than_it_needs() {
        for (length, piece) in
            [(0, 1), (1, 1), (5000, 7), (BLOCK, BLOCK), (BLOCK + 1, 1000), (3 << 20, 65_537), (3 << 20, 3 << 20)]
        {
            let all: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let (mut gathered, mut moved) = (Gathered::default(), 0);
            for piece in all.chunks(piece) {
                let blocks: Vec<*const u8> = gathered.full.iter().map(|block| block.as_ptr()).collect();
                gathered.add(piece);
                moved += blocks.iter().zip(&gathered.full).filter(|(before, block)| **before != block.as_ptr()).count();
                let room = gathered.last.capacity() + gathered.full.iter().map(Vec::capacity).sum::<usize>();
                let most = (2 * gathered.length()).min(gathered.length() + BLOCK);
                assert!(room <= most, "{room} bytes for {} of {length}", gathered.length());
            }
            assert_eq!((gathered.length(), moved), (length, 0));
            let whole = gathered.whole();
            assert!(whole == all && whole.capacity() == length, "{} bytes for {length}", whole.capacity());
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
