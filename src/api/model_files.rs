//! The files of a published version: its description, card, weights, and what it predicts for its data set.

use std::fs::File;
use std::io::{BufReader, SeekFrom};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;
use utoipa::IntoParams;

use super::accept::{negotiate, vary};
use super::conditional::{Part, etag, is_known, not_modified};
use super::extract::{Path, Query};
use super::models::meant;
use super::problem::{Problem, ProblemBody};
use super::state::{App, AppState};
use crate::model::predictions::{self, Selection};
use crate::report::Card;
use crate::store::VersionRow;

/// A file of a version's that cannot be opened: because the version was deleted since it was looked up, or else a mistake of ours.
async fn missing(app: &App, row: &VersionRow, what: &'static str, error: std::io::Error) -> Problem {
    match app.store.version(&row.name, row.version).await {
        Ok(_there) => Problem::bug(what, &error),
        Err(deleted) => deleted.into(),
    }
}

/// `model.json` of a version, as whatever can be read from it.
pub(super) async fn manifest<T: serde::de::DeserializeOwned>(app: &App, row: &VersionRow) -> Result<T, Problem> {
    let path = app.store.artifact(&row.manifest_sha256);
    let text = match tokio::fs::read(&path).await {
        Ok(text) => text,
        Err(error) => return Err(missing(app, row, "the model's description is gone", error).await),
    };
    serde_json::from_slice(&text).map_err(|error| Problem::bug("the model's description cannot be read", &error))
}

#[derive(Debug, Clone, Copy)]
enum CardFormat {
    Markdown,
    Json,
}

const CARD_FORMATS: [(&str, CardFormat); 2] =
    [("text/markdown", CardFormat::Markdown), ("application/json", CardFormat::Json)];

/// The model card: intended and out-of-scope use, data, figures with intervals, per group.
///
/// Markdown, or JSON where `Accept` prefers `application/json`.
#[utoipa::path(get, path = "/models/{name}/versions/{version}/card", tag = "models", security(("api_key" = ["predict"])),
    params(("name" = String, Path), ("version" = String, Path, description = "Its number, or an alias: `champion`")),
    responses(
        (status = 200, description = "By `Accept`: Markdown (default) or JSON", content((String = "text/markdown"), (Card = "application/json")),
            headers(("vary" = String, description = "`accept`"))),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 406, body = ProblemBody, content_type = "application/problem+json"),
    ))]
pub async fn card(
    State(app): State<AppState>,
    Path((name, version)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let format = negotiate(&headers, &CARD_FORMATS)?;
    let row = meant(&app, &name, &version).await?;
    let card = Card::new(&name, row.version, &row.weights_sha256, manifest(&app, &row).await?);
    let answer = match format {
        CardFormat::Json => axum::Json(card).into_response(),
        CardFormat::Markdown => {
            ([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], card.markdown()).into_response()
        }
    };
    Ok((vary(), answer).into_response())
}

/// The weights of a version, as safetensors.
///
/// `etag` is their SHA-256: whoever sends it as `If-None-Match` gets them only if they are others. A download that broke off
/// goes on with `Range: bytes=N-`, best with the `etag` as `If-Range`; of several ranges in one request all bytes come.
#[utoipa::path(get, path = "/models/{name}/versions/{version}/weights", tag = "models", security(("api_key" = ["train"])),
    params(("name" = String, Path), ("version" = String, Path, description = "Its number, or an alias: `champion`"),
        ("if-none-match" = Option<String>, Header, description = "An `etag` of before: 304 if it is still the same"),
        ("range" = Option<String>, Header, description = "`bytes=A-B`, `bytes=A-` or `bytes=-N`"),
        ("if-range" = Option<String>, Header, description = "An `etag` of before: all bytes if it is another by now"),
    ),
    responses(
        (status = 200, description = "A safetensors file", body = Vec<u8>, content_type = "application/octet-stream", headers(
            ("content-disposition" = String, description = "`attachment` with a name of the model and the version"),
            ("etag" = String, description = "The SHA-256 of the file, in quotes"),
            ("accept-ranges" = String, description = "`bytes`"),
        )),
        (status = 206, description = "The bytes of the range", body = Vec<u8>, content_type = "application/octet-stream", headers(
            ("content-range" = String, description = "Which bytes of how many, `bytes A-B/N`"),
            ("content-disposition" = String, description = "`attachment` with a name of the model and the version"),
            ("etag" = String, description = "The SHA-256 of the whole file, in quotes"),
            ("accept-ranges" = String, description = "`bytes`"),
        )),
        (status = 304, description = "It is what `If-None-Match` names", headers(("etag" = String, description = "The same"))),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 416, description = "The range begins behind the file's end", body = ProblemBody, content_type = "application/problem+json",
            headers(("content-range" = String, description = "How many bytes there are, `bytes */N`"))),
    ))]
pub async fn weights(
    State(app): State<AppState>,
    Path((name, version)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let row = meant(&app, &name, &version).await?;
    let tag = etag(&row.weights_sha256);
    if is_known(&headers, &tag) {
        return Ok(not_modified(tag));
    }
    let opened = async {
        let file = tokio::fs::File::open(app.store.artifact(&row.weights_sha256)).await?;
        let length = file.metadata().await?.len();
        Ok((file, length))
    };
    let (mut file, length) = match opened.await {
        Ok(opened) => opened,
        Err(error) => return Err(missing(&app, &row, "the model's weights are gone", error).await),
    };
    let part = Part::of(&method, &headers, &tag, length)?;
    let (status, first, bytes) = match part {
        Part::Whole => (StatusCode::OK, 0, length),
        Part::Bytes { first, last } => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
    };
    if first > 0 {
        let sought = file.seek(SeekFrom::Start(first)).await;
        sought.map_err(|error| Problem::bug("the model's weights cannot be read", &error))?;
    }
    let body = Body::from_stream(ReaderStream::with_capacity(file.take(bytes), 64 * 1024));
    let headers = download(&row, "safetensors", "application/octet-stream", tag);
    let mut answer = (status, headers, body).into_response();
    answer.headers_mut().insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    if let Part::Bytes { first, last } = part {
        let range = HeaderValue::from_str(&format!("bytes {first}-{last}/{length}")).expect("digits are plain ASCII");
        answer.headers_mut().insert(header::CONTENT_RANGE, range);
    }
    Ok(answer)
}

/// Headers of a file of a version's that is saved under a name of its own.
fn download(
    row: &VersionRow,
    extension: &str,
    media: &'static str,
    etag: HeaderValue,
) -> [(HeaderName, HeaderValue); 3] {
    let safe: String = row.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let text = |text: String| HeaderValue::from_str(&text).expect("plain ASCII");
    [
        (header::CONTENT_TYPE, HeaderValue::from_static(media)),
        (header::CONTENT_DISPOSITION, text(format!("attachment; filename=\"{safe}-{}.{extension}\"", row.version))),
        (header::ETAG, etag),
    ]
}

/// Which predictions are asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PredictionsQuery {
    /// `all`, in the data set's order; `unlabelled`: the images without a label, one of each group, the least sure first, which
    /// are worth a label next; `disagreeing`: those whose label is another than the prediction, the surest first.
    #[param(inline)]
    rows: Option<Selection>,
    /// At most so many rows.
    #[param(minimum = 1)]
    limit: Option<u32>,
}

/// What a version predicts for the images of the data set that it learned from: which to label next, and which labels to doubt.
///
/// CSV with a header: `image`; `used` (`labelled`, `unlabelled`, `validation`, `test` or `unused`: how the run used it); `label`, as the sheet
/// has it, or empty; `prediction`; its calibrated `probability`; `margin`, that less the next class's; `group`, a number that a group's images
/// share (a person, or near duplicates). Images that were trained on with their label are answered from memory.
#[utoipa::path(get, path = "/models/{name}/versions/{version}/predictions", tag = "models", security(("api_key" = ["train"])),
    params(("name" = String, Path), ("version" = String, Path, description = "Its number, or an alias: `champion`"), PredictionsQuery,
        ("if-none-match" = Option<String>, Header, description = "An `etag` of before: 304 if it is still the same"),
    ),
    responses(
        (status = 200, description = "A row for each image", body = String, content_type = "text/csv", headers(
            ("content-disposition" = String, description = "`attachment` with a name of the model and the version"),
            ("etag" = String, description = "The SHA-256 of all rows, in quotes, whichever of them are asked for"),
        )),
        (status = 304, description = "They are what `If-None-Match` names", headers(("etag" = String, description = "The same"))),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
    ))]
pub async fn predictions(
    State(app): State<AppState>,
    Path((name, version)): Path<(String, String)>,
    Query(query): Query<PredictionsQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if query.limit == Some(0) {
        let detail = "limit is 0, allowed is 1 or more";
        return Err(Problem::invalid("the query string does not fit").with_error("?limit", "out_of_range", detail));
    }
    let row = meant(&app, &name, &version).await?;
    let Some(sha256) = row.predictions_sha256.clone() else {
        let detail = format!("an older build published {}, without predictions; train again to have them", row.key());
        return Err(Problem::not_found(detail));
    };
    let tag = etag(&sha256);
    if is_known(&headers, &tag) {
        return Ok(not_modified(tag));
    }
    let path = app.store.artifact(&sha256);
    let limit = query.limit.map_or(usize::MAX, |limit| limit as usize);
    let selected = move || {
        let rows = predictions::read(BufReader::new(File::open(path)?))?;
        let mut bytes = Vec::new();
        predictions::write(&query.rows.unwrap_or_default().of(rows, limit), &mut bytes)?;
        Ok(bytes)
    };
    let read = tokio::task::spawn_blocking(selected).await.map_err(|error| Problem::bug("reading stopped", &error))?;
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(error) => return Err(missing(&app, &row, "the model's predictions are gone", error).await),
    };
    Ok((download(&row, "csv", "text/csv; charset=utf-8", tag), bytes).into_response())
}
