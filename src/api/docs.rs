//! `/openapi.json`, and Swagger UI at `/docs`, from files inside the binary: it works offline.

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::state::AppState;

/// The routes of the documentation. They describe the API and are no part of it.
pub fn routes(openapi: String) -> Router<AppState> {
    let openapi: axum::body::Bytes = openapi.into();
    let ui: Router<AppState> = SwaggerUi::new("/docs")
        .config(Config::from("/openapi.json").validator_url("none").try_it_out_enabled(true))
        .into();
    ui.route("/openapi.json", get(async move || json(openapi.clone())))
}

fn json(body: axum::body::Bytes) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")], body)
}
