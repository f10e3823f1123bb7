//! `Idempotency-Key`: a request that may be repeated (after a lost answer, say) and is carried out once.
//!
//! The key is stored in the transaction that makes the thing. For a day, the same key with the same body gives the same
//! answer, and with another body a 422; after that, or once the thing is deleted, the key is free.

use axum::http::HeaderMap;

use super::problem::Problem;

/// The caller's key, where it sent one.
///
/// # Errors
/// 422 for what is no key.
pub fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    let fits = |key: &&str| (1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    match key.to_str().ok().filter(fits) {
        Some(key) => Ok(Some(key.to_owned())),
        None => {
            let detail = "an Idempotency-Key is 1 to 255 visible ASCII characters, such as a UUID";
            Err(Problem::invalid(detail).with_error("Idempotency-Key", "invalid_value", detail))
        }
    }
}
