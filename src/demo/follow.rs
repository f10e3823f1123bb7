//! Follows a job to its end: events while the stream holds, the job itself where it does not.

use std::time::Duration;

use anyhow::bail;
use futures::StreamExt;

use super::board::Row;
use super::client::{ApiError, Client, Job};
use super::sse::SseParser;

/// The server says something at least every 15 seconds; after this much silence the line is dead.
const SILENCE: Duration = Duration::from_secs(45);

/// Between two looks at a job whose stream broke.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 1000 });

/// So many looks in a row may fail before it is an error.
const PATIENCE: u32 = 10;

/// Follows a job until it has succeeded.
///
/// # Errors
/// The job's own error when it failed, or that it was canceled; or that the server is gone.
pub async fn follow(client: &Client, id: &str, mut row: Row) -> anyhow::Result<Job> {
    let mut last_id = None;
    let mut failures = 0;
    // A run that goes on tells its epochs from the first on, and not of how many. No answer is an error below.
    if let Ok(job) = client.get::<Job>(&format!("/jobs/{id}")).await {
        row.expect(&job);
    }
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
    use super::super::board::Board;
    use super::*;

    fn row() -> Row {
        Board::default().row("mixmatch")
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
