//! Follows a job to its end: events while the stream holds, the job itself where it does not.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::bail;
use futures::StreamExt;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Deserialize;

use super::client::{ApiError, Client, Epoch, Job};
use super::sse::{SseEvent, SseParser};

/// The server says something at least every 15 seconds; after this much silence the line is dead.
const SILENCE: Duration = Duration::from_secs(45);

/// Between two looks at a job whose stream broke.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 1000 });

/// So many looks in a row may fail before it is an error.
const PATIENCE: u32 = 10;

/// Without a terminal, about so many lines for a run.
const LINES: u32 = 20;

/// Where the progress of several jobs is shown: bars on a terminal, lines elsewhere.
#[derive(Debug)]
pub struct Board {
    bars: Option<MultiProgress>,
}

impl Default for Board {
    fn default() -> Self {
        Self { bars: std::io::stderr().is_terminal().then(MultiProgress::new) }
    }
}

impl Board {
    /// A place for one job; `name` stands before all it says.
    pub fn row(&self, name: &str) -> Row {
        let bar = self.bars.as_ref().map(|bars| {
            let style = ProgressStyle::with_template("  {prefix:<11} {bar:24} {pos:>5}/{len} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            bars.add(ProgressBar::new(1).with_style(style).with_prefix(name.to_owned()))
        });
        Row { bar, name: name.to_owned(), progress: Progress::default(), told: 0 }
    }
}

/// What is known of a running job.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// What it does, where it is not training: queued, importing, evaluating …
    phase: Option<String>,
    epoch: u32,
    epochs: u32,
    step: u64,
    steps: u64,
    loss: Option<f64>,
    validation: Option<f64>,
    rate: Option<f64>,
    eta: Option<f64>,
}

impl Progress {
    fn of(job: &Job) -> Self {
        let phase = match (job.state.as_str(), job.queue_position) {
            ("running", _) => job.phase.clone(),
            ("queued", Some(position)) => Some(format!("queued, number {position}")),
            (state, _) => Some(state.to_owned()),
        };
        let last = job.last.as_ref();
        Self {
            phase: phase.filter(|phase| phase != "training"),
            epoch: job.epoch,
            epochs: job.epochs,
            step: job.step,
            steps: job.steps,
            loss: last.map(|last| last.loss),
            validation: last.map(|last| last.validation_accuracy),
            rate: job.images_per_second,
            eta: job.eta_seconds,
        }
    }

    /// `epoch 3/10 · loss 0.512 · validation 84.1 % · 420 images/s · 12 s left`, as far as it is known.
    fn text(&self) -> String {
        let mut parts = Vec::new();
        if self.epoch > 0 {
            parts.push(format!("epoch {}/{}", self.epoch, self.epochs));
        }
        parts.extend(self.loss.map(|loss| format!("loss {loss:.3}")));
        parts.extend(self.validation.map(|share| format!("validation {:.1} %", share * 100.0)));
        match &self.phase {
            Some(phase) => parts.push(phase.clone()),
            None => {
                parts.extend(self.rate.map(|rate| format!("{rate:.0} images/s")));
                parts.extend(self.eta.map(|seconds| format!("{seconds:.0} s left")));
            }
        }
        parts.join(" · ")
    }
}

/// One job's place on the board.
#[derive(Debug)]
pub struct Row {
    bar: Option<ProgressBar>,
    name: String,
    progress: Progress,
    /// The last epoch that got a line of its own.
    told: u32,
}

impl Row {
    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(format!("  {:<11} {text}", self.name)),
            None => eprintln!("  {:<11} {text}", self.name),
        }
    }

    fn draw(&self) {
        if let Some(bar) = &self.bar {
            bar.set_length(self.progress.steps.max(1));
            bar.set_position(self.progress.step);
            bar.set_message(format!("steps · {}", self.progress.text()));
        }
    }

    /// What a look at the job says: the whole state, so nothing that was missed matters.
    fn look(&mut self, job: &Job) {
        let validation = self.progress.validation;
        self.progress = Progress::of(job);
        self.progress.validation = self.progress.validation.or(validation);
        if let Some(last) = &job.last {
            self.epoch_done(last);
        }
        self.draw();
    }

    fn epoch_done(&mut self, epoch: &Epoch) {
        // An attempt after a crash counts its epochs anew.
        if epoch.epoch < self.told {
            self.told = 0;
        }
        if self.bar.is_some() || epoch.epoch == self.told {
            return;
        }
        let every = self.progress.epochs.div_ceil(LINES).max(1);
        if epoch.epoch.is_multiple_of(every) || epoch.epoch == self.progress.epochs {
            self.told = epoch.epoch;
            self.say(&self.progress.text());
        }
    }

    fn show(&mut self, event: &SseEvent) {
        match event.name.as_str() {
            "step" => {
                let Some(step) = read::<Step>(event) else { return };
                self.progress = Progress {
                    phase: None,
                    epoch: step.epoch,
                    epochs: step.epochs,
                    step: step.step,
                    steps: step.steps,
                    loss: Some(step.loss),
                    rate: Some(step.images_per_second),
                    eta: Some(step.eta_seconds),
                    validation: self.progress.validation,
                };
            }
            "epoch" => {
                let Some(epoch) = read::<Epoch>(event) else { return };
                self.progress.epoch = epoch.epoch;
                self.progress.step = epoch.step;
                self.progress.loss = Some(epoch.loss);
                self.progress.rate = Some(epoch.images_per_second);
                self.progress.validation = Some(epoch.validation_accuracy);
                self.epoch_done(&epoch);
            }
            "phase" => {
                let phase = read::<Phase>(event).map(|said| said.phase);
                self.progress.phase = phase.filter(|phase| phase != "training");
            }
            "state" => {
                let Some(said) = read::<State>(event) else { return };
                if said.state == "running" && said.attempt > 1 {
                    self.say(&format!("attempt {}", said.attempt));
                }
                self.progress.phase = Some(said.state);
            }
            "log" => {
                if let Some(line) = read::<Log>(event).filter(|line| line.level != "info") {
                    self.say(&format!("{}: {}", line.level, line.message));
                }
            }
            // The job's own error, read at the end, tells the same in one place.
            _ => {}
        }
        self.draw();
    }

    fn close(&self, job: &Job) {
        let summary = match (&job.test, job.seconds()) {
            (Some(test), Some(seconds)) => {
                format!("done in {seconds:.0} s: test accuracy {:.1} %", test.accuracy * 100.0)
            }
            _ => job.state.clone(),
        };
        if let Some(bar) = &self.bar {
            bar.set_message(format!("steps · {summary}"));
            bar.abandon();
        } else {
            self.say(&summary);
        }
    }
}

#[derive(Deserialize)]
struct Step {
    epoch: u32,
    epochs: u32,
    step: u64,
    steps: u64,
    loss: f64,
    images_per_second: f64,
    eta_seconds: f64,
}

#[derive(Deserialize)]
struct Phase {
    phase: String,
}

#[derive(Deserialize)]
struct State {
    state: String,
    #[serde(default)]
    attempt: u32,
}

#[derive(Deserialize)]
struct Log {
    level: String,
    message: String,
}

/// An event of a newer server may have another shape: it is passed over.
fn read<T: for<'a> Deserialize<'a>>(event: &SseEvent) -> Option<T> {
    serde_json::from_str(&event.data).ok()
}

/// Follows a job until it has succeeded.
///
/// # Errors
/// The job's own error when it failed, or that it was canceled; or that the server is gone.
pub async fn follow(client: &Client, id: &str, mut row: Row) -> anyhow::Result<Job> {
    let mut last_id = None;
    let mut failures = 0;
    loop {
        // Without a stream this is polling: a look at the job a second, and another try at the stream.
        let streamed = stream(client, id, &mut last_id, &mut row).await;
        match client.get::<Job>(&format!("/jobs/{id}")).await {
            Ok(job) => {
                failures = 0;
                row.look(&job);
                if job.is_final() {
                    row.close(&job);
                    return succeeded(job);
                }
            }
            // The server said no: it will say so again.
            Err(error) if error.downcast_ref::<ApiError>().is_some_and(|error| error.status < 500) => {
                return Err(error);
            }
            Err(error) => {
                failures += 1;
                if failures >= PATIENCE {
                    return Err(error.context(format!("lost sight of job {id}")));
                }
            }
        }
        if failures == 1 || (failures == 0 && streamed.is_err()) {
            tracing::debug!(job = %id, error = ?streamed.err(), "the event stream broke; looking again");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Shows events until the stream ends, by itself or not.
async fn stream(client: &Client, id: &str, last_id: &mut Option<String>, row: &mut Row) -> anyhow::Result<()> {
    let answer = tokio::time::timeout(SILENCE, client.events(id, last_id.as_deref())).await??;
    let mut chunks = answer.bytes_stream();
    let mut parser = SseParser::default();
    while let Some(chunk) = tokio::time::timeout(SILENCE, chunks.next()).await? {
        for event in parser.feed(&chunk?) {
            row.show(&event);
            if event.id.is_some() {
                *last_id = event.id;
            }
        }
    }
    Ok(())
}

fn succeeded(job: Job) -> anyhow::Result<Job> {
    match (job.state.as_str(), &job.error) {
        ("succeeded", _) => Ok(job),
        (_, Some(error)) => {
            bail!("the {} job {} {} ({}): {}", job.algorithm, job.id, job.state, error.code, error.detail)
        }
        (state, None) => bail!("the {} job {} was {state}", job.algorithm, job.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str) -> SseEvent {
        SseEvent { id: None, name: name.to_owned(), data: data.to_owned() }
    }

    fn row() -> Row {
        Row { bar: None, name: "mixmatch".to_owned(), progress: Progress::default(), told: 0 }
    }

    #[test]
    fn events_become_one_line() {
        let mut row = row();
        row.show(&event("state", r#"{"state":"running","attempt":1}"#));
        row.show(&event("phase", r#"{"phase":"training"}"#));
        row.show(&event(
            "epoch",
            r#"{"epoch":2,"step":120,"loss":0.5,"validation_accuracy":0.841,"images_per_second":410.2}"#,
        ));
        row.show(&event(
            "step",
            r#"{"epoch":3,"epochs":10,"step":130,"steps":600,"loss":0.4567,"images_per_second":420.4,"eta_seconds":12.3}"#,
        ));
        assert_eq!(row.progress.text(), "epoch 3/10 · loss 0.457 · validation 84.1 % · 420 images/s · 12 s left");
        row.show(&event("phase", r#"{"phase":"evaluating"}"#));
        assert_eq!(row.progress.text(), "epoch 3/10 · loss 0.457 · validation 84.1 % · evaluating");
        row.show(&event("step", "not JSON"));
        assert_eq!(row.progress.step, 130);
    }

    #[test]
    fn a_queued_job_says_its_place() {
        let job = Job { state: "queued".to_owned(), queue_position: Some(2), ..Job::default() };
        assert_eq!(Progress::of(&job).text(), "queued, number 2");
    }

    #[test]
    fn a_failed_job_is_an_error_with_its_reason() {
        let error = super::super::client::JobError {
            code: "out_of_memory".to_owned(),
            detail: "use a smaller batch".to_owned(),
        };
        let job =
            Job { state: "failed".to_owned(), algorithm: "mixmatch".to_owned(), error: Some(error), ..Job::default() };
        let told = succeeded(job).unwrap_err().to_string();
        assert!(told.contains("out_of_memory") && told.contains("smaller batch"), "{told}");
        assert!(succeeded(Job { state: "canceled".to_owned(), ..Job::default() }).is_err());
    }

    /// A service whose first answer to `/events` breaks off: what each call sent as `Last-Event-ID`.
    async fn broken_line() -> (String, std::sync::Arc<std::sync::Mutex<Vec<Option<String>>>>) {
        use axum::{Router, http::HeaderMap, routing::get};
        let calls = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let (seen, asked) = (calls.clone(), calls.clone());
        let events = move |headers: HeaderMap| async move {
            let after = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
            let first = after.is_none();
            seen.lock().unwrap().push(after);
            if first {
                "id: 4\nevent: state\ndata: {\"state\":\"running\",\"attempt\":1}\n\nid: 5\nevent: st"
            } else {
                "id: 6\nevent: state\ndata: {\"state\":\"succeeded\",\"attempt\":1}\n\n"
            }
        };
        let job = move || async move {
            let state = if asked.lock().unwrap().len() < 2 { "running" } else { "succeeded" };
            axum::Json(serde_json::json!({
                "id": "j", "algorithm": "mixmatch", "state": state, "epoch": 1, "epochs": 1, "step": 1, "steps": 1
            }))
        };
        let routes = Router::new().route("/jobs/j/events", get(events)).route("/jobs/j", get(job));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (base, calls)
    }

    #[tokio::test]
    async fn a_broken_stream_is_resumed_where_it_broke() {
        let (base, calls) = broken_line().await;
        let client = Client::new(&base).unwrap();
        let job = follow(&client, "j", row()).await.unwrap();
        assert_eq!(job.state, "succeeded");
        assert_eq!(*calls.lock().unwrap(), [None, Some("4".to_owned())]);
    }

    #[tokio::test]
    async fn a_job_that_does_not_exist_ends_it_at_once() {
        let (base, _) = broken_line().await;
        let error = follow(&Client::new(&base).unwrap(), "other", row()).await.unwrap_err();
        assert_eq!(error.downcast_ref::<ApiError>().map(|error| error.status), Some(404));
    }
}
