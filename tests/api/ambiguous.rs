//! Requests that could be read in more than one way, refusals that say which part is meant, and a stop that leaves no connection.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::app::{TestApp, expect, form, pointers, problem};
use super::pictures::{Drawn, data_set};

#[tokio::test]
async fn what_is_named_twice_is_refused_and_not_chosen_from() {
    let app = TestApp::with_child("sleep 600", |_| {}).await;
    app.small_data_set().await;
    let body = r#"{"dataset": "shapes", "seed": 1, "labelled": [10, 20], "seed": 2, "grid": {"k": [1], "k": [2]}}"#;
    let sent = app.post("/jobs").header("content-type", "application/json").body(body).send();
    assert_eq!(pointers(&problem(sent.await.unwrap(), 422).await), ["/grid/k", "/seed"]);
    assert_eq!(app.json("/jobs").await["items"], json!([]));
    let sheet = app.get("/datasets/shapes/augmentations.png?seed=1&size=16&seed=2").send().await.unwrap();
    assert_eq!(pointers(&problem(sheet, 422).await), ["?seed"]);
    let page = app.get("/jobs?limit=1&limit=2").send().await.unwrap();
    assert_eq!(pointers(&problem(page, 422).await), ["?limit"]);
    app.stop().await;
}

#[tokio::test]
async fn a_compressed_body_is_refused_as_such() {
    let app = TestApp::with_child("sleep 600", |_| {}).await;
    app.small_data_set().await;
    let send = |encoding: &'static str| {
        let job = json!({"dataset": "shapes", "preset": "quick"});
        app.post("/jobs").header("content-encoding", encoding).json(&job).send()
    };
    let refused = send("gzip").await.unwrap();
    assert_eq!(refused.headers()["accept-encoding"], "identity");
    let refused = problem(refused, 415).await;
    assert!(refused["detail"].as_str().unwrap().contains("\"gzip\""), "{refused}");
    expect(send("identity").await.unwrap(), 202).await;
    app.stop().await;
}

#[tokio::test]
async fn a_body_under_another_transfer_coding_is_not_taken_for_a_plain_one() {
    let app = TestApp::start().await;
    // The last is read, and is no job.
    for (coding, status) in [("gzip, chunked", "501"), ("chunked, chunked", "501"), ("Chunked", "422")] {
        let mut stream = TcpStream::connect(app.base.trim_start_matches("http://")).await.unwrap();
        let request = format!(
            "POST /jobs HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
             transfer-encoding: {coding}\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.split(' ').nth(1), Some(status), "{coding}: {answer}");
        assert!(answer.contains("application/problem+json"), "{coding}: {answer}");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_refused_import_points_at_the_part_that_is_wrong() {
    let app = TestApp::start().await;
    let whole = data_set(12, 4);
    let drawn = |change: fn(&mut Drawn)| {
        let mut drawn = data_set(12, 4);
        change(&mut drawn);
        drawn
    };
    for (drawn, pointer) in [
        (drawn(|drawn| drawn.images = b"no zip".to_vec()), "/images"),
        (drawn(|drawn| drawn.train = "image,label\n".into()), "/train"),
        (drawn(|drawn| drawn.test = "image,label\n\"a,b\n".into()), "/test"),
        (drawn(|drawn| drawn.train = drawn.train.replace("image,label", "picture,what")), "/train"),
        (drawn(|drawn| drawn.train = drawn.train.replace("disc", "stripes")), "/train"),
    ] {
        let refused = problem(app.post("/datasets").multipart(form("x", &drawn)).send().await.unwrap(), 422).await;
        assert_eq!(pointers(&refused), [pointer], "{refused}");
    }
    let columns = form("x", &whole).text("group_column", "person");
    let refused = problem(app.post("/datasets").multipart(columns).send().await.unwrap(), 422).await;
    assert_eq!(pointers(&refused), ["/group_column"], "{refused}");
    app.stop().await;
}

#[tokio::test]
async fn a_version_has_one_name() {
    let app = TestApp::start().await;
    for path in ["/models/shape/versions/+1", "/models/shape/versions/01"] {
        let refused = problem(app.get(path).send().await.unwrap(), 404).await;
        assert!(refused["detail"].as_str().unwrap().contains("versions count from 1"), "{refused}");
    }
    app.stop().await;
}

/// A process that has stopped its server may live on; its callers must not be left hanging.
#[tokio::test]
async fn connections_that_outlive_the_drain_are_closed() {
    let app = TestApp::with(|config| config.drain = Duration::from_millis(300)).await;
    let mut stream = TcpStream::connect(app.base.trim_start_matches("http://")).await.unwrap();
    let head =
        "POST /jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server is to have it before it stops: half a body is no request that it would count.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let began = Instant::now();
    app.stop().await;
    let mut bytes = Vec::new();
    let ends = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut bytes));
    let _reset_is_an_end = ends.await.expect("the connection is still open");
    assert!(began.elapsed() >= Duration::from_millis(300), "it was not waited for");
}
