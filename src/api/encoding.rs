//! Bodies come as they are: a compressed one would be taken for a damaged archive, or for broken JSON.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::Problem;

/// The layer: 415 for a body under a `Content-Encoding`, with what is taken (RFC 9110 §15.5.16); 501 for one under a
/// `Transfer-Encoding` beside `chunked`, which alone is undone on the way in (RFC 9112 §6.1).
pub async fn refuse_encoded(request: Request, next: Next) -> Response {
    match refusal(request.headers()) {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    }
}

fn refusal(headers: &HeaderMap) -> Option<Problem> {
    let other = |name: HeaderName, taken: &str| {
        headers.get_all(name).iter().find(|value| !value.as_bytes().trim_ascii().eq_ignore_ascii_case(taken.as_bytes()))
    };
    if let Some(encoding) = other(header::TRANSFER_ENCODING, "chunked") {
        let detail = format!(
            "a body under Transfer-Encoding {encoding:?} is not taken: send it as it is, with its Content-Length or in chunks"
        );
        return Some(Problem::not_implemented(detail));
    }
    let encoding = other(header::CONTENT_ENCODING, "identity")?;
    let detail =
        format!("a body under Content-Encoding {encoding:?} is not taken: send it as it is, without that header");
    let taken = HeaderValue::from_static("identity");
    Some(Problem::unsupported_media_type(detail).with_header(header::ACCEPT_ENCODING, taken))
}
