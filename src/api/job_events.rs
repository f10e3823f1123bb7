//! `/jobs/{id}/events` (server-sent events) and `/jobs/{id}/logs`.
//!
//! The stream is a reader of the stored events that is woken when more are written: a client that lost
//! its connection sends `Last-Event-ID` and misses nothing, and one that comes late sees all of it. The
//! stream ends by itself after the job's final event, and whoever comes back for more of it is told that there is none.

use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event as Sse, KeepAlive};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::extract::{Path, Query};
use super::jobs::job_id;
use super::page::{MOST, Page, checked_limit, number_in};
use super::problem::{Problem, ProblemBody};
use super::state::AppState;
use crate::store::EventRow;
use crate::train::event::LogLevel;

/// Events read from the store at once.
const BATCH: u32 = 200;

/// Looked again this often even if nobody announces a change.
const LOOK: Duration = Duration::from_secs(5);

/// What happens in a job, live.
///
/// Each event has an `id` (send the last one back as `Last-Event-ID` to resume), a name (`state`, `phase`,
/// `start`, `pretraining`, `step`, `epoch`, `test`, `log`, `problem`) and JSON data. `start` says after how many steps and epochs an
/// attempt begins or goes on; epochs after those come again. The stream ends after the final state. Whoever then asks again
/// with the last `id`, as an `EventSource` does by itself, gets 204 without a body, upon which it asks no more. An `id` beyond the
/// newest is of another history, as when a backup was put back meanwhile: then all events come.
#[utoipa::path(get, path = "/jobs/{id}/events", tag = "jobs", security(("api_key" = ["train"])), params(
    ("id" = uuid::Uuid, Path),
    ("last-event-id" = Option<i64>, Header, description = "Resume after this event"),
), responses(
    (status = 200, description = "Server-sent events", body = String, content_type = "text/event-stream",
        headers(("cache-control" = String, description = "`no-cache`"))),
    (status = 204, description = "The job is over, and nothing happened after `Last-Event-ID`: stop asking",
        headers(("cache-control" = String, description = "`no-cache`"))),
    (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    (status = 422, body = ProblemBody, content_type = "application/problem+json"),
))]
pub async fn events(
    State(app): State<AppState>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = job_id(&id)?;
    let last = last_event_id(&headers)?;
    app.store.job(id).await?;
    // Behind an event that never was nothing would come until as many more have happened.
    let after = if last > app.store.newest_event(id).await? { 0 } else { last };
    let watch = app.supervisor.changes().watch(id);
    let mut follower = Follower { watch, app, caller, job: id, after, ready: Vec::new(), done: false };
    follower.read().await?;
    // An empty stream would be a connection that was lost: an `EventSource` would come back for ever.
    if follower.done && follower.ready.is_empty() {
        // Only for now: the job may be queued again.
        return Ok((StatusCode::NO_CONTENT, [(header::CACHE_CONTROL, "no-cache")]).into_response());
    }
    let stream = futures::stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok::<_, Infallible>(event), follower))
    });
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(15)).text("still here");
    Ok(axum::response::Sse::new(stream).keep_alive(keep_alive).into_response())
}

fn last_event_id(headers: &HeaderMap) -> Result<i64, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(0) };
    value.to_str().ok().and_then(|text| text.trim().parse().ok()).ok_or_else(|| {
        Problem::invalid("Last-Event-ID is not one of this stream's ids").with_error(
            "Last-Event-ID",
            "bad_event_id",
            "send the id of an event that was received, a number",
        )
    })
}

/// Where one client stands in one job's events.
struct Follower {
    app: AppState,
    /// Whose key opened the stream.
    caller: Caller,
    job: uuid::Uuid,
    watch: crate::worker::Watch,
    after: i64,
    /// Read and not sent yet, last first.
    ready: Vec<EventRow>,
    done: bool,
}

impl Follower {
    /// The next event; `None` when the stream ends.
    async fn next(&mut self) -> Option<Sse> {
        loop {
            if let Some(row) = self.ready.pop() {
                self.after = row.seq;
                return Some(Sse::default().id(row.seq.to_string()).event(row.kind).data(row.data.to_string()));
            }
            if self.done {
                return None;
            }
            match self.read().await {
                Ok(true) => continue,
                Ok(false) => {}
                // The job was deleted, or the store is in trouble: the client may come back.
                Err(error) => {
                    tracing::debug!(job = %self.job, %error, "an event stream ends early");
                    return None;
                }
            }
            tokio::select! {
                () = self.watch.changed() => {}
                () = tokio::time::sleep(LOOK) => {}
                () = self.app.lifecycle.closed() => return None,
            }
        }
    }

    /// Reads what is new; true if there is something to send or nothing more will come. The state is read
    /// *before* the events: final then means that everything is written.
    async fn read(&mut self) -> Result<bool, crate::store::StoreError> {
        if !self.caller.may_go_on(&self.app).await? {
            self.done = true;
            return Ok(true);
        }
        let finished = self.app.store.job(self.job).await?.state.is_final();
        self.ready = self.app.store.job_events(self.job, self.after, BATCH).await?;
        self.ready.reverse();
        self.done = finished && self.ready.len() < BATCH as usize;
        Ok(self.done || !self.ready.is_empty())
    }
}

/// One line of a job's log.
#[derive(Debug, Serialize, ToSchema)]
pub struct LogLine {
    /// Its number, which grows over all log lines.
    id: i64,
    /// When it was written.
    #[schema(value_type = String, format = DateTime)]
    at: jiff::Timestamp,
    /// `info`, `warn` or `error`.
    #[schema(value_type = LogLevel)]
    level: String,
    /// One line.
    message: String,
}

/// Which lines are asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LogsQuery {
    /// `next_cursor` of the page before.
    #[param(pattern = "^[0-9]{1,18}$")]
    cursor: Option<String>,
    /// Lines a page, 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 1000)]
    limit: Option<u32>,
}

/// A job's log, oldest line first.
#[utoipa::path(get, path = "/jobs/{id}/logs", tag = "jobs", security(("api_key" = ["train"])), params(("id" = uuid::Uuid, Path), LogsQuery), responses(
    (status = 200, body = Page<LogLine>),
    (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    (status = 422, body = ProblemBody, content_type = "application/problem+json"),
))]
pub async fn logs(
    State(app): State<AppState>,
    Path(id): Path<String>,
    Query(query): Query<LogsQuery>,
) -> Result<axum::Json<Page<LogLine>>, Problem> {
    let id = job_id(&id)?;
    let limit = checked_limit(query.limit.or(Some(MOST)))?;
    let after = query.cursor.map_or(Ok(0), |cursor| number_in(&cursor, 18))?;
    let rows = app.store.job_logs(id, after, limit + 1).await?;
    let page = Page::from_surplus(rows, limit, |row| row.seq.to_string());
    Ok(axum::Json(page.map(|row| LogLine { id: row.seq, at: row.at, level: row.level, message: row.message })))
}
