//! What holds for every route: the description, the key, the errors.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::app::{TestApp, expect, pointers, problem};
use super::pictures;

#[test]
fn the_committed_description_is_that_of_the_routes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/openapi.json");
    let committed = std::fs::read_to_string(path).unwrap();
    assert!(
        committed == mixmatch::api::openapi_json(),
        "openapi/openapi.json is not what the routes say; `make openapi` writes it"
    );
}

/// What generators of clients stumble over.
#[test]
fn a_client_can_be_made_of_the_description() {
    let description: Value = serde_json::from_str(&mixmatch::api::openapi_json()).unwrap();
    let mut names = BTreeSet::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let what = format!("{method} {path}");
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name), "{what}: another operation is named {name}, too");
            // It is the `next_cursor` of an answer, which is a string.
            let cursor = operation["parameters"].as_array().into_iter().flatten().find(|one| one["name"] == "cursor");
            assert!(cursor.is_none_or(|cursor| cursor["schema"]["type"] == "string"), "{what}: {cursor:?}");
            let answers = operation["responses"].as_object().unwrap();
            for (status, answer) in answers {
                assert!(answer["description"].as_str().is_some_and(|text| !text.is_empty()), "{what}: {status}");
            }
            let bodies = answers.values().chain([&operation["requestBody"]]);
            for (media, content) in bodies.filter_map(|body| body["content"].as_object()).flatten() {
                let bytes = media.starts_with("image/") || media == "application/octet-stream";
                assert!(!bytes || content["schema"]["type"] == "string", "{what}: {media} is {content}");
            }
        }
    }
    assert!(names.contains("jobs_create") && names.contains("predict"), "{names:?}");
    let schemas = &description["components"]["schemas"];
    let mut closed = Vec::new();
    objects_without_fields(schemas, "", &mut closed);
    assert!(closed.is_empty(), "no field at all could be given to {closed:?}");
    assert_eq!(schemas["JobRequest"]["allOf"][0]["additionalProperties"], true, "{}", schemas["JobRequest"]);
    assert_eq!(schemas["JobOrSweep"]["discriminator"]["propertyName"], "kind");
    // What is not given is the preset's: the schema must not promise other values.
    let settings = schemas["TrainConfig"]["properties"].as_object().unwrap();
    assert!(settings.values().all(|setting| setting.get("default").is_none()));
    assert_eq!((&settings["batch"]["minimum"], &settings["batch"]["maximum"]), (&json!(2), &json!(4096)));
}

/// Where a schema is an object, and tells neither its fields nor that it may have any: a client in TypeScript could then give none.
fn objects_without_fields(schema: &Value, at: &str, found: &mut Vec<String>) {
    let kind = &schema["type"];
    let is_object = kind == "object" || kind.as_array().is_some_and(|kinds| kinds.contains(&json!("object")));
    if is_object && schema.get("properties").is_none() && schema.get("additionalProperties").is_none() {
        found.push(at.to_owned());
    }
    for (name, inner) in schema.as_object().into_iter().flatten() {
        objects_without_fields(inner, &format!("{at}/{name}"), found);
    }
    for (place, inner) in schema.as_array().into_iter().flatten().enumerate() {
        objects_without_fields(inner, &format!("{at}/{place}"), found);
    }
}

/// Headers that an answer may have without a word in the description: those of HTTP itself, and what is for browsers alone.
const OF_ANY_ANSWER: [&str; 5] =
    ["content-length", "content-type", "cross-origin-resource-policy", "date", "transfer-encoding"];

#[tokio::test]
async fn the_headers_of_an_answer_are_described() {
    let app = TestApp::with_child("sleep 600", |_| {}).await;
    app.small_data_set().await;
    let id = app.queue(&super::app::tiny_job("shapes")).await;
    let description = app.json("/openapi.json").await;
    let card = app.get("/models/none/versions/1/card").header("accept", "image/png");
    let compressed = app.post("/jobs").header("content-encoding", "gzip");
    let test = app.client.head(format!("{}/models/none/versions/1/test?dataset=none", app.base));
    for (method, path, request, status, header) in [
        ("get", "/livez", app.get("/livez"), "200", "x-request-id"),
        ("get", "/jobs", app.get("/jobs").header("via", "1.1 proxy"), "401", "www-authenticate"),
        ("get", "/models/{name}/versions/{version}/card", card, "406", "vary"),
        ("get", "/jobs/{id}/events", app.get(&format!("/jobs/{id}/events")), "200", "cache-control"),
        ("post", "/jobs", compressed, "415", "accept-encoding"),
        ("get", "/models/{name}/versions/{version}/test", test, "405", "allow"),
    ] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_str(), status, "{path}: {answer:?}");
        assert!(answer.headers().contains_key(header), "{path}: {answer:?}");
        let described = &description["paths"][path][method]["responses"][status]["headers"];
        for name in answer.headers().keys().filter(|name| !OF_ANY_ANSWER.contains(&name.as_str())) {
            assert!(described[name.as_str()].is_object(), "{path}: {name} is not in {described}");
        }
    }
    assert!(description["components"]["headers"]["x-request-id"]["schema"].is_object(), "what the answers refer to");
    app.stop().await;
}

#[tokio::test]
async fn the_description_and_its_pages_are_served_offline() {
    let app = TestApp::start().await;
    let description = app.json("/openapi.json").await;
    assert!(description["paths"]["/predict"]["post"].is_object());
    for path in ["/docs/", "/"] {
        let page = app.get(path).send().await.unwrap();
        assert_eq!(page.status(), 200, "{path}");
        let text = page.text().await.unwrap();
        assert!(text.contains("<html"), "{path}: {text}");
        assert!(!text.contains("https://"), "{path} fetches from elsewhere: {text}");
    }
}

#[tokio::test]
async fn no_page_can_be_framed() {
    let app = TestApp::start().await;
    for path in ["/", "/assets/main.js", "/docs/", "/docs/swagger-ui-bundle.js", "/openapi.json"] {
        let page = app.get(path).send().await.unwrap();
        assert_eq!(page.status(), 200, "{path}");
        let header = |name: &str| page.headers().get(name).map_or("", |value| value.to_str().unwrap());
        let policy = header("content-security-policy");
        for part in ["frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"] {
            assert!(policy.split("; ").any(|directive| directive == part), "{path} lacks {part}: {policy}");
        }
        assert_eq!(header("x-frame-options"), "DENY", "{path}");
    }
}

#[tokio::test]
async fn no_answer_is_handed_to_a_page_from_elsewhere() {
    let app = TestApp::start().await;
    for (path, status) in [("/", 200_u16), ("/docs/", 200), ("/livez", 200), ("/jobs", 200), ("/jobs/x", 404)] {
        let answer = app.get(path).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        assert_eq!(answer.headers()["cross-origin-resource-policy"], "same-origin", "{path}");
    }
    let refused = app.delete("/livez").send().await.unwrap();
    assert_eq!(refused.status(), 405);
    assert_eq!(refused.headers()["cross-origin-resource-policy"], "same-origin", "{refused:?}");
}

#[tokio::test]
async fn health_says_what_it_computes_on_and_why() {
    let app = TestApp::with(|config| {
        config.limits.upload_bytes = 12_345;
        config.limits.image.max_pixels = 67_890;
    })
    .await;
    assert_eq!(app.json("/livez").await["status"], "ok");
    let ready = app.json("/readyz").await;
    assert_eq!(ready["predict"]["device"], "cpu");
    assert!(["float32", "bf16"].contains(&ready["predict"]["precision"].as_str().unwrap()), "{ready}");
    assert!(!ready["predict"]["reason"].as_str().unwrap().is_empty());
    assert_eq!(ready["slots"][0]["device"], "cpu");
    assert_eq!(ready["max_upload"], 12_345);
    assert_eq!(ready["max_pixels"], 67_890);
    let metrics = app.get("/metrics").send().await.unwrap().text().await.unwrap();
    let counted = metrics.lines().any(|line| line.starts_with("mixmatch_http_requests") && line.contains("/livez"));
    assert!(counted, "requests before the first look count too: {metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_store_cannot_be_read_is_not_ready() {
    let app = TestApp::start().await;
    for at in 0..40 {
        app.import(&format!("set-{at}"), &pictures::data_set(4, 2)).await;
    }
    // Opened anew: nothing is remembered of the file.
    let app = TestApp::at(app.stop().await, |_| {}).await;
    let file = std::fs::OpenOptions::new().write(true).open(app.directory.path().join("data/mixmatch.db")).unwrap();
    let pages = file.metadata().unwrap().len() / 4096;
    for page in 1..pages {
        file.write_all_at(&[0x5a; 4096], page * 4096).unwrap();
    }
    let refused = problem(app.get("/readyz").send().await.unwrap(), 503).await;
    assert!(refused["detail"].as_str().unwrap().contains("cannot be read"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_balancer_has_time_to_see_that_the_server_stops() {
    let app = TestApp::with(|config| config.drain_delay = Duration::from_millis(1500)).await;
    assert_eq!(app.get("/readyz").send().await.unwrap().status(), 200);
    let (client, base) = (app.client.clone(), app.base.clone());
    let began = Instant::now();
    let stopping = tokio::spawn(app.stop());
    let not_ready = async {
        loop {
            let answer = client.get(format!("{base}/readyz")).send().await.unwrap();
            if answer.status() == 503 {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    problem(tokio::time::timeout(Duration::from_secs(60), not_ready).await.unwrap(), 503).await;
    // A connection of its own: the ones that are open would be served to their end in any case.
    let fresh = reqwest::Client::new().get(format!("{base}/models")).send().await.unwrap();
    assert_eq!(fresh.status(), 200, "what still comes is answered");
    stopping.await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(1500));
    assert!(reqwest::Client::new().get(format!("{base}/livez")).send().await.is_err(), "it has stopped");
}

#[tokio::test]
async fn with_a_key_only_health_and_pages_are_open() {
    let key = "correct-horse-battery";
    let app = TestApp::with(|config| {
        config.api_key = Some(mixmatch::config::ApiKey::new(key).unwrap());
    })
    .await;
    for path in ["/livez", "/readyz", "/docs/", "/openapi.json", "/"] {
        assert_eq!(app.get(path).send().await.unwrap().status(), 200, "{path}");
    }
    for path in ["/jobs", "/datasets", "/models", "/metrics"] {
        problem(app.get(path).send().await.unwrap(), 401).await;
        let wrong = app.get(path).bearer_auth("wrong-horse-battery").send().await.unwrap();
        assert!(wrong.headers().contains_key("www-authenticate"), "{path}");
        problem(wrong, 401).await;
        assert_eq!(app.get(path).bearer_auth(key).send().await.unwrap().status(), 200, "{path}");
    }
    problem(app.post("/predict").body("x").send().await.unwrap(), 401).await;
    problem(app.post("/jobs").json(&json!({})).send().await.unwrap(), 401).await;
}

#[tokio::test]
async fn a_configured_key_guards_only_while_it_is_set() {
    let key = mixmatch::config::ApiKey::new("correct-horse-battery").unwrap();
    let app = TestApp::with(|config| config.api_key = Some(key)).await;
    problem(app.get("/jobs").send().await.unwrap(), 401).await;
    let app = TestApp::at(app.stop().await, |_| {}).await;
    assert_eq!(app.get("/jobs").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn errors_have_one_shape() {
    let app = TestApp::start().await;
    problem(app.get("/nowhere").send().await.unwrap(), 404).await;
    problem(app.get("/jobs/not-an-id").send().await.unwrap(), 404).await;
    problem(app.get("/datasets/none").send().await.unwrap(), 404).await;
    problem(app.get("/models/none/versions/1").send().await.unwrap(), 404).await;
    problem(app.delete("/livez").send().await.unwrap(), 405).await;
    problem(app.post("/jobs").body("{}").send().await.unwrap(), 415).await;
    let broken = app.post("/jobs").header("content-type", "application/json").body("{\"dataset\": ");
    problem(broken.send().await.unwrap(), 400).await;
    let long = app.post("/jobs").header("content-type", "application/json").body(vec![b' '; 2 << 20]);
    problem(long.send().await.unwrap(), 413).await;
    let page = problem(app.get("/jobs?limit=0").send().await.unwrap(), 422).await;
    assert_eq!(pointers(&page), ["?limit"]);
    let page = problem(app.get("/jobs?state=lost").send().await.unwrap(), 422).await;
    assert!(page["errors"][0]["detail"].as_str().unwrap().contains("queued"), "{page}");
    problem(app.get("/jobs?cursor=%00").send().await.unwrap(), 422).await;
    problem(app.get("/jobs?colour=red").send().await.unwrap(), 422).await;
    let both = problem(app.post("/predict?top_k=x&threshold=y").send().await.unwrap(), 422).await;
    assert_eq!(pointers(&both), ["?threshold", "?top_k"]);
    let json = app.put("/models/none/aliases/champion").json(&json!({"version": "1"})).send().await.unwrap();
    let json = problem(json, 422).await;
    assert_eq!(pointers(&json), ["/version"]);
    let detail = json["errors"][0]["detail"].as_str().unwrap();
    assert!(detail.contains("version must be a whole number from 0 to 4294967295, not \"1\""), "{json}");
    let name = problem(app.put("/pretrained/Bad%20Name").body("x").send().await.unwrap(), 422).await;
    assert_eq!((pointers(&name), &name["errors"][0]["code"]), (vec!["name".to_owned()], &json!("bad_name")));
}

#[tokio::test]
async fn a_refused_head_tells_the_length_that_get_has() {
    let app = TestApp::start().await;
    for path in ["/nowhere", "/jobs/not-an-id", "/datasets/none", "/jobs?limit=0"] {
        let got = app.get(path).send().await.unwrap();
        let head = app.client.head(format!("{}{path}", app.base)).send().await.unwrap();
        assert!(got.status().is_client_error() && head.status() == got.status(), "{path}: {head:?}");
        let length = |answer: &reqwest::Response| answer.headers()["content-length"].to_str().unwrap().to_owned();
        assert_eq!(length(&head), length(&got), "{path}");
        assert!(head.bytes().await.unwrap().is_empty() && !got.bytes().await.unwrap().is_empty(), "{path}");
    }
}

#[tokio::test]
async fn every_answer_carries_a_request_id_and_a_sane_one_is_kept() {
    let app = TestApp::start().await;
    let given = app.get("/livez").header("x-request-id", "abc-123").send().await.unwrap();
    assert_eq!(given.headers()["x-request-id"], "abc-123");
    let made = app.get("/livez").send().await.unwrap();
    assert!(made.headers()["x-request-id"].len() > 8);
}

#[tokio::test]
async fn a_second_server_on_the_same_directory_is_refused() {
    let app = TestApp::start().await;
    let mut config =
        mixmatch::config::ServeConfig::new(app.directory.path().join("data"), "127.0.0.1:0".parse().unwrap());
    config.worker.devices = "cpu".parse().unwrap();
    let refused = mixmatch::api::Server::start(config, mixmatch::nn::device::CudaStatus::NoDriver).await;
    let message = format!("{:#}", refused.err().expect("two servers on one directory"));
    assert!(message.contains("in use") || message.contains("lock"), "{message}");
}

#[tokio::test]
async fn lists_are_walked_with_cursors() {
    let app = TestApp::with_child("sleep 600", |_| {}).await;
    app.small_data_set().await;
    let mut queued = Vec::new();
    for _ in 0..5 {
        queued.push(app.queue(&super::app::tiny_job("shapes")).await);
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = app.json(&format!("/jobs?limit=2{cursor}")).await;
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 2);
        seen.extend(items.iter().map(|job| job["id"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    queued.reverse();
    assert_eq!(seen, queued, "newest first, each once");
    expect(app.post(&format!("/jobs/{}/cancel", seen[0])).send().await.unwrap(), 202).await;
    assert_eq!(app.json("/jobs?state=canceled").await["items"].as_array().unwrap().len(), 1);
    app.stop().await;
}
