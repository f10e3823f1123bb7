//! Models that come into memory: champions after a start, and one that takes longer than its caller waits, and longer than others
//! shall wait for theirs; and what is told of images that are refused.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use reqwest::Response;
use serde_json::json;

use super::app::{TestApp, expect, problem, tiny_job};
use super::pictures::picture;

async fn classify(app: &TestApp) -> Response {
    ask(app, "shape").await
}

async fn ask(app: &TestApp, model: &str) -> Response {
    let request = app.post(&format!("/predict?model={model}")).header("content-type", "image/png");
    request.body(picture(true, 9000)).send().await.unwrap()
}

/// Where the weights of a version of `shape` lie.
async fn weights(app: &TestApp, version: u32) -> PathBuf {
    let version = app.json(&format!("/models/shape/versions/{version}")).await;
    let sha256 = version["weights_sha256"].as_str().unwrap();
    app.directory.path().join("data/artifacts/sha256").join(&sha256[..2]).join(sha256)
}

async fn until_loaded(app: &TestApp) {
    let began = Instant::now();
    while app.json("/readyz").await["predict"]["loaded"] != json!(["shape:1"]) {
        assert!(began.elapsed() < Duration::from_secs(60), "nobody loads the champion");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A file of the version's whose readers wait until [`Endless::end`].
struct Endless {
    path: PathBuf,
    aside: PathBuf,
    content: Vec<u8>,
}

impl Endless {
    fn begin(path: &Path) -> Self {
        let content = std::fs::read(path).unwrap();
        std::fs::remove_file(path).unwrap();
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
        Self { path: path.to_owned(), aside: path.with_extension("aside"), content }
    }

    async fn end(self) {
        std::fs::rename(&self.path, &self.aside).unwrap();
        std::fs::write(&self.path, &self.content).unwrap();
        let write = move || {
            std::fs::write(&self.aside, &self.content).unwrap();
            std::fs::remove_file(&self.aside).unwrap();
        };
        tokio::task::spawn_blocking(write).await.unwrap();
    }
}

/// Images for the models of this name that were refused.
async fn refused(app: &TestApp) -> u64 {
    const SERIES: &str = r#"mixmatch_predict_images_total{model="shape",outcome="refused"} "#;
    let metrics = expect(app.get("/metrics").send().await.unwrap(), 200).await;
    let lines = metrics.as_str().unwrap().lines();
    lines.filter_map(|line| line.strip_prefix(SERIES)).map(|count| count.parse::<u64>().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_champion_is_loaded_at_the_start_and_who_comes_before_is_told_so() {
    let app = TestApp::start().await;
    app.train_shapes().await;
    assert_eq!(app.json("/readyz").await["predict"]["loaded"], json!([]));
    let directory = app.stop().await;

    let app = TestApp::at(directory, |_| {}).await;
    until_loaded(&app).await;
    let weights = weights(&app, 1).await;
    let directory = app.stop().await;

    let endless = Endless::begin(&weights);
    let app = TestApp::at(directory, |config| {
        config.predict.deadline = Duration::from_secs(1);
        config.predict.queue_images = 1;
    })
    .await;
    let early = classify(&app).await;
    assert!(early.headers().contains_key("retry-after"), "{early:?}");
    let early = problem(early, 503).await;
    assert_eq!(early["detail"], "model shape:1 is being loaded: come again", "{early:#}");
    assert_eq!(app.json("/readyz").await["predict"]["loaded"], json!([]));

    // As long as one waits for the model, there is no place for another one who would.
    let before = refused(&app).await;
    let both = futures::future::join_all([classify(&app), classify(&app)]).await;
    for answer in both {
        problem(answer, 503).await;
    }
    // All tests of this process count on one meter.
    assert!(refused(&app).await > before, "who finds no place is counted");

    endless.end().await;
    until_loaded(&app).await;
    expect(classify(&app).await, 200).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_model_takes_no_place_from_those_whose_model_is_there() {
    let app = TestApp::start().await;
    app.small_data_set().await;
    for seed in [3, 4] {
        let mut job = tiny_job("shapes");
        job["seed"] = json!(seed);
        let id = app.queue(&job).await;
        let job = app.until(&id, &["succeeded", "failed"]).await;
        assert_eq!(job["state"], "succeeded", "{job:#}");
    }
    let weights = weights(&app, 2).await;
    let endless = Endless::begin(&weights);
    let app = TestApp::at(app.stop().await, |config| {
        config.predict.deadline = Duration::from_secs(60);
        config.predict.queue_images = 4;
    })
    .await;
    until_loaded(&app).await;

    // Four wait, and the fifth is told so at once: all places of those who wait for a model are taken.
    let asked: Vec<_> = (0..5).map(|_| Box::pin(ask(&app, "shape:2"))).collect();
    let (refused, _, waiting) = futures::future::select_all(asked).await;
    let refused = problem(refused, 503).await;
    assert_eq!(refused["detail"], "model shape:2 is being loaded: come again", "{refused:#}");
    expect(ask(&app, "shape:1").await, 200).await;

    endless.end().await;
    for answer in futures::future::join_all(waiting).await {
        expect(answer, 200).await;
    }
    app.stop().await;
}
