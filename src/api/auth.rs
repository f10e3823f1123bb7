//! The optional bearer key. Everything needs it except what a load balancer or a browser must see
//! before anybody can type a key: health, and the dashboard's and the documentation's own files.

use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::Problem;
use crate::config::ApiKey;

/// Lets a request through if no key is set or it brings the right one.
pub async fn require_key(State(key): State<Option<ApiKey>>, request: Request, next: Next) -> Response {
    let Some(key) = key else { return next.run(request).await };
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
    match given {
        Some(given) if key.matches(given) => next.run(request).await,
        Some(_) => refuse("the API key is not the right one"),
        None => refuse("send the API key as: Authorization: Bearer <key>"),
    }
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
}

fn refuse(detail: &str) -> Response {
    Problem::unauthorized(detail)
        .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"mixmatch\""))
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::bearer;

    #[test]
    fn the_scheme_is_read_in_any_case() {
        assert_eq!(bearer(b"Bearer key"), Some(b"key".as_slice()));
        assert_eq!(bearer(b"bearer  key "), Some(b"key".as_slice()));
        assert_eq!(bearer(b"Basic a2V5"), None);
        assert_eq!(bearer(b"Bearer"), None);
    }
}
