//! `/openapi.json`, and Swagger UI at `/docs`, from files inside the binary: it works offline.

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::state::AppState;

/// The routes of the documentation. They describe the API and are no part of it.
pub fn routes(openapi: String) -> Router<AppState> {
    let openapi: axum::body::Bytes = openapi.into();
    let ui: Router<AppState> = SwaggerUi::new("/docs")
        .config(Config::from("/openapi.json").validator_url("none").try_it_out_enabled(true))
        .into();
    ui.route("/openapi.json", get(async move || json(openapi.clone()))).route_layer(map_response(unframed))
}

/// The page can send requests, so that it must not lie in others' frames either. Where its parts come from is left to it: it
/// writes styles and pictures into itself as it likes, and shows nothing but our own description.
async fn unframed(mut response: Response) -> Response {
    let policy = HeaderValue::from_static("frame-ancestors 'none'; base-uri 'none'; form-action 'self'");
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response.headers_mut().insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    response
}

fn json(body: axum::body::Bytes) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")], body)
}
