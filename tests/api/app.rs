//! One server for one test.

use std::time::{Duration, Instant};

use mixmatch::api::Server;
use mixmatch::config::ServeConfig;
use mixmatch::model::{FORMAT_VERSION, Golden, ModelManifest, SplitSizes};
use mixmatch::nn::Head;
use mixmatch::nn::device::CudaStatus;
use mixmatch::train::config::TrainConfig;
use mixmatch::worker::ChildCommand;
use reqwest::multipart::{Form, Part};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::pictures::{self, Drawn};

/// A server on a free port with a directory of its own.
pub struct TestApp {
    pub client: Client,
    pub base: String,
    pub directory: TempDir,
    server: Option<Server>,
}

/// The job of [`TestApp::train_shapes`].
pub fn shapes_job() -> Value {
    json!({
        "dataset": "shapes", "network": "wrn-10-1", "labelled": 40, "seed": 1, "size": 32, "batch": 16,
        "epochs": 4, "steps_per_epoch": 25,
    })
}

/// What a model of discs and stripes says of itself that nobody trained.
pub fn shapes_manifest() -> ModelManifest {
    ModelManifest {
        format_version: FORMAT_VERSION,
        network: "wrn-10-1".into(),
        head: Head::Linear,
        classes: vec!["disc".into(), "stripes".into()],
        preprocess: TrainConfig::default().preprocess(),
        temperature: 1.0,
        config: json!({}),
        dataset_hash: "h".into(),
        group_column: None,
        data_warnings: vec![],
        last_epochs: None,
        training: None,
        split: SplitSizes::default(),
        labelled_classes: vec![],
        validation: json!({}),
        test: None,
        created_at: "2026-01-01T00:00:00Z".into(),
        golden: Golden { seed: 0, logits: vec![] },
        int8: None,
    }
}

/// The smallest run that goes all the way.
pub fn tiny_job(dataset: &str) -> Value {
    json!({
        "dataset": dataset, "preset": "quick", "network": "wrn-10-1", "labelled": 20, "seed": 3, "size": 16, "batch": 8,
        "epochs": 2, "steps_per_epoch": 4,
    })
}

impl TestApp {
    /// The service as it is, with this package's binary as the child.
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// The service with other settings.
    pub async fn with(change: impl FnOnce(&mut ServeConfig)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self::at(directory, change).await
    }

    /// The service on a directory that may have a past.
    pub async fn at(directory: TempDir, change: impl FnOnce(&mut ServeConfig)) -> Self {
        let mut config = ServeConfig::new(directory.path().join("data"), "127.0.0.1:0".parse().unwrap());
        config.worker.devices = "cpu".parse().unwrap();
        config.worker.child = Some(ChildCommand {
            program: env!("CARGO_BIN_EXE_mixmatch").into(),
            args: vec!["work".into()],
            env: Vec::new(),
        });
        config.worker.heartbeat = Duration::from_millis(100);
        config.worker.flush = Duration::from_millis(20);
        config.worker.grace = Duration::from_secs(5);
        change(&mut config);
        let begun = Instant::now();
        let server = loop {
            match Server::start(config.clone(), CudaStatus::NoDriver).await {
                Ok(server) => break server,
                // A process that another test starts at this moment has the lock of a server that has just stopped, until it is another
                // program.
                Err(error) if error.to_string().contains("is in use") && begun.elapsed() < Duration::from_secs(10) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("{error:#}"),
            }
        };
        let base = format!("http://{}", server.address());
        Self { client: Client::new(), base, directory, server: Some(server) }
    }

    /// The service whose child is this shell script; the run specification is `$SPEC`.
    pub async fn with_child(script: &str, change: impl FnOnce(&mut ServeConfig)) -> Self {
        let script = format!("SPEC=$(cat)\n{script}");
        Self::with(|config| {
            config.worker.child = Some(ChildCommand {
                program: "/bin/sh".into(),
                args: vec!["-c".into(), script.into()],
                env: Vec::new(),
            });
            change(config);
        })
        .await
    }

    /// Stops the server in order and gives the directory back.
    pub async fn stop(mut self) -> TempDir {
        self.server.take().unwrap().stop().await;
        self.directory
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.base))
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.base))
    }

    pub fn put(&self, path: &str) -> RequestBuilder {
        self.client.put(format!("{}{path}", self.base))
    }

    pub fn delete(&self, path: &str) -> RequestBuilder {
        self.client.delete(format!("{}{path}", self.base))
    }

    /// The JSON at a path that must be there.
    pub async fn json(&self, path: &str) -> Value {
        expect(self.get(path).send().await.unwrap(), 200).await
    }

    /// Imports a data set that must be accepted.
    pub async fn import(&self, name: &str, drawn: &Drawn) -> Value {
        expect(self.post("/datasets").multipart(form(name, drawn)).send().await.unwrap(), 201).await
    }

    /// A data set that is large enough for a tiny job.
    pub async fn small_data_set(&self) {
        self.import("shapes", &pictures::data_set(80, 20)).await;
    }

    /// Imports discs and stripes and trains on them what learns them in seconds; gives the job, which has succeeded.
    pub async fn train_shapes(&self) -> Value {
        self.import("shapes", &pictures::data_set(300, 60)).await;
        let id = self.queue(&shapes_job()).await;
        let job = self.until(&id, &["succeeded", "failed", "canceled"]).await;
        assert_eq!(job["state"], "succeeded", "{job:#}");
        job
    }

    /// Queues a job that must be accepted; gives its id.
    pub async fn queue(&self, request: &Value) -> String {
        let job = expect(self.post("/jobs").json(request).send().await.unwrap(), 202).await;
        job["id"].as_str().unwrap().to_owned()
    }

    /// Waits until a job is in one of these states.
    pub async fn until(&self, id: &str, states: &[&str]) -> Value {
        self.until_job(id, &states.join(" or "), |job| states.contains(&job["state"].as_str().unwrap())).await
    }

    /// Waits until a job is as wanted, at most five minutes.
    pub async fn until_job(&self, id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let job = self.json(&format!("/jobs/{id}")).await;
            if wanted(&job) {
                return job;
            }
            assert!(started.elapsed() < Duration::from_secs(300), "waited for {what}: {job:#}");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }
}

/// The form of `POST /datasets`.
pub fn form(name: &str, drawn: &Drawn) -> Form {
    Form::new()
        .text("name", name.to_owned())
        .text("task", "shape")
        .part("images", Part::bytes(drawn.images.clone()).file_name("images.zip"))
        .part("train", Part::bytes(drawn.train.clone().into_bytes()).file_name("train.csv"))
        .part("test", Part::bytes(drawn.test.clone().into_bytes()).file_name("test.csv"))
}

/// The JSON of an answer that must have this status.
pub async fn expect(response: Response, status: u16) -> Value {
    let (got, url) = (response.status(), response.url().clone());
    let text = response.text().await.unwrap();
    assert_eq!(got, status, "{url}: {text}");
    if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap_or(Value::String(text)) }
}

/// An answer that must be a problem of this status, whole and in its media type.
pub async fn problem(response: Response, status: u16) -> Value {
    assert_eq!(response.headers()["content-type"], "application/problem+json", "{response:?}");
    let path = response.url().path().to_owned();
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let body = expect(response, status).await;
    assert_eq!(body["status"], status, "{body}");
    assert_eq!(body["instance"], path, "{body}");
    assert_eq!(body["request_id"], id, "{body}");
    for field in ["type", "title", "detail"] {
        assert!(body[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {body}");
    }
    body
}

/// What a walk over a list has seen: nothing twice, and what was there all the time in its order.
pub fn assert_walked(list: &str, mut seen: Vec<String>, there: &[String]) {
    let mut unique = seen.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), seen.len(), "{list}: a row was seen twice: {seen:?}");
    seen.retain(|name| there.contains(name));
    assert_eq!(seen, there, "{list}: what was there all the time is seen once, in order");
}

/// The pointers of a problem's errors, sorted.
pub fn pointers(problem: &Value) -> Vec<String> {
    let errors = problem["errors"].as_array().unwrap();
    let mut pointers: Vec<_> = errors.iter().map(|error| error["pointer"].as_str().unwrap().to_owned()).collect();
    pointers.sort_unstable();
    pointers
}
