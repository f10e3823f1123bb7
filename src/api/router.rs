//! Every route, and what lies around them.
//!
//! Routes of the API are added through `routes!` only: that registers the handler and its description in
//! one step. What is around a handler, from the outside in: answers are kept from others' pages → request id → counting
//! and tracing → problems get their `instance` → the rest of a refused body is read → a panic becomes a problem → the key,
//! its scope and its rate → changes are written down → no body is compressed, and it must keep arriving → the route.

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::{from_fn, from_fn_with_state, map_response};
use axum::response::Response;
use axum::{Extension, Router};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{PropagateRequestIdLayer, SetRequestIdLayer};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Guard, Needs};
use super::extract::BodyLimit;
use super::openapi::{Description, add_common_answers, complete};
use super::problem::{self, Problem};
use super::state::AppState;
use super::{
    audit, auth, dashboard, dataset_pictures, datasets, deadline, docs, drain, encoding, health, job_events,
    job_metrics, job_report, job_tensorboard, jobs, model_files, model_test, models, pace, predict, pretrained,
    telemetry, upload,
};
use crate::config::{LimitsConfig, ServeConfig};

/// Answers that are there at once: they get the ordinary deadline.
fn ordinary(config: &ServeConfig) -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(datasets::list))
        .routes(routes!(datasets::get, datasets::delete))
        .routes(routes!(datasets::report))
        .routes(routes!(dataset_pictures::samples))
        .routes(routes!(dataset_pictures::augmentations))
        .routes(routes!(dataset_pictures::mixup))
        .routes(routes!(jobs::create, jobs::list))
        .routes(routes!(jobs::get, jobs::delete))
        .routes(routes!(jobs::cancel))
        .routes(routes!(jobs::pause))
        .routes(routes!(jobs::resume))
        .routes(routes!(jobs::retry))
        .routes(routes!(job_metrics::metrics))
        .routes(routes!(job_tensorboard::tensorboard))
        .routes(routes!(job_report::report))
        .routes(routes!(job_report::report_of_version))
        .routes(routes!(job_events::logs))
        .routes(routes!(models::list))
        .routes(routes!(models::get))
        .routes(routes!(models::version, models::delete))
        .routes(routes!(model_files::card))
        .routes(routes!(pretrained::list))
        .routes(routes!(pretrained::get, pretrained::delete))
        .routes(routes!(health::metrics))
        .routes(routes!(audit::list))
        .layer(from_fn_with_state(config.request_timeout, deadline::in_time))
}

/// Answers that take as long as they take: uploads, downloads, streams, and predictions, which keep a
/// deadline of their own.
fn patient(limits: &LimitsConfig) -> OpenApiRouter<AppState> {
    let upload = OpenApiRouter::new()
        .routes(routes!(datasets::create))
        .routes(routes!(pretrained::create))
        .layer(DefaultBodyLimit::max(upload::most_bytes(limits.upload_bytes)))
        .layer(Extension(upload::body_limit(limits.upload_bytes)));
    let predict = OpenApiRouter::new()
        .routes(routes!(predict::predict))
        .layer(DefaultBodyLimit::max(limits.predict_bytes))
        .layer(Extension(BodyLimit { bytes: limits.predict_bytes, setting: Some("--max-predict") }));
    OpenApiRouter::new()
        .routes(routes!(job_events::events))
        .routes(routes!(model_files::weights))
        .routes(routes!(model_files::predictions))
        .routes(routes!(model_test::test))
        .routes(routes!(models::set_alias, models::delete_alias))
        .merge(upload)
        .merge(predict)
}

/// What needs no key.
fn open() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(health::livez)).routes(routes!(health::readyz))
}

/// What needs a key, with the answers that every such route may give in its description.
fn guarded(config: &ServeConfig) -> OpenApiRouter<AppState> {
    let mut guarded = ordinary(config).merge(patient(&config.limits));
    add_common_answers(guarded.get_openapi_mut());
    guarded
}

/// The routes and their description.
fn described(guarded: OpenApiRouter<AppState>) -> (Router<AppState>, utoipa::openapi::OpenApi) {
    let (router, mut description) =
        OpenApiRouter::with_openapi(Description::openapi()).merge(open()).merge(guarded).split_for_parts();
    complete(&mut description);
    (router, description)
}

/// The OpenAPI description as it is committed: pretty JSON with a last newline.
pub fn openapi_json() -> String {
    let config = ServeConfig::new("data", ([127, 0, 0, 1], 0).into());
    let mut text = described(guarded(&config)).1.to_pretty_json().expect("a description always encodes");
    text.push('\n');
    text
}

/// Keeps answers out of pages from elsewhere: a browser that was led to ask for one, as for a picture, does not hand it over.
async fn own_pages_only(mut response: Response) -> Response {
    let name = HeaderName::from_static("cross-origin-resource-policy");
    response.headers_mut().insert(name, HeaderValue::from_static("same-origin"));
    response
}

/// The whole service.
pub fn router(app: AppState) -> Router {
    let request_id = HeaderName::from_static("x-request-id");
    let guarded = guarded(&app.config);
    let guard = Guard::new(Arc::clone(&app), Needs::of(guarded.get_openapi()));
    let paced = guarded.layer(from_fn_with_state(app.config.connections, pace::keep_pace));
    let paced = paced.layer(from_fn(encoding::refuse_encoded));
    let (api, _) = described(paced.layer(from_fn_with_state(guard, auth::guard)));
    api.merge(docs::routes(openapi_json()))
        .merge(dashboard::routes())
        .fallback(async || Problem::not_found("there is nothing at this path; /docs lists what there is"))
        .layer(DefaultBodyLimit::max(app.config.limits.body_bytes))
        .layer(Extension(BodyLimit { bytes: app.config.limits.body_bytes, setting: None }))
        .layer(CatchPanicLayer::custom(problem::from_panic))
        .layer(from_fn(drain::drain_refused))
        .layer(from_fn(problem::finish))
        .layer(from_fn(telemetry::observe))
        .layer(PropagateRequestIdLayer::new(request_id.clone()))
        .layer(SetRequestIdLayer::new(request_id, telemetry::NewRequestId))
        .layer(from_fn(telemetry::sane_request_id))
        .layer(map_response(own_pages_only))
        .with_state(app)
}
