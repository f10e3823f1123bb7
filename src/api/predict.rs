//! `POST /predict`: from the images of a request to the answer about each. One bad image is its own problem and fails none
//! of its neighbours.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::{Request, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::admission::{Lack, crowding};
use super::auth::Caller;
use super::extract::{Query, announced, refuse_announced};
use super::models;
use super::predict_body::{self, PredictForm, PredictRequest, pointer};
use super::problem::{Problem, ProblemBody, ProblemItem};
use super::state::AppState;
use super::telemetry;
use crate::imaging::Face;
use crate::serving::{Classified, Held, PredictOptions, ServingError, Timings};
use crate::store::VersionRow;

/// Models that a request without one is told of.
const NAMED: u32 = 20;

/// The images of a request that are here within this came with a key that was just looked up: to ask for it again would cost every
/// prediction another read of the database.
const AT_ONCE: Duration = Duration::from_secs(1);

/// What answers, and how.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PredictQuery {
    /// `gender` (its champion), `gender@alias` or `gender:3`.
    #[param(example = "gender@champion", required = true, nullable = false)]
    model: Option<String>,
    /// Only the most probable classes in `probabilities`.
    #[param(minimum = 1)]
    top_k: Option<usize>,
    /// Abstain where the largest probability is below this; a model that cuts photos to the face then abstains where it finds none.
    #[param(minimum = 0.0, maximum = 1.0)]
    threshold: Option<f32>,
}

/// The answer: one result per image, in order.
#[derive(Debug, Serialize, ToSchema)]
pub struct PredictResponse {
    /// What answered.
    model: PredictModel,
    /// One per image, in the request's order.
    results: Vec<PredictResult>,
    /// Where the time went.
    timings: Timings,
}

/// What answered.
#[derive(Debug, Serialize, ToSchema)]
pub struct PredictModel {
    /// The model.
    name: String,
    /// The version that its alias meant at this moment.
    version: u32,
}

/// One image's result: a classification, or its own problem.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct PredictResult {
    /// The image's `id` (or a multipart file's name), where it had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// The most probable class.
    label: Option<String>,
    /// Its probability.
    probability: Option<f32>,
    /// Probability per class.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    probabilities: BTreeMap<String, f32>,
    /// A threshold was given, and the largest probability is below it, or the model wants a face and none was found: take the
    /// label for undecided.
    abstained: bool,
    /// Of a model that cuts photos to the face (`fit: face`): the face that was classified; null where none was found and the
    /// whole picture was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Face>)]
    face: Option<Option<Face>>,
    /// What is wrong with this image.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<ProblemItem>,
}

/// Classify images.
#[utoipa::path(post, path = "/predict", tag = "predict", security(("api_key" = ["predict"])), params(PredictQuery),
    request_body(description = "One image as the body; or several in multipart fields `image`; or JSON", content(
        (Vec<u8> = "image/jpeg"), (Vec<u8> = "image/png"), (Vec<u8> = "image/webp"), (Vec<u8> = "application/octet-stream"),
        (PredictRequest = "application/json"), (PredictForm = "multipart/form-data"),
    )),
    responses(
        (status = 200, body = PredictResponse),
        (status = 404, description = "No such model", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "This key sends too many requests, or what it has under way takes half of the queue, of the places to wait for a model or of the memory for bodies already", body = ProblemBody,
            content_type = "application/problem+json", headers(("retry-after" = u64, description = "Seconds until it is worth another try"))),
        (status = 503, description = "The model's queue is full or takes too long, the model is still being loaded, the models' memory is taken, or the server is stopping", body = ProblemBody,
            content_type = "application/problem+json", headers(("retry-after" = u64, description = "Seconds until it is worth another try"))),
        (status = 504, description = "No answer in time", body = ProblemBody, content_type = "application/problem+json"),
    ))]
pub async fn predict(
    State(app): State<AppState>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<PredictQuery>,
    request: Request,
) -> Result<axum::Json<PredictResponse>, Problem> {
    let came = Instant::now();
    let options = check_options(&query)?;
    let Some(wanted) = query.model.filter(|model| !model.is_empty()) else {
        return Err(missing_model(&app).await);
    };
    let row = app.store.resolve_model(&wanted).await?;
    refuse_announced(&request)?;
    // Whoever has an image would find no place for it: nobody need send it first.
    app.admission.has_place(caller.key).map_err(|lack| no_place(&app, &row, 1, lack))?;
    let room = app.admission.body(caller.key, announced(request.headers()).unwrap_or(1))?;
    let incoming = predict_body::read(&app, request, &room).await?;
    if came.elapsed() > AT_ONCE {
        caller.refuse_if_revoked(&app).await?;
    }
    let began = Instant::now();
    let model = in_memory(&app, &row, (caller.key, incoming.len()), began).await?;
    let waited = began.elapsed();
    // Only now: who waits for a model that is being loaded takes no place from those whose model is there.
    let counted = app.admission.images(caller.key, incoming.len());
    let counted = Arc::new(counted.map_err(|lack| no_place(&app, &row, incoming.len(), lack))?);

    let mut results = Vec::with_capacity(incoming.len());
    let (mut images, mut places) = (Vec::new(), Vec::new());
    for (place, image) in incoming.into_iter().enumerate() {
        let mut result = PredictResult { id: image.id, ..PredictResult::default() };
        match image.bytes {
            Ok(bytes) => {
                images.push(bytes);
                places.push(place);
            }
            Err(problem) => result.problem = Some(problem),
        }
        results.push(result);
    }
    let mut timings = Timings::default();
    let number = images.len();
    if number > 0 {
        let held = (room, Arc::clone(&counted));
        let answer = match app.predictor.predict_since(began, &model, images, options, held).await {
            Ok(answer) => answer,
            Err(error) => {
                let error = blamed(error, &row.key(), waited, app.predictor.deadline());
                if matches!(error, ServingError::Overloaded { .. }) {
                    count_refused(&row.name, number);
                }
                return Err(unless_deleted(&app, &row, error).await);
            }
        };
        timings = answer.timings;
        for (place, outcome) in places.into_iter().zip(answer.results) {
            match outcome {
                Ok(classified) => results[place].fill(classified),
                Err(error) => {
                    results[place].problem = Some(ProblemItem::new(pointer(place), error.code(), error.to_string()));
                }
            }
        }
    }
    count(&row.name, &results, &timings);
    Ok(axum::Json(PredictResponse { model: PredictModel { name: row.name, version: row.version }, results, timings }))
}

/// The model in memory, loaded where it is not there, for a caller with so many images who has waited since `began`.
async fn in_memory(
    app: &AppState,
    row: &VersionRow,
    (key, images): (Option<Uuid>, usize),
    began: Instant,
) -> Result<Held, Problem> {
    // As nearly every request finds it.
    if let Some(held) = app.predictor.loaded(&row.key())? {
        return Ok(held);
    }
    let place = app.admission.loading(key, images);
    let _place = place.map_err(|lack| no_place_to_wait(app, row, images, lack))?;
    let left = app.predictor.deadline().saturating_sub(began.elapsed());
    let loading = tokio::time::timeout(left, models::load_in_time(app, row)).await;
    match loading.unwrap_or_else(|_elapsed| Err(ServingError::Loading(row.key()))) {
        Ok(held) => Ok(held),
        Err(error) => Err(unless_deleted(app, row, error).await),
    }
}

/// Why there is no place for so many images to wait for their model. A key that has its part of the places has nothing loaded beyond them.
fn no_place_to_wait(app: &AppState, row: &VersionRow, images: usize, lack: Lack) -> Problem {
    match lack {
        Lack::All => {
            count_refused(&row.name, images);
            load_for_others(app, row);
            ServingError::Loading(row.key()).into()
        }
        Lack::Key => crowding("this key has too many images that wait for models to be loaded"),
    }
}

/// Has a model loaded that nobody waits for, as those who do take all places: whoever is told to come again shall find it.
fn load_for_others(app: &AppState, row: &VersionRow) {
    if app.predictor.is_wanted(&row.key()) {
        return;
    }
    let (app, row) = (Arc::clone(app), row.clone());
    // Why it cannot be loaded is told to those who wait for it.
    tokio::spawn(async move { drop(models::load(&app, &row).await) });
}

/// Why there is no place for so many images; it is worth another try once those that wait are answered.
fn no_place(app: &AppState, row: &VersionRow, images: usize, lack: Lack) -> Problem {
    match lack {
        Lack::All => {
            count_refused(&row.name, images);
            let (queued, seconds) = (app.admission.taken(), app.predictor.waiting_seconds());
            ServingError::Overloaded { queued, seconds }.into()
        }
        Lack::Key => crowding("this key's images take as many places of the queue as one key may have"),
    }
}

/// Of a request that waited so long for its model: where that took most of the deadline, it is not the queue that was too full for the rest.
fn blamed(error: ServingError, model: &str, waited: Duration, deadline: Duration) -> ServingError {
    match error {
        ServingError::Overloaded { .. } if waited > deadline / 2 => ServingError::Loading(model.to_owned()),
        error => error,
    }
}

/// A model's files may be missing, or it may have left the memory, because it was deleted since it was looked up: then it is
/// that which is told.
async fn unless_deleted(app: &AppState, row: &VersionRow, error: ServingError) -> Problem {
    // A full queue and a passed deadline have other reasons, and come when there is no time to ask the database.
    use ServingError::{Crowded, Deadline, Loading, Overloaded, ShuttingDown};
    if matches!(error, Overloaded { .. } | Crowded { .. } | Deadline { .. } | Loading(_) | ShuttingDown) {
        return error.into();
    }
    match app.store.version(&row.name, row.version).await {
        Ok(_there) => error.into(),
        Err(deleted) => deleted.into(),
    }
}

impl PredictResult {
    fn fill(&mut self, classified: Classified) {
        self.label = Some(classified.label);
        self.probability = Some(classified.probability);
        self.probabilities = classified.probabilities;
        self.abstained = classified.abstained;
        self.face = classified.face;
    }
}

fn count(model: &str, results: &[PredictResult], timings: &Timings) {
    let bad = results.iter().filter(|result| result.problem.is_some()).count();
    let name = model.to_owned();
    metrics::counter!(telemetry::PREDICT_IMAGES, "model" => name.clone(), "outcome" => "classified")
        .increment((results.len() - bad) as u64);
    metrics::counter!(telemetry::PREDICT_IMAGES, "model" => name.clone(), "outcome" => "rejected")
        .increment(bad as u64);
    if bad < results.len() {
        metrics::histogram!(telemetry::PREDICT_BATCH, "model" => name.clone()).record(timings.batch_size as f64);
        metrics::histogram!(telemetry::PREDICT_SECONDS, "model" => name).record(timings.total_ms / 1e3);
    }
}

/// Images that a full queue had no place for.
fn count_refused(model: &str, images: usize) {
    metrics::counter!(telemetry::PREDICT_IMAGES, "model" => model.to_owned(), "outcome" => "refused")
        .increment(images as u64);
}

fn check_options(query: &PredictQuery) -> Result<PredictOptions, Problem> {
    let mut items = Vec::new();
    if query.top_k == Some(0) {
        items.push(ProblemItem::new("?top_k", "out_of_range", "top_k is 0, allowed is 1 or more"));
    }
    if let Some(threshold) = query.threshold
        && !(0.0..=1.0).contains(&threshold)
    {
        let detail = format!("threshold is {threshold}, allowed is 0 to 1");
        items.push(ProblemItem::new("?threshold", "out_of_range", detail));
    }
    if items.is_empty() {
        return Ok(PredictOptions { top_k: query.top_k, threshold: query.threshold });
    }
    Err(Problem::invalid("the query string does not fit").with_errors(items))
}

async fn missing_model(app: &AppState) -> Problem {
    let mut names = match app.store.model_names(NAMED + 1).await {
        Ok(names) => names,
        Err(error) => return error.into(),
    };
    if names.len() > NAMED as usize {
        names.truncate(NAMED as usize);
        names.push("… (GET /models has all)".to_owned());
    }
    let there = if names.is_empty() { "none is published yet".to_owned() } else { names.join(", ") };
    let detail = format!("name a model: ?model=NAME, NAME@ALIAS or NAME:VERSION; there are: {there}");
    Problem::invalid(detail.clone()).with_error("?model", "required", detail)
}

#[cfg(test)]
mod tests;
