//! Pause and resume over HTTP, and a server that stops under a job, with real children: what goes on ends with the very
//! model that it would have ended with.

use std::time::Duration;

use serde_json::{Value, json};

use super::app::{TestApp, expect, problem, tiny_job};

/// Long enough to be met in the middle, some seconds, as steps are told once a second; `seed` is the only thing that differs between two of them.
fn job(seed: u64) -> Value {
    let mut job = tiny_job("shapes");
    job["epochs"] = json!(5);
    job["steps_per_epoch"] = json!(120);
    job["seed"] = json!(seed);
    job
}

/// Waits until a job is some steps into its training.
async fn until_step(app: &TestApp, id: &str, step: u64) {
    let met = |job: &Value| job["state"] == "running" && job["step"].as_u64().unwrap() >= step;
    app.until_job(id, "some steps", |job| met(job) || job["finished_at"].is_string()).await;
}

async fn wish(app: &TestApp, id: &str, wish: &str) -> Value {
    expect(app.post(&format!("/jobs/{id}/{wish}")).send().await.unwrap(), 202).await
}

/// The rows of a job but for the clock, and the hash of what it published.
async fn outcome(app: &TestApp, id: &str) -> (Vec<Value>, Value) {
    let mut rows = app.json(&format!("/jobs/{id}/metrics")).await["items"].as_array().unwrap().clone();
    for row in &mut rows {
        row["seconds"] = Value::Null;
        row["images_per_second"] = Value::Null;
    }
    let job = app.json(&format!("/jobs/{id}")).await;
    assert!(job["state"] == "succeeded" || job["error"]["code"] == "collapsed", "{job:#}");
    let model = match job["model"]["version"].as_u64() {
        Some(version) => app.json(&format!("/models/shape/versions/{version}")).await["weights_sha256"].clone(),
        None => Value::Null,
    };
    (rows, model)
}

#[tokio::test]
async fn a_paused_job_goes_on_and_ends_as_if_nothing_had_been() {
    let app = TestApp::start().await;
    app.small_data_set().await;
    let whole = app.queue(&job(3)).await;
    app.until(&whole, &["succeeded", "failed"]).await;

    let id = app.queue(&job(3)).await;
    for step in [7, 45] {
        until_step(&app, &id, step).await;
        for _ in 0..2 {
            // Repeating is harmless.
            wish(&app, &id, "pause").await;
        }
        let paused = app.until(&id, &["paused", "succeeded"]).await;
        assert_eq!(paused["state"], "paused", "{paused:#}");
        assert!(paused["checkpoint_step"].as_u64().unwrap() >= 1, "{paused:#}");
        assert!(paused["step"].as_u64() >= paused["checkpoint_step"].as_u64(), "{paused:#}");
        assert!(paused["eta_seconds"].is_null(), "{paused:#}");
        assert!(paused["finished_at"].is_null());
        // Its slot is free, as soon as the attempt's directory is cleared away.
        while app.json("/readyz").await["busy_slots"] != 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        for _ in 0..2 {
            wish(&app, &id, "resume").await;
        }
        app.until_job(&id, "a slot", |job| job["state"] != "queued").await;
    }
    let done = app.until(&id, &["succeeded", "failed"]).await;
    assert_eq!(done["attempt"], 3, "{done:#}");
    assert_eq!(outcome(&app, &id).await, outcome(&app, &whole).await);

    for wish in ["pause", "resume"] {
        let refused = problem(app.post(&format!("/jobs/{id}/{wish}")).send().await.unwrap(), 409).await;
        assert!(refused["detail"].as_str().unwrap().contains(done["state"].as_str().unwrap()), "{refused}");
        problem(app.post(&format!("/jobs/{}/{wish}", uuid::Uuid::now_v7())).send().await.unwrap(), 404).await;
    }
    app.stop().await;
}

#[tokio::test]
async fn a_server_that_stops_lets_its_job_write_a_checkpoint_and_the_next_one_goes_on() {
    let app = TestApp::start().await;
    app.small_data_set().await;
    let whole = app.queue(&job(4)).await;
    app.until(&whole, &["succeeded", "failed"]).await;
    let id = app.queue(&job(4)).await;
    until_step(&app, &id, 30).await;
    let directory = app.stop().await;

    let app = TestApp::at(directory, |_| {}).await;
    let done = app.until(&id, &["succeeded", "failed"]).await;
    assert_eq!(done["attempt"], 2, "{done:#}");
    assert_eq!(outcome(&app, &id).await, outcome(&app, &whole).await);
    let logs = app.json(&format!("/jobs/{id}/logs")).await.to_string();
    assert!(logs.contains("goes on from the checkpoint after step"), "{logs}");
    // What is over leaves nothing behind.
    let directory = app.stop().await;
    assert!(!directory.path().join("data/runs").join(&id).exists());
}

#[tokio::test]
async fn a_queued_job_waits_while_it_is_paused_and_a_canceled_one_may_be_retried_where_it_stopped() {
    let app = TestApp::start().await;
    app.small_data_set().await;
    let mut long = job(5);
    long["epochs"] = json!(500);
    let first = app.queue(&long).await;
    let second = app.queue(&job(6)).await;
    until_step(&app, &first, 5).await;
    assert_eq!(wish(&app, &second, "pause").await["state"], "paused");
    assert_eq!(app.json("/jobs?state=paused").await["items"].as_array().unwrap().len(), 1);
    wish(&app, &first, "cancel").await;
    let canceled = app.until(&first, &["canceled"]).await;
    assert_eq!(app.json(&format!("/jobs/{second}")).await["state"], "paused", "the free slot is not its");
    problem(app.post(&format!("/jobs/{second}/retry")).send().await.unwrap(), 409).await;

    let step = canceled["checkpoint_step"].as_u64().unwrap();
    wish(&app, &first, "retry").await;
    app.until_job(&first, "steps beyond", |job| job["state"] == "running" && job["step"].as_u64().unwrap() > step)
        .await;
    let logs = app.json(&format!("/jobs/{first}/logs")).await.to_string();
    assert!(logs.contains(&format!("goes on from the checkpoint after step {step},")), "{logs}");
    wish(&app, &first, "cancel").await;
    app.until(&first, &["canceled"]).await;
    assert_eq!(wish(&app, &second, "cancel").await["state"], "canceled");
    let runs = app.directory.path().join("data/runs").join(&first);
    assert!(runs.exists());
    expect(app.delete(&format!("/jobs/{first}")).send().await.unwrap(), 204).await;
    assert!(!runs.exists(), "its checkpoints go with it");
    app.stop().await;
}

/// A child whose step under way lasts `seconds` after it was asked to stop.
fn slow_child(seconds: u32) -> String {
    format!(
        r#"trap 'sleep {seconds}; echo "{{\"type\":\"checkpoint\",\"step\":3}}"
            echo "{{\"type\":\"problem\",\"code\":\"stopped\",\"detail\":\"stopped on request\"}}"; exit 1' TERM
        echo '{{"type":"phase","phase":"training"}}'; while :; do sleep .1; done"#
    )
}

async fn slow_job(seconds: u32) -> (TestApp, String) {
    let app = TestApp::with_child(&slow_child(seconds), |config| {
        config.worker.grace = Duration::from_millis(300);
    })
    .await;
    app.small_data_set().await;
    let id = app.queue(&tiny_job("shapes")).await;
    app.until_job(&id, "training", |job| job["phase"] == "training").await;
    (app, id)
}

#[tokio::test]
async fn a_pause_waits_for_a_step_that_takes_longer_than_a_stop_may() {
    let (app, id) = slow_job(1).await;
    wish(&app, &id, "pause").await;
    let paused = app.until(&id, &["paused"]).await;
    assert_eq!(paused["checkpoint_step"], 3, "{paused:#}");
    app.stop().await;
}

#[tokio::test]
async fn a_paused_sweep_tells_as_many_steps_as_its_jobs() {
    let app = TestApp::with_child(&slow_child(0), |_| {}).await;
    app.small_data_set().await;
    let mut both = tiny_job("shapes");
    both["seed"] = json!([1, 2]);
    let id = app.queue(&both).await;
    let jobs = app.json(&format!("/jobs/{id}")).await["jobs"].clone();
    let first = jobs[0]["id"].as_str().unwrap();
    app.until_job(first, "training", |job| job["phase"] == "training").await;
    wish(&app, &id, "pause").await;
    let paused = app.until(&id, &["paused"]).await;
    // The child told no step: its checkpoint does. The other job waits, and has none.
    assert_eq!(app.json(&format!("/jobs/{first}")).await["step"], 3);
    assert_eq!(paused["step"], 3, "{paused:#}");
    app.stop().await;
}

#[tokio::test]
async fn a_cancel_does_not_wait_for_the_pause_before_it() {
    let (app, id) = slow_job(600).await;
    wish(&app, &id, "pause").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(app.json(&format!("/jobs/{id}")).await["state"], "running", "it waits for the step under way");
    wish(&app, &id, "cancel").await;
    let canceled = app.until(&id, &["canceled"]).await;
    assert!(canceled["checkpoint_step"].is_null(), "{canceled:#}");
    app.stop().await;
}

#[tokio::test]
async fn a_sweep_tells_that_it_pauses_while_a_job_of_it_still_runs() {
    let app = TestApp::with_child(&slow_child(600), |config| config.worker.grace = Duration::from_millis(300)).await;
    app.small_data_set().await;
    let mut request = job(0);
    request["seed"] = json!([1, 2]);
    let id = app.queue(&request).await;
    let sweep = app.json(&format!("/jobs/{id}")).await;
    assert_eq!(sweep["pause_requested"], false, "{sweep:#}");
    let first = sweep["jobs"][0]["id"].as_str().unwrap();
    app.until_job(first, "training", |job| job["phase"] == "training").await;
    // One of its jobs alone is not the sweep.
    wish(&app, sweep["jobs"][1]["id"].as_str().unwrap(), "pause").await;
    let sweep = app.json(&format!("/jobs/{id}")).await;
    assert_eq!((&sweep["counts"]["paused"], &sweep["pause_requested"]), (&json!(1), &json!(false)), "{sweep:#}");
    let sweep = wish(&app, &id, "pause").await;
    assert_eq!((&sweep["state"], &sweep["counts"]["running"]), (&json!("running"), &json!(1)), "{sweep:#}");
    assert_eq!(sweep["pause_requested"], true, "{sweep:#}");
    wish(&app, &id, "cancel").await;
    let sweep = app.until(&id, &["canceled"]).await;
    assert_eq!(sweep["pause_requested"], false, "what is over waits for nothing: {sweep:#}");
    app.stop().await;
}
