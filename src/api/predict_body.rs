//! The body of `POST /predict`: one image, several as multipart, or JSON with base64, read into the bytes of each image.
//!
//! How many images there are is limited while they are made: a body of a few megabytes could name a million. What takes
//! long on a large body (JSON, base64, the headers of many images) is done on a blocking thread.

mod json;

use std::sync::Arc;

use axum::extract::Request;
use futures::StreamExt;
use utoipa::ToSchema;

use super::admission::Room;
use super::extract::{BodyLimit, body_too_large, is_json, media_type};
use super::file_name;
use super::form::{Form, Gathered};
use super::problem::{Problem, ProblemItem};
use super::state::App;
use crate::config::LimitsConfig;
use crate::imaging::{self, DecodeLimits};
pub use json::PredictRequest;
pub(crate) use json::read_json;

/// Bytes that are read where they are: a fraction of a millisecond's work, for which a lone small request shall not wait for
/// another thread.
pub(super) const AT_ONCE: usize = 256 << 10;

/// The form of a multipart request, for the documentation.
#[derive(ToSchema)]
#[allow(dead_code, reason = "documentation only")]
pub struct PredictForm {
    /// Image files.
    #[schema(value_type = Vec<String>, format = Binary, min_items = 1)]
    image: Vec<Vec<u8>>,
}

/// An image as it came: bytes, or already its own problem.
#[derive(Debug)]
pub struct Incoming {
    /// What the caller calls it.
    pub id: Option<String>,
    /// The image file.
    pub bytes: Result<Vec<u8>, ProblemItem>,
}

/// A body that is here, as far as it can be read while it comes.
enum Arrived {
    Images(Vec<Incoming>),
    Json(Vec<u8>),
}

/// Reads the images in whichever form they come.
///
/// # Errors
/// 408 when they take too long to arrive, 413 for too many bytes, images or pixels, 415 for another form, 400 and 422 for
/// what cannot be read, 503 where the memory for bodies is taken before it is whole.
pub async fn read(app: &App, request: Request, room: &Arc<Room>) -> Result<Vec<Incoming>, Problem> {
    let LimitsConfig { predict_images: most_images, predict_pixels: most_pixels, image: each, .. } = app.config.limits;
    let request = request.map(|body| room.counted(body));
    let arriving = tokio::time::timeout(app.config.connections.predict_body, arrive(request, most_images));
    let arrived = arriving.await.map_err(|_elapsed| Problem::request_timeout("the images took too long to arrive"))?;
    let arrived = arrived.map_err(|problem| room.refused().unwrap_or(problem))?;
    beside(arrived.unread(), room, move || arrived.read(most_images, most_pixels, &each)).await?
}

async fn arrive(request: Request, most: usize) -> Result<Arrived, Problem> {
    let media = media_type(request.headers()).unwrap_or_default();
    Ok(match media.as_str() {
        "image/jpeg" | "image/jpg" | "image/png" | "image/webp" | "application/octet-stream" => {
            Arrived::Images(vec![Incoming { id: None, bytes: Ok(whole(request).await?) }])
        }
        "multipart/form-data" => Arrived::Images(multipart(request, most).await?),
        _ if is_json(request.headers()) => Arrived::Json(whole(request).await?),
        _ => {
            return Err(Problem::unsupported_media_type(format!(
                "content-type {media:?} is not read here; send image/jpeg, image/png, image/webp, application/octet-stream, multipart/form-data \
                 with fields `image`, or application/json"
            )));
        }
    })
}

/// All of a body. Each piece of it is gone once it is copied.
async fn whole(request: Request) -> Result<Vec<u8>, Problem> {
    let limit = BodyLimit::of(&request);
    let mut body = request.into_body().into_data_stream();
    let mut bytes = Gathered::default();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| Problem::bad_request(format!("the body could not be read: {error}")))?;
        if limit.is_some_and(|limit| bytes.length() + piece.len() > limit.bytes) {
            return Err(body_too_large(limit));
        }
        bytes.add(&piece);
    }
    Ok(bytes.whole())
}

async fn multipart(request: Request, most: usize) -> Result<Vec<Incoming>, Problem> {
    let mut form = Form::of(request).await?;
    let mut images = Vec::new();
    while let Some(field) = form.next_field().await? {
        let name = field.name().unwrap_or_default().to_owned();
        if name != "image" {
            let detail = format!("there is no field {name:?}; send each file as `image`");
            return Err(Problem::invalid(detail.clone()).with_error(&format!("/{name}"), "unknown_field", detail));
        }
        if images.len() == most {
            return Err(too_many(most));
        }
        let id = file_name::of(field.headers(), field.file_name());
        images.push(Incoming { id, bytes: Ok(field.bytes().await?) });
    }
    Ok(images)
}

/// Does what takes long on many bytes on a blocking thread, and on few at once. The room stays taken until it is done, also
/// where the caller has gone away.
async fn beside<T: Send + 'static>(
    bytes: usize,
    room: &Arc<Room>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    if bytes <= AT_ONCE {
        return Ok(work());
    }
    let room = Arc::clone(room);
    let working = tokio::task::spawn_blocking(move || {
        let _room = room;
        work()
    });
    working.await.map_err(|error| Problem::bug("the images could not be read", &error))
}

impl Arrived {
    /// Bytes that nobody has looked into yet.
    fn unread(&self) -> usize {
        match self {
            // A single image is judged by its own limit, in its own place.
            Self::Images(images) if images.len() < 2 => 0,
            Self::Images(images) => images.iter().map(Incoming::size).sum(),
            Self::Json(body) => body.len(),
        }
    }

    fn read(self, most_images: usize, most_pixels: u64, each: &DecodeLimits) -> Result<Vec<Incoming>, Problem> {
        let images = match self {
            Self::Images(images) => images,
            Self::Json(body) => json::images(&body, most_images)?,
        };
        match images.len() {
            0 => Err(Problem::invalid("the request holds no image").with_error(
                "/images",
                "required",
                "send at least one",
            )),
            1 => Ok(images),
            _ => refuse_pixels(&images, most_pixels, each).map(|()| images),
        }
    }
}

impl Incoming {
    fn size(&self) -> usize {
        self.bytes.as_ref().map_or(0, Vec::len)
    }
}

fn too_many(most: usize) -> Problem {
    let detail = format!("more than {most} images in one request; send them in several");
    Problem::too_large(detail.clone()).with_error("/images", "too_many_images", detail)
}

/// Each image has a limit of its own; many that stay below it are too much together. One that declares more is never decoded, and its own
/// problem: it fails none of its neighbours.
fn refuse_pixels(incoming: &[Incoming], most: u64, each: &DecodeLimits) -> Result<(), Problem> {
    let declared = |image: &Incoming| image.bytes.as_ref().map_or(0, |bytes| imaging::declared_pixels(bytes));
    let decoded = incoming.iter().map(declared).filter(|&pixels| pixels <= each.max_pixels);
    let pixels: u64 = decoded.fold(0, u64::saturating_add);
    if pixels > most {
        let detail =
            format!("the images have {pixels} pixels together, allowed are {most}; send them in several requests");
        return Err(Problem::too_large(detail.clone()).with_error("/images", "too_many_pixels", detail));
    }
    Ok(())
}

/// Where an image stands in a request.
pub fn pointer(place: usize) -> String {
    format!("/images/{place}")
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, Bytes};

    use super::*;
    use crate::api::admission::Admission;
    use crate::config::PredictConfig;

    /// A piece of a body that is counted as long as somebody has it.
    struct Piece {
        _counted: Arc<()>,
    }

    impl AsRef<[u8]> for Piece {
        fn as_ref(&self) -> &[u8] {
            b"four"
        }
    }

    #[tokio::test]
    async fn a_body_lies_in_memory_once_and_ends_at_its_limit() {
        let coming = || {
            let pieces = Arc::new(());
            let stream = futures::stream::iter(0..100).map(move |_| {
                assert!(Arc::strong_count(&pieces) <= 2, "pieces are kept beside the whole");
                Ok::<_, std::io::Error>(Bytes::from_owner(Piece { _counted: Arc::clone(&pieces) }))
            });
            Request::new(Body::from_stream(stream))
        };
        let read = whole(coming()).await.unwrap();
        assert_eq!(read, b"four".repeat(100));
        assert_eq!(read.capacity(), 400);
        for (bytes, whole_fits) in [(400, true), (399, false)] {
            let mut request = coming();
            request.extensions_mut().insert(BodyLimit { bytes, setting: None });
            let read = whole(request).await;
            assert_eq!(read.is_ok(), whole_fits, "{bytes}");
            assert!(read.err().is_none_or(|problem| problem.status() == 413));
        }
    }

    #[tokio::test]
    async fn a_file_of_a_form_keeps_its_name() {
        let heads = [
            "; filename=\"a%22b.png\"",
            "; filename*=UTF-8''%C3%A9.png",
            "; filename=\"\"",
            "",
            "; filename=\"é.png\"",
        ];
        let part = |head: &str| format!("--b\r\ncontent-disposition: form-data; name=\"image\"{head}\r\n\r\nx\r\n");
        let body = heads.map(part).concat() + "--b--\r\n";
        let request = axum::http::Request::builder().header("content-type", "multipart/form-data; boundary=b");
        let images = multipart(request.body(Body::from(body)).unwrap(), 9).await.unwrap();
        let ids: Vec<Option<&str>> = images.iter().map(|image| image.id.as_deref()).collect();
        assert_eq!(ids, [Some("a\"b.png"), Some("é.png"), None, None, Some("é.png")]);
    }

    #[tokio::test]
    async fn much_is_read_on_another_thread_and_keeps_its_room_without_its_caller() {
        let limits = LimitsConfig { predict_memory: 1, predict_bytes: 1, ..LimitsConfig::default() };
        let admission = Admission::new(&limits, &PredictConfig::default());
        let room = admission.body(None, 1).unwrap();
        assert_eq!(whole(Request::new(room.counted(Body::from("a")))).await.unwrap(), b"a");
        assert_eq!(beside(AT_ONCE, &room, || 1).await.unwrap(), 1);
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let mut working = Box::pin(beside(AT_ONCE + 1, &room, move || wait.recv().is_ok()));
        assert!(futures::poll!(working.as_mut()).is_pending());
        drop(working);
        drop(room);
        assert!(admission.body(None, 1).is_err(), "its bytes are still there");
        go.send(()).unwrap();
        while admission.body(None, 1).is_err() {
            tokio::task::yield_now().await;
        }
    }
}
