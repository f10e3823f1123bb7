//! The one mapping from each room's errors to a status. The rooms know nothing of HTTP; what is listed
//! here is the whole of what a caller can get from them.

use super::page::MOST;
use super::problem::{Problem, ProblemItem};
use crate::dataset::ImportError;
use crate::report::pictures::PictureError;
use crate::serving::ServingError;
use crate::store::StoreError;

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { .. } | StoreError::NoAlias { .. } | StoreError::IsSweep { .. } => {
                Problem::not_found(error.to_string())
            }
            StoreError::Taken { ref name, .. } => {
                let code = format!("{name:?} is taken");
                Problem::conflict(error.to_string()).with_error("/name", "taken", code)
            }
            StoreError::KeyReused { .. } => {
                Problem::invalid(error.to_string()).with_error("Idempotency-Key", "reused", error.to_string())
            }
            // Names come in paths: `what` tells of which part.
            StoreError::InvalidName { what, .. } => {
                let (part, code) = if what == "alias" { ("alias", "bad_alias") } else { ("name", "bad_name") };
                Problem::invalid(error.to_string()).with_error(part, code, error.to_string())
            }
            StoreError::State { .. } | StoreError::InUse { .. } => Problem::conflict(error.to_string()),
            error if error.is_busy() => {
                tracing::error!(%error, "another process holds the database");
                Problem::unavailable("another process holds the database; nothing was changed").retry_after(5)
            }
            error if error.is_full() => no_room(&error),
            error @ StoreError::Replaced { .. } => {
                tracing::error!(%error, "nothing is taken on");
                Problem::unavailable("the server's database is not where it was; nothing was changed").retry_after(10)
            }
            error if error.is_closed() => Problem::unavailable("the server is stopping").retry_after(10),
            error => Problem::bug("the store failed", &error),
        }
    }
}

impl From<ServingError> for Problem {
    fn from(error: ServingError) -> Self {
        match error {
            ServingError::Overloaded { seconds, .. } => {
                Problem::unavailable(error.to_string()).retry_after(until_empty(seconds))
            }
            ServingError::Crowded { .. } => Problem::unavailable(error.to_string()).retry_after(1),
            ServingError::Loading(_) => Problem::unavailable(error.to_string()).retry_after(5),
            // Others' models needed its place between loading and asking.
            ServingError::NotLoaded(_) => Problem::unavailable(error.to_string()).retry_after(1),
            ServingError::ShuttingDown => Problem::unavailable(error.to_string()).retry_after(10),
            ServingError::Deadline { .. } => Problem::deadline(error.to_string()),
            error => Problem::bug("the model could not answer", &error),
        }
    }
}

/// Whole seconds after which a queue that takes so long is empty. It may be sooner, as callers leave: nobody is sent away for longer than
/// half a minute.
fn until_empty(seconds: f64) -> u64 {
    (seconds.ceil() as u64).clamp(1, 30)
}

/// A full disk is nobody's mistake: the caller hears what is the matter, the log where.
fn no_room(error: &dyn std::fmt::Display) -> Problem {
    tracing::error!(%error, "the disk is full");
    Problem::insufficient_storage("there is no room on the server's disk; nothing was changed")
}

/// What a caller may know of it: our own paths are not its business.
pub fn told(error: &ServingError) -> String {
    match error {
        ServingError::ModelFile { reason, .. } => format!("a file of the model cannot be used: {reason}"),
        error => error.to_string(),
    }
}

impl From<PictureError> for Problem {
    fn from(error: PictureError) -> Self {
        match error {
            PictureError::Empty(_) => Problem::not_found(error.to_string()),
            error => Problem::bug("the pictures could not be drawn", &error),
        }
    }
}

/// Of a field of the form; the form's own where none is to blame.
fn pointer(field: Option<String>) -> String {
    field.map_or_else(String::new, |field| format!("/{field}"))
}

impl From<ImportError> for Problem {
    fn from(error: ImportError) -> Self {
        let code = error.code();
        match error {
            ImportError::Invalid { field, detail, .. } => {
                Problem::invalid(detail.clone()).with_error(&pointer(field), code, detail)
            }
            ImportError::TooLarge { field, detail, .. } => {
                Problem::too_large(detail.clone()).with_error(&pointer(field), code, detail)
            }
            ImportError::Rows { detail, left_out: all, rejected, .. } => {
                let most = MOST as usize;
                let detail =
                    if all > most { format!("{detail}; the first {most} of {all} rows are listed") } else { detail };
                let items = rejected.into_iter().take(most).map(|row| {
                    let pointer = format!("/{}/{}", row.sheet, row.row);
                    let detail =
                        if row.image.is_empty() { row.detail } else { format!("{}: {}", row.image, row.detail) };
                    ProblemItem::new(pointer, row.code, detail)
                });
                Problem::invalid(detail).with_errors(items.collect())
            }
            ImportError::Stopped => {
                Problem::unavailable("the server is stopping; nothing was imported").retry_after(10)
            }
            error if error.is_full() => no_room(&error),
            error @ ImportError::Storage { .. } => Problem::bug("the data set could not be stored", &error),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::header::RETRY_AFTER;
    use axum::response::IntoResponse;

    use super::*;

    #[test]
    fn whoever_finds_the_queue_full_comes_again_when_it_is_empty() {
        let told = |seconds| {
            let answer = Problem::from(ServingError::Overloaded { queued: 9, seconds }).into_response();
            (answer.status().as_u16(), answer.headers()[RETRY_AFTER].to_str().unwrap().to_owned())
        };
        // The first is of a model that has answered nobody yet.
        for (seconds, expected) in [(0.0, "1"), (0.2, "1"), (7.0, "7"), (7.1, "8"), (3600.0, "30")] {
            assert_eq!(told(seconds), (503, expected.to_owned()), "{seconds} s");
        }
    }
}
