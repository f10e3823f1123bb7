//! Disks that are full, files that rot, children that hang or are killed, losses that are no number: each with a real
//! child, and each with a reason that its owner can read.

use std::path::PathBuf;
use std::time::Duration;

use mixmatch::config::ServeConfig;
use serde_json::{Value, json};
use sqlx::Connection;

use super::app::{TestApp, expect, problem, tiny_job};
use super::pictures;

/// The service whose children fail at this point (`MIXMATCH_FAIL`), with a checkpoint after every step.
async fn failing(point: &str, change: impl FnOnce(&mut ServeConfig)) -> TestApp {
    let app = TestApp::with(|config| {
        config.worker.child.as_mut().unwrap().env.push(("MIXMATCH_FAIL".into(), point.into()));
        config.worker.checkpoint = Duration::ZERO;
        change(config);
    })
    .await;
    app.small_data_set().await;
    app
}

fn job() -> Value {
    let mut job = tiny_job("shapes");
    job["epochs"] = json!(4);
    job
}

/// Its last state, and all that its log says.
async fn fate(app: &TestApp, id: &str) -> (Value, String) {
    let job = app.until(id, &["succeeded", "failed", "canceled"]).await;
    (job, log(app, id).await)
}

async fn log(app: &TestApp, id: &str) -> String {
    let logs = app.json(&format!("/jobs/{id}/logs")).await;
    let lines: Vec<&str> =
        logs["items"].as_array().unwrap().iter().map(|line| line["message"].as_str().unwrap()).collect();
    lines.join("\n")
}

/// Neither its reason nor its log says where the server keeps its files.
fn assert_no_place(app: &TestApp, job: &Value, log: &str) {
    let place = app.directory.path().to_str().unwrap();
    assert!(!job["error"].to_string().contains(place) && !log.contains(place), "{job:#}\n{log}");
}

fn trained(job: &Value) -> bool {
    // So few steps may well answer one class alone, which is reported and not published.
    job["state"] == "succeeded" || job["error"]["code"] == "collapsed"
}

async fn epochs(app: &TestApp, id: &str) -> Vec<u64> {
    let rows = app.json(&format!("/jobs/{id}/metrics")).await;
    rows["items"].as_array().unwrap().iter().map(|row| row["epoch"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_disk_too_full_for_checkpoints_is_told_once_and_the_run_goes_on() {
    let app = failing("checkpoint.write=enospc", |_| {}).await;
    let id = app.queue(&job()).await;
    let (job, log) = fate(&app, &id).await;
    assert!(trained(&job), "{job:#}");
    assert_eq!(log.matches("No space left on device").count(), 1, "{log}");
    assert!(log.contains("the run goes on") && job["checkpoint_step"].is_null(), "{log}");
    assert_no_place(&app, &job, &log);
    app.stop().await;
}

#[tokio::test]
async fn a_disk_that_does_not_take_the_model_fails_the_job_with_that_reason() {
    let app = failing("export.write=erofs", |_| {}).await;
    let id = app.queue(&job()).await;
    let (job, log) = fate(&app, &id).await;
    if job["error"]["code"] == "collapsed" {
        panic!("the seed of this test must not collapse: {log}");
    }
    assert_eq!((job["state"].as_str(), job["error"]["code"].as_str()), (Some("failed"), Some("storage")), "{job:#}");
    assert!(job["error"]["detail"].as_str().unwrap().contains("Read-only file system"), "{job:#}");
    // Training is not lost: its last state waits for a retry.
    assert_eq!(job["checkpoint_step"], 16);
    assert_no_place(&app, &job, &log);

    // A disk that does not give it then: names that lead nowhere but round in a circle.
    let checkpoints = app.directory.path().join("data/runs").join(&id).join("checkpoints");
    let files: Vec<PathBuf> = std::fs::read_dir(&checkpoints).unwrap().map(|entry| entry.unwrap().path()).collect();
    for file in files {
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink(&file, &file).unwrap();
    }
    expect(app.post(&format!("/jobs/{id}/retry")).send().await.unwrap(), 202).await;
    let (job, log) = fate(&app, &id).await;
    assert_eq!(job["error"]["code"], "resume", "{job:#}");
    assert!(job["error"]["detail"].as_str().unwrap().contains("checkpoint checkpoints/step-"), "{job:#}");
    assert_no_place(&app, &job, &log);
    app.stop().await;
}

#[tokio::test]
async fn a_read_only_place_for_checkpoints_is_told_and_the_run_goes_on() {
    let app = failing("checkpoint.fsync=erofs", |_| {}).await;
    let id = app.queue(&job()).await;
    let (job, log) = fate(&app, &id).await;
    assert!(trained(&job) && log.contains("Read-only file system"), "{job:#}\n{log}");
    app.stop().await;
}

#[tokio::test]
async fn a_loss_that_is_no_number_fails_the_job_and_is_never_gone_on_from() {
    let app = failing("train.loss=error@6", |_| {}).await;
    let id = app.queue(&job()).await;
    let (job, _) = fate(&app, &id).await;
    assert_eq!((job["state"].as_str(), job["error"]["code"].as_str()), (Some("failed"), Some("diverged")), "{job:#}");
    assert!(job["error"]["detail"].as_str().unwrap().contains("NaN"), "{job:#}");
    let directory = app.stop().await;
    assert!(!directory.path().join("data/runs").join(&id).exists(), "a retry begins anew");
}

#[tokio::test]
async fn a_child_that_somebody_kills_goes_on_from_its_checkpoint() {
    // As the kernel does when memory runs out; each child would be killed at its ninth step, and the second has only
    // eight to make.
    let app = failing("train.step=kill@9", |_| {}).await;
    let id = app.queue(&job()).await;
    let (job, log) = fate(&app, &id).await;
    assert!(trained(&job) && job["attempt"] == 2, "{job:#}");
    assert!(log.contains("signal 9") && log.contains("memory"), "{log}");
    assert!(log.contains("goes on from the checkpoint after step 8,"), "{log}");
    assert_eq!(epochs(&app, &id).await, [1, 2, 3, 4]);
    app.stop().await;
}

#[tokio::test]
async fn a_child_that_is_killed_again_and_again_goes_on_while_it_gets_further_and_not_without_a_checkpoint() {
    let app = failing("train.step=kill@7", |_| {}).await;
    let mut request = job();
    request["steps_per_epoch"] = json!(10);
    let id = app.queue(&request).await;
    let (job, _) = fate(&app, &id).await;
    // Each attempt gets six steps further, and so the seventh to the end.
    assert!(trained(&job) && job["attempt"] == 7, "{job:#}");
    app.stop().await;

    let app = failing("train.step=kill@7", |config| config.worker.checkpoint = Duration::from_secs(3600)).await;
    let id = app.queue(&request).await;
    let (job, _) = fate(&app, &id).await;
    assert_eq!(
        (job["error"]["code"].as_str(), job["attempt"].as_u64()),
        (Some("killed_by_signal"), Some(1)),
        "{job:#}"
    );
    assert!(job["error"]["detail"].as_str().unwrap().contains("no checkpoint"), "{job:#}");
    app.stop().await;
}

#[tokio::test]
async fn a_child_that_hangs_is_ended_and_goes_on_from_its_checkpoint() {
    let app = failing("train.step=hang@9", |config| config.worker.silence = Duration::from_secs(8)).await;
    let id = app.queue(&job()).await;
    let (job, log) = fate(&app, &id).await;
    assert!(trained(&job) && job["attempt"] == 2, "{job:#}\n{log}");
    assert!(log.contains("it hung") && log.contains("after step 8,"), "{log}");
    assert_eq!(epochs(&app, &id).await, [1, 2, 3, 4]);
    app.stop().await;
}

#[tokio::test]
async fn a_truncated_checkpoint_gives_way_to_the_one_before() {
    let app = failing("", |_| {}).await;
    let mut request = job();
    request["epochs"] = json!(6);
    request["steps_per_epoch"] = json!(20);
    let whole = app.queue(&request).await;
    let (_, _) = fate(&app, &whole).await;
    let id = app.queue(&request).await;
    app.until_job(&id, "two checkpoints", |job| job["step"].as_u64().unwrap() > 30).await;
    expect(app.post(&format!("/jobs/{id}/pause")).send().await.unwrap(), 202).await;
    app.until(&id, &["paused"]).await;
    let directory = app.directory.path().join("data/runs").join(&id).join("checkpoints");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 2, "{files:?}");
    let bytes = std::fs::read(&files[1]).unwrap();
    std::fs::write(&files[1], &bytes[..bytes.len() - 100]).unwrap();
    expect(app.post(&format!("/jobs/{id}/resume")).send().await.unwrap(), 202).await;
    let (job, log) = fate(&app, &id).await;
    assert!(trained(&job) && log.contains("is damaged") && log.contains("goes on from the checkpoint"), "{log}");
    assert_no_place(&app, &job, &log);
    let losses = async |id: &str| {
        let rows = app.json(&format!("/jobs/{id}/metrics")).await;
        rows["items"].as_array().unwrap().iter().map(|row| row["loss"].to_string()).collect::<Vec<_>>()
    };
    assert_eq!(losses(&id).await, losses(&whole).await);
    app.stop().await;
}

#[tokio::test]
async fn a_run_that_has_lost_its_checkpoints_says_once_that_it_begins_anew() {
    let app = failing("", |_| {}).await;
    let mut request = job();
    request["epochs"] = json!(6);
    request["steps_per_epoch"] = json!(20);
    for damaged in [false, true] {
        let id = app.queue(&request).await;
        app.until_job(&id, "two checkpoints", |job| job["step"].as_u64().unwrap() > 30).await;
        expect(app.post(&format!("/jobs/{id}/pause")).send().await.unwrap(), 202).await;
        app.until(&id, &["paused"]).await;
        let run = app.directory.path().join("data/runs").join(&id);
        if damaged {
            for file in std::fs::read_dir(run.join("checkpoints")).unwrap() {
                std::fs::write(file.unwrap().path(), b"rotten").unwrap();
            }
        } else {
            std::fs::remove_dir_all(&run).unwrap();
        }
        expect(app.post(&format!("/jobs/{id}/resume")).send().await.unwrap(), 202).await;
        let (job, log) = fate(&app, &id).await;
        assert!(trained(&job), "{job:#}");
        assert_eq!(log.matches("the run begins anew").count(), 1, "{log}");
        assert_eq!(log.contains("is not there any more"), !damaged, "{log}");
        assert_eq!(epochs(&app, &id).await, [1, 2, 3, 4, 5, 6]);
    }
    app.stop().await;
}

#[tokio::test]
async fn jobs_whose_data_set_is_not_there_wait_for_it_and_keep_no_other_waiting() {
    let app = TestApp::with_child("sleep 600 & wait", |_| {}).await;
    app.small_data_set().await;
    app.import("others", &pictures::data_set(90, 20)).await;
    let first = app.queue(&tiny_job("shapes")).await;
    app.until(&first, &["running"]).await;
    let second = app.queue(&tiny_job("shapes")).await;
    let dataset = app.json("/datasets/shapes").await["id"].as_str().unwrap().to_owned();
    let directory = app.stop().await;

    // As where a disk is not mounted.
    let there = directory.path().join("data/datasets").join(dataset);
    let away = directory.path().join("away");
    std::fs::rename(&there, &away).unwrap();
    // Of which the directory stays.
    std::fs::create_dir(&there).unwrap();
    let app = TestApp::at(directory, |_| {}).await;
    let other = app.queue(&tiny_job("others")).await;
    let (job, _) = fate(&app, &other).await;
    assert!(trained(&job), "{job:#}");
    // Once before the other one, and once behind it.
    app.until_job(&first, "tried again", |job| job["attempt"].as_u64() >= Some(3)).await;
    for id in [&first, &second] {
        let job = app.json(&format!("/jobs/{id}")).await;
        assert!(job["error"].is_null() && ["queued", "running"].contains(&job["state"].as_str().unwrap()), "{job:#}");
        assert_no_place(&app, &job, &log(&app, id).await);
    }
    let told = log(&app, &first).await;
    assert_eq!(told.matches(r#"could not begin (the files of data set "shapes": No such file"#).count(), 1, "{told}");

    std::fs::remove_dir(&there).unwrap();
    std::fs::rename(&away, &there).unwrap();
    for id in [&first, &second] {
        let (job, log) = fate(&app, id).await;
        assert!(trained(&job), "{job:#}\n{log}");
    }
    app.stop().await;
}

#[tokio::test]
async fn what_a_run_leaves_behind_is_told_without_its_place() {
    let of = async |script: &str| {
        let app = TestApp::with_child(script, |_| {}).await;
        app.small_data_set().await;
        let id = app.queue(&job()).await;
        let (job, log) = fate(&app, &id).await;
        assert_no_place(&app, &job, &log);
        app.stop().await;
        (job["error"]["detail"].as_str().unwrap().to_owned(), log)
    };
    let (detail, log) = of(r#"echo "$(pwd -P)/weights is torn" >&2; exit 7"#).await;
    assert!(detail.contains("the run/weights is torn") && log.contains("the run/weights is torn"), "{detail}\n{log}");

    let (detail, _) = of(r#"echo "{\"type\":\"model\",\"directory\":\"$(pwd -P)/model\"}"; exit 0"#).await;
    assert!(detail.contains("could not be published") && detail.contains("No such file"), "{detail}");
}

#[tokio::test]
async fn a_server_whose_database_was_taken_away_is_not_ready_and_takes_nothing() {
    let app = TestApp::start().await;
    app.small_data_set().await;
    app.json("/readyz").await;
    let database = app.directory.path().join("data/mixmatch.db");
    std::fs::remove_file(&database).unwrap();
    // Nor is one that somebody puts there instead.
    for there in [None, Some(b"")] {
        if let Some(bytes) = there {
            std::fs::write(&database, bytes).unwrap();
        }
        problem(app.get("/readyz").send().await.unwrap(), 503).await;
        let refused = problem(app.post("/jobs").json(&job()).send().await.unwrap(), 503).await;
        assert!(!refused.to_string().contains("mixmatch.db"), "{refused}");
    }
    app.stop().await;
}

#[tokio::test]
async fn what_a_run_could_not_finish_is_gone_before_the_final_write() {
    // On a full disk the final write needs the room that the unfinished model takes.
    let script = r#"mkdir -p model; echo x > model/weights.safetensors
        while [ ! -e ../../../go ]; do sleep 0.1; done
        echo '{"type":"problem","code":"no_room","detail":"no space left"}'; exit 1"#;
    let app = TestApp::with_child(script, |_| {}).await;
    app.small_data_set().await;
    let id = app.queue(&job()).await;
    let data = app.directory.path().join("data");
    let left = data.join(format!("runs/{id}/1/model/weights.safetensors"));
    until(|| left.exists()).await;
    let other = hold_database(&app).await;
    std::fs::write(data.join("go"), "").unwrap();
    until(|| !left.exists()).await;
    assert_eq!(app.json(&format!("/jobs/{id}")).await["state"], "running", "nobody could write that it has ended");
    let_go(other).await;
    app.stop().await;
}

#[tokio::test]
async fn a_job_that_finds_no_room_keeps_no_other_waiting() {
    let script = r#"case "$SPEC" in *'"seed":7,'*)
            echo '{"type":"problem","code":"no_room","detail":"the packed images take more than the disk has free"}'; exit 1;; esac
        echo '{"type":"problem","code":"out_of_paint","detail":"no paint left"}'; exit 1"#;
    let app = TestApp::with_child(script, |_| {}).await;
    app.small_data_set().await;
    let large = app.queue(&json!({ "dataset": "shapes", "preset": "quick", "labelled": 20, "seed": 7 })).await;
    let small = app.queue(&tiny_job("shapes")).await;
    app.until_job(&small, "over", |job| job["state"] == "failed").await;
    let job = app.json(&format!("/jobs/{large}")).await;
    assert!(job["error"].is_null() && ["queued", "running"].contains(&job["state"].as_str().unwrap()), "{job:#}");
    // Nor is it forgotten, with nothing else in the queue.
    let again = job["attempt"].as_u64().unwrap() + 1;
    app.until_job(&large, "tried again", |job| job["attempt"].as_u64() >= Some(again)).await;
    app.stop().await;
}

#[tokio::test]
async fn a_job_that_pretrains_shows_how_far_it_is() {
    let script = r#"echo '{"type":"phase","phase":"pretraining"}'
        echo '{"type":"pretraining","epoch":2,"epochs":9,"step":30,"steps":180,"loss":4.5,"images_per_second":250.0,"eta_seconds":600.0}'
        while [ ! -e ../../../go ]; do sleep 0.1; done
        echo '{"type":"phase","phase":"training"}'; echo '{"type":"problem","code":"out_of_paint","detail":"no paint left"}'; exit 1"#;
    let app = TestApp::with_child(script, |_| {}).await;
    app.small_data_set().await;
    let id = app.queue(&job()).await;
    let told = app.until_job(&id, "pretraining", |job| job["pretraining"].is_object()).await;
    let figures =
        json!({"epoch": 2, "epochs": 9, "step": 30, "steps": 180, "images_per_second": 250.0, "eta_seconds": 600.0});
    assert_eq!(told["pretraining"], figures);
    assert_eq!((&told["step"], &told["eta_seconds"]), (&json!(0), &json!(null)), "training's own are others");
    std::fs::write(app.directory.path().join("data/go"), "").unwrap();
    let over = app.until_job(&id, "over", |job| job["state"] == "failed").await;
    assert_eq!((&over["pretraining"]["step"], &over["pretraining"]["eta_seconds"]), (&json!(30), &json!(null)));
    let events = app.get(&format!("/jobs/{id}/events")).send().await.unwrap().text().await.unwrap();
    assert!(events.contains("event: pretraining") && events.contains(r#""steps":180"#), "{events}");
    app.stop().await;
}

/// Looks again and again, for a minute.
async fn until(there: impl Fn() -> bool) {
    for _ in 0..600 {
        if there() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("a minute has gone by");
}

/// As another process would, which does not let go of it.
async fn hold_database(app: &TestApp) -> sqlx::SqliteConnection {
    let url = format!("sqlite://{}", app.directory.path().join("data/mixmatch.db").display());
    let mut other = sqlx::SqliteConnection::connect(&url).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    other
}

async fn let_go(mut other: sqlx::SqliteConnection) {
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    other.close().await.unwrap();
}

#[tokio::test]
async fn a_database_that_somebody_else_holds_delays_and_loses_nothing() {
    let app = failing("", |_| {}).await;
    let id = app.queue(&job()).await;
    app.until_job(&id, "training", |job| job["phase"] == "training").await;
    let other = hold_database(&app).await;
    // The store waits five seconds for its turn, then says that it cannot have it.
    let refused = problem(app.post("/jobs").json(&job()).send().await.unwrap(), 503).await;
    assert!(refused["detail"].as_str().unwrap().contains("another process holds the database"), "{refused}");
    app.json("/jobs").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let_go(other).await;

    let (job, _) = fate(&app, &id).await;
    assert!(trained(&job), "{job:#}");
    assert_eq!(epochs(&app, &id).await, [1, 2, 3, 4]);
    assert_eq!(app.json("/jobs").await["items"].as_array().unwrap().len(), 1, "the refused one is not there");
    app.stop().await;
}

#[tokio::test]
async fn what_a_run_said_last_is_kept_though_somebody_else_holds_the_database_at_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let go = directory.path().join("go");
    let script = format!(
        r#"
        echo '{{"type":"phase","phase":"training"}}'
        while ! [ -e '{}' ]; do sleep 0.05; done
        echo '{{"type":"log","level":"info","message":"the last word"}}'
        echo '{{"type":"problem","code":"out_of_paint","detail":"no paint left"}}'; exit 1"#,
        go.display()
    );
    let app = TestApp::with_child(&script, |_| {}).await;
    app.small_data_set().await;
    let id = app.queue(&tiny_job("shapes")).await;
    app.until_job(&id, "training", |job| job["phase"] == "training").await;
    let other = hold_database(&app).await;
    std::fs::write(&go, "").unwrap();
    // Two writes of five seconds fail, while it runs and behind its end; in the third the database is let go.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let_go(other).await;

    let (job, log) = fate(&app, &id).await;
    assert_eq!((job["state"].as_str(), job["error"]["code"].as_str()), (Some("failed"), Some("out_of_paint")));
    assert!(log.contains("the last word"), "{log}");
    app.stop().await;
}

#[tokio::test]
async fn a_gpu_that_is_gone_fails_no_job() {
    let script = r#"
        echo 'Warning: CUDA initialization' >&2
        echo '{"type":"problem","code":"device","detail":"device \"cuda:0\" cannot be used: 0 CUDA device(s) can be seen"}'; exit 1"#;
    let app = TestApp::with_child(script, |_| {}).await;
    app.small_data_set().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(app.queue(&tiny_job("shapes")).await);
    }
    app.until_job(&ids[0], "tried once", |job| job["attempt"] == 1 && job["state"] == "queued").await;
    let logs = app.json(&format!("/jobs/{}/logs", ids[0])).await;
    assert!(logs.to_string().contains("could not begin (device"), "{logs:#}");
    // Its slot waits for two seconds before it claims another one.
    tokio::time::sleep(Duration::from_millis(500)).await;
    for id in &ids {
        let job = app.json(&format!("/jobs/{id}")).await;
        assert_eq!(job["state"], "queued", "{job:#}");
    }
    // It may be gone for days, and every attempt would say the same.
    app.until_job(&ids[0], "tried again", |job| job["attempt"] == 2 && job["state"] == "queued").await;
    let logs = app.json(&format!("/jobs/{}/logs", ids[0])).await;
    assert_eq!(logs.to_string().matches("could not begin (device").count(), 1, "{logs:#}");
    app.stop().await;
}

#[tokio::test]
async fn a_gpu_that_fails_in_the_middle_is_a_crash_like_another() {
    let script = r#"
        echo '{"type":"checkpoint","step":5}'
        echo '{"type":"problem","code":"gpu","detail":"libtorch: CUDA error: an illegal memory access was encountered"}'; exit 1"#;
    let app = TestApp::with_child(script, |_| {}).await;
    app.small_data_set().await;
    let id = app.queue(&tiny_job("shapes")).await;
    let (job, log) = fate(&app, &id).await;
    assert_eq!((job["state"].as_str(), job["error"]["code"].as_str()), (Some("failed"), Some("gpu")), "{job:#}");
    assert!(job["error"]["detail"].as_str().unwrap().contains("no further"), "{job:#}");
    assert!(log.contains("attempt 1: libtorch: CUDA error"), "{log}");
    app.stop().await;
}
