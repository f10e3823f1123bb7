//! `/models/{name}/versions/{version}/test`: a version on the test images of any data set, so that an old and a new one can be compared.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::extract::State;
use axum::http::{HeaderValue, Method, header};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use utoipa::{IntoParams, ToSchema};

use super::extract::{Path, Query};
use super::job::{DatasetName, ModelName};
use super::model_files::manifest;
use super::models::meant;
use super::problem::{Problem, ProblemBody};
use super::state::AppState;
use crate::model::ModelManifest;
use crate::nn::device;
use crate::openmp::compute_with;
use crate::train::TrainError;
use crate::train::event::TestMetrics;
use crate::train::retest::{RetestError, RetestInput, retest};

/// One at a time in the whole server, on a core of its own.
static ASKING: Semaphore = Semaphore::const_new(1);

/// Requests that are asked or wait for their turn.
static THERE: AtomicUsize = AtomicUsize::new(0);

/// The most of them: others are told to come back.
const MOST: usize = 8;

/// Which images are asked.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TestQuery {
    /// The data set whose test images are asked, by id or name.
    #[param(min_length = 1)]
    dataset: String,
}

/// What a version reached on the test images of a data set.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelTest {
    /// The version.
    model: ModelName,
    /// Whose test images.
    dataset: DatasetName,
    /// How many of them were among the images that the version learned from, with a label or without, or that chose its epoch (`used` of its
    /// predictions is `labelled`, `unlabelled` or `validation`), by their files: its figures flatter it by those. Of a version that an older
    /// build published without predictions, how many were in its training sheet. `null` where that data set was deleted. What the weights
    /// that it started from (`pretrained`) had met is not known and not counted.
    seen_in_training: Option<u64>,
    /// The figures, as at the end of a job.
    test: TestMetrics,
}

/// What a version reaches on the test images of a data set, its own or another.
///
/// Two versions that learned from different data sets have figures of different test images in their cards. Asked here for the same data
/// set, they can be compared. It is computed anew each time, one request at a time on one core: seconds for thousands of images and a small
/// network; photos in which a face is looked for take tens of milliseconds each.
#[utoipa::path(get, path = "/models/{name}/versions/{version}/test", tag = "models", security(("api_key" = ["train"])),
    params(("name" = String, Path), ("version" = String, Path, description = "Its number, or an alias: `champion`"), TestQuery),
    responses(
        (status = 200, body = ModelTest),
        (status = 404, description = "No such version or data set", body = ProblemBody, content_type = "application/problem+json"),
        (status = 405, description = "To `HEAD`: it is computed for who reads it", body = ProblemBody, content_type = "application/problem+json",
            headers(("allow" = String, description = "`GET`"))),
        (status = 422, description = "The data set has no test images, or of a class that the model does not know", body = ProblemBody,
            content_type = "application/problem+json"),
    ))]
pub async fn test(
    State(app): State<AppState>,
    method: Method,
    Path((name, version)): Path<(String, String)>,
    Query(query): Query<TestQuery>,
) -> Result<axum::Json<ModelTest>, Problem> {
    if method == Method::HEAD {
        let only = Problem::method_not_allowed("what stands here is computed for who reads it: ask with GET");
        return Err(only.with_header(header::ALLOW, HeaderValue::from_static("GET")));
    }
    let row = meant(&app, &name, &version).await?;
    let dataset = app.store.dataset(&query.dataset).await?;
    let _place = Place::taken()?;
    let turn = tokio::select! {
        turn = ASKING.acquire() => turn.map_err(|error| Problem::bug("no model can be tested", &error))?,
        () = app.lifecycle.closed() => return Err(stopping()),
    };
    // Either may have been deleted meanwhile.
    let row = app.store.version(&row.name, row.version).await?;
    let dataset = app.store.dataset(&dataset.id.to_string()).await?;
    let model: ModelManifest = manifest(&app, &row).await?;
    let trained_on = app.store.dataset_of_content(&model.dataset_hash).await?;
    let trained_on = trained_on.map(|id| app.config.data_dir.dataset(id));
    let directory = app.config.data_dir.dataset(dataset.id);
    let weights = app.store.artifact(&row.weights_sha256);
    let predictions = row.predictions_sha256.as_deref().map(|sha256| app.store.artifact(sha256));
    let (sha256, device) = (row.weights_sha256.clone(), app.predictor.status().device);
    // Set when this future is dropped, where the caller goes away.
    let gone = Arc::new(AtomicBool::new(false));
    let (_says_so, stop) = (SetWhenDropped(Arc::clone(&gone)), gone);
    let server = app.clone();
    let ask = move || {
        let _turn = turn;
        let stop = || stop.load(Ordering::Relaxed) || server.lifecycle.is_closing() || !directory.exists();
        let input = RetestInput {
            model: &model,
            weights: &weights,
            weights_sha256: &sha256,
            dataset_dir: &directory,
            trained_on: trained_on.as_deref(),
            predictions: predictions.as_deref(),
            device: device::parse(&device).map_err(TrainError::from)?,
        };
        compute_with(1);
        retest(input, &stop)
    };
    // A pool of one thread: decoding would take all cores from predictions.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let pool = pool.map_err(|error| Problem::bug("no model can be tested", &error))?;
    let asked = tokio::task::spawn_blocking(move || pool.install(ask)).await;
    let asked = match asked.map_err(|error| Problem::bug("testing the model failed unexpectedly", &error))? {
        Ok(asked) => asked,
        Err(error @ (RetestError::Train(_) | RetestError::Predictions { .. })) => {
            app.store.dataset(&dataset.id.to_string()).await?;
            app.store.version(&row.name, row.version).await?;
            return Err(match error {
                RetestError::Train(TrainError::Stopped) => stopping(),
                error => Problem::bug("the model could not be tested", &error),
            });
        }
        Err(error) => {
            let detail = error.to_string();
            return Err(Problem::invalid(detail.clone()).with_error("?dataset", "unfit", detail));
        }
    };
    Ok(axum::Json(ModelTest {
        model: ModelName::new(row.name, row.version),
        dataset: DatasetName { id: dataset.id, name: dataset.name },
        seen_in_training: asked.seen_in_training,
        test: asked.test,
    }))
}

fn stopping() -> Problem {
    Problem::unavailable("the server is stopping").retry_after(10)
}

/// A place among those that wait.
struct Place;

impl Place {
    fn taken() -> Result<Self, Problem> {
        if THERE.fetch_add(1, Ordering::Relaxed) < MOST {
            return Ok(Self);
        }
        THERE.fetch_sub(1, Ordering::Relaxed);
        let detail = format!("{MOST} tests of models are under way or wait; they go one at a time");
        Err(Problem::unavailable(detail).retry_after(10))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        THERE.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Says that nobody waits any more.
struct SetWhenDropped(Arc<AtomicBool>);

impl Drop for SetWhenDropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    /// Each that waits holds a connection, for as long as those before it take.
    #[test]
    fn so_many_wait_and_no_more_until_one_of_them_leaves() {
        let mut waiting: Vec<Place> = (0..MOST).map(|_| Place::taken().unwrap()).collect();
        for _ in 0..2 {
            let refused = Place::taken().err().map(|problem| problem.status());
            assert_eq!(refused, Some(StatusCode::SERVICE_UNAVAILABLE));
        }
        waiting.pop();
        waiting.push(Place::taken().unwrap());
        assert!(Place::taken().is_err(), "those who were refused have left no room behind");
    }
}
