//! Lists that go by name, walked while rows come; those that go by time are in `hostile.rs`. Rows are written beside the
//! server, as hundreds of trainings would leave them.

use mixmatch::train::event::{ClassMetrics, EpochMetrics, GroupAccuracy, TestMetrics};
use serde_json::Value;
use sqlx::SqlitePool;

use super::app::{TestApp, assert_walked, pointers, problem, tiny_job};

async fn database(app: &TestApp) -> SqlitePool {
    let path = app.directory.path().join("data/mixmatch.db");
    SqlitePool::connect(&format!("sqlite://{}", path.display())).await.unwrap()
}

async fn publish(database: &SqlitePool, name: &str, version: u32) {
    let insert =
        "INSERT INTO model_versions (name, version, classes, metrics, weights_sha256, manifest_sha256, created_at)
                  VALUES (?, ?, '[\"a\",\"b\"]', '{}', 'w', 'm', 0)";
    sqlx::query(insert).bind(name).bind(version).execute(database).await.unwrap();
}

async fn import(database: &SqlitePool, name: &str) {
    let insert = "INSERT INTO pretrained_weights (name, network, parameters, sha256, source, source_sha256, created_at)
                  VALUES (?, 'wrn-10-1', 5, 's', 'w.pth', 'p', 0)";
    sqlx::query(insert).bind(name).execute(database).await.unwrap();
}

/// `name:version` of each version that stands on a page.
fn versions(page: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for model in page["items"].as_array().unwrap() {
        let name = model["name"].as_str().unwrap();
        found.extend(model["versions"].as_array().unwrap().iter().map(|row| format!("{name}:{}", row["version"])));
    }
    found
}

#[tokio::test]
async fn models_are_walked_by_versions_while_new_ones_are_published() {
    let app = TestApp::start().await;
    let database = database(&app).await;
    let mut there = Vec::new();
    for name in ["a", "b.2", "c-long", "d"] {
        for version in 1..=5 {
            publish(&database, name, version).await;
        }
        there.extend((1..=5).rev().map(|version| format!("{name}:{version}")));
    }
    let aliases = "INSERT INTO model_aliases (name, alias, version, updated_at) VALUES ('a', 'champion', 5, 0), ('b.2', 'old', 1, 0)";
    sqlx::query(aliases).execute(&database).await.unwrap();
    let whole = app.json("/models?limit=1000").await;
    assert_eq!((versions(&whole), &whole["next_cursor"]), (there.clone(), &Value::Null));
    assert_eq!(app.json("/models").await, whole, "the default has room for a hundred versions");

    let (mut seen, mut cursor, mut number) = (Vec::new(), String::new(), 5);
    loop {
        // Newer versions of models that were walked already, are being walked, and come yet; and models between.
        number += 1;
        for name in ["a", "c-long", "d"] {
            publish(&database, name, number).await;
        }
        publish(&database, &format!("b.2-{number}"), 1).await;
        let page = app.json(&format!("/models?limit=3{cursor}")).await;
        assert!(versions(&page).len() <= 3, "{page:#}");
        for model in page["items"].as_array().unwrap() {
            let expected = match model["name"].as_str().unwrap() {
                "a" => serde_json::json!({"champion": 5}),
                "b.2" => serde_json::json!({"old": 1}),
                _ => serde_json::json!({}),
            };
            assert_eq!(model["aliases"], expected, "each part of a model brings its aliases: {model:#}");
        }
        seen.extend(versions(&page));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_walked("/models", seen, &there);
    app.stop().await;
}

#[tokio::test]
async fn one_model_is_asked_for_with_its_versions_and_aliases() {
    let app = TestApp::start().await;
    let database = database(&app).await;
    for (name, versions) in [("a", 2), ("b", 5), ("c", 3)] {
        for version in 1..=versions {
            publish(&database, name, version).await;
        }
    }
    let aliases = "INSERT INTO model_aliases (name, alias, version, updated_at) VALUES ('a', 'old', 1, 0), ('b', 'champion', 4, 0)";
    sqlx::query(aliases).execute(&database).await.unwrap();
    let listed = app.json("/models").await["items"][1].clone();
    let mut whole = app.json("/models/b").await;
    assert_eq!(whole.as_object_mut().unwrap().remove("next_cursor"), Some(Value::Null));
    assert_eq!(whole, listed, "what stands in the list");

    let (mut seen, mut cursor) = (Vec::<Vec<u64>>::new(), String::new());
    loop {
        let page = app.json(&format!("/models/b?limit=2{cursor}")).await;
        assert_eq!((&page["name"], &page["aliases"]), (&listed["name"], &listed["aliases"]), "{page:#}");
        seen.push(page["versions"].as_array().unwrap().iter().map(|row| row["version"].as_u64().unwrap()).collect());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, [vec![5, 4], vec![3, 2], vec![1]]);
    let behind = app.json("/models/b?cursor=1").await;
    assert_eq!((&behind["versions"], &behind["aliases"]), (&serde_json::json!([]), &listed["aliases"]));

    for path in ["/models/ab", "/models/d", "/models/d?cursor=3"] {
        let told = problem(app.get(path).send().await.unwrap(), 404).await;
        assert!(told["detail"].as_str().unwrap().starts_with("there is no model"), "{path}: {told}");
    }
    for (query, pointer) in [("cursor=b:1", "?cursor"), ("cursor=0", "?cursor"), ("limit=0", "?limit")] {
        let told = problem(app.get(&format!("/models/b?{query}")).send().await.unwrap(), 422).await;
        assert_eq!(pointers(&told), [pointer], "{query}");
    }
    app.stop().await;
}

#[tokio::test]
async fn pretrained_weights_are_walked_by_name_while_others_come_and_go() {
    let app = TestApp::start().await;
    let database = database(&app).await;
    let there: Vec<String> = (0..10).map(|number| format!("w{number}")).collect();
    for name in &there {
        import(&database, name).await;
    }
    let (mut seen, mut cursor, mut number) = (Vec::new(), String::new(), 0);
    loop {
        number += 1;
        import(&database, &format!("w{number}-new")).await;
        import(&database, &format!("passing-{number}")).await;
        let page = app.json(&format!("/pretrained?limit=3{cursor}")).await;
        sqlx::query("DELETE FROM pretrained_weights WHERE name LIKE 'passing-%'").execute(&database).await.unwrap();
        let names: Vec<_> = page["items"].as_array().unwrap().iter().map(|item| item["name"].clone()).collect();
        assert!(names.len() <= 3, "{page:#}");
        seen.extend(names.iter().map(|name| name.as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert!(seen.is_sorted(), "in order: {seen:?}");
    assert_walked("/pretrained", seen, &there);
    app.stop().await;
}

/// What a list leaves out of the figures of a test.
const OF_TEST: [&str; 3] = ["confusion", "classes", "groups"];

/// What it leaves out of those of an epoch.
const OF_EPOCH: [&str; 3] = ["guess_classes", "unlabelled_classes", "validation_classes"];

/// Of a test and of an epoch, with so many classes.
fn figures(classes: usize) -> (Value, Value) {
    let shares = vec![0.5; classes];
    let test = TestMetrics {
        images: 60,
        confusion: vec![vec![1; classes]; classes],
        classes: vec![ClassMetrics::default(); classes],
        groups: vec![GroupAccuracy::default(); classes],
        ..TestMetrics::default()
    };
    let epoch = EpochMetrics {
        epoch: 1,
        guess_classes: shares.clone(),
        unlabelled_classes: shares.clone(),
        validation_classes: shares,
        ..EpochMetrics::default()
    };
    (serde_json::to_value(test).unwrap(), serde_json::to_value(epoch).unwrap())
}

/// These fields are there for each class in the figures of the thing itself, and not in a list.
fn assert_left_out(whole: &Value, line: &Value, fields: &[&str], classes: usize) {
    for field in fields {
        assert_eq!(whole[field].as_array().map(Vec::len), Some(classes), "{field}: {whole:#}");
        assert_eq!(line.get(field), None, "{field}");
    }
}

#[tokio::test]
async fn a_job_in_a_list_is_as_long_however_many_classes_there_are() {
    let app = TestApp::with_child("sleep 600", |_| {}).await;
    app.small_data_set().await;
    let id = app.queue(&tiny_job("shapes")).await;
    app.until(&id, &["running"]).await;
    let database = database(&app).await;
    let mut lines = Vec::new();
    for classes in [2, 300] {
        let (test, epoch) = figures(classes);
        sqlx::query("UPDATE jobs SET test = ? WHERE id = ?")
            .bind(test.to_string())
            .bind(&id)
            .execute(&database)
            .await
            .unwrap();
        let insert =
            "INSERT OR REPLACE INTO job_metrics (job_id, attempt, epoch, validation_accuracy, validation_loss, metrics)
             VALUES (?, 1, 1, 0, 0, ?)";
        sqlx::query(insert).bind(&id).bind(epoch.to_string()).execute(&database).await.unwrap();

        let whole = app.json(&format!("/jobs/{id}")).await;
        let line = app.json("/jobs?state=running").await["items"][0].clone();
        assert_eq!(app.json("/jobs").await["items"][0], line);
        for (part, fields) in [("test", OF_TEST), ("last", OF_EPOCH), ("best", OF_EPOCH)] {
            assert_left_out(&whole[part], &line[part], &fields, classes);
        }
        assert_eq!((&line["test"]["images"], &line["last"]["epoch"]), (&Value::from(60), &Value::from(1)));
        lines.push(line);
    }
    assert_eq!(lines[0], lines[1]);
    app.stop().await;
}

#[tokio::test]
async fn a_versions_figures_in_a_list_are_as_long_however_many_classes_there_are() {
    let app = TestApp::start().await;
    let database = database(&app).await;
    publish(&database, "shape", 1).await;
    // Where the description lies that `publish` names.
    let description = app.directory.path().join("data/artifacts/sha256/__/m");
    std::fs::create_dir_all(description.parent().unwrap()).unwrap();
    std::fs::write(&description, "{}").unwrap();
    let mut lines = Vec::new();
    for classes in [2, 300] {
        let (test, epoch) = figures(classes);
        let metrics = serde_json::json!({"validation": epoch, "test": test});
        let update = sqlx::query("UPDATE model_versions SET metrics = ?").bind(metrics.to_string());
        update.execute(&database).await.unwrap();
        let whole = app.json("/models/shape/versions/1").await;
        assert_eq!(whole["metrics"], metrics);
        let line = app.json("/models").await["items"][0]["versions"][0].clone();
        for (part, fields) in [("test", OF_TEST), ("validation", OF_EPOCH)] {
            assert_left_out(&whole["metrics"][part], &line["metrics"][part], &fields, classes);
        }
        assert_eq!((&line["metrics"]["test"]["images"], &line["classes"]), (&Value::from(60), &whole["classes"]));
        lines.push(line);
    }
    assert_eq!(lines[0], lines[1]);
    app.stop().await;
}

#[tokio::test]
async fn what_is_no_cursor_or_no_limit_is_told() {
    let app = TestApp::start().await;
    for (query, pointer) in [
        ("/models?cursor=x", "?cursor"),
        ("/models?cursor=a:b:1", "?cursor"),
        ("/models?limit=0", "?limit"),
        ("/models?limit=1001", "?limit"),
        ("/pretrained?cursor=Two%20Words", "?cursor"),
        ("/pretrained?limit=0", "?limit"),
    ] {
        let told = problem(app.get(query).send().await.unwrap(), 422).await;
        assert_eq!(pointers(&told), [pointer], "{query}");
    }
    assert_eq!(app.json("/models?cursor=zebra:1").await["items"], serde_json::json!([]));
    app.stop().await;
}

#[tokio::test]
async fn a_cursor_that_is_a_number_is_of_digits_alone() {
    let app = TestApp::start().await;
    let job = "/jobs/0192f0a2-3c1e-7c4d-8f00-000000000001";
    for path in [format!("{job}/logs"), format!("{job}/metrics"), "/models/b".to_owned()] {
        for wrong in ["", "x", "-5", "%2B5", "5.0", "10000000000000000000"] {
            let told = problem(app.get(&format!("{path}?cursor={wrong}")).send().await.unwrap(), 422).await;
            assert_eq!(pointers(&told), ["?cursor"], "{path} {wrong}");
            assert_eq!(told["errors"][0]["code"], "bad_cursor", "{path} {wrong}");
        }
        problem(app.get(&format!("{path}?cursor=5")).send().await.unwrap(), 404).await;
    }
    app.stop().await;
}
