//! A thin HTTP client of the service: what it reads of each answer, and every error as a sentence.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::Context;
use reqwest::multipart::Form;
use reqwest::{Method, RequestBuilder, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// An answer may take so long: an import decodes thousands of images before it answers.
const PATIENCE: Duration = Duration::from_secs(600);

/// An error answer: RFC 9457 `application/problem+json`, or as much of one as came.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    /// What was asked, such as `POST /jobs`.
    pub call: String,
    /// The HTTP status.
    pub status: u16,
    /// The sentence for people.
    pub detail: String,
    /// Everything that is wrong, each as `pointer: detail`.
    pub errors: Vec<String>,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answered {}: {}", self.call, self.status, self.detail)?;
        self.errors.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl std::error::Error for ApiError {}

impl ApiError {
    fn read(call: String, status: u16, body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Body {
            detail: String,
            #[serde(default)]
            errors: Vec<Item>,
        }
        #[derive(Deserialize)]
        struct Item {
            #[serde(default)]
            pointer: String,
            #[serde(default)]
            detail: String,
        }
        match serde_json::from_slice::<Body>(body) {
            Ok(body) => {
                // A single item often repeats the detail word for word.
                let told = |item: &Item| item.detail == body.detail;
                let errors = body.errors.iter().filter(|item| !told(item));
                let errors = errors.map(|item| format!("{}: {}", item.pointer, item.detail)).collect();
                Self { call, status, errors, detail: body.detail }
            }
            Err(_) => {
                let text: String = String::from_utf8_lossy(body).trim().chars().take(300).collect();
                let detail = if text.is_empty() { "an empty body".to_owned() } else { text };
                Self { call, status, detail, errors: Vec::new() }
            }
        }
    }
}

/// A data set, as far as the demo speaks of it.
#[derive(Clone, Debug, Deserialize)]
pub struct Dataset {
    /// Its name.
    pub name: String,
    /// Images by split.
    pub counts: Counts,
    /// What the import found.
    pub report: Report,
}

/// Images of a data set.
#[derive(Clone, Debug, Deserialize)]
pub struct Counts {
    /// Labelled training images by class.
    pub train: BTreeMap<String, u64>,
    /// Test images by class.
    pub test: BTreeMap<String, u64>,
}

/// What an import found.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    /// Rows that were left out.
    pub rejected_rows: u64,
    /// Doubts about the data set.
    #[serde(default)]
    pub warnings: Vec<Value>,
}

/// A job, as far as the demo speaks of it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Job {
    /// UUID.
    pub id: String,
    /// `mixmatch` or `supervised`.
    pub algorithm: String,
    /// `queued`, `running`, `succeeded`, `failed` or `canceled`.
    pub state: String,
    /// What a running job is busy with.
    pub phase: Option<String>,
    /// The current epoch, from 1.
    pub epoch: u32,
    /// Epochs in the run.
    pub epochs: u32,
    /// Optimiser steps done.
    pub step: u64,
    /// Optimiser steps in the run.
    pub steps: u64,
    /// Labelled images a second.
    pub images_per_second: Option<f64>,
    /// Seconds until the last step.
    pub eta_seconds: Option<f64>,
    /// Place in the queue, while queued.
    pub queue_position: Option<u64>,
    /// When it began.
    pub started_at: Option<jiff::Timestamp>,
    /// When it ended.
    pub finished_at: Option<jiff::Timestamp>,
    /// The last epoch.
    pub last: Option<Epoch>,
    /// The epoch with the best validation accuracy.
    pub best: Option<Epoch>,
    /// The test split, once, at the end.
    pub test: Option<Test>,
    /// What it published.
    pub model: Option<ModelName>,
    /// Why it failed.
    pub error: Option<JobError>,
    /// The supervised run on the same labels that was queued with it.
    pub baseline: Option<Baseline>,
}

/// The baseline of a job; a job of its own.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Baseline {
    /// UUID.
    pub id: String,
}

impl Job {
    /// Whether nothing more will happen.
    pub fn is_final(&self) -> bool {
        matches!(self.state.as_str(), "succeeded" | "failed" | "canceled")
    }

    /// Seconds from its start to its end.
    pub fn seconds(&self) -> Option<f64> {
        Some(self.finished_at?.duration_since(self.started_at?).as_secs_f64())
    }
}

/// An epoch of training.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Epoch {
    /// From 1.
    pub epoch: u32,
    /// Optimiser steps done at its end.
    pub step: u64,
    /// Mean loss.
    pub loss: f64,
    /// Share of right answers on the validation split.
    pub validation_accuracy: f64,
    /// Labelled images a second.
    pub images_per_second: f64,
}

/// What the test split said.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Test {
    /// Images in the split.
    pub images: u64,
    /// Share of right answers.
    pub accuracy: f64,
    /// 95 % interval of the accuracy.
    pub accuracy_interval: [f64; 2],
    /// Unweighted mean of the classes' F1.
    pub f1_macro: f64,
}

/// A published model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ModelName {
    /// Its name.
    pub name: String,
    /// Its version, from 1.
    pub version: u32,
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.version)
    }
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct JobError {
    /// A stable word.
    pub code: String,
    /// A sentence for people.
    pub detail: String,
}

/// The answer of `POST /predict`.
#[derive(Clone, Debug, Deserialize)]
pub struct Prediction {
    /// One for each image, in their order.
    pub results: Vec<PredictionResult>,
}

/// One image's answer.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct PredictionResult {
    /// The most probable class.
    pub label: Option<String>,
    /// Its probability.
    pub probability: Option<f64>,
    /// What is wrong with the image.
    pub problem: Option<Value>,
}

/// The service at one address.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
}

impl Client {
    /// A client of the service at `base`, such as `http://127.0.0.1:8080`.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(base: &str) -> anyhow::Result<Self> {
        // The service is this machine's own: a proxy from the environment has no part in it.
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(5))
            .build()
            .context("the HTTP client")?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned() })
    }

    /// `GET`, read as `T`.
    ///
    /// # Errors
    /// [`ApiError`] for an error answer; otherwise what went wrong on the way.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.send(Method::GET, path, |request| request.timeout(PATIENCE)).await
    }

    /// `POST` of a JSON body.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post_json<T: DeserializeOwned>(&self, path: &str, body: &Value) -> anyhow::Result<T> {
        self.send(Method::POST, path, |request| request.timeout(PATIENCE).json(body)).await
    }

    /// The same under an idempotency key: sent again, it gives what the first made.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post_once<T: DeserializeOwned>(&self, path: &str, key: &str, body: &Value) -> anyhow::Result<T> {
        let with_key = |request: RequestBuilder| request.header("idempotency-key", key).timeout(PATIENCE).json(body);
        self.send(Method::POST, path, with_key).await
    }

    /// `POST` of a multipart form.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post_form<T: DeserializeOwned>(&self, path: &str, form: Form) -> anyhow::Result<T> {
        self.send(Method::POST, path, |request| request.timeout(PATIENCE).multipart(form)).await
    }

    /// `POST` of bytes of one media type.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post_bytes<T: DeserializeOwned>(&self, path: &str, media: &str, body: Vec<u8>) -> anyhow::Result<T> {
        self.send(Method::POST, path, |request| request.timeout(PATIENCE).header("content-type", media).body(body))
            .await
    }

    /// A job's events from behind `last_id` on, as they happen: there is no time limit on the whole.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn events(&self, job: &str, last_id: Option<&str>) -> anyhow::Result<Response> {
        self.answer(Method::GET, &format!("/jobs/{job}/events"), |request| {
            let request = request.header("accept", "text/event-stream");
            match last_id {
                Some(id) => request.header("last-event-id", id),
                None => request,
            }
        })
        .await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        prepare: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> anyhow::Result<T> {
        let call = format!("{method} {path}");
        let body = self.answer(method, path, prepare).await?.bytes().await;
        let body = body.with_context(|| format!("the answer to {call} broke off"))?;
        serde_json::from_slice(&body).with_context(|| format!("the answer to {call} is not what was expected"))
    }

    async fn answer(
        &self,
        method: Method,
        path: &str,
        prepare: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> anyhow::Result<Response> {
        let call = format!("{method} {path}");
        let request = prepare(self.http.request(method, format!("{}{path}", self.base)));
        let response = request.send().await.with_context(|| format!("{call} got no answer"))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.unwrap_or_default();
        Err(ApiError::read(call, status.as_u16(), &body).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_told_with_everything_that_is_wrong() {
        let body = br#"{"type":"/problems/invalid","title":"t","status":422,"detail":"2 fields are wrong",
            "errors":[{"pointer":"/labelled","code":"too_small","detail":"at least 2"},
                      {"pointer":"/seed","code":"wrong_type","detail":"a whole number"}]}"#;
        let error = ApiError::read("POST /jobs".to_owned(), 422, body).to_string();
        assert_eq!(
            error,
            "POST /jobs answered 422: 2 fields are wrong\n  /labelled: at least 2\n  /seed: a whole number"
        );
    }

    #[test]
    fn an_item_that_repeats_the_detail_is_not_told_twice() {
        let body = br#"{"detail":"taken","errors":[{"pointer":"/name","code":"taken","detail":"taken"}]}"#;
        let error = ApiError::read("POST /datasets".to_owned(), 409, body);
        assert!(error.errors.is_empty());
    }

    #[test]
    fn an_error_that_is_no_problem_is_told_as_it_came() {
        assert_eq!(ApiError::read(String::new(), 502, b" bad gateway ").detail, "bad gateway");
        assert_eq!(ApiError::read(String::new(), 500, b"").detail, "an empty body");
    }

    #[test]
    fn a_job_is_read_and_timed() {
        let job: Job = serde_json::from_value(serde_json::json!({
            "id": "x", "dataset": {"id": "y", "name": "z"}, "algorithm": "mixmatch", "state": "succeeded", "epoch": 1,
            "epochs": 1, "step": 2, "steps": 2, "started_at": "2026-01-01T00:00:01Z", "phase": null,
            "finished_at": "2026-01-01T00:00:03.5Z", "model": {"name": "mask", "version": 2}
        }))
        .unwrap();
        assert!(job.is_final());
        assert_eq!(job.seconds(), Some(2.5));
        assert_eq!(job.model.unwrap().to_string(), "mask:2");
    }
}
