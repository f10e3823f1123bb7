//! A long run's epochs over HTTP: fewer of them in pages, as CSV and as NDJSON. Rows are written beside the server,
//! as a training of hours would leave them. And the numbers of a server whose database is damaged.

use std::os::unix::fs::FileExt;

use mixmatch::config::ApiKey;
use mixmatch::train::event::EpochMetrics;
use serde_json::Value;
use sqlx::SqlitePool;

use super::app::{TestApp, pointers, problem, tiny_job};

/// A child that says it trains, and then waits to be told otherwise.
const WAITING: &str = r#"echo '{"type":"phase","phase":"training"}'; sleep 600 & wait"#;

const LAST: u64 = 2503;
const BEST: u64 = 1234;

/// A job at work with [`LAST`] epochs, of which [`BEST`] is the best.
async fn long_run() -> (TestApp, String) {
    let app = TestApp::with_child(WAITING, |_| {}).await;
    app.small_data_set().await;
    let id = app.queue(&tiny_job("shapes")).await;
    app.until_job(&id, "training", |job| job["phase"] == "training").await;
    let path = app.directory.path().join("data/mixmatch.db");
    let database = SqlitePool::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    sqlx::query(
        "WITH RECURSIVE epochs (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM epochs WHERE number < ?2)
         INSERT INTO job_metrics (job_id, attempt, epoch, validation_accuracy, validation_loss, metrics)
         SELECT ?1, 1, number, iif(number = ?3, 0.9, 0.5), 0.5, json_set(?4, '$.epoch', number) FROM epochs",
    )
    .bind(&id)
    .bind(LAST as i64)
    .bind(BEST as i64)
    .bind(serde_json::to_string(&EpochMetrics::default()).unwrap())
    .execute(&database)
    .await
    .unwrap();
    database.close().await;
    (app, id)
}

fn wanted(every: u64) -> Vec<u64> {
    (1..=LAST).filter(|epoch| epoch.is_multiple_of(every) || [1, BEST, LAST].contains(epoch)).collect()
}

fn epochs(rows: &[Value]) -> Vec<u64> {
    rows.iter().map(|row| row["epoch"].as_u64().unwrap()).collect()
}

async fn text(app: &TestApp, path: &str, accept: &str) -> String {
    let answer = app.get(path).header("accept", accept).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{path}");
    answer.text().await.unwrap()
}

#[tokio::test]
async fn fewer_epochs_of_a_long_run_are_asked_for_in_every_format() {
    let (app, id) = long_run().await;
    let path = format!("/jobs/{id}/metrics");
    let whole = app.json(&format!("{path}?every=10")).await;
    assert_eq!(epochs(whole["items"].as_array().unwrap()), wanted(10));
    assert_eq!(whole["next_cursor"], Value::Null);
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = app.json(&format!("{path}?every=10&limit=100{cursor}")).await;
        seen.extend(epochs(page["items"].as_array().unwrap()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, wanted(10));
    assert_eq!(app.json(&format!("/jobs/{id}")).await["best"]["epoch"], BEST, "the best is the job's");

    // Both are more than the server reads at once.
    for every in [1, 2] {
        let lines = text(&app, &format!("{path}?every={every}"), "application/x-ndjson").await;
        let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(epochs(&rows), wanted(every), "every {every}");
    }
    for media in ["application/x-ndjson", "application/jsonl"] {
        let answer = app.get(&format!("{path}?every=1000")).header("accept", media).send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], media, "who asks for one of its names alone is answered under it");
    }
    let table = text(&app, &format!("{path}?every=1000"), "text/csv").await;
    let column = table.lines().next().unwrap().split(',').position(|name| name == "epoch").unwrap();
    let told = |line: &str| line.split(',').nth(column).unwrap().parse::<u64>().unwrap();
    assert_eq!(table.lines().skip(1).map(told).collect::<Vec<_>>(), wanted(1000));

    for every in ["0", "2147483648", "-1", "often"] {
        let refused = problem(app.get(&format!("{path}?every={every}")).send().await.unwrap(), 422).await;
        assert_eq!(pointers(&refused), ["?every"], "{every}: {refused}");
    }
    let nowhere = format!("/jobs/{}/metrics?every=5", uuid::Uuid::now_v7());
    problem(app.get(&nowhere).send().await.unwrap(), 404).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_database_is_damaged_goes_on_telling_all_other_numbers() {
    let app = TestApp::start().await;
    app.small_data_set().await;
    let numbers = text(&app, "/metrics", "*/*").await;
    assert!(numbers.contains("mixmatch_store_up ") && numbers.contains("mixmatch_jobs{"), "{numbers}");
    // Whose key lies in the database is not let in either.
    let key = "not-of-the-database";
    let with_key = |config: &mut mixmatch::config::ServeConfig| config.api_key = Some(ApiKey::new(key).unwrap());
    let app = TestApp::at(app.stop().await, with_key).await;
    let path = app.directory.path().join("data/mixmatch.db");
    // What the start has read of it is read anew where somebody has written since.
    let database = SqlitePool::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    sqlx::query("PRAGMA user_version = 7").execute(&database).await.unwrap();
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&database).await.unwrap();
    database.close().await;
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    for page in 1..file.metadata().unwrap().len() / 4096 {
        file.write_all_at(&[0x5a; 4096], page * 4096).unwrap();
    }
    let mut up = true;
    // Servers of other tests share the recorder, and may just have been asked.
    for _ in 0..50 {
        let answer = app.get("/metrics").bearer_auth(key).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let numbers = answer.text().await.unwrap();
        assert!(!numbers.contains("mixmatch_jobs"), "{numbers}");
        assert!(numbers.contains("mixmatch_worker_slots{") && numbers.contains("mixmatch_http_requests_total{"));
        up &= !numbers.contains("mixmatch_store_up 0");
    }
    assert!(!up, "it says so");
}
