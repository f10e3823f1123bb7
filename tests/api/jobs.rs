//! Queue, cancel, retry, delete, events: what a job goes through besides learning.

use std::time::Duration;

use futures::StreamExt;
use serde_json::json;

use super::app::{TestApp, expect, pointers, problem, tiny_job};

/// A child that says it trains, and then waits to be told otherwise.
const WAITING: &str = r#"echo '{"type":"phase","phase":"training"}'; sleep 600 & wait"#;

#[tokio::test]
async fn a_wrong_request_names_every_field_and_what_is_allowed() {
    let app = TestApp::with_child(WAITING, |_| {}).await;
    app.small_data_set().await;
    let wrong = json!({"dataset": "shapes", "lamda_u": 5, "k": 0, "temperature": "warm", "labelled": 1_000_000});
    let answer = problem(app.post("/jobs").json(&wrong).send().await.unwrap(), 422).await;
    assert_eq!(pointers(&answer), ["/k", "/labelled", "/lamda_u", "/temperature"]);
    let text = answer.to_string();
    assert!(text.contains("lambda_u"), "a likely name is offered: {text}");
    let seed = json!({"dataset": "shapes", "seed": 9_223_372_036_854_775_808_u64});
    let answer = problem(app.post("/jobs").json(&seed).send().await.unwrap(), 422).await;
    assert_eq!(pointers(&answer), ["/seed"], "OpenAPI's int64 ends before it");
    let no_set = problem(app.post("/jobs").json(&json!({"preset": "quick"})).send().await.unwrap(), 422).await;
    assert_eq!(pointers(&no_set), ["/dataset"]);
    problem(app.post("/jobs").json(&json!({"dataset": "nowhere"})).send().await.unwrap(), 404).await;
    let preset = json!({"dataset": "shapes", "preset": "fast"});
    let answer = problem(app.post("/jobs").json(&preset).send().await.unwrap(), 422).await;
    assert!(answer["errors"][0]["detail"].as_str().unwrap().contains("quick"), "{answer}");
    assert!(app.json("/jobs").await["items"].as_array().unwrap().is_empty(), "nothing was queued");
}

#[tokio::test]
async fn jobs_wait_for_a_slot_in_their_order_and_cancel_frees_it() {
    let app = TestApp::with_child(WAITING, |_| {}).await;
    app.small_data_set().await;
    let first = app.queue(&tiny_job("shapes")).await;
    app.until_job(&first, "training", |job| job["phase"] == "training").await;
    let metrics = app.json(&format!("/jobs/{first}/metrics")).await;
    assert_eq!(metrics, json!({"items": [], "next_cursor": null, "test": null}));
    let second = app.queue(&tiny_job("shapes")).await;
    let third = app.queue(&tiny_job("shapes")).await;
    assert_eq!(app.json(&format!("/jobs/{second}")).await["queue_position"], 1);
    assert_eq!(app.json(&format!("/jobs/{third}")).await["queue_position"], 2);

    // A waiting job is canceled at once; again is harmless.
    for _ in 0..2 {
        let canceled = expect(app.post(&format!("/jobs/{third}/cancel")).send().await.unwrap(), 202).await;
        assert_eq!(canceled["state"], "canceled");
    }
    problem(app.delete(&format!("/jobs/{first}")).send().await.unwrap(), 409).await;
    expect(app.post(&format!("/jobs/{first}/cancel")).send().await.unwrap(), 202).await;
    let first = app.until(&first, &["canceled"]).await;
    assert_eq!(first["cancel_requested"], true);
    assert!(first["finished_at"].is_string());
    app.until(&second, &["running"]).await;

    let third_again = expect(app.post(&format!("/jobs/{third}/retry")).send().await.unwrap(), 202).await;
    assert_eq!(third_again["state"], "queued");
    expect(app.post(&format!("/jobs/{second}/cancel")).send().await.unwrap(), 202).await;
    app.until(&second, &["canceled"]).await;
    app.until(&third, &["running"]).await;
    expect(app.delete(&format!("/jobs/{second}")).send().await.unwrap(), 204).await;
    problem(app.get(&format!("/jobs/{second}")).send().await.unwrap(), 404).await;
    app.stop().await;
}

#[tokio::test]
async fn a_repeated_request_with_its_key_is_the_same_job() {
    let app = TestApp::with_child(WAITING, |_| {}).await;
    app.small_data_set().await;
    let send = |key: &'static str, request: serde_json::Value| {
        app.post("/jobs").header("idempotency-key", key).json(&request).send()
    };
    // All at once, as impatient clients do.
    let all = futures::future::join_all((0..8).map(|_| send("key-1", tiny_job("shapes")))).await;
    let mut ids = std::collections::BTreeSet::new();
    for answer in all {
        ids.insert(expect(answer.unwrap(), 202).await["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
    let mut other = tiny_job("shapes");
    other["seed"] = json!(4);
    let reused = problem(send("key-1", other.clone()).await.unwrap(), 422).await;
    assert_eq!(pointers(&reused), ["Idempotency-Key"]);
    let second = expect(send("key-2", other).await.unwrap(), 202).await;
    assert!(!ids.contains(second["id"].as_str().unwrap()));
    problem(send("two words", tiny_job("shapes")).await.unwrap(), 422).await;
    assert_eq!(app.json("/jobs").await["items"].as_array().unwrap().len(), 2);
    app.stop().await;
}

#[tokio::test]
async fn two_slots_run_two_jobs() {
    let app = TestApp::with_child(WAITING, |config| config.worker.devices = "cpu,cpu".parse().unwrap()).await;
    app.small_data_set().await;
    let first = app.queue(&tiny_job("shapes")).await;
    let second = app.queue(&tiny_job("shapes")).await;
    app.until(&first, &["running"]).await;
    app.until(&second, &["running"]).await;
    assert_eq!(app.json("/readyz").await["busy_slots"], 2);
    app.stop().await;
}

/// Reads a job's events until the stream ends.
async fn read_events(app: &TestApp, id: &str, after: Option<&str>) -> Vec<(String, String)> {
    let mut request = app.get(&format!("/jobs/{id}/events"));
    if let Some(after) = after {
        request = request.header("last-event-id", after);
    }
    let mut stream = request.send().await.unwrap().bytes_stream();
    let mut text = String::new();
    let reading = async {
        while let Some(chunk) = stream.next().await {
            text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reading).await.expect("the stream ends with the job");
    let field = |event: &str, name: &str| {
        event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
    };
    let events = text.split("\n\n").filter(|event| event.contains("id:"));
    events.map(|event| (field(event, "id:"), field(event, "event:"))).collect()
}

#[tokio::test]
async fn events_stream_to_the_end_and_resume_without_loss_or_repeat() {
    let script = r#"
        echo '{"type":"phase","phase":"training"}'
        for i in 1 2 3 4 5; do echo '{"type":"log","level":"info","message":"line '$i'"}'; sleep 0.1; done
        echo '{"type":"problem","code":"out_of_paint","detail":"no paint left"}'; exit 1"#;
    let app = TestApp::with_child(script, |_| {}).await;
    app.small_data_set().await;
    let id = app.queue(&tiny_job("shapes")).await;
    let events = read_events(&app, &id, None).await;
    let kinds: Vec<&str> = events.iter().map(|(_, kind)| kind.as_str()).collect();
    assert_eq!(kinds, ["state", "state", "phase", "log", "log", "log", "log", "log", "problem", "state"]);

    let rest = read_events(&app, &id, Some(&events[4].0)).await;
    assert_eq!(rest, events[5..]);
    let metrics = app.get(&format!("/jobs/{id}/metrics")).send().await.unwrap();
    assert_eq!(metrics.headers()["last-event-id"], events.last().unwrap().0.as_str(), "where to go on from its epochs");
    let over = app.get(&format!("/jobs/{id}/events")).header("last-event-id", &events.last().unwrap().0);
    let over = over.send().await.unwrap();
    assert_eq!(over.status(), 204, "there is no more: an EventSource stops asking");
    assert!(over.bytes().await.unwrap().is_empty());
    problem(app.get(&format!("/jobs/{id}/events")).header("last-event-id", "x").send().await.unwrap(), 422).await;
    let beyond = read_events(&app, &id, Some("9000000000")).await;
    assert_eq!(beyond, events, "whoever saw more than there was is told all of what there is");

    let job = app.json(&format!("/jobs/{id}")).await;
    assert_eq!((job["state"].as_str(), job["error"]["code"].as_str()), (Some("failed"), Some("out_of_paint")));
    let logs = app.json(&format!("/jobs/{id}/logs?limit=2")).await;
    assert_eq!(logs["items"][1]["message"], "line 2");
    let next = app.json(&format!("/jobs/{id}/logs?cursor={}", logs["next_cursor"].as_str().unwrap())).await;
    assert_eq!(next["items"][0]["message"], "line 3");
    problem(app.post(&format!("/jobs/{id}/cancel")).send().await.unwrap(), 409).await;

    expect(app.post(&format!("/jobs/{id}/retry")).send().await.unwrap(), 202).await;
    let again = read_events(&app, &id, Some(&events.last().unwrap().0)).await;
    assert_eq!(
        again.last().map(|(_, kind)| kind.as_str()),
        Some("state"),
        "a job that was queued again goes on telling"
    );
}

/// They are read some hundreds at a time.
#[tokio::test]
async fn a_finished_jobs_events_are_all_told_however_many_they_are() {
    let script = r#"seq 450 | sed 's/.*/{"type":"log","level":"info","message":"line &"}/'
        echo '{"type":"problem","code":"out_of_paint","detail":"no paint left"}'; exit 1"#;
    let app = TestApp::with_child(script, |_| {}).await;
    app.small_data_set().await;
    let id = app.queue(&tiny_job("shapes")).await;
    app.until(&id, &["failed"]).await;
    let events = read_events(&app, &id, None).await;
    let kinds: Vec<&str> = events.iter().map(|(_, kind)| kind.as_str()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "log").count(), 450);
    assert_eq!((&kinds[..2], &kinds[452..]), (["state"; 2].as_slice(), ["problem", "state"].as_slice()));
    let ids: Vec<i64> = events.iter().map(|(id, _)| id.parse().unwrap()).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "each once, in order: {ids:?}");
    // As many as are read at once lie behind this one: the stream has to look whether there are more.
    assert_eq!(read_events(&app, &id, Some(&events[253].0)).await, events[254..]);
    app.stop().await;
}
