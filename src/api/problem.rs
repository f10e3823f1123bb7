//! Every error answer of the service, in one shape: RFC 9457 `application/problem+json`.
//!
//! A handler returns `Result<_, Problem>`; the rooms below the API have error enums of their own and
//! know nothing of HTTP. The mapping from each of those enums to a status lives in `errors.rs`, once.
//! A 5xx never shows its cause to the caller: the cause goes to the log, with the request id.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of every error answer.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProblemItem {
    /// Where: a JSON pointer into the body (`/labelled`), a form's field likewise (`/images`), empty for the body as a whole;
    /// `?name` for a query parameter, a bare name for a header or a part of the path; `/train/17` for row 17 of an uploaded training
    /// sheet (`/archive/17` for the 17th file of the ZIP).
    pub pointer: String,
    /// A stable word for programs.
    pub code: String,
    /// A sentence for people: what is wrong and what is allowed.
    pub detail: String,
}

impl ProblemItem {
    /// An item from its three parts.
    pub fn new(pointer: impl Into<String>, code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code: code.into(), detail: detail.into() }
    }
}

/// The body of an error answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProblemBody {
    /// A relative reference that names the kind of problem, such as `/problems/not-found`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in a few words, the same for every problem of this kind.
    pub title: String,
    /// The HTTP status, repeated.
    pub status: u16,
    /// What happened this time.
    pub detail: String,
    /// The path that was asked for.
    #[serde(default)]
    pub instance: String,
    /// The request's id, as in the `x-request-id` header and the server's log.
    #[serde(default)]
    pub request_id: String,
    /// Everything that is wrong, not only the first thing.
    #[serde(default)]
    pub errors: Vec<ProblemItem>,
}

/// An error on its way out.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: String,
    errors: Vec<ProblemItem>,
    headers: Vec<(header::HeaderName, HeaderValue)>,
}

/// Names a kind of problem: status, code and title never vary independently.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $status:ident, $code:literal, $title:literal;)*) => {
        impl Problem {
            $($(#[$doc])*
            pub fn $name(detail: impl Into<String>) -> Self {
                Self::of(StatusCode::$status, $code, $title, detail)
            })*
        }
    };
}

kinds! {
    /// 400: the request cannot be read as HTTP or JSON at all.
    bad_request = BAD_REQUEST, "bad-request", "The request cannot be read";
    /// 401: no key, or not the right one.
    unauthorized = UNAUTHORIZED, "unauthorized", "An API key is needed";
    /// 403: the key is a good one, and not enough for this.
    forbidden = FORBIDDEN, "forbidden", "The key's scope is too small";
    /// 404: no such route or no such thing.
    not_found = NOT_FOUND, "not-found", "Not found";
    /// 405: the route exists, the method does not.
    method_not_allowed = METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed";
    /// 406: none of the media types the caller accepts can be produced.
    not_acceptable = NOT_ACCEPTABLE, "not-acceptable", "Not acceptable";
    /// 408: the caller sent its body too slowly.
    request_timeout = REQUEST_TIMEOUT, "request-timeout", "The request took too long to arrive";
    /// 409: the thing's present state forbids it.
    conflict = CONFLICT, "conflict", "Conflict with the present state";
    /// 413: the body is larger than allowed.
    too_large = PAYLOAD_TOO_LARGE, "too-large", "The body is too large";
    /// 415: the body's media type is not one we read.
    unsupported_media_type = UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "Unsupported media type";
    /// 416: the part that is asked for is not there.
    range_not_satisfiable = RANGE_NOT_SATISFIABLE, "range-not-satisfiable", "No such part";
    /// 422: readable, but what it says is not allowed; `errors` lists every reason.
    invalid = UNPROCESSABLE_ENTITY, "invalid", "The request is not valid";
    /// 429: this key sends too many requests.
    too_many_requests = TOO_MANY_REQUESTS, "too-many-requests", "Too many requests";
    /// 500: our fault; the cause is in the log.
    internal = INTERNAL_SERVER_ERROR, "internal", "Internal error";
    /// 501: the caller asks for a part of HTTP that there is not here.
    not_implemented = NOT_IMPLEMENTED, "not-implemented", "Not implemented";
    /// 503: full, or not ready yet.
    unavailable = SERVICE_UNAVAILABLE, "unavailable", "Not available right now";
    /// 504: the request's deadline passed.
    deadline = GATEWAY_TIMEOUT, "deadline", "The deadline passed";
    /// 507: the disk is full.
    insufficient_storage = INSUFFICIENT_STORAGE, "insufficient-storage", "The disk is full";
}

impl Problem {
    fn of(status: StatusCode, code: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, title, detail: detail.into(), errors: Vec::new(), headers: Vec::new() }
    }

    /// The same problem with a list of everything that is wrong.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<ProblemItem>) -> Self {
        self.errors = errors;
        self
    }

    /// The same problem with one item.
    #[must_use]
    pub fn with_error(mut self, pointer: &str, code: &str, detail: impl Into<String>) -> Self {
        self.errors.push(ProblemItem::new(pointer, code, detail));
        self
    }

    /// The same problem with one more response header.
    #[must_use]
    pub fn with_header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The same problem with `Retry-After`.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        self.with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// An internal error: `error` is logged, the caller only learns that it happened.
    pub fn bug(context: &str, error: &dyn std::fmt::Display) -> Self {
        tracing::error!(error = %error, "{context}");
        Self::internal(format!("{context}; the cause is in the server's log"))
    }

    /// The status that will be sent.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The stable word for this kind of problem.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The sentence for people.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The body as it will be sent; `instance` is and `request_id` are filled in by the outermost layer.
    pub fn body(&self) -> ProblemBody {
        ProblemBody {
            kind: format!("/problems/{}", self.code),
            title: self.title.to_owned(),
            status: self.status.as_u16(),
            detail: self.detail.clone(),
            instance: String::new(),
            request_id: String::new(),
            errors: self.errors.clone(),
        }
    }
}

/// Carries a problem's body through the layers as an extension, so that [`finish`] can add the
/// request's path and id without parsing JSON again.
#[derive(Clone)]
struct Pending(ProblemBody);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = self.body();
        let mut response = (self.status, encode(&body)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value);
        }
        response.extensions_mut().insert(Pending(body));
        response
    }
}

fn encode(body: &ProblemBody) -> Vec<u8> {
    serde_json::to_vec(body).expect("strings and numbers always encode")
}

/// The outermost error layer: fills in `instance` and `request_id`, and turns an error that some library answered by
/// itself (an empty 405, a plain-text 413) into a problem.
pub async fn finish(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    let path = request.uri().path().to_owned();
    let id = request.headers().get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
    let response = next.run(request).await;
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let mut response = match response.extensions().get::<Pending>() {
        Some(_) => response,
        None => {
            let headers = response.headers().clone();
            let mut replaced = foreign(status).into_response();
            // `Allow` on a 405, `Retry-After`: keep what the library said, except about its body.
            for (name, value) in &headers {
                if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
                    replaced.headers_mut().insert(name.clone(), value.clone());
                }
            }
            replaced
        }
    };
    if let Some(Pending(mut body)) = response.extensions_mut().remove::<Pending>() {
        body.instance = path;
        body.request_id = id;
        response.headers_mut().remove(header::CONTENT_LENGTH);
        // The router takes it away from the answer to a HEAD, which so tells the length that it has.
        *response.body_mut() = axum::body::Body::from(encode(&body));
    }
    response
}

/// The problem for a bare status that a library produced.
fn foreign(status: StatusCode) -> Problem {
    match status {
        StatusCode::NOT_FOUND => Problem::not_found("there is nothing at this path"),
        StatusCode::METHOD_NOT_ALLOWED => {
            Problem::method_not_allowed("this path does not answer that method; the Allow header lists those it does")
        }
        StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large("the body is larger than allowed here"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Problem::unsupported_media_type("this media type is not read here"),
        StatusCode::REQUEST_TIMEOUT => Problem::request_timeout("the request took too long"),
        StatusCode::UNPROCESSABLE_ENTITY => Problem::invalid("the request is not valid"),
        StatusCode::SERVICE_UNAVAILABLE => Problem::unavailable("try again later"),
        StatusCode::GATEWAY_TIMEOUT => Problem::deadline("the answer was not ready in time"),
        status if status.is_server_error() => Problem { status, ..Problem::internal("internal error") },
        status => Problem { status, ..Problem::bad_request("the request cannot be read") },
    }
}

/// The answer to a panic in a handler: a 500, and the server lives on.
pub fn from_panic(payload: Box<dyn std::any::Any + Send + 'static>) -> Response {
    let message = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message");
    tracing::error!(panic = message, "a handler panicked");
    Problem::internal("the handler failed unexpectedly; the cause is in the server's log").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_its_kind_and_lists_everything() {
        let body = Problem::invalid("two fields are wrong")
            .with_error("/labelled", "too_small", "at least 2")
            .with_error("/seed", "wrong_type", "a whole number")
            .body();
        assert_eq!(body.kind, "/problems/invalid");
        assert_eq!(body.status, 422);
        assert_eq!(body.errors.len(), 2);
    }

    #[test]
    fn a_bare_status_keeps_its_number() {
        assert_eq!(foreign(StatusCode::IM_A_TEAPOT).status(), StatusCode::IM_A_TEAPOT);
        assert_eq!(foreign(StatusCode::BAD_GATEWAY).status(), StatusCode::BAD_GATEWAY);
    }
}
