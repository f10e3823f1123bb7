//! `/pretrained`: weights that a run may start from. They come in through `mixmatch import-weights`, which reads
//! PyTorch's pickles in a process of its own; here only safetensors are taken.

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::deletion::to_its_end;
use super::extract::{Path, Query, refuse_announced};
use super::page::{Page, bad_cursor, checked_limit};
use super::problem::{Problem, ProblemBody};
use super::state::{App, AppState};
use super::upload::{disk_problem, too_large};
use crate::full_disk::lacks_room;
use crate::nn::pretrained::{SafeTensorsFile, import, network_of};
use crate::nn::{Architecture, NnError};
use crate::sha256;
use crate::store::{NewPretrained, PretrainedRow, StoreError, is_alias};

/// An import holds the network's weights in memory.
static ONE_AT_A_TIME: Semaphore = Semaphore::const_new(1);

/// Weights that a job may name in `pretrained`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Pretrained {
    /// What `pretrained` calls them.
    #[schema(example = "imagenet")]
    name: String,
    /// The network that they are for.
    #[schema(example = "wide_resnet50_2")]
    network: String,
    /// Classes that their head answers; `null` without a head. Each job begins with a new one: which classes these were no file says.
    #[schema(example = 1000)]
    classes: Option<u32>,
    /// Numbers that training moves.
    #[schema(example = 68_883_240)]
    parameters: u64,
    /// SHA-256 of the stored safetensors file; jobs keep it in `pretrained_sha256`.
    sha256: String,
    /// The name of the file that `mixmatch import-weights` imported; `upload` for weights that came by PUT.
    #[schema(example = "wide_resnet50_2-95faca4d.pth")]
    source: String,
    /// Its SHA-256.
    source_sha256: String,
    /// When they were imported.
    #[schema(value_type = String, format = DateTime)]
    created_at: jiff::Timestamp,
}

impl From<PretrainedRow> for Pretrained {
    fn from(row: PretrainedRow) -> Self {
        let PretrainedRow { name, network, classes, parameters, sha256, source, source_sha256, created_at } = row;
        Self { name, network, classes, parameters, sha256, source, source_sha256, created_at }
    }
}

/// Which page of the weights is asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PretrainedQuery {
    /// `next_cursor` of the page before.
    #[param(pattern = "^[0-9]*[a-z_-][a-z0-9_-]*$", max_length = 64, example = "imagenet")]
    cursor: Option<String>,
    /// Items a page, 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
}

/// All imported weights by name.
#[utoipa::path(get, path = "/pretrained", tag = "pretrained", security(("api_key" = ["train"])), params(PretrainedQuery), responses(
    (status = 200, body = Page<Pretrained>),
    (status = 422, body = ProblemBody, content_type = "application/problem+json"),
))]
pub async fn list(
    State(app): State<AppState>,
    Query(page): Query<PretrainedQuery>,
) -> Result<axum::Json<Page<Pretrained>>, Problem> {
    let limit = checked_limit(page.limit)?;
    if page.cursor.as_deref().is_some_and(|cursor| !is_alias(cursor)) {
        return Err(bad_cursor());
    }
    let rows = app.store.pretrained_after(page.cursor.as_deref(), limit + 1).await?;
    Ok(axum::Json(Page::from_surplus(rows, limit, |row| row.name.clone()).map(Pretrained::from)))
}

/// Imported weights.
#[utoipa::path(get, path = "/pretrained/{name}", tag = "pretrained", security(("api_key" = ["train"])), params(("name" = String, Path)), responses(
    (status = 200, body = Pretrained),
    (status = 404, body = ProblemBody, content_type = "application/problem+json"),
))]
pub async fn get(State(app): State<AppState>, Path(name): Path<String>) -> Result<axum::Json<Pretrained>, Problem> {
    Ok(axum::Json(app.store.pretrained(&name).await?.into()))
}

/// Which weights are sent.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UploadQuery {
    /// The network that they are for. Without it, what the file says of itself, as the weights of our own models do; else
    /// `wide_resnet50_2`.
    #[param(example = "wide_resnet50_2")]
    network: Option<String>,
}

/// Import weights from a safetensors file, sent as the body.
///
/// Names and shapes are checked against the network. A `.pth` is not read here: `mixmatch import-weights` turns it into
/// safetensors with `--output`.
#[utoipa::path(put, path = "/pretrained/{name}", tag = "pretrained", security(("api_key" = ["train"])), params(("name" = String, Path, pattern = "^[0-9]*[a-z_-][a-z0-9_-]*$", max_length = 64), UploadQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "A safetensors file"),
    responses(
        (status = 201, description = "Imported", body = Pretrained, headers(("location" = String, description = "The weights"))),
        (status = 409, description = "The name is taken", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, body = ProblemBody, content_type = "application/problem+json"),
        (status = 507, description = "The server's disk is full", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "No safetensors, or not the network's tensors", body = ProblemBody, content_type = "application/problem+json"),
    ))]
pub async fn create(
    State(app): State<AppState>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Query(query): Query<UploadQuery>,
    request: Request,
) -> Result<impl IntoResponse, Problem> {
    acceptable(&app, &name, query.network.as_deref()).await?;
    refuse_announced(&request)?;
    let uploads = app.config.data_dir.uploads();
    let (sent, source_sha256) = receive(request.into_body(), &uploads, app.config.limits.upload_bytes).await?;
    caller.refuse_if_revoked(&app).await?;
    let checked = NamedTempFile::new_in(&uploads).map_err(disk_problem)?;
    let permit = ONE_AT_A_TIME.acquire().await.map_err(|error| Problem::bug("the imports have ended", &error))?;
    // The files go along: they are removed when this has ended, whether or not the caller is still there.
    let (contents, checked) = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let mut source = SafeTensorsFile::open(sent.path())?;
        let network = network_of(&source, query.network.as_deref());
        let contents = import(&mut source, &network, checked.path())?;
        Ok((contents, checked))
    })
    .await
    .map_err(|error| Problem::bug("the import failed unexpectedly", &error))?
    .map_err(refused)?;
    let new = NewPretrained {
        name: name.clone(),
        network: contents.network,
        classes: contents.classes,
        parameters: contents.parameters,
        file: checked.path().to_owned(),
        source: "upload".to_owned(),
        source_sha256,
    };
    let row = app.store.insert_pretrained(new).await?;
    tracing::info!(%name, network = %row.network, tensors = contents.tensors, "weights imported");
    let location = HeaderValue::from_str(&format!("/pretrained/{name}")).expect("a checked name is a header value");
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], axum::Json(Pretrained::from(row))))
}

/// What would be refused at the end is refused before the upload.
async fn acceptable(app: &App, name: &str, network: Option<&str>) -> Result<(), Problem> {
    if !is_alias(name) {
        return Err(StoreError::InvalidName { what: "name of weights", name: name.to_owned() }.into());
    }
    match app.store.pretrained(name).await {
        Ok(_) => return Err(StoreError::Taken { what: "set of weights", name: name.to_owned() }.into()),
        Err(StoreError::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let _known: Option<Architecture> = network.map(str::parse).transpose().map_err(refused)?;
    Ok(())
}

/// Streams a body to a file of its own under `uploads`, and gives its hash.
async fn receive(body: Body, uploads: &std::path::Path, limit: u64) -> Result<(NamedTempFile, String), Problem> {
    let target = NamedTempFile::new_in(uploads).map_err(disk_problem)?;
    let mut file = tokio::fs::File::from_std(target.reopen().map_err(disk_problem)?);
    let (mut hash, mut room) = (Sha256::new(), limit);
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| Problem::bad_request(format!("the body cannot be read: {error}")))?;
        room = room.checked_sub(chunk.len() as u64).ok_or_else(|| too_large(limit))?;
        hash.update(&chunk);
        file.write_all(&chunk).await.map_err(disk_problem)?;
    }
    file.flush().await.map_err(disk_problem)?;
    Ok((target, sha256::hex(hash)))
}

/// What the sender can mend is said; our own paths are not.
fn refused(error: NnError) -> Problem {
    match error {
        NnError::UnknownNetwork(_) => {
            let detail = error.to_string();
            Problem::invalid(detail.clone()).with_error("?network", "unknown_network", detail)
        }
        NnError::Mismatch { .. } => {
            let detail = error.to_string();
            Problem::invalid(detail.clone()).with_error("", "does_not_fit", detail)
        }
        // The server's own copy of it: the sender can mend nothing about that.
        NnError::Io { error, .. } if lacks_room(&error) => disk_problem(error),
        NnError::File { reason, .. } => Problem::invalid(reason.clone()).with_error("", "unreadable", reason),
        error => Problem::bug("the weights could not be imported", &error),
    }
}

/// Forget weights that no unfinished job starts from. Models that learned from them stay.
#[utoipa::path(delete, path = "/pretrained/{name}", tag = "pretrained", security(("api_key" = ["admin"])), params(("name" = String, Path)), responses(
    (status = 204, description = "Gone"),
    (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    (status = 409, description = "A job still needs them", body = ProblemBody, content_type = "application/problem+json"),
))]
pub async fn delete(State(app): State<AppState>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    to_its_end(async move {
        app.store.delete_pretrained(&name).await?;
        tracing::info!(%name, "weights deleted");
        Ok(())
    })
    .await
}
