//! `/models/{name}/versions/{version}/test`: a version on the test images of any data set, so that an old and a new one can be compared.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::State;
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
use crate::train::TrainError;
use crate::train::event::TestMetrics;
use crate::train::retest::{RetestError, RetestInput, retest};

/// One at a time in the whole server: it computes on a core of its own.
static ASKING: Semaphore = Semaphore::const_new(1);

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
    /// How many of them were among the images that the version learned from, with a label or without, by their pixels: its figures flatter it by
    /// those. `null` where that data set was deleted.
    seen_in_training: Option<u64>,
    /// The figures, as at the end of a job.
    test: TestMetrics,
}

/// What a version reaches on the test images of a data set, its own or another.
///
/// Two versions that learned from different data sets have figures of different test images in their cards. Asked here for the same data
/// set, they can be compared. It is computed anew each time: seconds for thousands of images and a small network, one request at a time.
#[utoipa::path(get, path = "/models/{name}/versions/{version}/test", tag = "models", security(("api_key" = ["train"])),
    params(("name" = String, Path), ("version" = String, Path, description = "Its number, or an alias: `champion`"), TestQuery),
    responses(
        (status = 200, body = ModelTest),
        (status = 404, description = "No such version or data set", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The data set has no test images, or of a class that the model does not know", body = ProblemBody,
            content_type = "application/problem+json"),
    ))]
pub async fn test(
    State(app): State<AppState>,
    Path((name, version)): Path<(String, String)>,
    Query(query): Query<TestQuery>,
) -> Result<axum::Json<ModelTest>, Problem> {
    let row = meant(&app, &name, &version).await?;
    let dataset = app.store.dataset(&query.dataset).await?;
    let model: ModelManifest = manifest(&app, &row).await?;
    let trained_on = app.store.dataset_of_content(&model.dataset_hash).await?;
    let trained_on = trained_on.map(|id| app.config.data_dir.dataset(id));
    let (weights, sha256) = (app.store.artifact(&row.weights_sha256), row.weights_sha256.clone());
    let directory = app.config.data_dir.dataset(dataset.id);
    let device = app.predictor.status().device;
    let turn = ASKING.acquire().await.map_err(|error| Problem::bug("no model can be tested", &error))?;
    // Dropped with this future, where the caller goes away.
    let gone = Arc::new(AtomicBool::new(false));
    let (_says_so, stop) = (SetWhenDropped(Arc::clone(&gone)), gone);
    let asked = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        tch::set_num_threads(1);
        let device = device::parse(&device).map_err(TrainError::from)?;
        let trained_on = trained_on.as_deref();
        let input = RetestInput {
            model: &model,
            weights: &weights,
            weights_sha256: &sha256,
            dataset_dir: &directory,
            trained_on,
            device,
        };
        retest(input, &|| stop.load(Ordering::Relaxed))
    })
    .await
    .map_err(|error| Problem::bug("testing the model failed unexpectedly", &error))?;
    let asked = match asked {
        Ok(asked) => asked,
        Err(RetestError::Train(error)) => {
            // Either may have been deleted meanwhile.
            app.store.dataset(&dataset.id.to_string()).await?;
            app.store.version(&row.name, row.version).await?;
            return Err(Problem::bug("the model could not be tested", &error));
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

/// Says that nobody waits any more.
struct SetWhenDropped(Arc<AtomicBool>);

impl Drop for SetWhenDropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
