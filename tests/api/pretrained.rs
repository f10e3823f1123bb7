//! Weights to start from: import on the command line and over HTTP, use in a job, look, delete.

use std::path::{Path, PathBuf};
use std::process::Output;

use mixmatch::data_dir::DataDir;
use serde_json::{Value, json};

use super::app::{TestApp, expect, pointers, problem, tiny_job};

/// Runs this package's binary on a data directory that no server holds.
fn import_weights(data: &Path, arguments: &[&str]) -> Output {
    let binary = std::process::Command::new(env!("CARGO_BIN_EXE_mixmatch"))
        .arg("import-weights")
        .args(arguments)
        .env("MIXMATCH_DATA_DIR", data)
        .output();
    binary.unwrap()
}

fn fixture(name: &str) -> String {
    format!("{}/tests/golden/pth/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The weights of a small network that has learned shapes, by way of a job.
async fn trained_weights(app: &TestApp) -> Vec<u8> {
    app.small_data_set().await;
    let id = app.queue(&tiny_job("shapes")).await;
    let job = app.until(&id, &["succeeded", "failed"]).await;
    assert_eq!(job["state"], "succeeded", "{job:#}");
    app.get("/models/shape/versions/1/weights").send().await.unwrap().bytes().await.unwrap().to_vec()
}

async fn upload(app: &TestApp, path: &str, bytes: Vec<u8>) -> reqwest::Response {
    app.put(path).header("content-type", "application/octet-stream").body(bytes).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_starts_from_uploaded_weights() {
    let app = TestApp::start().await;
    let weights = trained_weights(&app).await;
    let uploaded = expect(upload(&app, "/pretrained/shapes?network=wrn-10-1", weights.clone()).await, 201).await;
    assert_eq!((uploaded["network"].as_str(), uploaded["classes"].as_u64()), (Some("wrn-10-1"), Some(2)));
    assert_eq!(app.json("/pretrained").await["items"], json!([uploaded]));
    assert_eq!(app.json("/pretrained/shapes").await, uploaded);
    problem(upload(&app, "/pretrained/shapes?network=wrn-10-1", weights.clone()).await, 409).await;
    problem(upload(&app, "/pretrained/Two%20Words", weights.clone()).await, 422).await;
    // Ours say themselves what they are for.
    let told = expect(upload(&app, "/pretrained/told", weights.clone()).await, 201).await;
    assert_eq!((&told["network"], &told["sha256"]), (&uploaded["network"], &uploaded["sha256"]));
    let other = problem(upload(&app, "/pretrained/other?network=wide_resnet50_2", weights).await, 422).await;
    assert!(other["detail"].as_str().unwrap().contains("conv1.weight is missing"), "{other}");
    let unknown = problem(upload(&app, "/pretrained/other?network=resnet", vec![1]).await, 422).await;
    assert!(unknown.to_string().contains("wide_resnet50_2"), "{unknown}");

    // A frozen backbone that knows shapes: the new head has only to find its place.
    let mut request = tiny_job("shapes");
    request["pretrained"] = json!("shapes");
    request["backbone_learning_rate_factor"] = json!(0);
    let id = app.queue(&request).await;
    let job = app.until(&id, &["succeeded", "failed"]).await;
    assert_eq!(job["state"], "succeeded", "{job:#}");
    assert_eq!(job["config"]["pretrained_sha256"], uploaded["sha256"]);
    let logs = app.json(&format!("/jobs/{id}/logs")).await.to_string();
    assert!(logs.contains("started from shapes") && logs.contains("stays as it is"), "{logs}");
    assert!(logs.contains("what they were trained on is not known here"), "{logs}");
    let learned = app.get("/models/shape/versions/2/weights").send().await.unwrap().bytes().await.unwrap();
    let before = app.get("/models/shape/versions/1/weights").send().await.unwrap().bytes().await.unwrap();
    let tensors = |bytes: &[u8]| -> Vec<(String, Vec<u8>)> {
        let file = safetensors::SafeTensors::deserialize(bytes).unwrap();
        let own = |(name, view): (String, safetensors::tensor::TensorView<'_>)| (name, view.data().to_vec());
        let mut all: Vec<_> = file.iter().map(|(name, view)| own((name.to_owned(), view))).collect();
        all.sort();
        all
    };
    for ((name, before), (_, learned)) in tensors(&before).into_iter().zip(tensors(&learned)) {
        assert_eq!(before != learned, name.starts_with("head."), "{name}");
    }

    // The whole stored configuration can be sent again, and is held to the same file.
    let mut again = job["config"].clone();
    again["dataset"] = json!("shapes");
    expect(app.post("/jobs").json(&again).send().await.unwrap(), 202).await;
    again["pretrained_sha256"] = json!("0".repeat(64));
    let changed = problem(app.post("/jobs").json(&again).send().await.unwrap(), 422).await;
    assert_eq!(pointers(&changed), ["/pretrained_sha256"]);
    app.stop().await;
}

#[tokio::test]
async fn weights_of_which_nobody_says_how_long_they_are_have_a_limit_too() {
    let app = TestApp::with(|config| config.limits.upload_bytes = 10_000).await;
    let pieces = (0..512).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 16 << 10]));
    let body = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
    let refused = problem(app.put("/pretrained/endless").body(body).send().await.unwrap(), 413).await;
    assert!(refused["detail"].as_str().unwrap().contains("--max-upload"), "{refused}");
    let left = std::fs::read_dir(app.directory.path().join("data/uploads")).unwrap().count();
    assert_eq!(left, 0, "what had come of them");
    app.stop().await;
}

#[tokio::test]
async fn a_start_that_does_not_fit_is_refused_when_the_job_is_sent() {
    let app = TestApp::with_child("sleep 600", |_| {}).await;
    app.small_data_set().await;
    let refused = async |change: Value| {
        let mut request = tiny_job("shapes");
        request.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        problem(app.post("/jobs").json(&request).send().await.unwrap(), 422).await
    };
    let unknown = refused(json!({"pretrained": "imagenet"})).await;
    assert_eq!(pointers(&unknown), ["/pretrained"]);
    assert!(unknown.to_string().contains("import-weights"), "{unknown}");
    assert_eq!(pointers(&refused(json!({"head": "reference"})).await), ["/head"]);
    let frozen = refused(json!({"backbone_learning_rate_factor": 0})).await;
    assert_eq!(pointers(&frozen), ["/backbone_learning_rate_factor"]);
    assert_eq!(pointers(&refused(json!({"network": "wide_resnet50_2"})).await), ["/size"], "16 pixels");
    app.stop().await;
}

#[tokio::test]
async fn weights_that_a_job_needs_stay() {
    let app = TestApp::with_child("sleep 600", |_| {}).await;
    app.small_data_set().await;
    let weights = shapes_weights();
    let uploaded = expect(upload(&app, "/pretrained/shapes?network=wrn-10-1", weights).await, 201).await;
    let file = app.directory.path().join("data/artifacts/sha256");
    let sha256 = uploaded["sha256"].as_str().unwrap();
    let file = file.join(&sha256[..2]).join(sha256);
    assert!(file.exists());
    let mut request = tiny_job("shapes");
    request["pretrained"] = json!("shapes");
    let id = app.queue(&request).await;
    problem(app.delete("/pretrained/shapes").send().await.unwrap(), 409).await;
    expect(app.post(&format!("/jobs/{id}/cancel")).send().await.unwrap(), 202).await;
    app.until(&id, &["canceled"]).await;
    expect(app.delete("/pretrained/shapes").send().await.unwrap(), 204).await;
    assert!(!file.exists());
    problem(app.delete("/pretrained/shapes").send().await.unwrap(), 404).await;
    app.stop().await;
}

#[tokio::test]
async fn jobs_whose_weights_are_not_there_wait_for_them_and_keep_no_other_waiting() {
    let script = r#"echo '{"type":"checkpoint","step":4}'
        while [ ! -e ../../../go ]; do sleep 0.1; done
        echo '{"type":"problem","code":"out_of_paint","detail":"no paint left"}'; exit 1"#;
    let app = TestApp::with_child(script, |_| {}).await;
    app.small_data_set().await;
    let uploaded = expect(upload(&app, "/pretrained/shapes?network=wrn-10-1", shapes_weights()).await, 201).await;
    let mut request = tiny_job("shapes");
    request["pretrained"] = json!("shapes");
    let goes_on = app.queue(&request).await;
    app.until_job(&goes_on, "a checkpoint", |job| job["checkpoint_step"] == 4).await;
    expect(app.post(&format!("/jobs/{goes_on}/pause")).send().await.unwrap(), 202).await;
    app.until(&goes_on, &["paused"]).await;

    // As where a disk is not mounted.
    let (data, sha256) = (app.directory.path().join("data"), uploaded["sha256"].as_str().unwrap());
    let there = data.join("artifacts/sha256").join(&sha256[..2]).join(sha256);
    let away = app.directory.path().join("away");
    std::fs::rename(&there, &away).unwrap();
    std::fs::write(data.join("go"), "").unwrap();
    let begins = app.queue(&request).await;
    let random = app.queue(&tiny_job("shapes")).await;
    expect(app.post(&format!("/jobs/{goes_on}/resume")).send().await.unwrap(), 202).await;
    let ran = async |id: &str| {
        let job = app.until(id, &["succeeded", "failed"]).await;
        assert_eq!(job["error"]["code"], "out_of_paint", "{job:#}");
    };
    ran(&random).await;
    // A checkpoint holds weights of its own.
    ran(&goes_on).await;
    let job = app.until_job(&begins, "tried again", |job| job["attempt"].as_u64() >= Some(2)).await;
    assert!(job["error"].is_null() && ["queued", "running"].contains(&job["state"].as_str().unwrap()), "{job:#}");
    let told = app.json(&format!("/jobs/{begins}/logs")).await.to_string();
    let waits = r#"could not begin (the file of the weights \"shapes\": No such file"#;
    assert_eq!(told.matches(waits).count(), 1, "{told}");
    assert!(!told.contains(app.directory.path().to_str().unwrap()), "{told}");

    std::fs::rename(&away, &there).unwrap();
    ran(&begins).await;
    app.stop().await;
}

/// The same place, as it is called from this process' working directory.
fn relative(place: &Path) -> PathBuf {
    let up: PathBuf = std::env::current_dir().unwrap().components().skip(1).map(|_| "..").collect();
    up.join(place.strip_prefix("/").unwrap())
}

#[tokio::test]
async fn weights_are_found_from_a_relative_data_directory() {
    let script = r#"FILE=$(printf '%s' "$SPEC" | sed 's/.*"pretrained":"\([^"]*\)","checkpoint_dir".*/\1/')
        if [ -f "$FILE" ]; then CODE=found; else CODE=lost; fi
        echo '{"type":"problem","code":"'$CODE'","detail":"a test"}'; exit 1"#;
    let app = TestApp::with_child(script, |config| {
        config.data_dir = DataDir::new(relative(config.data_dir.root()));
    })
    .await;
    app.small_data_set().await;
    expect(upload(&app, "/pretrained/shapes?network=wrn-10-1", shapes_weights()).await, 201).await;
    let mut request = tiny_job("shapes");
    request["pretrained"] = json!("shapes");
    let id = app.queue(&request).await;
    let job = app.until(&id, &["failed"]).await;
    assert_eq!(job["error"]["code"], "found", "{job:#}");
    app.stop().await;
}

/// Random weights of a wrn-10-1 with two classes.
fn shapes_weights() -> Vec<u8> {
    use mixmatch::nn::{Head, Weights, build, file};
    use rand::SeedableRng;
    let network = build("wrn-10-1", Head::Linear, 2, tch::Kind::Float).unwrap();
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let weights = Weights::initialise(network.layout(), tch::Device::Cpu, &mut rng).unwrap();
    let path = tempfile::NamedTempFile::new().unwrap();
    file::save(network.as_ref(), &weights, path.path()).unwrap();
    std::fs::read(path.path()).unwrap()
}

#[tokio::test]
async fn the_command_line_imports_converts_and_refuses() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let path = directory.path().join("shapes.safetensors");
    std::fs::write(&path, shapes_weights()).unwrap();
    let path = path.to_str().unwrap();
    let done = import_weights(&data, &[path, "--name", "shapes", "--network", "wrn-10-1"]);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{done:?}");
    assert!(
        said.starts_with("imported shapes: wrn-10-1") && said.contains("2 classes") && said.lines().count() == 1,
        "{said}"
    );
    let twice = import_weights(&data, &[path, "--name", "shapes", "--network", "wrn-10-1"]);
    assert!(!twice.status.success() && String::from_utf8_lossy(&twice.stderr).contains("exists already"), "{twice:?}");

    let output = directory.path().join("converted.safetensors");
    let converted = import_weights(&data, &[path, "--network", "wrn-10-1", "--output", output.to_str().unwrap()]);
    assert!(converted.status.success() && output.exists(), "{converted:?}");

    for (file, words) in [
        ("malicious.pth", "posix.system"),
        ("whole_module.pth", "state_dict()"),
        ("zip.pth", "conv1.weight is missing"),
        ("nowhere.pth", "nowhere.pth"),
    ] {
        let refused = import_weights(&data, &[&fixture(file), "--name", "bad"]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(words), "{file}: {said}");
    }
    // What was imported is there for a server that starts on the directory.
    let app = TestApp::at(directory, |_| {}).await;
    let names = app.json("/pretrained").await;
    assert_eq!((names["items"][0]["name"].as_str(), names["items"].as_array().unwrap().len()), (Some("shapes"), 1));
    assert_eq!(names["items"][0]["source"], "shapes.safetensors");
    app.stop().await;
}
