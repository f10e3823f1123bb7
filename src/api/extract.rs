//! Extractors whose rejections are problems: `Json`, `Query` and `Path` as axum has them, but a caller
//! who gets one wrong always reads where and why, in the one error shape of the service.

use std::marker::PhantomData;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::{DeserializeOwned, DeserializeSeed};
use serde_path_to_error::{Path as JsonPath, Segment, Track};

use super::auth::Caller;
use super::problem::Problem;
pub use super::query::Query;
use super::state::AppState;
use super::wording::{beginning, plain};

/// A JSON body. 415 without a JSON media type, 401 where the caller's key was revoked while it came, 400 for broken syntax, 422 for a
/// wrong field.
#[derive(Debug, Clone, Copy)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<AppState> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &AppState) -> Result<Self, Problem> {
        parse_json(&json_bytes(request, app).await?).map(Self)
    }
}

/// A whole body that says that it is JSON, from somebody who may still send it: it may take minutes to come. 415 for another body, 401
/// for another caller.
pub async fn json_bytes(request: Request, app: &AppState) -> Result<Bytes, Problem> {
    if !is_json(request.headers()) {
        return Err(Problem::unsupported_media_type("the body must be JSON, sent with content-type: application/json"));
    }
    refuse_announced(&request)?;
    let limit = BodyLimit::of(&request);
    let caller = request.extensions().get::<Caller>().cloned();
    let bytes = Bytes::from_request(request, app).await.map_err(|error| body_problem(&error, limit))?;
    // None before a route that is open to everybody.
    if let Some(caller) = caller {
        caller.refuse_if_revoked(app).await?;
    }
    Ok(bytes)
}

/// Reads JSON and says where it is wrong.
pub fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    read_json(bytes, PhantomData)
}

/// Reads JSON as `seed` does and says where it is wrong.
pub fn read_json<'de, S: DeserializeSeed<'de>>(bytes: &'de [u8], seed: S) -> Result<S::Value, Problem> {
    let (mut reader, mut track) = (serde_json::Deserializer::from_slice(bytes), Track::new());
    let read = seed.deserialize(serde_path_to_error::Deserializer::new(&mut reader, &mut track));
    let read = read.and_then(|value| reader.end().map(|()| value));
    read.map_err(|error| json_problem(&error, &pointer_to(&track.path())))
}

/// A place in JSON as a pointer (RFC 6901).
fn pointer_to(path: &JsonPath) -> String {
    let mut pointer = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => pointer += &format!("/{index}"),
            Segment::Map { key } | Segment::Enum { variant: key } => pointer += &token(key),
            Segment::Unknown => {}
        }
    }
    pointer
}

/// A key as a pointer's token; of one that is as long as a body, the beginning.
pub fn token(key: &str) -> String {
    format!("/{}", beginning(key).replace('~', "~0").replace('/', "~1"))
}

/// What is wrong with a JSON body at `pointer`.
pub fn json_problem(error: &serde_json::Error, pointer: &str) -> Problem {
    use serde_json::error::Category;
    match error.classify() {
        Category::Syntax | Category::Eof | Category::Io => {
            Problem::bad_request(format!("the body is not valid JSON: {error}"))
        }
        Category::Data => {
            let reason = error.to_string();
            let name = pointer.strip_prefix('/').unwrap_or("the body");
            // A field that is there is in the path already.
            let missing = pointer.is_empty() || reason.starts_with("missing field");
            let pointer = if missing { format!("{pointer}{}", pointer_in(&reason)) } else { pointer.to_owned() };
            let detail = plain(name, &reason);
            Problem::invalid(format!("the body does not fit: {detail}")).with_error(&pointer, "wrong_shape", detail)
        }
    }
}

/// serde names the field only inside its message (``missing field `version` ``).
fn pointer_in(message: &str) -> String {
    let named = ["missing field", "unknown field", "duplicate field"].iter().any(|begin| message.starts_with(begin));
    match message.split('`').nth(1) {
        Some(field) if named => token(field),
        _ => String::new(),
    }
}

/// True for `application/json` and `application/*+json`.
pub fn is_json(headers: &HeaderMap) -> bool {
    media_type(headers).is_some_and(|media| {
        media == "application/json" || (media.starts_with("application/") && media.ends_with("+json"))
    })
}

/// The request's media type in lower case, without parameters.
pub fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// How long a body may be, put into a request's extensions for whoever must say so.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimit {
    /// Bytes.
    pub bytes: usize,
    /// The setting that raises it, where there is one.
    pub setting: Option<&'static str>,
}

impl BodyLimit {
    /// The limit of this request.
    pub fn of(request: &Request) -> Option<Self> {
        request.extensions().get().copied()
    }
}

/// 413, with what is allowed.
pub fn body_too_large(limit: Option<BodyLimit>) -> Problem {
    let detail = match limit {
        Some(BodyLimit { bytes, setting: Some(setting) }) => {
            format!(
                "the body is larger than the {bytes} bytes that are allowed here; `mixmatch serve {setting}` sets that"
            )
        }
        Some(BodyLimit { bytes, setting: None }) => {
            format!("the body is larger than the {bytes} bytes that are allowed here")
        }
        None => "the body is larger than allowed here".to_owned(),
    };
    Problem::too_large(detail)
}

/// How long a request says that its body is.
pub fn announced(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Refuses a body that says itself that it is too large, before its first byte is asked for.
///
/// # Errors
/// 413.
pub fn refuse_announced(request: &Request) -> Result<(), Problem> {
    let limit = BodyLimit::of(request);
    let over = limit.zip(announced(request.headers())).is_some_and(|(limit, bytes)| bytes > limit.bytes);
    if over { Err(body_too_large(limit)) } else { Ok(()) }
}

/// A body that could not be read whole: too large, or cut off.
pub fn body_problem(rejection: &BytesRejection, limit: Option<BodyLimit>) -> Problem {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        body_too_large(limit)
    } else {
        Problem::bad_request(format!("the body could not be read: {}", rejection.body_text()))
    }
}

/// Path parameters.
#[derive(Debug, Clone, Copy)]
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        axum::extract::Path::<T>::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Path(value)| Self(value))
            .map_err(path_problem)
    }
}

fn path_problem(rejection: PathRejection) -> Problem {
    Problem::not_found(format!("there is nothing at this path: {}", rejection.body_text()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        #[allow(dead_code, reason = "only parsed")]
        version: u32,
        #[serde(default)]
        #[allow(dead_code, reason = "only parsed")]
        inner: Vec<std::collections::BTreeMap<String, Body>>,
    }

    #[test]
    fn a_media_type_has_no_case_and_no_parameters() {
        let of = |value: &'static str| HeaderMap::from_iter([(header::CONTENT_TYPE, value.parse().unwrap())]);
        assert_eq!(media_type(&of("Image/JPEG; q=1")).as_deref(), Some("image/jpeg"));
        assert!(is_json(&of("Application/JSON")) && is_json(&of("application/Problem+JSON; charset=utf-8")));
        assert!(!is_json(&of("text/json")) && !is_json(&HeaderMap::new()));
    }

    #[test]
    fn a_body_may_be_as_long_as_its_limit_and_no_longer() {
        let refused = |bytes: usize| {
            let request = axum::http::Request::builder().header(header::CONTENT_LENGTH, bytes.to_string());
            let mut request = request.body(axum::body::Body::empty()).unwrap();
            request.extensions_mut().insert(BodyLimit { bytes: 1000, setting: None });
            refuse_announced(&request).err().map(|problem| problem.status())
        };
        assert_eq!((refused(1000), refused(1001)), (None, Some(StatusCode::PAYLOAD_TOO_LARGE)));
    }

    #[test]
    fn syntax_is_400_and_a_wrong_field_is_422_with_its_name() {
        let syntax = parse_json::<Body>(b"{\"version\": ").unwrap_err();
        assert_eq!(syntax.status(), StatusCode::BAD_REQUEST);
        let missing = parse_json::<Body>(b"{}").unwrap_err();
        assert_eq!(missing.status(), StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(missing.body().errors[0].pointer, "/version");
        let unknown = parse_json::<Body>(b"{\"version\": 1, \"x\": 2}").unwrap_err();
        assert_eq!(unknown.body().errors[0].pointer, "/x");
        let twice = parse_json::<Body>(b"{\"version\": 1, \"version\": 2}").unwrap_err();
        assert_eq!(twice.body().errors[0].pointer, "/version");
        for (inner, pointer) in [
            ("{\"version\": -1}", "/inner/0/a~1b/version"),
            ("{}", "/inner/0/a~1b/version"),
            ("{\"version\": 1, \"x\": 2}", "/inner/0/a~1b/x"),
            ("3", "/inner/0/a~1b"),
            ("{\"version\": 1, \"c/d~e\": 2}", "/inner/0/a~1b/c~1d~0e"),
        ] {
            let text = format!("{{\"version\": 1, \"inner\": [{{\"a/b\": {inner}}}]}}");
            let wrong = parse_json::<Body>(text.as_bytes()).unwrap_err();
            assert_eq!(wrong.body().errors[0].pointer, pointer, "{inner}");
        }
        let escaped = parse_json::<Body>(b"{\"version\": 1, \"a/b\": 2}").unwrap_err();
        assert_eq!(escaped.body().errors[0].pointer, "/a~1b");
        let key = "k".repeat(300);
        let long_key = parse_json::<Body>(format!("{{\"version\": 1, \"{key}\": 2}}").as_bytes()).unwrap_err();
        assert_eq!(long_key.body().errors[0].pointer, token(&key));
        let long = parse_json::<Body>(format!("{{\"version\": \"{}\"}}", "x".repeat(1 << 20)).as_bytes()).unwrap_err();
        let detail = &long.body().errors[0].detail;
        assert!(
            detail.len() < 1000 && detail.contains("whole number from 0 to") && detail.contains("line 1"),
            "{detail}"
        );
    }
}
