//! The OpenAPI description: everything that is said once for the whole API. The paths and schemas come
//! from the routes themselves (`router.rs`), so the two cannot drift.

use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};

/// Title, tags and the security scheme.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "mixmatch",
        description = "Trains image classifiers from few labels and many unlabelled images with MixMatch, and serves them.\n\n\
            Errors are `application/problem+json` (RFC 9457): `errors` lists everything that is wrong. Lists answer \
            `{\"items\": […], \"next_cursor\": …}`. Times are RFC 3339, ids are UUID v7. The API key is needed only where \
            the server was started with one.",
        license(name = "MIT OR Apache-2.0"),
    ),
    tags(
        (name = "datasets", description = "Import images with a sheet of labels"),
        (name = "jobs", description = "Train, and watch it"),
        (name = "models", description = "What was published, and which version serves"),
        (name = "pretrained", description = "Weights that a job may start from"),
        (name = "predict", description = "Classify images"),
        (name = "health", description = "For load balancers and Prometheus"),
    ),
    modifiers(&BearerKey),
    security(("api_key" = [])),
)]
pub struct Description;

struct BearerKey;

impl utoipa::Modify for BearerKey {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("The server's API key (--api-key, MIXMATCH_API_KEY), where one is set"))
            .build();
        openapi.components.get_or_insert_default().add_security_scheme("api_key", SecurityScheme::Http(scheme));
    }
}
