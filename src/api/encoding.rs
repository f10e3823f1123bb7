//! Bodies come as they are: a compressed one would be taken for a damaged archive, or for broken JSON.

use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::Problem;

/// The layer: 415 for a body under a `Content-Encoding`, with what is taken (RFC 9110 §15.5.16).
pub async fn refuse_encoded(request: Request, next: Next) -> Response {
    let plain = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    let encodings = request.headers().get_all(header::CONTENT_ENCODING);
    let Some(encoding) = encodings.iter().find(|value| !plain(value)) else { return next.run(request).await };
    let detail =
        format!("a body under Content-Encoding {encoding:?} is not taken: send it as it is, without that header");
    Problem::unsupported_media_type(detail)
        .with_header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))
        .into_response()
}
