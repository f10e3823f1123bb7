//! A load on an HTTP endpoint that takes one image as the body: so many requests at a time, each sent when the one before it
//! is answered. Ours and any other server can be measured by it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use reqwest::StatusCode;
use reqwest::multipart::{Form, Part};
use serde::Serialize;
use serde_json::Value;

/// What is sent, and where.
#[derive(Clone, Debug)]
pub struct Load {
    /// The whole address, query included.
    pub url: String,
    /// The multipart field that an image is sent in; none sends it as the body.
    pub field: Option<String>,
    /// Encoded images; sent in turn.
    pub images: Arc<Vec<Vec<u8>>>,
    /// Requests that are under way at any moment.
    pub concurrency: usize,
    /// How long is measured.
    pub seconds: f64,
    /// How long before that.
    pub warm_seconds: f64,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoadResult {
    /// Requests under way at any moment.
    pub concurrency: usize,
    /// Answers with status 200 that came in the time measured, a second, whenever their requests began.
    pub images_per_second: f64,
    /// Median latency of the requests that began in that time and were answered so, however long that took, milliseconds.
    pub p50_ms: f64,
    /// 95th percentile.
    pub p95_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Mean of the answers' `timings.batch_size`, weighted by requests; none where the answers have none.
    pub mean_batch: Option<f64>,
    /// Their tenth, median and ninetieth percentile: a mean of 16 may be batches of 1 and of 32.
    pub batches: Option<[f64; 3]>,
    /// Requests that ended in that time or began in it and were not answered with 200: how many by status, 0 for no answer at all.
    pub errors: BTreeMap<u16, u64>,
}

/// The time that is measured.
#[derive(Clone, Copy, Debug)]
struct Window {
    begin: Instant,
    end: Instant,
}

#[derive(Debug, Default)]
struct Seen {
    /// Good answers that came in the window.
    answered: usize,
    /// Latencies of requests that began in it.
    latencies_ms: Vec<f64>,
    /// Latencies of requests that were under way when it began: looked at only where they are all there is.
    earlier_ms: Vec<f64>,
    batches: Vec<f64>,
    errors: BTreeMap<u16, u64>,
}

/// Sends for `load.seconds`, waits for what is under way then, and tells what came back.
///
/// Each sender has a request under way at either end of the time. Counted only where they lie wholly inside it, about one
/// request of each sender would be lost: the more of all, the slower the endpoint.
///
/// # Errors
/// When no client can be made, or nothing at all was answered.
pub async fn run(load: &Load) -> anyhow::Result<LoadResult> {
    let client = reqwest::Client::builder()
        .pool_max_idle_per_host(load.concurrency)
        .timeout(Duration::from_secs(60))
        .build()
        .context("no HTTP client")?;
    first(&client, load).await?;
    let next = Arc::new(AtomicUsize::new(0));
    let begin = Instant::now() + Duration::from_secs_f64(load.warm_seconds);
    let window = Window { begin, end: begin + Duration::from_secs_f64(load.seconds) };
    let senders = (0..load.concurrency).map(|_| {
        let (client, next, load) = (client.clone(), next.clone(), load.clone());
        tokio::spawn(async move {
            let mut seen = Seen::default();
            while Instant::now() < window.end {
                let image = load.images[next.fetch_add(1, Ordering::Relaxed) % load.images.len()].clone();
                let at = Instant::now();
                let outcome = send(&client, &load, image).await;
                seen.take(outcome, at, Instant::now(), window);
            }
            seen
        })
    });
    let mut all = Seen::default();
    for sender in senders.collect::<Vec<_>>() {
        all.add(sender.await.context("a sender panicked")?);
    }
    if all.latencies_ms.is_empty() {
        all.latencies_ms = std::mem::take(&mut all.earlier_ms);
    }
    anyhow::ensure!(!all.latencies_ms.is_empty(), "{} answered nothing with 200: {:?}", load.url, all.errors);
    all.latencies_ms.sort_by(f64::total_cmp);
    all.batches.sort_by(f64::total_cmp);
    let mean_batch = (!all.batches.is_empty()).then(|| all.batches.iter().sum::<f64>() / all.batches.len() as f64);
    Ok(LoadResult {
        concurrency: load.concurrency,
        images_per_second: all.rate(load),
        p50_ms: percentile(&all.latencies_ms, 0.50),
        p95_ms: percentile(&all.latencies_ms, 0.95),
        p99_ms: percentile(&all.latencies_ms, 0.99),
        mean_batch,
        batches: (!all.batches.is_empty()).then(|| [0.1, 0.5, 0.9].map(|share| percentile(&all.batches, share))),
        errors: all.errors,
    })
}

/// Asks once, so that what would refuse every request is told in words and at once.
async fn first(client: &reqwest::Client, load: &Load) -> anyhow::Result<()> {
    let image = load.images.first().context("no image to send")?.clone();
    let answer = request(client, load, image).send().await;
    let answer = answer.with_context(|| format!("{} does not answer", load.url))?;
    let status = answer.status();
    // One that is busy may answer others.
    if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS {
        let body: Value = answer.json().await.unwrap_or_default();
        let detail = body["detail"].as_str().unwrap_or("it does not say why");
        let key = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status);
        let needed = if key { "; a server without keys is needed" } else { "" };
        anyhow::bail!("{} answers with {status}: {detail}{needed}", load.url);
    }
    Ok(())
}

fn request(client: &reqwest::Client, load: &Load, image: Vec<u8>) -> reqwest::RequestBuilder {
    let request = client.post(&load.url);
    match load.field.clone() {
        Some(field) => request.multipart(Form::new().part(field, Part::bytes(image).file_name("image.jpg"))),
        None => request.header("content-type", "image/jpeg").body(image),
    }
}

/// The status, and the batch's size where the answer tells it.
async fn send(client: &reqwest::Client, load: &Load, image: Vec<u8>) -> Result<Option<f64>, u16> {
    let answer = request(client, load, image).send().await.map_err(|_| 0u16)?;
    let status = answer.status().as_u16();
    let body = answer.bytes().await.map_err(|_| 0u16)?;
    if status != 200 {
        return Err(status);
    }
    let value: Value = serde_json::from_slice(&body).unwrap_or_default();
    Ok(value.pointer("/timings/batch_size").and_then(Value::as_f64))
}

impl Seen {
    /// Takes what came of a request that began at `at` and ended at `done`.
    fn take(&mut self, outcome: Result<Option<f64>, u16>, at: Instant, done: Instant, window: Window) {
        if done < window.begin {
            return;
        }
        match outcome {
            Ok(batch) => {
                self.answered += usize::from(done <= window.end);
                self.batches.extend(batch);
                let latencies = if at >= window.begin { &mut self.latencies_ms } else { &mut self.earlier_ms };
                latencies.push(done.duration_since(at).as_secs_f64() * 1e3);
            }
            Err(status) => *self.errors.entry(status).or_default() += 1,
        }
    }

    fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.latencies_ms.extend(other.latencies_ms);
        self.earlier_ms.extend(other.earlier_ms);
        self.batches.extend(other.batches);
        other.errors.into_iter().for_each(|(status, count)| *self.errors.entry(status).or_default() += count);
    }

    /// Good answers a second. Where one takes longer than all of the window and so none came in it, as many as so many senders get
    /// with the latencies that were seen; these are not empty.
    fn rate(&self, load: &Load) -> f64 {
        if self.answered > 0 {
            return self.answered as f64 / load.seconds;
        }
        let good = self.latencies_ms.len() as f64;
        let share = good / (good + self.errors.values().sum::<u64>() as f64);
        share * load.concurrency as f64 * 1e3 * good / self.latencies_ms.iter().sum::<f64>()
    }
}

/// The smallest value that at least this share of `sorted` does not exceed; `sorted` is not empty.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!([0.5, 0.95, 0.99, 1.0].map(|share| percentile(&hundred, share)), [50.0, 95.0, 99.0, 100.0]);
        assert_eq!(percentile(&[7.0], 0.01), 7.0);
    }

    /// An endpoint, and a load of three bytes on it.
    async fn load_on(routes: axum::Router) -> Load {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let images = Arc::new(vec![vec![1], vec![2]]);
        Load { url, field: None, images, concurrency: 2, seconds: 0.3, warm_seconds: 0.05 }
    }

    /// One that takes its time over every answer.
    fn slow(milliseconds: u64) -> axum::Router {
        let answer = move || async move { tokio::time::sleep(Duration::from_millis(milliseconds)).await };
        axum::Router::new().route("/", axum::routing::post(answer))
    }

    #[tokio::test]
    async fn answers_count_whenever_their_requests_began() {
        let load = Load { concurrency: 4, seconds: 1.0, warm_seconds: 0.4, ..load_on(slow(300)).await };
        let result = run(&load).await.unwrap();
        // Each of four senders is answered so often in a second, up to one answer: two of them fell out once, 8 a second.
        let in_a_second = 1e3 / result.p50_ms;
        assert!(result.images_per_second >= 4.0 * (in_a_second - 1.0), "{result:?}");
        assert!(result.images_per_second <= 4.0 * (in_a_second + 1.0), "{result:?}");
        assert!(result.p50_ms >= 300.0 && result.errors.is_empty(), "{result:?}");
    }

    #[tokio::test]
    async fn an_answer_may_take_longer_than_all_that_is_measured() {
        let load = Load { seconds: 0.1, ..load_on(slow(500)).await };
        let result = run(&load).await.unwrap();
        assert!(result.p50_ms >= 500.0 && result.errors.is_empty(), "{result:?}");
        assert!(result.images_per_second > 0.0 && result.images_per_second <= 4.0, "two at a time: {result:?}");
    }

    #[test]
    fn a_request_belongs_to_the_window_by_its_answer_and_its_latency_by_its_beginning() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let window = Window { begin: after(10), end: after(20) };
        let mut seen = Seen::default();
        for (at, done) in [(1, 9), (8, 12), (12, 15), (18, 25)] {
            seen.take(Ok(None), after(at), after(done), window);
            seen.take(Err(503), after(at), after(done), window);
        }
        assert_eq!((seen.answered, seen.latencies_ms, seen.earlier_ms), (2, vec![3e3, 7e3], vec![4e3]));
        assert_eq!(seen.errors[&503], 3);
    }

    #[tokio::test]
    async fn statuses_are_told_apart_and_batches_averaged() {
        use axum::routing::post;
        let count = Arc::new(AtomicUsize::new(0));
        let answer = move || {
            let turn = count.fetch_add(1, Ordering::Relaxed);
            async move {
                let body = axum::Json(serde_json::json!({"timings": {"batch_size": 3}}));
                let status = if turn % 4 == 3 { 503 } else { 200 };
                (axum::http::StatusCode::from_u16(status).unwrap(), body)
            }
        };
        let load = load_on(axum::Router::new().route("/", post(answer))).await;
        let result = run(&load).await.unwrap();
        assert_eq!((result.mean_batch, result.batches, result.concurrency), (Some(3.0), Some([3.0; 3]), 2));
        assert!(result.errors.keys().eq([&503]), "{result:?}");
        let (good, bad) = (result.images_per_second * 0.3, result.errors[&503] as f64);
        assert!(good > 2.0 * bad && good < 4.0 * bad + 8.0, "three of four are good: {result:?}");
        assert!(result.p50_ms > 0.0 && result.p50_ms <= result.p99_ms);
    }
}
