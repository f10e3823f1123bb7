//! `POST /predict`: one image as the body, several as multipart, or JSON with base64. One bad image is
//! its own problem and fails none of its neighbours.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request, State};
use axum::http::header;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine, alphabet};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{BodyLimit, Query, body_problem, is_json, media_type, parse_json};
use super::form::Form;
use super::models;
use super::problem::{Problem, ProblemBody, ProblemItem};
use super::state::AppState;
use super::telemetry;
use crate::imaging;
use crate::serving::{Classified, PredictOptions, ServingError, Timings};
use crate::store::VersionRow;

/// Models that a request without one is told of.
const NAMED: u32 = 20;

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
    /// Abstain where the largest probability is below this.
    #[param(minimum = 0.0, maximum = 1.0)]
    threshold: Option<f32>,
}

/// Images as JSON.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PredictRequest {
    /// At least one.
    #[schema(min_items = 1)]
    images: Vec<EncodedImage>,
}

/// One image as JSON.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EncodedImage {
    /// Comes back with the result.
    id: Option<String>,
    /// The file's bytes in base64 (a `data:` URL is read, too; lines and missing padding do no harm).
    base64: String,
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
    /// The largest probability is below the threshold: take the label for undecided.
    abstained: bool,
    /// What is wrong with this image.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<ProblemItem>,
}

/// An image as it came: bytes, or already its own problem.
struct Incoming {
    id: Option<String>,
    bytes: Result<Vec<u8>, ProblemItem>,
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
        (status = 503, description = "The model's queue is full", body = ProblemBody, content_type = "application/problem+json"),
        (status = 504, description = "No answer in time", body = ProblemBody, content_type = "application/problem+json"),
    ))]
pub async fn predict(
    State(app): State<AppState>,
    Query(query): Query<PredictQuery>,
    request: Request,
) -> Result<axum::Json<PredictResponse>, Problem> {
    let options = check_options(&query)?;
    let Some(wanted) = query.model.filter(|model| !model.is_empty()) else {
        return Err(missing_model(&app).await);
    };
    let row = app.store.resolve_model(&wanted).await?;
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let most = app.config.limits.predict_bytes;
    let _memory = app.admission.body(announced.unwrap_or(most).min(most))?;
    let reading = read(request, app.config.limits.predict_images);
    let incoming = tokio::time::timeout(app.config.connections.predict_body, reading)
        .await
        .map_err(|_elapsed| Problem::request_timeout("the images took too long to arrive"))??;
    refuse_pixels(&incoming, app.config.limits.predict_pixels)?;
    let _places = app.admission.images(incoming.len())?;
    let model = match models::load_in_time(&app, &row).await {
        Ok(held) => held,
        Err(error) => return Err(unless_deleted(&app, &row, error).await),
    };

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
    if !images.is_empty() {
        let answer = match app.predictor.predict(&model, images, options).await {
            Ok(answer) => answer,
            Err(error) => return Err(unless_deleted(&app, &row, error).await),
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

/// A model's files may be missing, or it may have left the memory, because it was deleted since it was looked up: then it is
/// that which is told.
async fn unless_deleted(app: &AppState, row: &VersionRow, error: ServingError) -> Problem {
    // A full queue and a passed deadline have other reasons, and come when there is no time to ask the database.
    if matches!(error, ServingError::Overloaded { .. } | ServingError::Deadline { .. } | ServingError::ShuttingDown) {
        return error.into();
    }
    match app.store.version(&row.name, row.version).await {
        Ok(_there) => error.into(),
        Err(deleted) => deleted.into(),
    }
}

/// The form of a multipart request, for the documentation.
#[derive(ToSchema)]
#[allow(dead_code, reason = "documentation only")]
pub struct PredictForm {
    /// Image files.
    #[schema(value_type = Vec<String>, format = Binary, min_items = 1)]
    image: Vec<Vec<u8>>,
}

impl PredictResult {
    fn fill(&mut self, classified: Classified) {
        self.label = Some(classified.label);
        self.probability = Some(classified.probability);
        self.probabilities = classified.probabilities;
        self.abstained = classified.abstained;
    }
}

fn pointer(place: usize) -> String {
    format!("/images/{place}")
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

/// Reads the images in whichever form they come.
async fn read(request: Request, most: usize) -> Result<Vec<Incoming>, Problem> {
    let media = media_type(request.headers()).unwrap_or_default();
    let images = match media.as_str() {
        "image/jpeg" | "image/jpg" | "image/png" | "image/webp" | "application/octet-stream" => {
            vec![Incoming { id: None, bytes: Ok(whole(request).await?.to_vec()) }]
        }
        "multipart/form-data" => multipart(request, most).await?,
        _ if is_json(request.headers()) => json(&whole(request).await?)?,
        _ => {
            return Err(Problem::unsupported_media_type(format!(
                "content-type {media:?} is not read here; send image/jpeg, image/png, image/webp, application/octet-stream, multipart/form-data \
                 with fields `image`, or application/json"
            )));
        }
    };
    match images.len() {
        0 => Err(Problem::invalid("the request holds no image").with_error("/images", "required", "send at least one")),
        number if number > most => Err(too_many(most)),
        _ => Ok(images),
    }
}

fn too_many(most: usize) -> Problem {
    let detail = format!("more than {most} images in one request; send them in several");
    Problem::too_large(detail.clone()).with_error("/images", "too_many_images", detail)
}

/// Each image has a limit of its own; many that stay below it are too much together.
fn refuse_pixels(incoming: &[Incoming], most: u64) -> Result<(), Problem> {
    let declared = |image: &Incoming| image.bytes.as_ref().map_or(0, |bytes| imaging::declared_pixels(bytes));
    let pixels: u64 = incoming.iter().map(declared).fold(0, u64::saturating_add);
    // A single image is judged by its own limit, in its own place.
    if incoming.len() > 1 && pixels > most {
        let detail =
            format!("the images have {pixels} pixels together, allowed are {most}; send them in several requests");
        return Err(Problem::too_large(detail.clone()).with_error("/images", "too_many_pixels", detail));
    }
    Ok(())
}

async fn whole(request: Request<Body>) -> Result<Bytes, Problem> {
    let limit = BodyLimit::of(&request);
    Bytes::from_request(request, &()).await.map_err(|error| body_problem(&error, limit))
}

/// Reads a JSON body as `POST /predict` does (`fuzz_targets`).
pub(crate) fn read_json(body: &[u8]) {
    if let Ok(images) = json(body) {
        assert!(images.iter().all(|image| image.bytes.as_ref().map_or(0, Vec::len) <= body.len()));
    }
}

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn json(body: &[u8]) -> Result<Vec<Incoming>, Problem> {
    let request: PredictRequest = parse_json(body)?;
    let images = request.images.into_iter().enumerate().map(|(place, image)| {
        let text = match image.base64.split_once(";base64,") {
            Some((head, rest)) if head.starts_with("data:") => rest,
            _ => image.base64.as_str(),
        };
        // In lines of 76 letters, as many programs write it, and with or without the padding.
        let text: Cow<'_, str> = match text.contains(|letter: char| letter.is_ascii_whitespace()) {
            true => text.chars().filter(|letter| !letter.is_ascii_whitespace()).collect::<String>().into(),
            false => text.into(),
        };
        let bytes = BASE64
            .decode(text.as_bytes())
            .map_err(|error| ProblemItem::new(pointer(place), "bad_base64", format!("this is not base64: {error}")));
        Incoming { id: image.id, bytes }
    });
    Ok(images.collect())
}

async fn multipart(request: Request, most: usize) -> Result<Vec<Incoming>, Problem> {
    let mut form = Form::of(request).await?;
    let mut images = Vec::new();
    while let Some(field) = form.next_field().await? {
        let name = field.name().unwrap_or_default().to_owned();
        if name != "image" {
            let detail = format!("there is no field {name:?}; send each file as `image`");
            return Err(Problem::invalid(detail.clone()).with_error(&format!("/{name}"), "unknown_field", detail));
        }
        if images.len() == most {
            return Err(too_many(most));
        }
        let id = field.file_name().filter(|name| !name.is_empty()).map(str::to_owned);
        images.push(Incoming { id, bytes: Ok(field.bytes().await?) });
    }
    Ok(images)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_base64_is_that_images_own_problem() {
        let images = json(br#"{"images":[{"id":"a","base64":"AAAA"},{"base64":"%%"}]}"#).unwrap();
        assert_eq!(images[0].bytes.as_ref().unwrap(), &[0, 0, 0]);
        assert_eq!(images[1].bytes.as_ref().unwrap_err().pointer, "/images/1");
    }

    #[test]
    fn a_data_url_is_read() {
        let images = json(br#"{"images":[{"base64":"data:image/png;base64,AAAA"}]}"#).unwrap();
        assert!(images[0].bytes.is_ok());
    }

    #[test]
    fn base64_may_come_in_lines_and_without_its_padding() {
        for text in ["AAECAw==", "AAECAw", "AAEC\\r\\nAw==\\n", " AAE\\tCAw "] {
            let images = json(format!(r#"{{"images":[{{"base64":"{text}"}}]}}"#).as_bytes()).unwrap();
            assert_eq!(images[0].bytes.as_ref().unwrap(), &[0, 1, 2, 3], "{text}");
        }
    }

    #[test]
    fn every_wrong_option_is_named() {
        let query = PredictQuery { model: None, top_k: Some(0), threshold: Some(1.5) };
        assert_eq!(check_options(&query).unwrap_err().body().errors.len(), 2);
    }
}
