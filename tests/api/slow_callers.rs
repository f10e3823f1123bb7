//! Callers that are slow on purpose, callers that are slow because nothing ran, and callers that come all at once.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::app::TestApp;

async fn connect(app: &TestApp) -> TcpStream {
    let connecting = TcpStream::connect(app.base.trim_start_matches("http://"));
    tokio::time::timeout(Duration::from_secs(10), connecting).await.expect("there is room to wait in").unwrap()
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let reading = stream.read_to_end(&mut bytes);
    let _reset_is_an_end = tokio::time::timeout(Duration::from_secs(60), reading).await.expect("it ends");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Sends a byte every so often until an answer is there; gives the answer.
async fn trickle(stream: &mut TcpStream, every: Duration) -> String {
    let mut first = [0];
    loop {
        stream.write_all(b"x").await.unwrap();
        match tokio::time::timeout(every, stream.read(&mut first)).await {
            Err(_nothing_yet) => {}
            Ok(Ok(1)) => return format!("{}{}", first[0] as char, read_to_end(stream).await),
            Ok(end) => panic!("it ends without an answer: {end:?}"),
        }
    }
}

#[tokio::test]
async fn an_upload_that_trickles_is_given_up_with_an_answer_and_leaves_nothing() {
    let app = TestApp::with(|config| {
        config.connections.slowest = 1000;
        config.connections.pace_window = Duration::from_millis(800);
    })
    .await;
    let heads = [
        "POST /datasets HTTP/1.1\r\ncontent-type: multipart/form-data; boundary=b",
        "PUT /pretrained/x HTTP/1.1",
        "POST /jobs HTTP/1.1\r\ncontent-type: application/json",
        "POST /predict?model=x HTTP/1.1\r\ncontent-type: image/png",
    ];
    // The last needs a model to get as far as its body; without one it is refused at once.
    for (head, expected) in heads.into_iter().zip(["408", "408", "408", "404"]) {
        let mut stream = connect(&app).await;
        let part = "--b\r\ncontent-disposition: form-data; name=\"images\"; filename=\"i.zip\"\r\n\r\n";
        let text = format!("{head}\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n{part}");
        stream.write_all(text.as_bytes()).await.unwrap();
        let began = Instant::now();
        let answer = trickle(&mut stream, Duration::from_millis(100)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{head}: {answer}");
        assert!(answer.contains("application/problem+json"), "{head}: {answer}");
        if expected == "408" {
            assert!(answer.to_lowercase().contains("connection: close"), "{head}: {answer}");
            // The rest of such a body is not waited for, as that of other refusals is.
            assert!(began.elapsed() < Duration::from_secs(10), "{head}: {:?}", began.elapsed());
        }
    }
    let left = std::fs::read_dir(app.directory.path().join("data/uploads")).unwrap().count();
    assert_eq!(left, 0, "files of uploads that were given up");
    let audit = app.json("/audit").await;
    let statuses: Vec<_> = audit["items"].as_array().unwrap().iter().map(|row| row["status"].clone()).collect();
    assert_eq!(statuses, [408, 408, 408], "the audit tells what the callers were told");
}

/// While it comes it takes room from others' images, and keeps to the pace of an upload for hours.
#[tokio::test]
async fn images_to_predict_are_given_up_however_steadily_they_trickle() {
    let app = TestApp::with(|config| {
        config.connections.slowest = 1;
        config.connections.predict_body = Duration::from_millis(500);
    })
    .await;
    let path = app.directory.path().join("data/mixmatch.db");
    let database = sqlx::SqlitePool::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    // Without a model nobody gets as far as his body.
    let version =
        "INSERT INTO model_versions (name, version, classes, metrics, weights_sha256, manifest_sha256, created_at)
         VALUES ('m', 1, '[\"a\",\"b\"]', '{}', 'w', 'm', 0)";
    sqlx::query(version).execute(&database).await.unwrap();
    database.close().await;
    let mut stream = connect(&app).await;
    let head = "POST /predict?model=m:1 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: image/png\r\n\
                content-length: 400\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = trickle(&mut stream, Duration::from_millis(25)).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("took too long to arrive"), "{answer}");
    app.stop().await;
}

#[tokio::test]
async fn a_caller_is_not_judged_by_a_standstill_of_the_server() {
    let app = TestApp::with(|config| {
        config.connections.head = Duration::from_millis(500);
        config.connections.stall = Duration::from_millis(500);
    })
    .await;
    let (mut new, mut begun, mut body) = (connect(&app).await, connect(&app).await, connect(&app).await);
    begun.write_all(b"GET /livez HTTP/1.1\r\nhost: loc").await.unwrap();
    let head = "POST /jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n\
                content-length: 14\r\n\r\n";
    body.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    // Server and callers share the test's thread: both stand still, as on a machine that was paused.
    std::thread::sleep(Duration::from_secs(2));
    tokio::time::sleep(Duration::from_millis(200)).await;
    new.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    begun.write_all(b"alhost\r\nconnection: close\r\n\r\n").await.unwrap();
    body.write_all(b"{\"dataset\": 1}").await.unwrap();
    for (mut stream, expected) in [(new, "200"), (begun, "200"), (body, "422")] {
        let answer = read_to_end(&mut stream).await;
        assert_eq!(answer.split(' ').nth(1), Some(expected), "{answer:?}");
    }
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_given_up() {
    let app = TestApp::with(|config| {
        config.connections.most = 2;
        config.connections.stall = Duration::from_millis(500);
    })
    .await;
    // Far more than the kernel holds of a connection for those who do not read.
    let requests = "GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(48);
    let (mut silent, mut other, mut last) = (connect(&app).await, connect(&app).await, connect(&app).await);
    let began = Instant::now();
    for stream in [&mut silent, &mut other] {
        stream.write_all(requests.as_bytes()).await.unwrap();
    }
    last.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    assert!(read_to_end(&mut last).await.starts_with("HTTP/1.1 200"), "their places are free again");
    assert!(began.elapsed() >= Duration::from_millis(400), "it had to wait for one: {:?}", began.elapsed());
    let answers = read_to_end(&mut silent).await.matches("HTTP/1.1 200").count();
    assert!((1..48).contains(&answers), "{answers} were sent");
}

#[tokio::test]
async fn callers_that_come_all_at_once_wait_their_turn() {
    let app = TestApp::with(|config| {
        config.connections.most = 2;
        config.connections.head = Duration::from_secs(120);
    })
    .await;
    // While no place is free nothing is accepted: all of them wait in the kernel, and none is turned away there.
    let mut waiting = Vec::new();
    for _ in 0..600 {
        waiting.push(connect(&app).await);
    }
    let mut last = waiting.pop().unwrap();
    drop(waiting);
    last.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    assert!(read_to_end(&mut last).await.starts_with("HTTP/1.1 200"));
}
