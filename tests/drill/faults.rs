//! Faults of the server's own process: full and read-only disks, and its sudden death under a job.

use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use super::pictures::data_set;
use super::process::Server;

/// Imports a data set and queues a job; gives the job's id.
async fn queue(server: &Server) -> String {
    let drawn = data_set(80, 20);
    let form = Form::new()
        .text("name", "shapes")
        .text("task", "shape")
        .part("images", Part::bytes(drawn.images).file_name("images.zip"))
        .part("train", Part::bytes(drawn.train.into_bytes()).file_name("train.csv"))
        .part("test", Part::bytes(drawn.test.into_bytes()).file_name("test.csv"));
    let imported = server.client.post(format!("{}/datasets", server.base)).multipart(form).send().await.unwrap();
    assert_eq!(imported.status(), 201);
    let request = json!({
        "dataset": "shapes", "preset": "quick", "network": "wrn-10-1", "algorithm": "supervised", "labelled": 40,
        "seed": 1, "size": 16, "batch": 16, "epochs": 3, "steps_per_epoch": 20,
    });
    let queued = server.client.post(format!("{}/jobs", server.base)).json(&request).send().await.unwrap();
    assert_eq!(queued.status(), 202);
    queued.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned()
}

/// The job once it is as wanted.
async fn until(server: &Server, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let job = server.get(&format!("/jobs/{id}")).await.unwrap();
        if wanted(&job) {
            return job;
        }
        assert!(began.elapsed() < Duration::from_secs(240), "{job:#}\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

fn is_over(job: &Value) -> bool {
    job["finished_at"].is_string()
}

fn start(data: &Path, fail: &str) -> Server {
    Server::start(data, fail).unwrap()
}

/// All that the job's log says.
async fn logs(server: &Server, id: &str) -> String {
    server.get(&format!("/jobs/{id}/logs")).await.unwrap().to_string()
}

/// Until the job's model has waited for room so many times.
async fn until_it_waits(server: &Server, id: &str, times: usize) {
    let began = Instant::now();
    while logs(server, id).await.matches("as soon as there is room").count() < times {
        assert!(began.elapsed() < Duration::from_secs(240), "{}\n{}", logs(server, id).await, server.log());
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// Where a model is written: by the child, and once more when it is published.
const MODEL_POINTS: [&str; 2] = ["export.write", "artifact.write"];

#[tokio::test]
async fn a_disk_that_fills_before_a_job_trains_leaves_it_in_the_queue() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), "pack.build=enospc");
    let id = queue(&server).await;
    let job = until(&server, &id, |job| job["attempt"] == 2 && job["state"] == "queued" || is_over(job)).await;
    assert_eq!((job["state"].as_str(), job["error"].is_null()), (Some("queued"), true), "{job:#}");
    let told = logs(&server, &id).await;
    assert!(told.contains("attempt 1 could not") && told.contains("No space left on device"), "{told}");
    assert_eq!(told.matches("could not go on").count(), 1, "the same is said once: {told}");
    assert!(!told.contains(directory.path().to_str().unwrap()), "{told}");
    server.stop();

    let server = start(directory.path(), "");
    let job = until(&server, &id, is_over).await;
    assert_eq!(job["state"], "succeeded", "{job:#}");
    server.stop();
}

#[tokio::test]
async fn a_trained_model_waits_for_room_and_is_not_trained_again() {
    for point in MODEL_POINTS {
        let directory = tempfile::tempdir().unwrap();
        // Nor did a checkpoint find room.
        let server = start(directory.path(), &format!("checkpoint.write=enospc,{point}=enospc@1-2"));
        let id = queue(&server).await;
        let job = until(&server, &id, is_over).await;
        assert_eq!((job["state"].as_str(), job["attempt"].as_u64()), (Some("succeeded"), Some(1)), "{point}: {job:#}");
        let told = logs(&server, &id).await;
        assert_eq!(told.matches("as soon as there is room").count(), 1, "{point}: {told}");
        assert!(!told.contains(directory.path().to_str().unwrap()), "{point}: {told}");
        server.stop();
        assert!(!directory.path().join("runs").join(&id).exists(), "what is published needs no checkpoint");
    }
}

#[tokio::test]
async fn a_model_that_waits_for_room_holds_up_neither_a_pause_nor_the_servers_stop() {
    for point in MODEL_POINTS {
        let directory = tempfile::tempdir().unwrap();
        let server = start(directory.path(), &format!("{point}=enospc"));
        let id = queue(&server).await;
        until_it_waits(&server, &id, 1).await;
        server.post(&format!("/jobs/{id}/pause")).await.unwrap();
        until(&server, &id, |job| job["state"] == "paused" || is_over(job)).await;
        server.post(&format!("/jobs/{id}/resume")).await.unwrap();
        until_it_waits(&server, &id, 2).await;
        server.stop();

        let server = start(directory.path(), "");
        let job = until(&server, &id, is_over).await;
        assert_eq!((job["state"].as_str(), job["attempt"].as_u64()), (Some("succeeded"), Some(3)), "{point}: {job:#}");
        let told = logs(&server, &id).await;
        assert!(told.contains("after step 60, with 3 epochs done"), "{point}: {told}");
        server.stop();
    }
}

#[tokio::test]
async fn a_model_that_is_given_up_takes_no_room_from_the_last_write() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), "artifact.write=enospc,run.settle=error@1-5");
    let id = queue(&server).await;
    until_it_waits(&server, &id, 1).await;
    let model = directory.path().join("runs").join(&id).join("1/model");
    assert!(model.exists());
    server.post(&format!("/jobs/{id}/pause")).await.unwrap();
    let job = until(&server, &id, |job| !model.exists() || job["state"] != "running").await;
    assert!(!model.exists() && job["state"] == "running", "the write waits still: {job:#}");
    until(&server, &id, |job| job["state"] == "paused" || is_over(job)).await;
    server.stop();
}

#[tokio::test]
async fn a_run_directory_that_cannot_be_made_is_the_jobs_reason() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), "run.create=erofs");
    let id = queue(&server).await;
    let job = until(&server, &id, is_over).await;
    assert_eq!(job["error"]["code"], "start_failed", "{job:#}");
    assert!(job["error"]["detail"].as_str().unwrap().contains("Read-only file system"), "{job:#}");
    server.stop();
}

#[tokio::test]
async fn a_disk_too_full_to_begin_leaves_the_job_in_the_queue_until_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), "run.create=enospc@1-2");
    let id = queue(&server).await;
    let job = until(&server, &id, is_over).await;
    assert_eq!((job["state"].as_str(), job["attempt"].as_u64()), (Some("succeeded"), Some(3)), "{job:#}");
    let logs = server.get(&format!("/jobs/{id}/logs")).await.unwrap().to_string();
    assert!(logs.contains("attempt 1 could not begin") && logs.contains("No space left on device"), "{logs}");
    assert!(!logs.contains("attempt 2 could not"), "the same is said once: {logs}");
    server.stop();
}

#[tokio::test]
async fn a_last_state_that_cannot_be_written_is_written_when_it_can_be() {
    let directory = tempfile::tempdir().unwrap();
    // One more than a server that stops would try; and the job fails, which no publication writes.
    let server = start(directory.path(), "run.create=erofs,run.settle=error@1-7");
    let id = queue(&server).await;
    let job = until(&server, &id, is_over).await;
    assert_eq!(job["error"]["code"], "start_failed", "{job:#}");
    server.stop();
}

#[tokio::test]
async fn a_read_only_data_directory_is_refused_at_the_start_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let Err(said) = Server::start(directory.path(), "data_dir.create=erofs") else { panic!("it started") };
    assert!(said.starts_with("exit status: 1") && said.contains("cannot be used as a data directory"), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
}

#[tokio::test]
async fn a_disk_too_full_for_an_import_leaves_neither_row_nor_file() {
    let drawn = data_set(40, 10);
    // While the pixels are written, and where the archive, which went to the disk beside that, did not get there.
    for point in ["import.decode", "import.fsync"] {
        let directory = tempfile::tempdir().unwrap();
        let server = start(directory.path(), &format!("{point}=enospc"));
        let form = Form::new()
            .text("name", "shapes")
            .text("task", "shape")
            .part("images", Part::bytes(drawn.images.clone()).file_name("images.zip"))
            .part("train", Part::bytes(drawn.train.clone().into_bytes()).file_name("train.csv"));
        let refused = server.client.post(format!("{}/datasets", server.base)).multipart(form).send().await.unwrap();
        assert_eq!(refused.status(), 507, "{point}");
        assert_eq!(server.get("/datasets").await.unwrap()["items"], json!([]), "{point}");
        assert!(server.log().contains("No space left on device"), "{point}: {}", server.log());
        server.stop();
        for place in ["datasets", "uploads"] {
            assert_eq!(std::fs::read_dir(directory.path().join(place)).unwrap().count(), 0, "{point}: {place}");
        }
    }
}

/// Weights of a small network, as somebody sends them.
fn weights() -> Vec<u8> {
    use mixmatch::nn::{Head, Weights, build, file};
    let network = build("wrn-10-1", Head::Linear, 2, tch::Kind::Float).unwrap();
    let weights = Weights::zeros(network.layout(), tch::Device::Cpu).unwrap();
    let path = tempfile::NamedTempFile::new().unwrap();
    file::save(network.as_ref(), &weights, path.path()).unwrap();
    std::fs::read(path.path()).unwrap()
}

#[tokio::test]
async fn a_disk_too_full_for_weights_is_not_told_as_the_senders_fault() {
    let weights = weights();
    // While the checked copy is written, and while that becomes an artifact.
    for point in ["export.write", "artifact.write"] {
        let directory = tempfile::tempdir().unwrap();
        let server = start(directory.path(), &format!("{point}=enospc"));
        let to = format!("{}/pretrained/start?network=wrn-10-1", server.base);
        let sent = server.client.put(to).header("content-type", "application/octet-stream").body(weights.clone());
        let refused = sent.send().await.unwrap();
        assert_eq!(refused.status(), 507, "{point}: {}", refused.text().await.unwrap());
        assert_eq!(server.get("/pretrained").await.unwrap()["items"], json!([]));
        assert!(server.log().contains("No space left on device"), "{}", server.log());
        server.stop();
        assert_eq!(std::fs::read_dir(directory.path().join("uploads")).unwrap().count(), 0, "{point}");
    }
}

#[tokio::test]
async fn a_killed_server_takes_its_child_along_and_the_next_one_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), "");
    let id = queue(&server).await;
    until(&server, &id, |job| job["step"].as_u64().unwrap() >= 25).await;
    let before = server.get(&format!("/jobs/{id}/metrics")).await.unwrap()["items"].clone();
    // `kill` also waits until the child is gone.
    server.kill();

    let server = start(directory.path(), "");
    let job = until(&server, &id, is_over).await;
    assert_eq!((job["state"].as_str(), job["attempt"].as_u64()), (Some("succeeded"), Some(2)), "{job:#}");
    let logs = server.get(&format!("/jobs/{id}/logs")).await.unwrap().to_string();
    assert!(logs.contains("goes on from the checkpoint"), "{logs}");
    assert!(server.log().contains("jobs that an earlier server left running"), "{}", server.log());
    let rows = server.get(&format!("/jobs/{id}/metrics")).await.unwrap();
    let rows = rows["items"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row["epoch"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
    for (then, now) in before.as_array().unwrap().iter().zip(rows) {
        assert_eq!(then["loss"], now["loss"], "an epoch that was seen before came out otherwise");
    }
    server.stop();
}
