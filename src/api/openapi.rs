//! The OpenAPI description: everything that is said once for the whole API. The paths and schemas come
//! from the routes themselves (`router.rs`), so the two cannot drift.

use utoipa::Number;
use utoipa::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, HeaderBuilder, Ref, RefOr, Response, ResponseBuilder, Schema};

use crate::train::hyper_parameters;

/// Title, tags and the security scheme.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "mixmatch",
        description = "Trains image classifiers from few labels and many unlabelled images with MixMatch, and serves them.\n\n\
            Errors are `application/problem+json` (RFC 9457): `errors` lists everything that is wrong. Lists answer \
            `{\"items\": […], \"next_cursor\": …}`. Times are RFC 3339, ids are UUID v7. A key's scope is \
            `predict`, `train` or `admin`, each containing the ones before; what a call needs stands at its lock. A server \
            on a loopback address that never had a key needs none.",
        license(name = "MIT OR Apache-2.0"),
    ),
    tags(
        (name = "datasets", description = "Import images with a sheet of labels"),
        (name = "jobs", description = "Train, and watch it"),
        (name = "models", description = "What was published, and which version serves"),
        (name = "pretrained", description = "Weights that a job may start from"),
        (name = "predict", description = "Classify images"),
        (name = "audit", description = "Who changed what"),
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
            .description(Some(
                "A key from `mixmatch keys create`, or the server's own (MIXMATCH_API_KEY), which has scope admin. \
                 Beside each call stands the scope that it needs.",
            ))
            .build();
        openapi.components.get_or_insert_default().add_security_scheme("api_key", SecurityScheme::Http(scheme));
    }
}

/// Adds what every guarded route may answer, so that it need not be said beside each of them.
pub fn add_common_answers(description: &mut utoipa::openapi::OpenApi) {
    for item in description.paths.paths.values_mut() {
        for operation in [&mut item.get, &mut item.put, &mut item.post, &mut item.delete].into_iter().flatten() {
            add_to(operation);
        }
    }
}

/// States the bounds of a configuration's numbers, and takes out its defaults: what is not given is the preset's, and what the schema
/// would call a default is what a field meant before it existed.
pub fn state_ranges(description: &mut utoipa::openapi::OpenApi) {
    let schemas = description.components.as_mut().map(|components| &mut components.schemas);
    let Some(RefOr::T(Schema::Object(config))) = schemas.and_then(|schemas| schemas.get_mut("TrainConfig")) else {
        return;
    };
    for (name, field) in &mut config.properties {
        match field {
            RefOr::Ref(reference) => reference.default = None,
            RefOr::T(Schema::Object(field)) => {
                field.default = None;
                if let Some((low, high)) = hyper_parameters::range(name) {
                    (field.minimum, field.maximum) = (Some(Number::Float(low)), Some(Number::Float(high)));
                }
            }
            RefOr::T(_) => {}
        }
    }
}

fn add_to(operation: &mut Operation) {
    let mut answers = vec![
        ("401", "No key, or not a good one"),
        ("403", "The key's scope is too small"),
        ("429", "This key sends too many requests"),
    ];
    if operation.request_body.is_some() {
        answers.push(("400", "The request cannot be read"));
        answers.push(("408", "The body did not go on arriving"));
        answers.push(("413", "The body is too large"));
        answers.push(("415", "The body's media type is not one that is read here"));
    }
    answers.extend([("500", "The cause is in the server's log"), ("503", "Not now"), ("504", "Not in time")]);
    for (status, text) in answers {
        operation.responses.responses.entry(status.to_owned()).or_insert_with(|| problem(status, text).into());
    }
}

fn problem(status: &str, text: &str) -> Response {
    let schema = Ref::from_schema_name("ProblemBody");
    let answer = ResponseBuilder::new()
        .description(text)
        .content("application/problem+json", ContentBuilder::new().schema(Some(schema)).build());
    let whole_seconds = HeaderBuilder::new().description(Some("Seconds until it is worth another try")).build();
    match status {
        "429" | "503" => answer.header("retry-after", whole_seconds).build(),
        _ => answer.build(),
    }
}
