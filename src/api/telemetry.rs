//! What is counted and traced about requests, and how numbers reach Prometheus.
//!
//! One recorder for the process, installed when the server starts. Requests are labelled with the *route*
//! (`/jobs/{id}`), never with the path, so that the number of series stays bounded.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tower_http::request_id::{MakeRequestId, RequestId};
use tracing::{Instrument, Span};
use uuid::Uuid;

use super::state::AppState;

/// Requests answered, by method, route and status; as 499 those whose caller went away before.
pub const HTTP_REQUESTS: &str = "mixmatch_http_requests_total";
/// Seconds from the request's head to the answer's head.
pub const HTTP_SECONDS: &str = "mixmatch_http_request_duration_seconds";
/// Images classified, by model and outcome.
pub const PREDICT_IMAGES: &str = "mixmatch_predict_images_total";
/// Images in the forward pass that answered a request.
pub const PREDICT_BATCH: &str = "mixmatch_predict_batch_size";
/// Seconds of a whole `POST /predict` inside the model room.
pub const PREDICT_SECONDS: &str = "mixmatch_predict_duration_seconds";
/// Images waiting for a model.
pub const PREDICT_QUEUE: &str = "mixmatch_predict_queue_images";
/// Jobs by state.
pub const JOBS: &str = "mixmatch_jobs";
/// Whether the store can be read, 1 or 0.
pub const STORE_UP: &str = "mixmatch_store_up";
/// Slots by what they do.
pub const SLOTS: &str = "mixmatch_worker_slots";

/// The process' recorder.
pub fn recorder() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let seconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];
        let batches = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &seconds)
            .and_then(|builder| builder.set_buckets_for_metric(Matcher::Full(PREDICT_BATCH.to_owned()), &batches))
            .expect("the bucket lists are not empty")
            .build_recorder();
        let handle = recorder.handle();
        // Somebody embedding the crate may have a recorder of their own; then theirs counts.
        let _ = metrics::set_global_recorder(recorder);
        describe();
        handle
    })
}

/// Keeps the recorder's histograms small until the server stops: what was observed would otherwise pile up
/// until somebody asks for `/metrics`, and perhaps nobody ever does.
pub async fn upkeep(recorder: &'static PrometheusHandle, app: AppState) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(5)) => recorder.run_upkeep(),
            () = app.lifecycle.closed() => return,
        }
    }
}

fn describe() {
    metrics::describe_counter!(
        HTTP_REQUESTS,
        "Requests answered, by method, route and status; 499: the caller went away"
    );
    metrics::describe_histogram!(HTTP_SECONDS, "Seconds from request to answer");
    metrics::describe_counter!(PREDICT_IMAGES, "Images classified, by model and outcome");
    metrics::describe_histogram!(PREDICT_BATCH, "Images in the forward pass that answered a request");
    metrics::describe_histogram!(PREDICT_SECONDS, "Seconds of a prediction, decoding and waiting included");
    metrics::describe_gauge!(PREDICT_QUEUE, "Images waiting for a model");
    metrics::describe_gauge!(JOBS, "Jobs by state; absent while the store cannot be read");
    metrics::describe_gauge!(STORE_UP, "Whether the store can be read, 1 or 0");
    metrics::describe_gauge!(SLOTS, "Worker slots, busy and idle");
}

/// A request id is the caller's `x-request-id` if it is sane, else a new UUID v7.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewRequestId;

impl MakeRequestId for NewRequestId {
    fn make_request_id<B>(&mut self, _request: &axum::http::Request<B>) -> Option<RequestId> {
        HeaderValue::from_str(&Uuid::now_v7().to_string()).ok().map(RequestId::new)
    }
}

/// Drops a caller's request id that does not belong into a log line.
pub async fn sane_request_id(mut request: Request, next: Next) -> Response {
    if !has_sane_id(request.headers()) {
        request.headers_mut().remove("x-request-id");
    }
    next.run(request).await
}

fn has_sane_id(headers: &HeaderMap) -> bool {
    headers.get("x-request-id").is_some_and(|id| {
        let bytes = id.as_bytes();
        (1..=128).contains(&bytes.len())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
    })
}

/// What is counted for a request that nobody waits for any more, as nginx has it: HTTP knows no such status.
const CALLER_GONE: u16 = 499;

/// Times a request, counts it, and gives everything logged during it the request's id.
pub async fn observe(request: Request, next: Next) -> Response {
    let underway = Underway::of(&request);
    let response = next.run(request).instrument(underway.span.clone()).await;
    underway.answered(response.status());
    response
}

/// A request that is not answered yet. The connection takes it away where its caller hangs up: then it is counted as it is dropped.
struct Underway {
    started: Instant,
    method: Method,
    route: String,
    span: Span,
    answered: bool,
}

impl Underway {
    fn of(request: &Request) -> Self {
        let started = Instant::now();
        let method = request.method().clone();
        let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
        let id = request.headers().get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or("-");
        let path = request.uri().path();
        let span = tracing::info_span!("request", %id, %method, path, caller = tracing::field::Empty);
        Self { started, method, route, span, answered: false }
    }

    fn answered(mut self, status: StatusCode) {
        self.answered = true;
        let milliseconds = self.count(status.as_u16());
        self.span.in_scope(|| {
            if status.is_server_error() {
                tracing::warn!(status = status.as_u16(), milliseconds, "answered");
            } else {
                tracing::debug!(status = status.as_u16(), milliseconds, "answered");
            }
        });
    }

    /// Counts it under this status; gives the milliseconds that it took.
    fn count(&self, status: u16) -> f64 {
        let seconds = self.started.elapsed().as_secs_f64();
        let labels = [
            ("method", known_method(&self.method).to_owned()),
            ("route", self.route.clone()),
            ("status", status.to_string()),
        ];
        metrics::counter!(HTTP_REQUESTS, &labels).increment(1);
        metrics::histogram!(HTTP_SECONDS, "route" => self.route.clone()).record(seconds);
        (seconds * 1e6).round() / 1e3
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        if !self.answered {
            let milliseconds = self.count(CALLER_GONE);
            let status = CALLER_GONE;
            self.span.in_scope(|| tracing::info!(status, milliseconds, "the caller went away before the answer"));
        }
    }
}

/// A method's name. Any word may stand in a request, from anybody, and each would be a series that stays.
fn known_method(method: &Method) -> &str {
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
        Method::TRACE,
        Method::CONNECT,
    ];
    if known.contains(method) { method.as_str() } else { "other" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn;
    use axum::routing::get;
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;

    #[tokio::test]
    async fn a_request_whose_caller_went_away_is_counted() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let _here = metrics::set_default_local_recorder(&recorder);
        let router = Router::new()
            .route("/slow", get(async || std::future::pending::<()>().await))
            .route("/quick", get(async || StatusCode::NO_CONTENT))
            .layer(from_fn(observe));
        let service = TowerToHyperService::new(router);
        let ask = |path: &str| service.call(Request::builder().uri(path).body(Body::empty()).unwrap());
        let mut slow = Box::pin(ask("/slow"));
        assert!(futures::poll!(slow.as_mut()).is_pending());
        drop(slow);
        assert_eq!(ask("/quick").await.unwrap().status(), StatusCode::NO_CONTENT);
        let told = handle.render();
        let counted: Vec<&str> = told.lines().filter(|line| line.starts_with("mixmatch_http_requests_total")).collect();
        let has = |route: &str, status: &str| {
            counted.iter().any(|line| line.contains(route) && line.contains(status) && line.ends_with(" 1"))
        };
        assert!(counted.len() == 2 && has("\"/slow\"", "\"499\"") && has("\"/quick\"", "\"204\""), "{told}");
    }

    #[test]
    fn methods_that_somebody_made_up_are_one() {
        assert_eq!(known_method(&Method::DELETE), "DELETE");
        assert_eq!(known_method(&Method::from_bytes(b"AAAA1").unwrap()), "other");
    }

    #[test]
    fn a_strange_request_id_is_not_taken_over() {
        let with = |id: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-request-id", HeaderValue::from_bytes(id.as_bytes()).unwrap());
            has_sane_id(&headers)
        };
        assert!(with("abc-123_4.5"));
        assert!(!with("two words") && !with("") && !with(&"x".repeat(200)) && !with("{\"a\":1}"));
    }
}
