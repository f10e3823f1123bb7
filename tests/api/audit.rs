//! What the audit says of an alias, and how long its rows are kept.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::app::{TestApp, expect, problem, tiny_job};
use super::pictures::data_set;

#[tokio::test]
async fn an_alias_that_goes_leaves_the_version_that_it_meant_in_the_audit() {
    let app = TestApp::start().await;
    let path = app.directory.path().join("data/mixmatch.db");
    let database = sqlx::SqlitePool::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    for row in [
        "INSERT INTO model_versions (name, version, classes, metrics, weights_sha256, manifest_sha256, created_at)
         VALUES ('mask', 4, '[\"a\",\"b\"]', '{}', 'w', 'm', 0)",
        "INSERT INTO model_aliases (name, alias, version, updated_at) VALUES ('mask', 'champion', 4, 0)",
    ] {
        sqlx::query(row).execute(&database).await.unwrap();
    }
    database.close().await;
    let alias = "/models/mask/aliases/champion";
    for status in [204, 404] {
        expect(app.delete(alias).send().await.unwrap(), status).await;
    }
    let audit = app.json("/audit").await;
    let told = |at: usize| (&audit["items"][at]["status"], &audit["items"][at]["detail"]);
    assert_eq!(told(1), (&Value::from(204), &Value::from("mask@champion: 4 -> none")), "{audit:#}");
    assert_eq!(told(0), (&Value::from(404), &Value::Null), "what was not done has none");
    app.stop().await;
}

#[tokio::test]
async fn a_change_that_cannot_be_written_down_is_not_made() {
    let app = TestApp::start().await;
    app.import("shapes", &data_set(20, 6)).await;
    let path = app.directory.path().join("data/mixmatch.db");
    let database = sqlx::SqlitePool::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    let trigger = "CREATE TRIGGER no_row BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'not today'); END";
    sqlx::query(trigger).execute(&database).await.unwrap();
    problem(app.delete("/datasets/shapes").send().await.unwrap(), 500).await;
    problem(app.post("/jobs").json(&tiny_job("shapes")).send().await.unwrap(), 500).await;
    // Who only looks is answered.
    app.json("/datasets/shapes").await;
    assert_eq!(app.json("/jobs").await["items"], serde_json::json!([]));
    sqlx::query("DROP TRIGGER no_row").execute(&database).await.unwrap();
    database.close().await;
    expect(app.delete("/datasets/shapes").send().await.unwrap(), 204).await;
    assert_eq!(rows(&app).await.len(), 2, "the import, and the deletion that was made");
    app.stop().await;
}

/// The audit's rows as `action target`, newest first.
async fn rows(app: &TestApp) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let page = app.json("/audit").await;
    page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| format!("{} {}", text(&row["action"]), text(&row["target"])))
        .collect()
}

#[tokio::test]
async fn rows_that_are_too_old_go_at_the_start_unless_they_are_kept_for_ever() {
    let app = TestApp::start().await;
    app.import("old", &data_set(6, 2)).await;
    app.import("new", &data_set(6, 2)).await;
    assert_eq!(rows(&app).await.len(), 2);
    let directory = app.stop().await;

    // As if the first of them had been made 401 days ago.
    let path = directory.path().join("data/mixmatch.db");
    let database = sqlx::SqlitePool::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    let at = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * 401);
    let id = uuid::Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, at.as_second() as u64, 0));
    let aged = "UPDATE audit SET id = ?, at = ? WHERE id = (SELECT MIN(id) FROM audit)";
    sqlx::query(aged).bind(id.to_string()).bind(at.as_millisecond()).execute(&database).await.unwrap();
    database.close().await;

    let app = TestApp::at(directory, |config| config.audit_kept = None).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(rows(&app).await, ["POST /datasets /datasets", "POST /datasets /datasets"]);
    let app = TestApp::at(app.stop().await, |_| {}).await;
    let began = Instant::now();
    let left = loop {
        let left = rows(&app).await;
        if left.len() == 2 && left[0].starts_with("audit prune") {
            break left;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{left:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(left[0].starts_with("audit prune 1 rows before 20"), "{left:?}");
    assert_eq!(left[1], "POST /datasets /datasets");
    // What was changed stays changed: only the memory of it goes.
    expect(app.get("/datasets/old").send().await.unwrap(), 200).await;
    let began = Instant::now();
    while app.json("/audit?limit=1").await["items"][0]["status"] != 200 {
        assert!(began.elapsed() < Duration::from_secs(20), "the pruning is completed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    app.stop().await;
}
