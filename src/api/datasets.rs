//! `/datasets`: import, list, look at, delete.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use utoipa::ToSchema;
use uuid::Uuid;

use super::auth::Caller;
use super::deletion::to_its_end;
use super::extract::{Path, Query, media_type};
use super::form::Form;
use super::idempotency;
use super::page::{Page, PageQuery};
use super::problem::{Problem, ProblemBody};
use super::state::AppState;
use super::upload::{Upload, most_bytes, receive, refuse_taken, too_large};
use crate::dataset::{Counts, ImportError, ImportLimits, ImportReport, RejectedRow, Warning, import_while};
use crate::store::{self, DatasetRow, Idempotency, NewDataset};

/// An imported data set.
#[derive(Debug, Serialize, ToSchema)]
pub struct Dataset {
    /// UUID v7.
    id: Uuid,
    /// Its name.
    name: String,
    /// What its labels mean; also the name of the model that learns from it.
    #[schema(example = "mask")]
    task: String,
    /// Class names, in the order of the network's outputs.
    classes: Vec<String>,
    /// Images by split and class.
    counts: Counts,
    /// What the import found.
    report: ReportSummary,
    /// When it was imported.
    #[schema(value_type = String, format = DateTime)]
    created_at: jiff::Timestamp,
}

/// Each uses all cores, and holds its sheets and what it found in memory: more at once take longer, and more room. One that is large
/// does not hold up the others.
static IMPORTS: Semaphore = Semaphore::const_new(2);

/// What an import found; at most 100 rejected rows are listed here.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReportSummary {
    /// How many rows were left out; images that no row names count too where they are learned from.
    rejected_rows: usize,
    /// The first of them, each with its reason.
    rejected: Vec<RejectedRow>,
    /// Doubts about the data set.
    warnings: Vec<Warning>,
}

impl From<DatasetRow> for Dataset {
    fn from(row: DatasetRow) -> Self {
        let store::ReportSummary { rejected_rows, rejected, warnings } = row.report;
        Self {
            id: row.id,
            name: row.name,
            task: row.task,
            classes: row.classes,
            counts: row.counts,
            report: ReportSummary { rejected_rows, rejected, warnings },
            created_at: row.created_at,
        }
    }
}

/// The form of an import, for the documentation.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "documentation only: the form is streamed")]
pub struct DatasetForm {
    /// The data set's name.
    #[schema(example = "faces", pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    name: String,
    /// What the labels mean: `gender`, `mask`, or any word.
    #[schema(example = "gender", pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    task: String,
    /// A ZIP of images.
    #[schema(value_type = String, format = Binary)]
    images: Vec<u8>,
    /// The training sheet, CSV or XLSX. An empty label means unlabelled.
    #[schema(value_type = String, format = Binary)]
    train: Vec<u8>,
    /// The test sheet.
    #[schema(value_type = Option<String>, format = Binary, nullable = false)]
    test: Option<Vec<u8>>,
    /// The column with the image's name, where it is not found by itself.
    #[schema(nullable = false)]
    image_column: Option<String>,
    /// The column with the label.
    #[schema(nullable = false)]
    label_column: Option<String>,
    /// The column that says what belongs together, such as a person.
    #[schema(nullable = false)]
    group_column: Option<String>,
    /// The column that says which images were picked to be labelled (`yes`, `1`, `x`) and not drawn at random, where it is not called
    /// `picked`: those train, but neither validate nor tell the classes' shares.
    #[schema(nullable = false)]
    picked_column: Option<String>,
    /// What becomes of the images in the ZIP that no row of either sheet names: `ignore` leaves them out, as if the
    /// field were absent; `unlabelled` learns from them without a label.
    #[schema(example = "unlabelled", pattern = "^(ignore|unlabelled)$", nullable = false)]
    unlisted: Option<String>,
    /// Refuse the whole data set if any row is bad, or any image that no row names where they are learned from.
    #[schema(nullable = false)]
    strict: Option<bool>,
}

/// Import a data set.
///
/// A request that may be repeated (after a lost answer, say) brings an `Idempotency-Key`: the same key with the same
/// fields and files gives the same data set for a day.
#[utoipa::path(post, path = "/datasets", tag = "datasets", security(("api_key" = ["train"])), params(
        ("idempotency-key" = Option<String>, Header, pattern = "^[!-~]{1,255}$", description = "1 to 255 visible ASCII characters, new for each new request"),
    ),
    request_body(content = DatasetForm, content_type = "multipart/form-data"),
    responses(
        (status = 201, description = "Imported", body = Dataset, headers(("location" = String, description = "The data set"))),
        (status = 409, description = "The name is taken", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "The upload, or what is inside it, is too large", body = ProblemBody, content_type = "application/problem+json"),
        (status = 507, description = "The server's disk is full", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "Not multipart", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "Every field or row that is wrong", body = ProblemBody, content_type = "application/problem+json"),
    ))]
pub async fn create(
    State(app): State<AppState>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<impl IntoResponse, Problem> {
    let limit = app.config.limits.upload_bytes;
    if media_type(request.headers()).as_deref() != Some("multipart/form-data") {
        return Err(Problem::unsupported_media_type(
            "send multipart/form-data with the fields name, task, images, train and, if you like, test",
        ));
    }
    let key = idempotency::key(request.headers())?;
    // Refused before the first byte where the client says how much it has.
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|bytes: usize| bytes > most_bytes(limit)) {
        return Err(too_large(limit));
    }
    let store = key.is_none().then_some(&app.store);
    let upload = receive(Form::of(request).await?, &app.config.data_dir.uploads(), store).await?;
    caller.refuse_if_revoked(&app).await?;
    let idempotency = key.map(|key| Idempotency::new(caller.key, &key, upload.sha256.clone()));
    let earlier = match &idempotency {
        Some(idempotency) => app.store.dataset_of_request(idempotency).await?,
        None => None,
    };
    let id = match earlier {
        Some(id) => id,
        None => {
            // In a task of its own: a client that goes away leaves a whole data set or none, never a directory
            // without a row.
            let worker = Arc::clone(&app);
            tokio::spawn(async move { keep(&worker, upload, idempotency).await })
                .await
                .map_err(|error| Problem::bug("the import failed unexpectedly", &error))??
        }
    };
    let row = app.store.dataset(&id.to_string()).await?;
    let location = HeaderValue::from_str(&format!("/datasets/{id}")).expect("a UUID is a header value");
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], axum::Json(Dataset::from(row))))
}

/// Imports an upload and names it in the store: files before the row. Gives the data set's id. A server that stops ends it with
/// the images at work: it would wait for what it then throws away.
async fn keep(app: &AppState, upload: Upload, idempotency: Option<Idempotency>) -> Result<Uuid, Problem> {
    let id = Uuid::now_v7();
    // With a key, the set of that name may be the one that this very request is just making: the store will tell.
    if idempotency.is_none() {
        refuse_taken(&app.store, &upload.name).await?;
    }
    app.store.expect_dataset(id).await?;
    let destination = app.config.data_dir.dataset(id);
    let limits = ImportLimits { image: app.config.limits.image, ..ImportLimits::default() };
    let (name, target) = (upload.name.clone(), destination.clone());
    let started = std::time::Instant::now();
    let task = upload.request.task.clone();
    let permit = tokio::select! {
        permit = IMPORTS.acquire() => permit.map_err(|error| Problem::bug("the imports have ended", &error))?,
        () = app.lifecycle.closed() => return Err(ImportError::Stopped.into()),
    };
    let server = Arc::clone(app);
    let imported = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        // All of it is moved in here: its files live until the import is done with them.
        let upload = upload;
        import_while(&upload.request, &limits, &target, &|_| {
            if server.lifecycle.is_closing() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    })
    .await
    .map_err(|error| Problem::bug("the import failed unexpectedly", &error))??;
    let images = imported.manifest.samples.len();
    let rejected = imported.report.rejected_rows;
    let new = NewDataset { id, name: name.clone(), task, manifest: &imported.manifest, report: &imported.report };
    let kept = app.store.insert_dataset_once(new, idempotency.as_ref()).await;
    if !matches!(kept, Ok(kept) if kept == id) {
        remove(destination).await;
        return Ok(kept?);
    }
    let seconds = started.elapsed().as_secs_f64();
    tracing::info!(dataset = %id, %name, images, rejected, seconds, "data set imported");
    Ok(id)
}

async fn remove(directory: PathBuf) {
    if let Err(error) = tokio::fs::remove_dir_all(&directory).await
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %directory.display(), %error, "a data set's directory could not be removed");
    }
}

/// All data sets, those whose import began last first.
#[utoipa::path(get, path = "/datasets", tag = "datasets", security(("api_key" = ["train"])), params(PageQuery), responses(
    (status = 200, body = Page<Dataset>),
    (status = 422, body = ProblemBody, content_type = "application/problem+json"),
))]
pub async fn list(
    State(app): State<AppState>,
    Query(page): Query<PageQuery>,
) -> Result<axum::Json<Page<Dataset>>, Problem> {
    let limit = page.limit()?;
    let rows = app.store.datasets(page.cursor()?, limit + 1).await?;
    Ok(axum::Json(Page::from_surplus(rows, limit, |row| row.id.to_string()).map(Dataset::from)))
}

/// A data set by id or name.
#[utoipa::path(get, path = "/datasets/{dataset}", tag = "datasets", security(("api_key" = ["train"])),
    params(("dataset" = String, Path, description = "Id or name")),
    responses(
        (status = 200, body = Dataset),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    ))]
pub async fn get(State(app): State<AppState>, Path(dataset): Path<String>) -> Result<axum::Json<Dataset>, Problem> {
    Ok(axum::Json(app.store.dataset(&dataset).await?.into()))
}

/// What the import found: the rows that were left out, of each sheet and reason the first 10,000 (`rejected_rows` counts all), and every
/// doubt.
#[utoipa::path(get, path = "/datasets/{dataset}/report", tag = "datasets", security(("api_key" = ["train"])),
    params(("dataset" = String, Path, description = "Id or name")),
    responses(
        (status = 200, body = ImportReport),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    ))]
pub async fn report(
    State(app): State<AppState>,
    Path(dataset): Path<String>,
) -> Result<axum::Json<ImportReport>, Problem> {
    let id = app.store.dataset(&dataset).await?.id;
    Ok(axum::Json(app.store.dataset_report(id).await?))
}

/// Delete a data set that no unfinished job needs. Models that learned from it stay.
#[utoipa::path(delete, path = "/datasets/{dataset}", tag = "datasets", security(("api_key" = ["admin"])),
    params(("dataset" = String, Path, description = "Id or name")),
    responses(
        (status = 204, description = "Gone"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "A job still needs it", body = ProblemBody, content_type = "application/problem+json"),
    ))]
pub async fn delete(State(app): State<AppState>, Path(dataset): Path<String>) -> Result<StatusCode, Problem> {
    let row = app.store.dataset(&dataset).await?;
    // The row first: a directory without a row is only lost space, a row without its directory is a lie.
    to_its_end(async move {
        app.store.delete_dataset(row.id).await?;
        remove(app.config.data_dir.dataset(row.id)).await;
        tracing::info!(dataset = %row.id, name = %row.name, "data set deleted");
        Ok(())
    })
    .await
}
