//! Callers that are slow on purpose, callers that are slow because nothing ran, and callers that come all at once.

use std::time::Duration;

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

#[tokio::test]
async fn a_caller_is_not_judged_by_a_standstill_of_the_server() {
    let app = TestApp::with(|config| {
        config.connections.head = Duration::from_millis(500);
    })
    .await;
    let (mut new, mut begun) = (connect(&app).await, connect(&app).await);
    begun.write_all(b"GET /livez HTTP/1.1\r\nhost: loc").await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    // Server and callers share the test's thread: both stand still, as on a machine that was paused.
    std::thread::sleep(Duration::from_secs(2));
    tokio::time::sleep(Duration::from_millis(200)).await;
    new.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    begun.write_all(b"alhost\r\nconnection: close\r\n\r\n").await.unwrap();
    for (mut stream, expected) in [(new, "200"), (begun, "200")] {
        let answer = read_to_end(&mut stream).await;
        assert_eq!(answer.split(' ').nth(1), Some(expected), "{answer:?}");
    }
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
