//! `/`: the dashboard's files, from inside the binary. They need no key; what they ask for does.

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse;
use axum::routing::get;

use super::state::AppState;

/// One route for each of the dashboard's files.
pub fn routes() -> Router<AppState> {
    crate::web::assets()
        .iter()
        .fold(Router::new(), |router, asset| router.route(asset.path, get(async move || serve(asset))))
}

fn serve(asset: &'static crate::web::Asset) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type)),
        // The files change with the binary only, but their names do not.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        // A page from elsewhere must not lead somebody's clicks to our buttons.
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(
                "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; \
                 frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
            ),
        ),
    ];
    (headers, asset.body)
}
