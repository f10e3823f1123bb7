//! `/datasets/{dataset}/….png`: what a data set, its augmentations and its mixed pairs look like.
//!
//! Drawn anew for each request on a blocking thread, one sheet at a time in the whole server, so that
//! looking never takes more than one core from training and predictions. Nothing is stored.

use std::path;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Map, Value};
use tokio::sync::Semaphore;
use utoipa::IntoParams;
use utoipa::openapi::path::ParameterIn;

use super::extract::{Path, Query};
use super::problem::{Problem, ProblemBody, ProblemItem};
use super::query::{each_once, repeated};
use super::state::{App, AppState};
use super::wording::beginning;
use crate::imaging::Fit;
use crate::openmp::compute_with;
use crate::report::pictures::{self, PictureError};
use crate::store::DatasetRow;
use crate::train::config::{DataFacts, Fill, Policy, TrainConfig, resolve};

/// Largest side of a picture on a sheet, pixels.
const LARGEST: u32 = 128;

static DRAWING: Semaphore = Semaphore::const_new(1);

/// What is drawn: a preset's settings, and what is wanted otherwise, by the names that `POST /jobs` has for it.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "documentation and names: the query is read as a map, to name every wrong field at once")]
pub struct PictureQuery {
    /// The preset that the rest is laid over; `quick` where none is named.
    preset: Option<String>,
    /// Chooses the images and decides their augmentation.
    #[param(minimum = 0)]
    seed: Option<u64>,
    /// Side of the network's input, pixels; here at most 128.
    #[param(minimum = 8, maximum = 128)]
    size: Option<u32>,
    /// How an image becomes square.
    #[param(inline)]
    fit: Option<Fit>,
    /// K: views of each image.
    #[param(minimum = 1, maximum = 16)]
    k: Option<u32>,
    /// α of mixup's Beta(α, α).
    alpha: Option<f64>,
    /// `compose` or `one_of_seven`.
    #[param(inline)]
    augment_policy: Option<Policy>,
    /// As in a job.
    augment_flip: Option<bool>,
    /// As in a job.
    augment_pad: Option<u32>,
    /// As in a job.
    augment_brightness: Option<f64>,
    /// As in a job.
    augment_contrast: Option<f64>,
    /// As in a job.
    augment_saturation: Option<f64>,
    /// As in a job.
    augment_hue: Option<f64>,
    /// As in a job.
    augment_gamma: Option<f64>,
    /// As in a job.
    augment_grayscale: Option<f64>,
    /// As in a job.
    augment_rotation: Option<f64>,
    /// As in a job.
    augment_scale: Option<f64>,
    /// `reflect` or `black`.
    #[param(inline)]
    augment_fill: Option<Fill>,
    /// As in a job.
    augment_erase: Option<f64>,
}

type RawQuery = Vec<(String, String)>;

/// Labelled training images, a row for each class, and a row of unlabelled ones.
#[utoipa::path(get, path = "/datasets/{dataset}/samples.png", tag = "datasets", security(("api_key" = ["train"])),
    params(("dataset" = String, Path, description = "Id or name"), PictureQuery),
    responses(
        (status = 200, description = "The sheet", body = Vec<u8>, content_type = "image/png"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "Every parameter that is wrong", body = ProblemBody, content_type = "application/problem+json"),
    ))]
pub async fn samples(
    State(app): State<AppState>,
    Path(dataset): Path<String>,
    Query(query): Query<RawQuery>,
) -> Result<impl IntoResponse, Problem> {
    sheet(&app, &dataset, &query, pictures::samples).await
}

/// A few training images, each beside K augmented views of it and what was drawn for them.
///
/// These are the views that a job with the same settings would learn from.
#[utoipa::path(get, path = "/datasets/{dataset}/augmentations.png", tag = "datasets", security(("api_key" = ["train"])),
    params(("dataset" = String, Path, description = "Id or name"), PictureQuery),
    responses(
        (status = 200, description = "The sheet", body = Vec<u8>, content_type = "image/png"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "Every parameter that is wrong", body = ProblemBody, content_type = "application/problem+json"),
    ))]
pub async fn augmentations(
    State(app): State<AppState>,
    Path(dataset): Path<String>,
    Query(query): Query<RawQuery>,
) -> Result<impl IntoResponse, Problem> {
    sheet(&app, &dataset, &query, pictures::augmentations).await
}

/// Pairs of training images mixed as mixup does it, and the distribution of λ at this α.
#[utoipa::path(get, path = "/datasets/{dataset}/mixup.png", tag = "datasets", security(("api_key" = ["train"])),
    params(("dataset" = String, Path, description = "Id or name"), PictureQuery),
    responses(
        (status = 200, description = "The sheet", body = Vec<u8>, content_type = "image/png"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "Every parameter that is wrong", body = ProblemBody, content_type = "application/problem+json"),
    ))]
pub async fn mixup(
    State(app): State<AppState>,
    Path(dataset): Path<String>,
    Query(query): Query<RawQuery>,
) -> Result<impl IntoResponse, Problem> {
    sheet(&app, &dataset, &query, pictures::mixup).await
}

type Draw = fn(&path::Path, &TrainConfig) -> Result<Vec<u8>, PictureError>;

async fn sheet(app: &App, dataset: &str, query: &RawQuery, draw: Draw) -> Result<impl IntoResponse + use<>, Problem> {
    let row = app.store.dataset(dataset).await?;
    let config = settings(query, &row)?;
    let directory = app.config.data_dir.dataset(row.id);
    let turn = DRAWING.acquire().await.map_err(|error| Problem::bug("no picture can be drawn", &error))?;
    let drawn = tokio::task::spawn_blocking(move || {
        // Kept until the sheet is done, also where the caller has gone away.
        let _turn = turn;
        compute_with(1);
        draw(&directory, &config)
    })
    .await
    .map_err(|error| Problem::bug("drawing failed unexpectedly", &error))?;
    let png = match drawn {
        Ok(png) => png,
        Err(error) => {
            // It may have been deleted while others' sheets were drawn.
            app.store.dataset(&row.id.to_string()).await?;
            return Err(error.into());
        }
    };
    Ok(([(header::CONTENT_TYPE, "image/png")], png))
}

/// A query has no types: a number or a truth value is what looks like one.
fn value(text: &str) -> Value {
    let number = || text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from);
    serde_json::from_str(text).ok().or_else(number).unwrap_or_else(|| Value::String(text.to_owned()))
}

/// Names that there are not, with the first of them what there is, and such as are there more than once.
fn wrong_names(query: &RawQuery, known: &[String]) -> Vec<ProblemItem> {
    let mut all = Some(format!("; there are {}", known.join(", ")));
    each_once(query, |name, _value, again| {
        if known.iter().any(|known| known == name) {
            return again.then(|| ("repeated_parameter", repeated(name)));
        }
        let there = all.take().unwrap_or_default();
        Some(("unknown_parameter", format!("no parameter {:?}{there}", beginning(name))))
    })
}

/// The query as a job's configuration, with every problem in it.
fn settings(query: &RawQuery, row: &DatasetRow) -> Result<TrainConfig, Problem> {
    let known: Vec<String> =
        PictureQuery::into_params(|| Some(ParameterIn::Query)).into_iter().map(|parameter| parameter.name).collect();
    let mut problems = wrong_names(query, &known);
    let request: Map<String, Value> =
        query.iter().filter(|(name, _)| known.contains(name)).map(|(name, text)| (name.clone(), value(text))).collect();
    // Whether a job could run is not asked: pictures are what shows that labels are missing.
    let facts = DataFacts { labelled: Vec::new(), ..row.facts() };
    let config = match resolve(&request, &facts) {
        Ok(config) => Some(config),
        Err(wrong) => {
            problems.extend(wrong.into_iter().map(|problem| {
                let pointer = problem.pointer.replacen('/', "?", 1);
                ProblemItem::new(pointer, problem.code, problem.detail)
            }));
            None
        }
    };
    if let Some(config) = config.as_ref().filter(|config| config.size > LARGEST) {
        let detail = format!("size is {}; pictures are drawn up to {LARGEST}", config.size);
        problems.push(ProblemItem::new("?size", "out_of_range", detail));
    }
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(Problem::invalid("the query string does not fit").with_errors(problems)),
    }
}
