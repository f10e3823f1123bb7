//! `/models`: what has been published, its weights, and the aliases that say which version serves.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use tokio::task::{JoinError, JoinHandle};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::audit::Detail;
use super::auth::Caller;
use super::deletion::to_its_end;
use super::errors::told;
use super::extract::{Json, Path, Query};
use super::line::{OF_EPOCH, OF_TEST, leave_out};
use super::model_files::of_manifest;
use super::page::{Page, bad_cursor, checked_limit};
use super::problem::{Problem, ProblemBody};
use super::state::{App, AppState};
use super::upload::check_name;
use crate::serving::{Held, ModelFiles, ServingError};
use crate::store::{ModelRow, StoreError, VersionRow, is_alias, version_key, version_number};

/// Versions count from 1 and come newest first: a model's first page is behind this one.
const BEHIND_EVERY_VERSION: u32 = u32::MAX;

/// A model: its versions and aliases.
#[derive(Debug, Serialize, ToSchema)]
pub struct Model {
    /// The task of the data set that it learned from.
    #[schema(example = "gender")]
    name: String,
    /// Newest first. Those that do not fit on a page stand on the next one, under the same name.
    versions: Vec<Version>,
    /// Which version an alias means.
    #[schema(example = json!({"champion": 3}))]
    aliases: BTreeMap<String, u32>,
}

/// One published version of a model. In a list it has no `guess_classes`, `unlabelled_classes` and `validation_classes` in `metrics.validation`,
/// and no `confusion`, `classes` and `groups` in `metrics.test`: `GET /models/{name}/versions/{version}` has them.
#[derive(Debug, Serialize, ToSchema)]
pub struct Version {
    /// Counts from 1.
    version: u32,
    /// The job that published it; `null` once that job was deleted.
    job_id: Option<Uuid>,
    /// When it was published.
    #[schema(value_type = String, format = DateTime)]
    created_at: jiff::Timestamp,
    /// `validation` and `test` metrics.
    #[schema(value_type = Object)]
    metrics: serde_json::Value,
    /// Class names in the order of the network's outputs.
    classes: Vec<String>,
    /// `mixmatch`, or `supervised` as a baseline is; `null` for a version of before whose job was deleted.
    algorithm: Option<String>,
    /// Labels that it was trained with; `null` likewise.
    labelled: Option<u32>,
}

/// One version with everything about it.
#[derive(Debug, Serialize, ToSchema)]
pub struct VersionDetail {
    /// The model's name.
    name: String,
    /// The version.
    #[serde(flatten)]
    version: Version,
    /// `model.json`: network, configuration, preprocessing, split sizes, golden answers.
    #[schema(value_type = Object)]
    manifest: serde_json::Value,
    /// SHA-256 of the weights.
    weights_sha256: String,
    /// Hash of what it predicts for its data set's images (`/predictions`); `null` for a version that an older build published.
    predictions_sha256: Option<String>,
}

impl TryFrom<VersionRow> for Version {
    type Error = StoreError;

    fn try_from(row: VersionRow) -> Result<Self, StoreError> {
        Ok(Self {
            version: row.version,
            job_id: row.job_id,
            created_at: row.created_at,
            metrics: row.metrics()?,
            classes: row.classes,
            algorithm: row.algorithm,
            labelled: row.labelled,
        })
    }
}

impl Version {
    /// As it stands in a list.
    fn line(row: VersionRow) -> Result<Self, StoreError> {
        let mut version = Self::try_from(row)?;
        for (fields, figures) in [(OF_EPOCH, "validation"), (OF_TEST, "test")] {
            leave_out(fields, &mut version.metrics, figures);
        }
        Ok(version)
    }
}

impl TryFrom<ModelRow> for Model {
    type Error = StoreError;

    fn try_from(row: ModelRow) -> Result<Self, StoreError> {
        let versions = row.versions.into_iter().map(Version::line).collect::<Result<_, _>>()?;
        Ok(Self { name: row.name, versions, aliases: row.aliases })
    }
}

/// Which page of the models is asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ModelsQuery {
    /// `next_cursor` of the page before.
    #[param(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}:[1-9][0-9]{0,8}$", example = "gender:3")]
    cursor: Option<String>,
    /// Versions a page, 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
}

/// Which versions of one model are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct VersionsQuery {
    /// Only versions before this one: `next_cursor` of the page before.
    #[param(pattern = "^[1-9][0-9]{0,8}$")]
    cursor: Option<String>,
    /// Versions a page, 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
}

/// All models by name.
///
/// A page holds so many versions: a model with more of them goes on in the next page, under the same name.
///
/// What grows with the classes and the sheet's columns is left out of the `metrics` of each (`confusion`, `classes` and `groups` of `test`;
/// `guess_classes`, `unlabelled_classes` and `validation_classes` of `validation`): `GET /models/{name}/versions/{version}` has it.
#[utoipa::path(get, path = "/models", tag = "models", security(("api_key" = ["predict"])), params(ModelsQuery), responses(
    (status = 200, body = Page<Model>),
    (status = 422, body = ProblemBody, content_type = "application/problem+json"),
))]
pub async fn list(
    State(app): State<AppState>,
    Query(page): Query<ModelsQuery>,
) -> Result<axum::Json<Page<Model>>, Problem> {
    let limit = checked_limit(page.limit)?;
    let after = page.cursor.as_deref().map(|cursor| version_in(cursor).ok_or_else(bad_cursor)).transpose()?;
    let rows = app.store.versions(after, limit + 1).await?;
    let Page { items, next_cursor } = Page::from_surplus(rows, limit, VersionRow::key);
    let items = app.store.models_of(items).await?.into_iter().map(Model::try_from).collect::<Result<_, _>>()?;
    Ok(axum::Json(Page { items, next_cursor }))
}

/// A model, or the part of it that stands on a page.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelPage {
    /// The model.
    #[serde(flatten)]
    model: Model,
    /// Where its next versions begin; `null` at the end.
    next_cursor: Option<String>,
}

/// One model: its versions and aliases.
///
/// A page holds so many versions, as in the list of all models, and of each what stands there.
#[utoipa::path(get, path = "/models/{name}", tag = "models", security(("api_key" = ["predict"])),
    params(("name" = String, Path), VersionsQuery),
    responses(
        (status = 200, body = ModelPage),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
    ))]
pub async fn get(
    State(app): State<AppState>,
    Path(name): Path<String>,
    Query(page): Query<VersionsQuery>,
) -> Result<axum::Json<ModelPage>, Problem> {
    let limit = checked_limit(page.limit)?;
    let version = |cursor: &str| version_number(cursor).filter(|_| cursor.len() < 10).ok_or_else(bad_cursor);
    let before = page.cursor.as_deref().map(version).transpose()?;
    let after = (name.as_str(), before.unwrap_or(BEHIND_EVERY_VERSION));
    // Behind its last version come other models'.
    let mut rows = app.store.versions(Some(after), limit + 1).await?;
    rows.retain(|row| row.name == name);
    let Page { items, next_cursor } = Page::from_surplus(rows, limit, |row| row.version.to_string());
    let model = app.store.models_of(items).await?.pop();
    // Behind a cursor there may be none any more, and without one there is no such model.
    let model = match (model, before) {
        (Some(row), _) => Model::try_from(row)?,
        (None, Some(_)) => Model { versions: Vec::new(), ..newest(&app, &name).await? },
        (None, None) => return Err(no_model(&name)),
    };
    Ok(axum::Json(ModelPage { model, next_cursor }))
}

/// A model with its newest version alone.
async fn newest(app: &App, name: &str) -> Result<Model, Problem> {
    let mut rows = app.store.versions(Some((name, BEHIND_EVERY_VERSION)), 1).await?;
    rows.retain(|row| row.name == name);
    let model = app.store.models_of(rows).await?.pop().ok_or_else(|| no_model(name))?;
    Ok(Model::try_from(model)?)
}

fn no_model(name: &str) -> Problem {
    Problem::not_found(format!("there is no model {name:?}"))
}

/// The last version of a page, as its cursor names it.
fn version_in(cursor: &str) -> Option<(&str, u32)> {
    let (name, version) = cursor.rsplit_once(':')?;
    let version = version_number(version)?;
    check_name("name", name).is_ok().then_some((name, version))
}

/// One version of a model.
#[utoipa::path(get, path = "/models/{name}/versions/{version}", tag = "models", security(("api_key" = ["predict"])),
    params(("name" = String, Path), ("version" = String, Path, description = "Its number, or an alias: `champion`")),
    responses(
        (status = 200, body = VersionDetail),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    ))]
pub async fn version(
    State(app): State<AppState>,
    Path((name, version)): Path<(String, String)>,
) -> Result<impl IntoResponse, Problem> {
    let row = app.store.with_figures(meant(&app, &name, &version).await?).await?;
    let told = row.clone();
    let written = of_manifest(&app, &row, move |manifest| {
        let (weights_sha256, predictions_sha256) = (told.weights_sha256.clone(), told.predictions_sha256.clone());
        let version = Version::try_from(told)?;
        let detail = VersionDetail { name, version, manifest, weights_sha256, predictions_sha256 };
        serde_json::to_vec(&detail).map_err(|error| Problem::bug("the version could not be written", &error))
    });
    Ok(([(header::CONTENT_TYPE, "application/json")], written.await?))
}

/// Forget a version that no alias means: its figures, its weights, and what it holds in memory.
///
/// Its number is not given again. The job that published it stays, and goes on naming it; data sets and other versions that
/// learned from the same images stay too.
#[utoipa::path(delete, path = "/models/{name}/versions/{version}", tag = "models", security(("api_key" = ["admin"])),
    params(("name" = String, Path), ("version" = u32, Path)),
    responses(
        (status = 204, description = "Gone"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "An alias means it", body = ProblemBody, content_type = "application/problem+json"),
    ))]
pub async fn delete(
    State(app): State<AppState>,
    Path((name, version)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let version = number(&version)?;
    to_its_end(async move {
        app.store.delete_version(&name, version).await?;
        app.predictor.unload(&version_key(&name, version));
        tracing::info!(model = %name, version, "model version deleted");
        Ok(())
    })
    .await
}

/// Which version an alias shall mean.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AliasRequest {
    /// A published version.
    version: u32,
}

/// Where an alias points now.
#[derive(Debug, Serialize, ToSchema)]
pub struct Alias {
    /// The model.
    name: String,
    /// The alias.
    alias: String,
    /// The version.
    version: u32,
    /// The version that it meant before, to go back to; `null` where the alias is new.
    previous: Option<u32>,
}

/// Let an alias mean another version.
///
/// It moves only after that version was loaded, warmed up, and gave the answers to its golden images that
/// it gave when it was exported; otherwise the old version goes on serving and the answer is a 409.
#[utoipa::path(put, path = "/models/{name}/aliases/{alias}", tag = "models", security(("api_key" = ["admin"])), request_body = AliasRequest,
    params(("name" = String, Path), ("alias" = String, Path, pattern = "^[0-9]*[a-z_-][a-z0-9_-]*$", max_length = 64)),
    responses(
        (status = 200, body = Alias),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The version does not pass its check", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
    ))]
pub async fn set_alias(
    State(app): State<AppState>,
    Extension(caller): Extension<Caller>,
    Path((name, alias)): Path<(String, String)>,
    Json(AliasRequest { version }): Json<AliasRequest>,
) -> Result<(Extension<Detail>, axum::Json<Alias>), Problem> {
    check_alias(&alias)?;
    let row = app.store.version(&name, version).await?;
    // A caller who goes meanwhile and comes back finds the same loading, not a second one beside it.
    let outcome = loaded(load_apart(&app, &row).await);
    if outcome.is_err() {
        // Deleted meanwhile, it has no check to pass.
        app.store.version(&name, version).await?;
    }
    outcome.map_err(|error| {
        tracing::warn!(model = %name, version, %error, "an alias was not moved");
        match error {
            // The server has no place or no time for it, which says nothing of the version.
            ServingError::Overloaded { .. }
            | ServingError::Crowded { .. }
            | ServingError::NotLoaded(_)
            | ServingError::Deadline { .. }
            | ServingError::ShuttingDown => Problem::from(error),
            error => {
                let why = told(&error);
                Problem::conflict(format!("version {version} does not pass its check, so {alias} stays: {why}"))
                    .with_error("/version", "check_failed", why)
            }
        }
    })?;
    // Loading may have taken a minute.
    caller.refuse_if_revoked(&app).await?;
    let previous = app.store.set_alias(&name, &alias, version).await?;
    tracing::info!(model = %name, %alias, version, previous, "alias moved");
    let detail = moved(&name, &alias, previous, Some(version));
    Ok((Extension(detail), axum::Json(Alias { name, alias, version, previous })))
}

/// Take an alias away; the version that it means stays.
///
/// A model without a `champion` gets one again from the next job that publishes a version.
#[utoipa::path(delete, path = "/models/{name}/aliases/{alias}", tag = "models", security(("api_key" = ["admin"])),
    params(("name" = String, Path), ("alias" = String, Path)),
    responses(
        (status = 204, description = "Gone"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    ))]
pub async fn delete_alias(
    State(app): State<AppState>,
    Path((name, alias)): Path<(String, String)>,
) -> Result<(StatusCode, Extension<Detail>), Problem> {
    let previous = app.store.delete_alias(&name, &alias).await?;
    tracing::info!(model = %name, %alias, previous, "alias deleted");
    Ok((StatusCode::NO_CONTENT, Extension(moved(&name, &alias, Some(previous), None))))
}

/// What the audit says of an alias: whoever wants to go back finds there to which version.
fn moved(name: &str, alias: &str, from: Option<u32>, to: Option<u32>) -> Detail {
    let version = |version: Option<u32>| version.map_or("none".to_owned(), |version| version.to_string());
    Detail(format!("{name}@{alias}: {} -> {}", version(from), version(to)))
}

/// Puts a version into memory, checked and warm.
pub async fn load(app: &App, row: &VersionRow) -> Result<Held, ServingError> {
    let (weights, manifest) = app.store.version_files(row);
    app.predictor.load(&row.key(), ModelFiles { weights, manifest }).await
}

/// The same for a caller who does not wait for longer than for an answer; the model goes on loading for whoever comes next.
///
/// # Errors
/// [`ServingError::Loading`], or why it cannot be loaded.
pub async fn load_in_time(app: &AppState, row: &VersionRow) -> Result<Held, ServingError> {
    // As nearly every request finds it.
    if let Some(held) = app.predictor.loaded(&row.key())? {
        return Ok(held);
    }
    match tokio::time::timeout(app.predictor.deadline(), load_apart(app, row)).await {
        Ok(ended) => loaded(ended),
        Err(_elapsed) => Err(ServingError::Loading(row.key())),
    }
}

/// Puts the newest champions into memory after a start, as many as have room, so that their first callers need not wait. One
/// that cannot be loaded is told to the log, and to whoever asks for it.
pub async fn load_champions(app: AppState) {
    let most = u32::try_from(app.config.predict.models).unwrap_or(u32::MAX);
    let champions = match app.store.champions(most).await {
        Ok(champions) => champions,
        Err(error) => {
            tracing::warn!(%error, "no model is loaded before somebody asks for it");
            return;
        }
    };
    for row in champions {
        let (model, (weights, manifest)) = (row.key(), app.store.version_files(&row));
        match app.predictor.preload(&model, ModelFiles { weights, manifest }).await {
            Ok(true) => tracing::info!(model, "a champion is in memory"),
            Ok(false) | Err(ServingError::ShuttingDown) => return,
            Err(error) => tracing::warn!(model, %error, "a champion could not be loaded"),
        }
    }
}

/// [`load`] in a task of its own, which goes on where its caller goes.
fn load_apart(app: &AppState, row: &VersionRow) -> JoinHandle<Result<Held, ServingError>> {
    let (app, row) = (app.clone(), row.clone());
    tokio::spawn(async move { load(&app, &row).await })
}

fn loaded(ended: Result<Result<Held, ServingError>, JoinError>) -> Result<Held, ServingError> {
    ended.unwrap_or_else(|error| Err(ServingError::Inference(format!("loading the model failed: {error}"))))
}

fn check_alias(alias: &str) -> Result<(), Problem> {
    if is_alias(alias) {
        return Ok(());
    }
    let detail = "an alias is 1 to 64 lower-case letters, digits, - or _, and not a number alone";
    Err(Problem::invalid(detail).with_error("alias", "bad_alias", detail))
}

/// The version that a path means: by its number, or by an alias.
pub(super) async fn meant(app: &App, name: &str, version: &str) -> Result<VersionRow, Problem> {
    if is_alias(version) {
        return Ok(app.store.resolve_model(&format!("{name}@{version}")).await?);
    }
    Ok(app.store.version(name, number(version)?).await?)
}

pub(super) fn number(text: &str) -> Result<u32, Problem> {
    version_number(text)
        .ok_or_else(|| Problem::not_found(format!("there is no version {text:?}; versions count from 1")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_a_name_and_a_version() {
        assert_eq!(version_in("gender:3"), Some(("gender", 3)));
        for wrong in [
            "",
            "gender",
            "gender:",
            ":3",
            "gender:x",
            "gender:-1",
            "gender:+1",
            "gender:99999999999",
            "a b:1",
            "a:b:1",
        ] {
            assert_eq!(version_in(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_audit_says_from_which_version_to_which_an_alias_went() {
        let told = |from, to| moved("mask", "champion", from, to).0;
        assert_eq!(told(Some(3), Some(4)), "mask@champion: 3 -> 4");
        assert_eq!(told(None, Some(1)), "mask@champion: none -> 1");
        assert_eq!(told(Some(4), None), "mask@champion: 4 -> none");
    }

    #[test]
    fn an_alias_cannot_be_taken_for_a_version() {
        assert!(check_alias("champion").is_ok() && check_alias("v2-canary").is_ok());
        for alias in ["", "3", "Two Words", "a/b", "ünder"] {
            assert!(check_alias(alias).is_err(), "{alias:?}");
        }
    }
}
