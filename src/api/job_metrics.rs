//! `/jobs/{id}/metrics`: one row per epoch, as JSON, CSV or NDJSON.

use std::num::NonZeroU32;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::accept::{negotiate, vary};
use super::epoch_stream::{self, Epochs};
use super::extract::{Path, Query};
use super::jobs::job_id;
use super::page::{MOST, Page, checked_limit, number_in};
use super::problem::{Problem, ProblemBody};
use super::state::AppState;
use crate::train::event::{EpochMetrics, TestMetrics};

/// What the caller wants to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Csv,
    /// Under the name that the caller has for it.
    Ndjson(&'static str),
}

const NDJSON: &str = "application/x-ndjson";
/// The same under its other name: who accepts this one alone would refuse the first.
const JSONL: &str = "application/jsonl";

const FORMATS: [(&str, Format); 4] = [
    ("application/json", Format::Json),
    ("text/csv", Format::Csv),
    (NDJSON, Format::Ndjson(NDJSON)),
    (JSONL, Format::Ndjson(JSONL)),
];

/// Which epochs are asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MetricsQuery {
    /// Only epochs after this one: `next_cursor` of the page before.
    #[param(pattern = "^[0-9]{1,9}$")]
    cursor: Option<String>,
    /// Epochs a page, 1 to 1000. Without it JSON has up to 1000, CSV and NDJSON have all that there are.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// Fewer epochs of a long run: those whose number it divides, and with them always the first, the last there is so
    /// far and the best so far (as the job's `best`).
    #[param(minimum = 1, maximum = 2_147_483_647)]
    every: Option<u32>,
}

impl MetricsQuery {
    /// The checked `every`.
    fn every(&self) -> Result<Option<NonZeroU32>, Problem> {
        // Each one, as without it: the query of all is the quicker one.
        let Some(every) = self.every.filter(|every| *every != 1) else { return Ok(None) };
        match NonZeroU32::new(every) {
            Some(every) if i32::try_from(every.get()).is_ok() => Ok(Some(every)),
            _ => Err(Problem::invalid("the query string does not fit").with_error(
                "?every",
                "out_of_range",
                format!("every is {every}, allowed is 1 to {}", i32::MAX),
            )),
        }
    }
}

/// A page of epochs, and what the run's end has to say.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobMetrics {
    /// The epochs, in order.
    items: Vec<EpochMetrics>,
    /// Where the next page begins; `null` at the end.
    next_cursor: Option<String>,
    /// The test split, once, at the end: the same on every page, `null` until then.
    test: Option<TestMetrics>,
}

/// Loss, λ_U, learning rate, accuracy and F1 per epoch, and the test figures once there are some.
///
/// CSV and NDJSON have a line for each epoch and nothing else: no test figures. Who goes on with `/events` sends the
/// `last-event-id` of this answer, and misses nothing.
#[utoipa::path(get, path = "/jobs/{id}/metrics", tag = "jobs", security(("api_key" = ["train"])),
    params(("id" = uuid::Uuid, Path), MetricsQuery), responses(
    (status = 200, description = "By `Accept`: JSON (default), `text/csv`, or `application/x-ndjson`, also as `application/jsonl`", content(
        (JobMetrics = "application/json"), (String = "text/csv"), (EpochMetrics = "application/x-ndjson"),
        (EpochMetrics = "application/jsonl"),
    ), headers(
        ("last-event-id" = i64, description = "The job's newest event before the epochs were read"),
        ("vary" = String, description = "`accept`"),
    )),
    (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    (status = 406, body = ProblemBody, content_type = "application/problem+json"),
    (status = 422, body = ProblemBody, content_type = "application/problem+json"),
))]
pub async fn metrics(
    State(app): State<AppState>,
    Path(id): Path<String>,
    Query(query): Query<MetricsQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = job_id(&id)?;
    let format = negotiate(&headers, &FORMATS)?;
    let limit = query.limit.map(|limit| checked_limit(Some(limit))).transpose()?;
    let after = query.cursor.as_deref().map_or(Ok(0), |cursor| number_in(cursor, 9))?;
    let epochs = Epochs { job: id, after, limit, every: query.every()? };
    // Before the epochs: an event that comes meanwhile is told twice, and none is missed.
    let told = [("last-event-id", app.store.newest_event(id).await?.to_string())];
    let (kind, lines) = match format {
        Format::Json => {
            let limit = limit.unwrap_or(MOST);
            // Before the epochs: where test figures are told, no epoch is missing.
            let test = app.store.job(id).await?.test;
            let rows = epochs.rows(&app.store, limit + 1).await?;
            let Page { items, next_cursor } = Page::from_surplus(rows, limit, |row| row.epoch.to_string());
            return Ok((told, vary(), axum::Json(JobMetrics { items, next_cursor, test })).into_response());
        }
        Format::Csv => ("text/csv; charset=utf-8", Lines { head: csv_head()?, write: csv }),
        Format::Ndjson(media) => (media, Lines { head: Vec::new(), write: ndjson }),
    };
    let body = epoch_stream::body(app.store.clone(), epochs, lines).await?;
    Ok((told, vary(), [(header::CONTENT_TYPE, kind)], body).into_response())
}

/// A head, and a line for each epoch.
struct Lines {
    head: Vec<u8>,
    write: fn(&[EpochMetrics]) -> Result<Vec<u8>, Problem>,
}

impl epoch_stream::Write for Lines {
    fn epochs(&mut self, rows: &[EpochMetrics]) -> Result<Vec<u8>, Problem> {
        let mut bytes = std::mem::take(&mut self.head);
        bytes.extend((self.write)(rows)?);
        Ok(bytes)
    }
}

/// Columns are the fields of a row.
fn columns() -> Result<Vec<String>, Problem> {
    let example = serde_json::to_value(EpochMetrics::default()).map_err(|error| no_csv(&error))?;
    Ok(example.as_object().map(|object| object.keys().cloned().collect()).unwrap_or_default())
}

fn csv_head() -> Result<Vec<u8>, Problem> {
    records([columns()?])
}

/// A list becomes one cell with its values between spaces.
fn csv(rows: &[EpochMetrics]) -> Result<Vec<u8>, Problem> {
    let columns = columns()?;
    let cells = |row: &EpochMetrics| {
        let value = serde_json::to_value(row).map_err(|error| no_csv(&error))?;
        Ok(columns.iter().map(|column| cell(&value[column.as_str()])).collect())
    };
    records(rows.iter().map(cells).collect::<Result<Vec<Vec<String>>, Problem>>()?)
}

fn records(records: impl IntoIterator<Item = Vec<String>>) -> Result<Vec<u8>, Problem> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for record in records {
        writer.write_record(record).map_err(|error| no_csv(&error))?;
    }
    writer.into_inner().map_err(|error| no_csv(&error))
}

fn no_csv(error: &dyn std::fmt::Display) -> Problem {
    Problem::bug("the metrics could not be written as CSV", error)
}

fn cell(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => String::new(),
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

fn ndjson(rows: &[EpochMetrics]) -> Result<Vec<u8>, Problem> {
    let mut text = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut text, row)
            .map_err(|error| Problem::bug("the metrics could not be written as NDJSON", &error))?;
        text.push(b'\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_has_a_column_for_each_field_and_empty_cells_for_what_is_absent() {
        let row = EpochMetrics { epoch: 3, guess_classes: vec![0.25, 0.75], ..Default::default() };
        let text = String::from_utf8([csv_head().unwrap(), csv(&[row]).unwrap()].concat()).unwrap();
        let (head, line) = text.trim().split_once('\n').unwrap();
        assert!(head.split(',').any(|column| column == "validation_f1_macro"));
        assert!(line.contains("0.25 0.75") && line.contains(",,"), "{line}");
        assert_eq!(head.split(',').count(), line.split(',').count());
    }
}
