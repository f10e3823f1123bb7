//! `/jobs/{id}/metrics`: one row per epoch, as JSON, CSV or NDJSON.

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use super::accept::negotiate;
use super::extract::Path;
use super::jobs::job_id;
use super::page::Page;
use super::problem::{Problem, ProblemBody};
use super::state::AppState;
use crate::train::event::EpochMetrics;

/// What the caller wants to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Csv,
    Ndjson,
}

const FORMATS: [(&str, Format); 4] = [
    ("application/json", Format::Json),
    ("text/csv", Format::Csv),
    ("application/x-ndjson", Format::Ndjson),
    ("application/jsonl", Format::Ndjson),
];

/// Loss, λ_U, learning rate, accuracy and F1 per epoch.
#[utoipa::path(get, path = "/jobs/{id}/metrics", tag = "jobs", security(("api_key" = ["train"])), params(("id" = uuid::Uuid, Path)), responses(
    (status = 200, description = "By `Accept`: JSON (default), `text/csv` or `application/x-ndjson`", content(
        (Page<EpochMetrics> = "application/json"), (String = "text/csv"), (EpochMetrics = "application/x-ndjson"),
    )),
    (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    (status = 406, body = ProblemBody, content_type = "application/problem+json"),
))]
pub async fn metrics(
    State(app): State<AppState>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = job_id(&id)?;
    let format = negotiate(&headers, &FORMATS)?;
    let rows = app.store.job_metrics(id).await?;
    Ok(match format {
        Format::Json => axum::Json(Page { items: rows, next_cursor: None }).into_response(),
        Format::Csv => ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], csv(&rows)?).into_response(),
        Format::Ndjson => ([(header::CONTENT_TYPE, "application/x-ndjson")], ndjson(&rows)?).into_response(),
    })
}

/// Columns are the fields of a row; a list becomes one cell with its values between spaces.
fn csv(rows: &[EpochMetrics]) -> Result<String, Problem> {
    let bug = |error: &dyn std::fmt::Display| Problem::bug("the metrics could not be written as CSV", error);
    let mut writer = csv::Writer::from_writer(Vec::new());
    let example = serde_json::to_value(EpochMetrics::default()).map_err(|error| bug(&error))?;
    let columns: Vec<String> = example.as_object().map(|object| object.keys().cloned().collect()).unwrap_or_default();
    writer.write_record(&columns).map_err(|error| bug(&error))?;
    for row in rows {
        let value = serde_json::to_value(row).map_err(|error| bug(&error))?;
        let cells = columns.iter().map(|column| cell(&value[column.as_str()]));
        writer.write_record(cells).map_err(|error| bug(&error))?;
    }
    let bytes = writer.into_inner().map_err(|error| bug(&error))?;
    String::from_utf8(bytes).map_err(|error| bug(&error))
}

fn cell(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => String::new(),
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

fn ndjson(rows: &[EpochMetrics]) -> Result<String, Problem> {
    let mut text = String::new();
    for row in rows {
        let line = serde_json::to_string(row)
            .map_err(|error| Problem::bug("the metrics could not be written as NDJSON", &error))?;
        text.push_str(&line);
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_has_a_column_for_each_field_and_empty_cells_for_what_is_absent() {
        let row = EpochMetrics { epoch: 3, guess_classes: vec![0.25, 0.75], ..Default::default() };
        let text = csv(&[row]).unwrap();
        let (head, line) = text.trim().split_once('\n').unwrap();
        assert!(head.split(',').any(|column| column == "validation_f1_macro"));
        assert!(line.contains("0.25 0.75") && line.contains(",,"), "{line}");
        assert_eq!(head.split(',').count(), line.split(',').count());
    }
}
