//! The OpenAPI description: everything that is said once for the whole API. The paths and schemas come
//! from the routes themselves (`router.rs`), so the two cannot drift.

use axum::http::StatusCode;
use utoipa::Number;
use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::schema::{AdditionalProperties, AnyOf, ArrayItems, KnownFormat, SchemaFormat, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    AllOf, Content, ContentBuilder, Header, HeaderBuilder, ObjectBuilder, OneOf, Ref, RefOr, Response, ResponseBuilder,
    Schema,
};

use crate::train::hyper_parameters;

/// The header of every answer, described once.
const REQUEST_ID: &str = "x-request-id";

/// Title, tags and the security scheme.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "mixmatch",
        description = "Trains image classifiers from few labels and many unlabelled images with MixMatch, and serves them.\n\n\
            Errors are `application/problem+json` (RFC 9457): `errors` lists everything that is wrong. Lists answer \
            `{\"items\": […], \"next_cursor\": …}`. Times are RFC 3339, ids are UUID v7. A key's scope is \
            `predict`, `train` or `admin`, each containing the ones before; what a call needs stands at its lock. A server \
            on a loopback address needs none, unless one is configured or was ever made for it.",
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
    description.paths.paths.values_mut().flat_map(operations).for_each(add_to);
    for (path, item) in &mut description.paths.paths {
        // What changes something is written down in the audit first, and predictions are none of that (`auth::guard`).
        let changes = [&mut item.put, &mut item.post, &mut item.delete].into_iter().flatten();
        for operation in changes.filter(|_| path != "/predict") {
            add_answer(operation, "507", "The server's disk is full; nothing was changed");
        }
    }
}

fn add_answer(operation: &mut Operation, status: &str, text: &str) {
    operation.responses.responses.entry(status.to_owned()).or_insert_with(|| problem(text).into());
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete].into_iter().flatten()
}

/// What makes of the routes' descriptions a document that generators of clients take: every operation has a name of its own, every answer
/// a description and the headers that are not told beside its route, and bytes are bytes.
pub fn complete(description: &mut utoipa::openapi::OpenApi) {
    for operation in description.paths.paths.values_mut().flat_map(operations) {
        // utoipa takes the handler's name, and five of them are `list`.
        let (tag, own) = (operation.tags.iter().flatten().next().cloned(), operation.operation_id.take());
        operation.operation_id = match (tag, own) {
            (Some(tag), Some(own)) if tag != own => Some(format!("{tag}_{own}")),
            (tag, own) => own.or(tag),
        };
        if let Some(RefOr::T(body)) = &mut operation.request_body {
            body.content.values_mut().for_each(write_bytes);
        }
        for (status, answer) in &mut operation.responses.responses {
            if let RefOr::T(answer) = answer {
                if answer.description.is_empty() {
                    answer.description = reason(status);
                }
                answer.content.values_mut().for_each(write_bytes);
                add_headers(status, answer);
            }
        }
    }
    let id = "The request's id, as in the log: the caller's own, where it sent one of at most 128 letters, digits, `-`, `_` and `.`";
    let components = description.components.get_or_insert_default();
    components.headers.insert(REQUEST_ID.to_owned(), header(id).into());
    components.schemas.values_mut().for_each(leave_open);
    state_ranges(description);
}

/// Says of an object whose fields are not told that it may have any: generators of clients take it for one that has none.
fn leave_open(schema: &mut RefOr<Schema>) {
    let RefOr::T(schema) = schema else { return };
    match schema {
        Schema::Object(object) => {
            let is_object = match &object.schema_type {
                SchemaType::Type(own) => *own == Type::Object,
                SchemaType::Array(all) => all.contains(&Type::Object),
                SchemaType::AnyValue => false,
            };
            if is_object && object.properties.is_empty() && object.additional_properties.is_none() {
                object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(true)));
            }
            object.properties.values_mut().for_each(leave_open);
            if let Some(AdditionalProperties::RefOr(values)) = object.additional_properties.as_deref_mut() {
                leave_open(values);
            }
        }
        Schema::Array(array) => {
            if let ArrayItems::RefOrSchema(items) = &mut array.items {
                leave_open(items);
            }
        }
        Schema::OneOf(OneOf { items, .. })
        | Schema::AllOf(AllOf { items, .. })
        | Schema::AnyOf(AnyOf { items, .. }) => {
            items.iter_mut().for_each(leave_open);
        }
        _ => {}
    }
}

/// Adds what every answer has, and every one of this status.
fn add_headers(status: &str, answer: &mut Response) {
    let id = RefOr::Ref(Ref::new(format!("#/components/headers/{REQUEST_ID}")));
    answer.headers.insert(REQUEST_ID.to_owned(), id);
    let (name, text) = match status {
        "401" => ("www-authenticate", "`Bearer realm=\"mixmatch\"`"),
        "406" => ("vary", "`accept`"),
        "415" => ("accept-encoding", "`identity`, where it is the body's `Content-Encoding` that is not taken"),
        "429" | "503" => ("retry-after", "Seconds until it is worth another try"),
        _ => return,
    };
    answer.headers.entry(name.to_owned()).or_insert_with(|| header(text).into());
}

fn header(text: &str) -> Header {
    HeaderBuilder::new().description(Some(text)).build()
}

/// What an answer is about whose route says no more than its status.
fn reason(status: &str) -> String {
    let words = match status {
        "404" => "There is no such thing",
        "406" => "`Accept` allows none of the media types that there are",
        "422" => "What is wrong, and where, is listed in `errors`",
        _ => status.parse().ok().and_then(|code: StatusCode| code.canonical_reason()).unwrap_or("An answer"),
    };
    words.to_owned()
}

/// utoipa writes `Vec<u8>` as a list of numbers.
fn write_bytes(content: &mut RefOr<Content>) {
    if let RefOr::T(content) = content
        && matches!(content.schema, Some(RefOr::T(Schema::Array(_))))
    {
        let bytes =
            ObjectBuilder::new().schema_type(Type::String).format(Some(SchemaFormat::KnownFormat(KnownFormat::Binary)));
        content.schema = Some(bytes.into());
    }
}

/// States the bounds of a configuration's numbers, and takes out its defaults: what is not given is the preset's, and what the schema
/// would call a default is what a field meant before it existed.
fn state_ranges(description: &mut utoipa::openapi::OpenApi) {
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
        answers.push(("501", "The body is under a `Transfer-Encoding` beside `chunked`"));
    }
    answers.extend([("500", "The cause is in the server's log"), ("503", "Not now"), ("504", "Not in time")]);
    for (status, text) in answers {
        add_answer(operation, status, text);
    }
}

fn problem(text: &str) -> Response {
    let schema = Ref::from_schema_name("ProblemBody");
    let content = ContentBuilder::new().schema(Some(schema)).build();
    ResponseBuilder::new().description(text).content("application/problem+json", content).build()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    #[test]
    fn whatever_changes_something_may_find_the_disk_full() {
        let description: Value = serde_json::from_str(&crate::api::openapi_json()).unwrap();
        let mut changes = 0;
        for (path, item) in description["paths"].as_object().unwrap() {
            for method in ["post", "put", "delete"].into_iter().filter(|method| item[method].is_object()) {
                let told = item[method]["responses"]["507"].is_object();
                assert_eq!(told, path != "/predict", "{method} {path}");
                changes += usize::from(told);
            }
        }
        assert!(changes > 10, "{changes}");
    }
}
