//! The files of a published version: its description, card, weights, and what it predicts for its data set.

use std::fs::File;
use std::io::{BufReader, Read, SeekFrom};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::Semaphore;
use tokio_util::io::ReaderStream;
use utoipa::IntoParams;

use super::accept::{negotiate, vary};
use super::conditional::{Part, etag, is_known, not_modified};
use super::extract::{Path, Query};
use super::models::meant;
use super::problem::{Problem, ProblemBody};
use super::state::{App, AppState};
use crate::model::predictions::{self, Prediction, Selection};
use crate::report::Card;
use crate::store::VersionRow;

/// Bytes of a file that are sent at once.
const PIECE: usize = 64 * 1024;

/// Each holds the predictions of a whole data set in memory, which may be hundreds of megabytes.
static SELECTING: Semaphore = Semaphore::const_new(2);

/// Each holds a version's description in memory, read and written again: some 25 MB with a thousand classes.
static DESCRIBING: Semaphore = Semaphore::const_new(2);

/// A file of a version's that cannot be opened: because the version was deleted since it was looked up, or else a mistake of ours.
async fn missing(app: &App, row: &VersionRow, what: &'static str, error: std::io::Error) -> Problem {
    match app.store.version(&row.name, row.version).await {
        Ok(_there) => Problem::bug(what, &error),
        Err(deleted) => deleted.into(),
    }
}

/// `model.json` of a version, as whatever can be read from it.
pub(super) async fn manifest<T>(app: &App, row: &VersionRow) -> Result<T, Problem>
where
    T: DeserializeOwned + Send + 'static,
{
    of_manifest(app, row, Ok).await
}

/// What is made of a version's `model.json`: read, and worked on, on a blocking thread, as with many classes that takes long.
pub(super) async fn of_manifest<T, U>(
    app: &App,
    row: &VersionRow,
    make: impl FnOnce(T) -> Result<U, Problem> + Send + 'static,
) -> Result<U, Problem>
where
    T: DeserializeOwned + 'static,
    U: Send + 'static,
{
    let turn = DESCRIBING.acquire().await.map_err(|error| Problem::bug("no description can be read", &error))?;
    let path = app.store.artifact(&row.manifest_sha256);
    let making = tokio::task::spawn_blocking(move || {
        // Kept until it is done, also where the caller has gone away.
        let _turn = turn;
        let read = serde_json::from_slice(&std::fs::read(path)?);
        let read = read.map_err(|error| Problem::bug("the model's description cannot be read", &error));
        Ok::<_, std::io::Error>(read.and_then(make))
    });
    match making.await.map_err(|error| Problem::bug("reading stopped", &error))? {
        Ok(made) => made,
        Err(error) => Err(missing(app, row, "the model's description is gone", error).await),
    }
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
    let (version, sha256) = (row.version, row.weights_sha256.clone());
    let written = of_manifest(&app, &row, move |manifest| {
        let card = Card::new(&name, version, &sha256, manifest);
        match format {
            CardFormat::Json => serde_json::to_vec(&card)
                .map(|bytes| ("application/json", bytes))
                .map_err(|error| Problem::bug("the card could not be written", &error)),
            CardFormat::Markdown => Ok(("text/markdown; charset=utf-8", card.markdown().into_bytes())),
        }
    });
    let (media, bytes) = written.await?;
    Ok((vary(), [(header::CONTENT_TYPE, media)], bytes).into_response())
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
    let (mut file, length) = match open(&app, &row.weights_sha256).await {
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
    let body = Body::from_stream(ReaderStream::with_capacity(file.take(bytes), PIECE));
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

/// A file of a version's, and its length.
async fn open(app: &App, sha256: &str) -> std::io::Result<(tokio::fs::File, u64)> {
    let file = tokio::fs::File::open(app.store.artifact(sha256)).await?;
    let length = file.metadata().await?.len();
    Ok((file, length))
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
    /// are worth a label next; `disagreeing`: those whose label is another than the prediction, the surest first and test images last (correct
    /// test labels only where you look at all of them alike: else the model's figures look better than they are).
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
    let body = match (query.rows.unwrap_or_default(), query.limit) {
        (Selection::All, None) => whole(&app, &sha256).await,
        (rows, limit) => {
            let limit = limit.map_or(usize::MAX, |limit| limit as usize);
            let turn = SELECTING.acquire().await.map_err(|error| Problem::bug("no predictions can be read", &error))?;
            let path = app.store.artifact(&sha256);
            let selecting = tokio::task::spawn_blocking(move || {
                // Kept until it is done, also where the caller has gone away.
                let _turn = turn;
                selected(BufReader::new(File::open(path)?), rows, limit)
            });
            let selected = selecting.await.map_err(|error| Problem::bug("reading stopped", &error))?;
            selected.map(|bytes| (HeaderValue::from(bytes.len()), Body::from(bytes)))
        }
    };
    let (length, body) = match body {
        Ok(body) => body,
        Err(error) => return Err(missing(&app, &row, "the model's predictions are gone", error).await),
    };
    let mut answer = (download(&row, "csv", "text/csv; charset=utf-8", tag), body).into_response();
    answer.headers_mut().insert(header::CONTENT_LENGTH, length);
    Ok(answer)
}

/// All rows, as the file has them, and their length: none of them is held.
async fn whole(app: &App, sha256: &str) -> std::io::Result<(HeaderValue, Body)> {
    let (file, length) = open(app, sha256).await?;
    Ok((HeaderValue::from(length), Body::from_stream(ReaderStream::with_capacity(file.take(length), PIECE))))
}

/// At most `limit` of the rows that a version's file has, as CSV. Of all rows those behind the limit are not read.
fn selected(from: impl Read, rows: Selection, limit: usize) -> std::io::Result<Vec<u8>> {
    let read = if rows == Selection::All { limit } else { usize::MAX };
    let read = csv::Reader::from_reader(from).into_deserialize().take(read);
    let read: Vec<Prediction> = read.collect::<Result<_, csv::Error>>()?;
    let mut bytes = Vec::new();
    predictions::write(&rows.of(read, limit), &mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_all_rows_those_behind_the_limit_are_not_read() {
        let header = "image,used,label,prediction,probability,margin,group\n";
        let file = |row: &str| format!("{header}{}", row.repeat(100_000));
        let row = "a.jpg,unlabelled,,cat,0.75,0.5,\n";
        let text = file(row);
        let mut rest = text.as_bytes();
        assert_eq!(selected(&mut rest, Selection::All, 2).unwrap(), format!("{header}{row}{row}").into_bytes());
        assert!(rest.len() > text.len() / 2, "{} bytes of {} were left", rest.len(), text.len());
        let all = selected(text.as_bytes(), Selection::Unlabelled, 2).unwrap();
        assert_eq!(all, format!("{header}{row}{row}").into_bytes());
        assert_eq!(selected(text.as_bytes(), Selection::All, usize::MAX).unwrap(), text.as_bytes());
    }
}
