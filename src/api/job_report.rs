//! `/jobs/{id}/report`: what one request reached, labels × algorithm, as JSON, CSV or Markdown.

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::accept::{negotiate, vary};
use super::extract::Path;
use super::jobs::job_id;
use super::models::meant;
use super::problem::{Problem, ProblemBody};
use super::state::{App, AppState};
use crate::report::{ComparedRun, Comparison, Outcome, PublishedModel, RunFigures};
use crate::store::{JobEntry, JobRow, JobState, Store, StoreError};
use crate::train::config::TrainConfig;

/// What the runs of one request reached, side by side.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobReport {
    /// The job or sweep that was asked for.
    pub id: uuid::Uuid,
    /// `job` or `sweep`.
    #[schema(example = "sweep")]
    pub kind: &'static str,
    /// The data set's name.
    pub dataset: String,
    /// The table and what follows from it.
    #[serde(flatten)]
    pub comparison: Comparison,
}

impl JobReport {
    /// The report of a job (with its baseline) or of a sweep.
    ///
    /// # Errors
    /// The store's.
    pub async fn read(store: &Store, id: uuid::Uuid) -> Result<Self, StoreError> {
        let (kind, dataset, rows, axes) = match store.job_or_sweep(id).await? {
            JobEntry::Sweep(sweep) => {
                let axes = sweep.axes();
                ("sweep", sweep.dataset_name, sweep.jobs, axes)
            }
            JobEntry::Job(job) => {
                let (beside, axes) = match job.sweep {
                    Some(sweep) => {
                        let sweep = store.sweep(sweep).await?;
                        let axes = sweep.axes();
                        (sweep.jobs, axes)
                    }
                    None => (store.baseline_of(job.id).await?.into_iter().collect(), Vec::new()),
                };
                let is_it = |config: &TrainConfig| {
                    let it = |other: &&JobRow| other.id != job.id && other.config.trains_as(config);
                    beside.iter().find(it).cloned()
                };
                let other = is_it(&job.config.baseline()).or_else(|| is_it(&job.config.pretrained_baseline()));
                let mut rows: Vec<JobRow> = other.into_iter().collect();
                let dataset = job.dataset_name.clone();
                rows.push(*job);
                ("job", dataset, rows, axes)
            }
        };
        let runs = rows.into_iter().map(|row| compared(row, &axes)).collect();
        Ok(Self { id, kind, dataset, comparison: Comparison::new(runs, axes) })
    }

    /// The report for people.
    pub fn markdown(&self) -> String {
        self.comparison.markdown(&format!(
            "{} {} on {}",
            if self.kind == "job" { "Job" } else { "Sweep" },
            self.id,
            self.dataset
        ))
    }
}

/// A job as it enters a comparison.
pub fn compared(row: JobRow, axes: &[String]) -> ComparedRun {
    let seconds = row.state.is_final().then_some(row.worked.as_secs_f64()).filter(|_| row.started_at.is_some());
    let outcome = Outcome {
        state: row.state.as_str(),
        error: row.error.filter(|_| row.state == JobState::Failed).map(|(code, detail)| format!("{code}: {detail}")),
        figures: RunFigures {
            validation_accuracy: row.best.as_ref().map(|best| best.validation_accuracy),
            test_accuracy: row.test.as_ref().map(|test| test.accuracy),
            test_f1_macro: row.test.as_ref().map(|test| test.f1_macro),
            best_epoch: row.best.as_ref().map(|best| best.epoch),
            seconds,
        },
        test_images: row.test.as_ref().map(|test| test.images),
        // Older runs did not tell.
        validation_images: row.best.as_ref().map(|best| best.validation_images).filter(|images| *images > 0),
        groups: row.test.map(|test| test.groups).unwrap_or_default(),
        model: row.model.map(|(name, version)| PublishedModel { name, version }),
    };
    ComparedRun::new(row.id, row.config, row.baseline_of.is_some(), axes, outcome)
}

#[derive(Debug, Clone, Copy)]
enum Format {
    Json,
    Csv,
    Markdown,
}

const FORMATS: [(&str, Format); 3] =
    [("application/json", Format::Json), ("text/csv", Format::Csv), ("text/markdown", Format::Markdown)];

/// Labels × algorithm × mean ± standard deviation over seeds, and whether MixMatch beats its baseline.
///
/// For a sweep all of its jobs; for a single job its own line and that of its baseline. Only runs that have
/// succeeded enter a mean: the others are counted (`jobs` against `n`) and listed with their state, so it may be
/// asked for while some still run. Differences to the baseline are paired by seed. Test figures are reported and
/// choose nothing: among several values of a hyper-parameter, validation does.
#[utoipa::path(get, path = "/jobs/{id}/report", tag = "jobs", security(("api_key" = ["train"])), params(("id" = uuid::Uuid, Path)), responses(
    (status = 200, description = "By `Accept`: JSON (default), `text/csv` or `text/markdown`", content(
        (JobReport = "application/json"), (String = "text/csv"), (String = "text/markdown"),
    ), headers(("vary" = String, description = "`accept`"))),
    (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    (status = 406, body = ProblemBody, content_type = "application/problem+json"),
))]
pub async fn report(
    State(app): State<AppState>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    answer(&app, job_id(&id)?, &headers).await
}

/// The report of the job that made this version: beside its baseline, or beside its like in a sweep.
#[utoipa::path(get, path = "/models/{name}/versions/{version}/report", tag = "models", security(("api_key" = ["train"])),
    params(("name" = String, Path), ("version" = String, Path, description = "Its number, or an alias: `champion`")), responses(
    (status = 200, description = "By `Accept`: JSON (default), `text/csv` or `text/markdown`", content(
        (JobReport = "application/json"), (String = "text/csv"), (String = "text/markdown"),
    ), headers(("vary" = String, description = "`accept`"))),
    (status = 404, description = "No such version, or its job was deleted", body = ProblemBody, content_type = "application/problem+json"),
    (status = 406, body = ProblemBody, content_type = "application/problem+json"),
))]
pub async fn report_of_version(
    State(app): State<AppState>,
    Path((name, version)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let row = meant(&app, &name, &version).await?;
    let gone = || Problem::not_found("the job that made this version was deleted; the card has its figures");
    answer(&app, row.job_id.ok_or_else(gone)?, &headers).await
}

async fn answer(app: &App, id: uuid::Uuid, headers: &HeaderMap) -> Result<Response, Problem> {
    let format = negotiate(headers, &FORMATS)?;
    let report = JobReport::read(&app.store, id).await?;
    let answer = match format {
        Format::Json => axum::Json(report).into_response(),
        Format::Csv => {
            let bug = |error| Problem::bug("the report could not be written as CSV", &error);
            let csv = report.comparison.csv().map_err(bug)?;
            ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], csv).into_response()
        }
        Format::Markdown => {
            ([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], report.markdown()).into_response()
        }
    };
    Ok((vary(), answer).into_response())
}
