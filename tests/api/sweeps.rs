//! Sweeps and baselines: many jobs from one request, and the report that holds them side by side.
//!
//! The child is a script that reports, for its algorithm and seed, figures which stand in a file.

use std::path::Path;

use mixmatch::model::ModelManifest;
use mixmatch::train::event::{EpochMetrics, Event, GroupAccuracy, TestMetrics};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::app::{TestApp, expect, pointers, problem, shapes_manifest, tiny_job};

const WAITING: &str = r#"echo '{"type":"phase","phase":"training"}'; sleep 600 & wait"#;

/// Answers `ALGORITHM-SEED.ndjson` and fails where that says so.
const TOLD: &str = r#"
    algorithm=$(printf %s "$SPEC" | sed 's/.*"algorithm":"\([a-z]*\)".*/\1/')
    seed=$(printf %s "$SPEC" | sed 's/.*"seed":\([0-9]*\).*/\1/')
    cat "$FIGURES/$algorithm-$seed.ndjson"
    ! grep -q '"problem"' "$FIGURES/$algorithm-$seed.ndjson""#;

/// Algorithm, seed, and the accuracy on validation and test that the run says it has; none is a failure.
type Told<'a> = (&'a str, u64, Option<(f64, f64)>);

fn figures(runs: &[Told<'_>]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (algorithm, seed, reached) in runs {
        let name = format!("{algorithm}-{seed}");
        let events = match reached {
            None => vec![Event::Problem { code: "collapsed".into(), detail: "one class alone".into() }],
            Some((validation, test)) => vec![
                Event::Epoch(EpochMetrics { epoch: 1, validation_accuracy: *validation, ..Default::default() }),
                Event::Test(TestMetrics {
                    accuracy: *test,
                    f1_macro: *test,
                    best_epoch: 1,
                    groups: vec![group(*test - 0.1)],
                    ..Default::default()
                }),
                Event::Model { directory: model(&directory.path().join(&name), *validation) },
            ],
        };
        let lines: String = events.iter().map(|event| serde_json::to_string(event).unwrap() + "\n").collect();
        std::fs::write(directory.path().join(format!("{name}.ndjson")), lines).unwrap();
    }
    directory
}

/// The test images of one place.
fn group(accuracy: f64) -> GroupAccuracy {
    let (attribute, value) = ("place".to_owned(), "left | right".to_owned());
    GroupAccuracy { attribute, value, images: 40, accuracy, interval: [0.0, 1.0], balanced_accuracy: None, f1: None }
}

/// What a run leaves behind to be published.
fn model(directory: &Path, validation: f64) -> std::path::PathBuf {
    std::fs::create_dir(directory).unwrap();
    std::fs::write(directory.join("weights.safetensors"), directory.to_str().unwrap()).unwrap();
    let validation = json!({"validation_accuracy": validation, "validation_loss": 0.5});
    let manifest = ModelManifest { validation, ..shapes_manifest() };
    manifest.write(&directory.join("model.json")).unwrap();
    directory.to_owned()
}

async fn told(figures: &TempDir) -> TestApp {
    let app = TestApp::with_child(&format!("FIGURES={}\n{TOLD}", figures.path().display()), |_| {}).await;
    app.small_data_set().await;
    app
}

/// The tiny job with other fields.
fn asking(fields: Value) -> Value {
    let mut request = tiny_job("shapes");
    for (name, value) in fields.as_object().unwrap() {
        request[name] = value.clone();
    }
    request
}

async fn report(app: &TestApp, id: &str, accept: &str) -> String {
    let answer = app.get(&format!("/jobs/{id}/report")).header("accept", accept).send().await.unwrap();
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with(accept), "{answer:?}");
    answer.text().await.unwrap()
}

#[tokio::test]
async fn a_sweep_is_run_and_reported_with_what_failed() {
    let figures = figures(&[
        ("supervised", 0, Some((0.80, 0.78))),
        ("supervised", 1, Some((0.82, 0.80))),
        ("supervised", 2, Some((0.84, 0.79))),
        ("mixmatch", 0, Some((0.90, 0.88))),
        ("mixmatch", 1, Some((0.92, 0.91))),
        ("mixmatch", 2, None),
    ]);
    let app = told(&figures).await;
    let request = asking(json!({"labelled": [10, 20], "seed": [0, 1, 2], "baseline": true}));
    let answer = app.post("/jobs").json(&request).send().await.unwrap();
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    let sweep = expect(answer, 202).await;
    let id = sweep["id"].as_str().unwrap();
    assert_eq!((location, sweep["kind"].as_str()), (format!("/jobs/{id}"), Some("sweep")));
    assert_eq!(sweep["jobs"].as_array().unwrap().len(), 12);
    assert_eq!(sweep["request"]["labelled"], json!([10, 20]));

    let sweep = app.until(id, &["succeeded", "failed", "canceled"]).await;
    assert_eq!(sweep["state"], "failed", "two of its jobs have: {sweep:#}");
    assert_eq!((&sweep["counts"]["succeeded"], &sweep["counts"]["failed"]), (&json!(10), &json!(2)));
    assert!(sweep["finished_at"].is_string());
    let began =
        async |job: &Value| app.json(&format!("/jobs/{}", job["id"].as_str().unwrap())).await["started_at"].clone();
    let (first, last) = (began(&sweep["jobs"][0]).await, began(&sweep["jobs"][11]).await);
    assert!(sweep["started_at"] == first && first != last, "it began with its first job: {first} {last} {sweep:#}");

    let answer: Value = serde_json::from_str(&report(&app, id, "application/json").await).unwrap();
    let rows = answer["rows"].as_array().unwrap();
    let line = |row: &Value| {
        (
            row["labelled"].as_u64(),
            row["algorithm"].as_str().unwrap().to_owned(),
            row["jobs"].as_u64(),
            row["n"].as_u64(),
        )
    };
    let expected = [
        (Some(10), "supervised".to_owned(), Some(3), Some(3)),
        (Some(10), "mixmatch".to_owned(), Some(3), Some(2)),
        (Some(20), "supervised".to_owned(), Some(3), Some(3)),
        (Some(20), "mixmatch".to_owned(), Some(3), Some(2)),
    ];
    assert_eq!(rows.iter().map(line).collect::<Vec<_>>(), expected);
    let close = |value: &Value, wanted: f64| (value.as_f64().unwrap() - wanted).abs() < 1e-9;
    assert!(
        close(&rows[0]["test_accuracy"]["mean"], 0.79) && close(&rows[0]["test_accuracy"]["sd"], 0.01),
        "{answer:#}"
    );
    let difference = &answer["differences"][0];
    assert_eq!(
        (&difference["pairs"], &difference["wins"], &difference["finding"]),
        (&json!(2), &json!(2), &json!("undecided"))
    );
    assert!(close(&difference["test_accuracy"]["mean"], 0.105), "{difference:#}");
    let group = &difference["groups"][0];
    assert_eq!(
        (&group["value"], &group["images"], difference["groups"].as_array().unwrap().len()),
        (&json!("left | right"), &json!(40), 1)
    );
    assert!(
        close(&group["test_accuracy"]["mean"], 0.105) && close(&group["baseline_accuracy"]["mean"], 0.69),
        "{group:#}"
    );
    assert!(answer["verdict"].as_str().unwrap().contains("With 20 labels"), "{answer:#}");
    let failed = answer["runs"].as_array().unwrap().iter().filter(|run| run["state"] == "failed");
    assert!(failed.clone().all(|run| run["seed"] == 2 && run["error"].as_str().unwrap().contains("one class alone")));
    assert_eq!((failed.count(), answer["finished"].as_bool()), (2, Some(true)));

    let markdown = report(&app, id, "text/markdown").await;
    assert!(markdown.contains(r"| place left \| right | 40     | 69.0"), "{markdown}");
    assert!(markdown.contains("2 of 3") && markdown.contains("- MixMatch, 10 labels, seed 2 failed"), "{markdown}");
    let csv = report(&app, id, "text/csv").await;
    assert_eq!(csv.lines().filter(|line| line.contains("left | right")).count(), 2, "{csv}");
    assert_eq!(csv.lines().count(), 7, "the head, four lines of the table, a group of each of two: {csv}");
    problem(app.get(&format!("/jobs/{id}/report")).header("accept", "image/png").send().await.unwrap(), 406).await;

    // The best by validation that is no baseline: the first of two equal ones.
    let models = app.json("/models").await;
    let champion = models["items"][0]["aliases"]["champion"].as_u64().unwrap();
    let version = app.json(&format!("/models/shape/versions/{champion}")).await;
    let job = app.json(&format!("/jobs/{}", version["job_id"].as_str().unwrap())).await;
    assert_eq!((job["algorithm"].as_str(), job["config"]["seed"].as_u64()), (Some("mixmatch"), Some(1)), "{models:#}");
    assert_eq!(job["sweep"], id);

    // A job of the sweep has its own report, with its baseline's line.
    let own: Value =
        serde_json::from_str(&report(&app, job["id"].as_str().unwrap(), "application/json").await).unwrap();
    assert_eq!((own["kind"].as_str(), own["rows"].as_array().unwrap().len()), (Some("job"), 2), "{own:#}");
    assert_eq!(own["runs"][0]["id"], job["baseline"]["id"]);
    // What only one job has is not asked of many.
    for path in ["metrics", "logs", "events"] {
        let refused = problem(app.get(&format!("/jobs/{id}/{path}")).send().await.unwrap(), 404).await;
        assert!(refused["detail"].as_str().unwrap().contains("sweep"), "{refused}");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_job_with_a_baseline_is_a_job_that_names_it() {
    let figures = figures(&[("supervised", 3, Some((0.99, 0.7))), ("mixmatch", 3, Some((0.9, 0.9)))]);
    let app = told(&figures).await;
    let queued = expect(app.post("/jobs").json(&asking(json!({"baseline": true}))).send().await.unwrap(), 202).await;
    let id = queued["id"].as_str().unwrap();
    assert_eq!(
        (&queued["kind"], &queued["algorithm"], &queued["sweep"]),
        (&json!("job"), &json!("mixmatch"), &Value::Null)
    );
    let job = app.until(id, &["succeeded", "failed"]).await;
    assert_eq!(
        (&job["state"], &job["baseline"]["state"]),
        (&json!("succeeded"), &json!("succeeded")),
        "it runs first: {job:#}"
    );
    let baseline = app.json(&format!("/jobs/{}", job["baseline"]["id"].as_str().unwrap())).await;
    assert_eq!((&baseline["algorithm"], &baseline["baseline_of"]), (&json!("supervised"), &json!(id)));
    let mut same = job["config"].clone();
    same["algorithm"] = json!("supervised");
    assert_eq!(baseline["config"], same);
    assert_eq!(app.json("/models").await["items"][0]["aliases"], json!({"champion": job["model"]["version"]}));

    let compared: Value = serde_json::from_str(&report(&app, id, "application/json").await).unwrap();
    assert_eq!(compared["rows"].as_array().unwrap().len(), 2);
    assert!(compared["rows"][0]["test_accuracy"]["sd"].is_null());
    assert!(compared["verdict"].as_str().unwrap().contains("20.0 points of test accuracy ahead"), "{compared:#}");
    // Without one: its own line.
    let plain = app.queue(&tiny_job("shapes")).await;
    app.until(&plain, &["succeeded"]).await;
    let alone: Value = serde_json::from_str(&report(&app, &plain, "application/json").await).unwrap();
    assert_eq!((alone["rows"].as_array().unwrap().len(), &alone["differences"]), (1, &json!([])));
    problem(app.get("/jobs/0190b0b0-0000-7000-8000-000000000000/report").send().await.unwrap(), 404).await;
    expect(app.delete(&format!("/jobs/{id}")).send().await.unwrap(), 204).await;
    problem(app.get(&format!("/jobs/{}", baseline["id"].as_str().unwrap())).send().await.unwrap(), 404).await;
    app.stop().await;
}

#[tokio::test]
async fn a_pretrained_job_is_reported_beside_the_supervised_one_of_its_sweep_after_the_same_pretraining() {
    let figures = figures(&[("supervised", 3, Some((0.8, 0.7))), ("mixmatch", 3, Some((0.9, 0.9)))]);
    let app = told(&figures).await;
    let id = app.queue(&asking(json!({"algorithm": ["supervised", "mixmatch"], "pretrain_epochs": 9}))).await;
    let sweep = app.until(&id, &["succeeded", "failed"]).await;
    assert_eq!(sweep["counts"]["succeeded"], 2, "{sweep:#}");
    let job = |algorithm: &str| {
        let jobs = sweep["jobs"].as_array().unwrap();
        jobs.iter().find(|job| job["algorithm"] == algorithm).unwrap()["id"].as_str().unwrap()
    };
    let told: Value = serde_json::from_str(&report(&app, job("mixmatch"), "application/json").await).unwrap();
    let runs: Vec<&str> = told["runs"].as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap()).collect();
    assert_eq!(runs, [job("supervised"), job("mixmatch")], "{told:#}");
    assert_eq!(told["differences"][0]["pretrained_alike"], true, "{told:#}");
    let markdown = report(&app, job("mixmatch"), "text/markdown").await;
    assert!(markdown.contains("Against supervised training after the same pretraining,"), "{markdown}");
    app.stop().await;
}

#[tokio::test]
async fn what_is_done_to_a_sweep_is_done_to_all_of_its_jobs() {
    let app = TestApp::with_child(WAITING, |config| config.worker.devices = "cpu,cpu".parse().unwrap()).await;
    app.small_data_set().await;
    let id = app.queue(&asking(json!({"labelled": [10, 20, 30], "baseline": true}))).await;
    let sweep = app.until_job(&id, "two at work", |sweep| sweep["counts"]["running"] == 2).await;
    assert_eq!((&sweep["state"], &sweep["counts"]["queued"]), (&json!("running"), &json!(4)));
    let pair: Vec<&Value> = sweep["jobs"].as_array().unwrap().iter().take(2).map(|job| &job["algorithm"]).collect();
    assert_eq!(pair, ["supervised", "mixmatch"], "a job and its baseline, side by side");
    let told = |state: &str| sweep["jobs"].as_array().unwrap().iter().find(|job| job["state"] == state).unwrap();
    assert!(told("running")["seconds"].is_null(), "how long it takes is told when it is over: {sweep:#}");
    problem(app.delete(&format!("/jobs/{id}")).send().await.unwrap(), 409).await;

    for _ in 0..2 {
        expect(app.post(&format!("/jobs/{id}/cancel")).send().await.unwrap(), 202).await;
    }
    let sweep = app.until(&id, &["canceled"]).await;
    assert_eq!(sweep["counts"]["canceled"], 6);
    let seconds: Vec<bool> = sweep["jobs"].as_array().unwrap().iter().map(|job| job["seconds"].is_number()).collect();
    assert_eq!(seconds, [true, true, false, false, false, false], "those that never began took no time: {sweep:#}");
    let again = expect(app.post(&format!("/jobs/{id}/retry")).send().await.unwrap(), 202).await;
    assert_eq!(again["counts"]["canceled"], 0, "{again:#}");
    expect(app.post(&format!("/jobs/{id}/cancel")).send().await.unwrap(), 202).await;
    app.until(&id, &["canceled"]).await;
    expect(app.delete(&format!("/jobs/{id}")).send().await.unwrap(), 204).await;
    problem(app.get(&format!("/jobs/{id}")).send().await.unwrap(), 404).await;
    assert!(app.json("/jobs").await["items"].as_array().unwrap().is_empty());
    app.stop().await;
}

#[tokio::test]
async fn a_repeated_request_with_its_key_is_the_same_sweep() {
    let app = TestApp::with_child(WAITING, |_| {}).await;
    app.small_data_set().await;
    let request = asking(json!({"labelled": [10, 20], "baseline": true}));
    let send = |request: Value| app.post("/jobs").header("idempotency-key", "sweep-1").json(&request).send();
    let all = futures::future::join_all((0..4).map(|_| send(request.clone()))).await;
    let mut ids = std::collections::BTreeSet::new();
    for answer in all {
        ids.insert(expect(answer.unwrap(), 202).await["id"].to_string());
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(app.json("/jobs").await["items"].as_array().unwrap().len(), 4);
    problem(send(asking(json!({"labelled": [10, 30], "baseline": true}))).await.unwrap(), 422).await;
    // The key of a job with a baseline gives the job.
    let with = |key: &'static str| {
        app.post("/jobs").header("idempotency-key", key).json(&asking(json!({"baseline": true}))).send()
    };
    let (first, second) = (expect(with("b").await.unwrap(), 202).await, expect(with("b").await.unwrap(), 202).await);
    assert_eq!((&first["id"], &first["algorithm"]), (&second["id"], &json!("mixmatch")));
    app.stop().await;
}

#[tokio::test]
async fn every_wrong_value_of_a_sweep_is_named_and_nothing_is_queued() {
    let app = TestApp::with_child(WAITING, |_| {}).await;
    app.small_data_set().await;
    let request = asking(json!({
        "labelled": [10, 1_000_000, 20, 1], "seed": [1, 1], "grid": {"lambda_u": [3, -3], "lamda": [1]}, "baseline": 1
    }));
    let wrong = problem(app.post("/jobs").json(&request).send().await.unwrap(), 422).await;
    let expected = ["/baseline", "/grid/lambda_u/1", "/grid/lamda/0", "/labelled/1", "/labelled/3", "/seed/1"];
    assert_eq!(pointers(&wrong), expected);
    let seeds: Vec<u32> = (0..150).collect();
    let many = asking(json!({"seed": seeds, "baseline": true}));
    let many = problem(app.post("/jobs").json(&many).send().await.unwrap(), 422).await;
    assert!(many["detail"].as_str().unwrap().contains("200"), "{many}");
    assert!(app.json("/jobs").await["items"].as_array().unwrap().is_empty());
    app.stop().await;
}
