//! `/jobs/{id}/tensorboard`: a run as an event file for TensorBoard.

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::epoch_stream::{self, Epochs};
use super::extract::Path;
use super::jobs::job_id;
use super::problem::{Problem, ProblemBody};
use super::state::AppState;
use crate::report::EventFile;
use crate::store::StoreError;
use crate::train::event::{EpochMetrics, TestMetrics};

/// The run for TensorBoard: its configuration, a point per epoch, and the test figures once there are some.
///
/// Save it as `DIR/RUN/events.out.tfevents.mixmatch`, one directory a run, and start `tensorboard --logdir DIR`. The steps
/// are optimiser steps; the wall time is the start of the last attempt and the seconds that the epochs took.
#[utoipa::path(get, path = "/jobs/{id}/tensorboard", tag = "jobs", security(("api_key" = ["train"])), params(("id" = uuid::Uuid, Path)), responses(
    (status = 200, description = "TensorBoard's event file", body = Vec<u8>, content_type = "application/octet-stream",
        headers(("content-disposition" = String, description = "`attachment` with a name that TensorBoard looks for"))),
    (status = 404, body = ProblemBody, content_type = "application/problem+json"),
))]
pub async fn tensorboard(State(app): State<AppState>, Path(id): Path<String>) -> Result<Response, Problem> {
    let id = job_id(&id)?;
    let job = app.store.job(id).await?;
    let classes = match app.store.dataset(&job.dataset_id.to_string()).await {
        Ok(dataset) => dataset.classes,
        Err(StoreError::NotFound { .. }) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let begun = job.started_at.unwrap_or(job.created_at);
    let mut file = EventFile::new(begun.as_millisecond() as f64 / 1000.0, classes);
    let configuration = serde_json::to_string_pretty(&job.config)
        .map_err(|error| Problem::bug("the configuration could not be written", &error))?;
    file.text("configuration", &format!("```json\n{configuration}\n```"));
    let epochs = Epochs { job: id, after: 0, limit: None, every: None };
    let body = epoch_stream::body(app.store.clone(), epochs, Run { file, test: job.test }).await?;
    let name = format!("attachment; filename=\"events.out.tfevents.{}.{id}\"", begun.as_second());
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (header::CONTENT_DISPOSITION, HeaderValue::from_str(&name).expect("digits and a UUID are plain ASCII")),
    ];
    Ok((headers, body).into_response())
}

struct Run {
    file: EventFile,
    test: Option<TestMetrics>,
}

impl epoch_stream::Write for Run {
    fn epochs(&mut self, rows: &[EpochMetrics]) -> Result<Vec<u8>, Problem> {
        for row in rows {
            self.file.epoch(row);
        }
        Ok(self.file.take())
    }

    fn end(&mut self) -> Vec<u8> {
        if let Some(test) = &self.test {
            self.file.test(test);
        }
        self.file.take()
    }
}
