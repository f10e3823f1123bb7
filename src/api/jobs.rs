//! `/jobs`: queue runs, look at them, cancel, pause, resume, retry, delete. An id stands for one job or for a sweep of many.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::auth::Caller;
use super::deletion::to_its_end;
use super::distinct::Distinct;
use super::extract::{Path, Query};
use super::job::Job;
use super::page::{Page, PageQuery};
use super::problem::{Problem, ProblemBody, ProblemItem};
use super::state::{App, AppState};
use super::sweeps::JobOrSweep;
use crate::dataset::Manifest;
use crate::sha256;
use crate::store::{Idempotency, JobState, NewJobs};
use crate::train::config::{DataFacts, FieldProblem};
use crate::train::sweep::{Plan, plan};

/// What to train, and on what. Every field of `TrainConfig` may stand beside these, laid over the preset; `GET /jobs/{id}`
/// shows all of them with their values. `labelled`, `seed` and `algorithm` may be lists.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({"dataset": "faces", "preset": "quick", "labelled": 40, "seed": 1, "baseline": true}))]
pub struct JobRequest {
    /// The data set, by id or name.
    #[schema(min_length = 1)]
    #[allow(dead_code, reason = "documentation: the body is read as a map, to name every wrong field at once")]
    dataset: String,
    /// Train the supervised run on the same labels beside each job.
    #[allow(dead_code, reason = "as above")]
    baseline: Option<bool>,
    /// Lists of values for other hyper-parameters, such as `{"lambda_u": [3, 10]}`.
    #[schema(value_type = Option<Object>)]
    #[allow(dead_code, reason = "as above")]
    grid: Option<Map<String, Value>>,
    /// Hyper-parameters by their usual names, laid over the preset.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    #[allow(dead_code, reason = "as above")]
    hyper_parameters: Map<String, Value>,
}

/// Queue a run, or a sweep of many.
///
/// The answer is the queued job with its fully resolved configuration. A wrong field is a 422 that lists
/// every problem with its JSON pointer and what is allowed.
///
/// `"baseline": true` also queues the supervised run on the same labels, directly before the job, which then names
/// it in `baseline`; `GET /jobs/{id}/report` compares them. To cancel, retry or delete the job does the same to
/// its baseline.
///
/// A list for `labelled`, `seed` or `algorithm`, or a `grid` of lists for other hyper-parameters, makes a sweep: a
/// job for each combination (at most 200, runs that would train alike only once, as where a number in `labelled` is all that there
/// are and `null` stands beside it), all or none. The answer is then the sweep, whose id takes the place of a job's for the report and to cancel, retry or delete all of it.
///
/// The first version of a task becomes its `champion`. A baseline never does; a sweep waits for its last job and
/// takes the best of the others by validation.
///
/// A request that may be repeated (after a lost
/// answer, say) brings an `Idempotency-Key`: the same key with the same body gives the same job for a day.
#[utoipa::path(post, path = "/jobs", tag = "jobs", security(("api_key" = ["train"])), request_body = JobRequest, params(
    ("idempotency-key" = Option<String>, Header, pattern = "^[!-~]{1,255}$", description = "1 to 255 visible ASCII characters, new for each new request"),
), responses(
    (status = 202, description = "Queued", body = JobOrSweep, headers(("location" = String, description = "The job or sweep"))),
    (status = 404, description = "No such data set", body = ProblemBody, content_type = "application/problem+json"),
    (status = 422, description = "Every field that is wrong", body = ProblemBody, content_type = "application/problem+json"),
))]
pub async fn create(
    State(app): State<AppState>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Distinct(mut request): Distinct,
) -> Result<impl IntoResponse, Problem> {
    let idempotency = idempotency(&caller, &headers, &request)?;
    if let Some(idempotency) = &idempotency
        && let Some(id) = app.store.job_of_request(idempotency).await?
    {
        return accepted(&app, id).await;
    }
    let wanted = match request.remove("dataset") {
        Some(Value::String(wanted)) if !wanted.is_empty() => wanted,
        Some(_) => return Err(missing_dataset("dataset must be the id or the name of a data set, a string")),
        None => return Err(missing_dataset("dataset is missing: the id or the name of a data set")),
    };
    let dataset = app.store.dataset(&wanted).await?;
    let facts = app.store.job_facts(&dataset).await?;
    let (plan, request) = planned(&app, dataset.id, facts, request).await?;
    let runs = plan.runs.len();
    let new = NewJobs { idempotency, ..NewJobs::of_plan(dataset.id, plan, request) };
    let id = app.store.insert_jobs(new).await?;
    app.supervisor.wake();
    tracing::info!(job = %id, dataset = %dataset.name, runs, "job queued");
    accepted(&app, id).await
}

fn wrong_fields(problems: Vec<FieldProblem>) -> Problem {
    let items: Vec<ProblemItem> =
        problems.into_iter().map(|problem| ProblemItem::new(problem.pointer, problem.code, problem.detail)).collect();
    let detail = match items.as_slice() {
        [one] => one.detail.clone(),
        many => format!("{} fields are wrong", many.len()),
    };
    Problem::invalid(detail).with_errors(items)
}

/// The runs of a request, where the data set's labels can be split as they want it; and the request again. That may be long
/// lists in a grid, and a large data set: it is done on a blocking thread.
async fn planned(
    app: &App,
    dataset: Uuid,
    facts: DataFacts,
    request: Map<String, Value>,
) -> Result<(Plan, Map<String, Value>), Problem> {
    let directory = app.config.data_dir.dataset(dataset);
    tokio::task::spawn_blocking(move || {
        let mut plan = plan(&request, &facts).map_err(wrong_fields)?;
        // That the files are gone is for the run to say, as it does for a job that waits.
        if let Ok(manifest) = Manifest::read(&directory) {
            plan.check_splits(&manifest).map_err(wrong_fields)?;
        }
        Ok((plan, request))
    })
    .await
    .map_err(|error| Problem::bug("the runs could not be planned", &error))?
}

async fn accepted(
    app: &App,
    id: Uuid,
) -> Result<(StatusCode, [(header::HeaderName, HeaderValue); 1], axum::Json<JobOrSweep>), Problem> {
    Ok((StatusCode::ACCEPTED, [location(id)], axum::Json(app.store.job_or_sweep(id).await?.into())))
}

/// The caller's `Idempotency-Key` with the hash of what it stands for: the parsed body, so that white space and
/// the order of fields do not matter.
fn idempotency(
    caller: &Caller,
    headers: &HeaderMap,
    request: &Map<String, Value>,
) -> Result<Option<Idempotency>, Problem> {
    let Some(key) = super::idempotency::key(headers)? else { return Ok(None) };
    let sorted: BTreeMap<&String, &Value> = request.iter().collect();
    let body = serde_json::to_vec(&sorted).map_err(|error| Problem::bug("the request could not be hashed", &error))?;
    Ok(Some(Idempotency::new(caller.key, &key, sha256::of(&body))))
}

fn missing_dataset(detail: &str) -> Problem {
    Problem::invalid(detail).with_error("/dataset", "required", detail)
}

fn location(id: Uuid) -> (header::HeaderName, HeaderValue) {
    let value = HeaderValue::from_str(&format!("/jobs/{id}")).expect("a UUID is a header value");
    (header::LOCATION, value)
}

/// Which jobs are asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct JobsQuery {
    /// Only jobs in this state: `queued`, `running`, `paused`, `succeeded`, `failed` or `canceled`.
    #[param(value_type = Option<JobState>, inline)]
    state: Option<JobState>,
    /// `next_cursor` of the page before.
    #[param(value_type = Option<uuid::Uuid>)]
    cursor: Option<String>,
    /// Items a page, 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
}

/// All jobs, newest first.
///
/// What grows with the classes and the sheet's columns is left out of each (`confusion`, `classes` and `groups` of `test`; `guess_classes`,
/// `unlabelled_classes` and `validation_classes` of `last` and `best`): `GET /jobs/{id}` has it.
#[utoipa::path(get, path = "/jobs", tag = "jobs", security(("api_key" = ["train"])), params(JobsQuery), responses(
    (status = 200, body = Page<Job>),
    (status = 422, body = ProblemBody, content_type = "application/problem+json"),
))]
pub async fn list(
    State(app): State<AppState>,
    Query(query): Query<JobsQuery>,
) -> Result<axum::Json<Page<Value>>, Problem> {
    let page = PageQuery { cursor: query.cursor, limit: query.limit };
    let limit = page.limit()?;
    let rows = app.store.jobs(query.state, page.cursor()?, limit + 1).await?;
    let Page { items, next_cursor } = Page::from_surplus(rows, limit, |row| row.id.to_string());
    let items = items.into_iter().map(Job::line).collect::<Result<_, Problem>>()?;
    Ok(axum::Json(Page { items, next_cursor }))
}

/// A job's path parameter: a UUID, or nothing that could exist.
pub fn job_id(text: &str) -> Result<Uuid, Problem> {
    Uuid::parse_str(text).map_err(|_| Problem::not_found(format!("there is no job {text:?}; a job's id is a UUID")))
}

/// A job or a sweep, and how far it is.
#[utoipa::path(get, path = "/jobs/{id}", tag = "jobs", security(("api_key" = ["train"])), params(("id" = Uuid, Path)), responses(
    (status = 200, body = JobOrSweep),
    (status = 404, body = ProblemBody, content_type = "application/problem+json"),
))]
pub async fn get(State(app): State<AppState>, Path(id): Path<String>) -> Result<axum::Json<JobOrSweep>, Problem> {
    Ok(axum::Json(app.store.job_or_sweep(job_id(&id)?).await?.into()))
}

/// 202 with what has become of the job or sweep by now: the answer to every wish.
async fn wished(app: &AppState, id: Uuid) -> Result<(StatusCode, axum::Json<JobOrSweep>), Problem> {
    Ok((StatusCode::ACCEPTED, axum::Json(JobOrSweep::from(app.store.job_or_sweep(id).await?))))
}

/// Ask a job, or all jobs of a sweep, to stop.
///
/// A queued or paused job is canceled at once, with the baseline that was queued with it; a running one is asked to stop,
/// and killed if it does not. Repeating is harmless. What has succeeded or failed stays as it is; if that is
/// everything, the answer is 409.
#[utoipa::path(post, path = "/jobs/{id}/cancel", tag = "jobs", security(("api_key" = ["train"])), params(("id" = Uuid, Path)), responses(
    (status = 202, body = JobOrSweep),
    (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    (status = 409, description = "Already finished", body = ProblemBody, content_type = "application/problem+json"),
))]
pub async fn cancel(State(app): State<AppState>, Path(id): Path<String>) -> Result<impl IntoResponse, Problem> {
    let id = job_id(&id)?;
    for job in app.store.cancel_job(id).await? {
        app.supervisor.nudge(job);
    }
    wished(&app, id).await
}

/// Pause a job, or all jobs of a sweep.
///
/// A queued job waits from now on; a running one stops after the step under way, writes a checkpoint and frees its
/// slot. Repeating is harmless. What is over stays as it is; if that is everything, the answer is 409.
#[utoipa::path(post, path = "/jobs/{id}/pause", tag = "jobs", security(("api_key" = ["train"])), params(("id" = Uuid, Path)), responses(
    (status = 202, body = JobOrSweep),
    (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    (status = 409, description = "Already finished", body = ProblemBody, content_type = "application/problem+json"),
))]
pub async fn pause(State(app): State<AppState>, Path(id): Path<String>) -> Result<impl IntoResponse, Problem> {
    let id = job_id(&id)?;
    for job in app.store.pause_job(id).await? {
        app.supervisor.nudge(job);
    }
    wished(&app, id).await
}

/// Queue a paused job, or all paused jobs of a sweep, again.
///
/// It goes on from its checkpoint and ends, on a CPU with as many threads, with the very model that it would have
/// ended with. Repeating is harmless. What is over stays as it is; if that is everything, the answer is 409.
#[utoipa::path(post, path = "/jobs/{id}/resume", tag = "jobs", security(("api_key" = ["train"])), params(("id" = Uuid, Path)), responses(
    (status = 202, body = JobOrSweep),
    (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    (status = 409, description = "Already finished", body = ProblemBody, content_type = "application/problem+json"),
))]
pub async fn resume(State(app): State<AppState>, Path(id): Path<String>) -> Result<impl IntoResponse, Problem> {
    let id = job_id(&id)?;
    for job in app.store.resume_job(id).await? {
        app.supervisor.changes().announce(job);
    }
    app.supervisor.wake();
    wished(&app, id).await
}

/// Queue a failed or canceled job again, with the same configuration; of a sweep, or of a job with its baseline,
/// all that have failed or were canceled.
///
/// It goes on from its last checkpoint, unless it failed by its own figures (the loss diverged, the model collapsed):
/// then it begins anew. Repeating is harmless: what is queued or runs is left as it is. While a job of them is still being canceled the answer
/// is 409, and none is queued; retry it when that is over. A job without a checkpoint after a step whose `pretrained` weights were deleted
/// stays as it is; if no other of them goes on, the answer is 409. Once the same file is imported again it can be retried.
#[utoipa::path(post, path = "/jobs/{id}/retry", tag = "jobs", security(("api_key" = ["train"])), params(("id" = Uuid, Path)), responses(
    (status = 202, body = JobOrSweep),
    (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    (status = 409, description = "It succeeded, is paused or still being canceled, or its data set or the weights that it starts from are gone", body = ProblemBody, content_type = "application/problem+json"),
))]
pub async fn retry(State(app): State<AppState>, Path(id): Path<String>) -> Result<impl IntoResponse, Problem> {
    let id = job_id(&id)?;
    for job in app.store.retry_job(id).await? {
        app.supervisor.changes().announce(job);
    }
    app.supervisor.wake();
    wished(&app, id).await
}

/// Forget a finished job with its baseline, or a finished sweep: metrics, events, logs and checkpoints. The models stay.
#[utoipa::path(delete, path = "/jobs/{id}", tag = "jobs", security(("api_key" = ["admin"])), params(("id" = Uuid, Path)), responses(
    (status = 204, description = "Gone"),
    (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    (status = 409, description = "Not finished yet", body = ProblemBody, content_type = "application/problem+json"),
))]
pub async fn delete(State(app): State<AppState>, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    let id = job_id(&id)?;
    to_its_end(async move {
        for job in app.store.delete_job(id).await? {
            let directory = app.config.data_dir.run(job);
            if let Err(error) = tokio::fs::remove_dir_all(&directory).await
                && error.kind() != std::io::ErrorKind::NotFound
            {
                // Only lost space: the next start removes what belongs to no job.
                tracing::warn!(path = %directory.display(), %error, "a job's checkpoints could not be removed");
            }
        }
        Ok(())
    })
    .await
}
