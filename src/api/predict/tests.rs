//! Options, and who is refused before his images come: where all places are taken, and where a key has its part of the memory.

use std::path::Path;

use sqlx::{Connection, SqliteConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::api::Server;
use crate::config::ServeConfig;
use crate::keys::{FreshKey, Scope};
use crate::nn::device::CudaStatus;
use crate::store::NewKey;

#[test]
fn every_wrong_option_is_named() {
    let query = PredictQuery { model: None, top_k: Some(0), threshold: Some(1.5) };
    assert_eq!(check_options(&query).unwrap_err().body().errors.len(), 2);
    // Nothing is less than what is no number: it would withhold no answer.
    let query = PredictQuery { model: None, top_k: None, threshold: "NaN".parse().ok() };
    assert_eq!(check_options(&query).unwrap_err().body().errors[0].pointer, "?threshold");
}

#[test]
fn who_waited_most_of_his_time_for_the_model_is_not_told_of_a_full_queue() {
    let deadline = Duration::from_secs(10);
    let told = |error, waited| blamed(error, "m:1", Duration::from_secs(waited), deadline);
    let full = || ServingError::Overloaded { queued: 3, seconds: 0.5 };
    assert!(matches!(told(full(), 9), ServingError::Loading(model) if model == "m:1"));
    assert!(matches!(told(full(), 5), ServingError::Overloaded { queued: 3, .. }));
    assert!(matches!(told(ServingError::Deadline { seconds: 10.0 }, 9), ServingError::Deadline { .. }));
}

/// A server with a version `m:1` of which there are no files: whoever gets as far as that is told so with a 500.
async fn serving(directory: &Path, change: impl FnOnce(&mut ServeConfig)) -> Server {
    let mut config = ServeConfig::new(directory.join("data"), ([127, 0, 0, 1], 0).into());
    config.worker.devices = "cpu".parse().unwrap();
    change(&mut config);
    let server = Server::start(config, CudaStatus::NoDriver).await.unwrap();
    let url = format!("sqlite://{}", directory.join("data/mixmatch.db").display());
    let mut database = SqliteConnection::connect(&url).await.unwrap();
    let version = "INSERT INTO model_versions (name, version, classes, metrics, weights_sha256, manifest_sha256, created_at) \
                   VALUES ('m', 1, '[\"a\", \"b\"]', '{}', hex(zeroblob(32)), hex(zeroblob(32)), 0)";
    sqlx::query(version).execute(&mut database).await.unwrap();
    database.close().await.unwrap();
    server
}

/// A key for predictions.
async fn key(server: &Server, name: &str) -> String {
    let FreshKey { text, prefix, sha256 } = FreshKey::generate().unwrap();
    let new = NewKey { name, prefix: &prefix, sha256: &sha256, scope: Scope::Predict, expires_at: None };
    server.app().store.insert_key(new).await.unwrap();
    text
}

async fn key_id(server: &Server, key: &str) -> Uuid {
    let prefix = crate::keys::prefix_of(key.as_bytes()).unwrap();
    server.app().store.key(prefix).await.unwrap().unwrap().id
}

/// A prediction that says how long its image is, and sends so much of it.
async fn begin(server: &Server, key: &str, length: usize, sent: usize) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let head = format!(
        "POST /predict?model=m:1 HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\
         content-type: image/png\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![0; sent]).await.unwrap();
    stream
}

async fn answer(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let reading = stream.read_to_end(&mut bytes);
    let _reset_is_an_end = tokio::time::timeout(Duration::from_secs(60), reading).await.expect("it is answered");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_would_find_no_place_is_told_before_his_images_come() {
    let directory = tempfile::tempdir().unwrap();
    let server = serving(directory.path(), |_| {}).await;
    let all = server.app().admission.images(None, 256).unwrap();
    let refused = answer(begin(&server, "none", 60_000_000, 0).await).await;
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("256 images wait"), "{refused}");
    assert!(refused.contains("retry-after: 1\r\n"), "{refused}");
    drop(all);
    let taken = answer(begin(&server, "none", 1, 1).await).await;
    assert!(taken.starts_with("HTTP/1.1 500 "), "{taken}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_leaves_memory_and_places_to_another() {
    const LARGEST: usize = 1 << 20;
    let directory = tempfile::tempdir().unwrap();
    let server = serving(directory.path(), |config| {
        config.limits.predict_bytes = LARGEST;
        config.limits.predict_memory = 4 * LARGEST;
    })
    .await;
    let (one, other) = (key(&server, "one").await, key(&server, "other").await);
    // Two of them are half of the memory, and have nothing but their last byte to come.
    let mut slow = Vec::new();
    for _ in 0..2 {
        slow.push(begin(&server, &one, LARGEST, LARGEST - 1).await);
    }
    let id = key_id(&server, &one).await;
    let began = Instant::now();
    while server.app().admission.body(Some(id), LARGEST).is_ok() {
        assert!(began.elapsed() < Duration::from_secs(60), "the key has more than half");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let refused = answer(begin(&server, &one, LARGEST, 0).await).await;
    assert!(refused.starts_with("HTTP/1.1 429 "), "{refused}");
    assert!(refused.contains("retry-after: 1\r\n") && refused.contains("this key"), "{refused}");
    for _ in 0..2 {
        let taken = answer(begin(&server, &other, LARGEST, LARGEST).await).await;
        assert!(taken.starts_with("HTTP/1.1 500 "), "the other key has room: {taken}");
    }
    drop(slow);

    let _half = server.app().admission.images(Some(id), 128).unwrap();
    let refused = answer(begin(&server, &one, 1, 1).await).await;
    assert!(refused.starts_with("HTTP/1.1 429 ") && refused.contains("retry-after: 1\r\n"), "{refused}");
    let taken = answer(begin(&server, &other, 1, 1).await).await;
    assert!(taken.starts_with("HTTP/1.1 500 "), "{taken}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_leaves_places_to_wait_for_models_to_another() {
    let directory = tempfile::tempdir().unwrap();
    let server = serving(directory.path(), |_| {}).await;
    let (one, other) = (key(&server, "one").await, key(&server, "other").await);
    let waiting = server.app().admission.loading(Some(key_id(&server, &one).await), 64).unwrap();
    let refused = answer(begin(&server, &one, 1, 1).await).await;
    assert!(refused.starts_with("HTTP/1.1 429 ") && refused.contains("retry-after: 1\r\n"), "{refused}");
    assert!(refused.contains("wait for models"), "{refused}");
    let taken = answer(begin(&server, &other, 1, 1).await).await;
    assert!(taken.starts_with("HTTP/1.1 500 "), "the other key has a place: {taken}");
    drop(waiting);
    let taken = answer(begin(&server, &one, 1, 1).await).await;
    assert!(taken.starts_with("HTTP/1.1 500 "), "{taken}");
    server.stop().await;
}
