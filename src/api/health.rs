//! `/livez`, `/readyz`, `/metrics`.

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::{Problem, ProblemBody};
use super::state::AppState;
use super::telemetry;
use crate::serving::PredictorStatus;
use crate::store::{JobState, Store, StoreError};

/// The process answers.
#[derive(Debug, Serialize, ToSchema)]
pub struct Live {
    /// Always `ok`.
    #[schema(example = "ok")]
    status: &'static str,
    /// The build's version.
    version: &'static str,
}

/// The service can work, and what it works on.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ready {
    /// Always `ready`.
    #[schema(example = "ready")]
    status: &'static str,
    /// What predictions are computed on.
    predict: PredictDevice,
    /// Where jobs run.
    slots: Vec<SlotView>,
    /// Slots with a run at this moment.
    busy_slots: usize,
    /// Bytes that the files of one `POST /datasets` may have together (`--max-upload`).
    max_upload: u64,
    /// Pixels that an image may have (`--max-pixels`).
    max_pixels: u64,
    /// What was found about CUDA at start.
    cuda: String,
}

/// What predictions are computed on.
#[derive(Debug, Serialize, ToSchema)]
pub struct PredictDevice {
    /// `cpu` or `cuda:0`.
    device: String,
    /// The number format of activations, `float32` or `bf16`, of models that are not in `int8` and were not trained in float32 on purpose: those are computed in it.
    precision: String,
    /// Why this number format.
    reason: String,
    /// Models in memory.
    loaded: Vec<String>,
    /// Those among them that compute in int8 (`--predict-precision int8`).
    int8: Vec<String>,
    /// Images that wait or are worked on: with `--predict-queue` of them more are refused.
    queued: usize,
}

/// A place for one run.
#[derive(Debug, Serialize, ToSchema)]
pub struct SlotView {
    /// `cpu` or `cuda:<index>`.
    device: String,
    /// Compute threads of a run here.
    threads: u32,
}

/// Does the process answer?
#[utoipa::path(get, path = "/livez", tag = "health", security(()), responses((status = 200, body = Live)))]
pub async fn livez() -> axum::Json<Live> {
    axum::Json(Live { status: "ok", version: env!("CARGO_PKG_VERSION") })
}

/// Can the service work? Says which device and number format are used, and why.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()), responses(
    (status = 200, body = Ready),
    (status = 503, description = "Stopping, or the store cannot be read, or the device of predictions does not compute or never ends", body = ProblemBody,
        content_type = "application/problem+json", headers(("retry-after" = u64, description = "Seconds until it is worth another try"))),
))]
pub async fn readyz(State(app): State<AppState>) -> Result<axum::Json<Ready>, Problem> {
    if app.lifecycle.is_stopping() {
        return Err(Problem::unavailable("the server is stopping").retry_after(5));
    }
    app.store.ping().await.map_err(|error| {
        tracing::error!(%error, "the store cannot be read");
        Problem::unavailable("the store cannot be read").retry_after(5)
    })?;
    let status = app.predictor.status();
    if let Some(problem) = trouble(&status) {
        // Nobody may send images to a server that is not ready: whether the device came back must be asked for.
        app.predictor.ask_device();
        return Err(problem);
    }
    let slots = app.supervisor.slots().iter();
    Ok(axum::Json(Ready {
        status: "ready",
        predict: PredictDevice {
            device: status.device,
            precision: status.precision,
            reason: status.reason,
            loaded: status.loaded,
            int8: status.int8,
            queued: app.admission.taken(),
        },
        slots: slots.map(|slot| SlotView { device: slot.device.to_string(), threads: slot.threads }).collect(),
        busy_slots: app.supervisor.busy(),
        max_upload: app.config.limits.upload_bytes,
        max_pixels: app.config.limits.image.max_pixels,
        cuda: app.cuda.clone(),
    }))
}

/// What is said while the device of predictions does not compute.
fn trouble(status: &PredictorStatus) -> Option<Problem> {
    let trouble = status.trouble.as_ref()?;
    let detail = format!(
        "{} {trouble}: where it stays so, restart the server, or compute predictions \
         elsewhere (--predict-device)",
        status.device
    );
    Some(Problem::unavailable(detail).retry_after(5))
}

/// Numbers for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "health", security(("api_key" = ["predict"])), responses(
    (status = 200, description = "Prometheus text format", body = String, content_type = "text/plain; version=0.0.4"),
))]
pub async fn metrics(State(app): State<AppState>) -> impl IntoResponse {
    let recorder = telemetry::recorder();
    // All else is told all the same: whoever is called because of it wants to see what the server does.
    let jobs = count_jobs(&app.store).await.inspect_err(|error| tracing::error!(%error, "the store cannot be read"));
    for (state, count) in jobs.iter().flatten() {
        metrics::gauge!(telemetry::JOBS, "state" => state.as_str()).set(*count as f64);
    }
    metrics::gauge!(telemetry::STORE_UP).set(if jobs.is_ok() { 1.0 } else { 0.0 });
    let (busy, all) = (app.supervisor.busy(), app.supervisor.slots().len());
    metrics::gauge!(telemetry::SLOTS, "use" => "busy").set(busy as f64);
    metrics::gauge!(telemetry::SLOTS, "use" => "idle").set(all.saturating_sub(busy) as f64);
    metrics::gauge!(telemetry::PREDICT_QUEUE).set(app.admission.taken() as f64);
    let told = recorder.render();
    let told = if jobs.is_ok() { told } else { without_jobs(&told) };
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], told)
}

/// The jobs by state, where `/readyz` would say that the store can be read.
async fn count_jobs(store: &Store) -> Result<Vec<(JobState, u64)>, StoreError> {
    store.ping().await?;
    store.count_jobs().await
}

/// The text without the gauges of jobs: the recorder goes on telling what they were last set to.
fn without_jobs(text: &str) -> String {
    let of_jobs = |line: &str| {
        let series = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE ")).unwrap_or(line);
        series.strip_prefix(telemetry::JOBS).is_some_and(|rest| rest.starts_with(['{', ' ']))
    };
    text.split_inclusive('\n').filter(|line| !of_jobs(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::Trouble;

    #[test]
    fn a_server_whose_device_does_not_compute_is_not_ready_and_says_why() {
        let mut status = crate::serving::Predictor::new(crate::serving::PredictorOptions::default()).status();
        assert!(trouble(&status).is_none());
        status.trouble = Some(Trouble::Refuses("libtorch: CUDA error: an illegal memory access".to_owned()));
        let problem = trouble(&status).unwrap();
        assert_eq!(problem.status(), 503);
        let detail = problem.detail();
        assert!(detail.starts_with("cpu ") && detail.contains("illegal memory access"), "{detail}");
    }

    #[test]
    fn jobs_that_cannot_be_counted_are_told_no_old_number() {
        let other = "# TYPE mixmatch_jobs_other gauge\nmixmatch_jobs_other 1\n\n";
        let jobs = "# HELP mixmatch_jobs Jobs\n# TYPE mixmatch_jobs gauge\nmixmatch_jobs{state=\"queued\"} 3\n";
        assert_eq!(without_jobs(&format!("{other}{jobs}{other}")), format!("{other}{other}"));
    }
}
