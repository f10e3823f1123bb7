//! Callers that are slow, that repeat themselves, that send too much, and errors that must not tell too much.

use std::time::{Duration, Instant};

use mixmatch::config::ServeConfig;
use reqwest::multipart::{Form, Part};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::app::{TestApp, assert_walked, expect, form, problem, tiny_job};
use super::pictures::{data_set, picture};

async fn connect(app: &TestApp) -> TcpStream {
    TcpStream::connect(app.base.trim_start_matches("http://")).await.unwrap()
}

/// What comes until the connection ends, which must be soon.
async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let reading = stream.read_to_end(&mut bytes);
    let _reset_is_an_end = tokio::time::timeout(Duration::from_secs(60), reading).await.expect("it ends");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn impatient(config: &mut ServeConfig) {
    config.connections.head = Duration::from_millis(500);
    config.connections.stall = Duration::from_millis(500);
    // As long as a stall, which it is by default, too: the caller's fault is not told as the server's.
    config.request_timeout = Duration::from_millis(500);
    config.connections.predict_body = Duration::from_secs(2);
}

#[tokio::test]
async fn slow_heads_and_silent_connections_are_closed() {
    let app = TestApp::with(impatient).await;
    let mut silent = connect(&app).await;
    let mut slow = connect(&app).await;
    let began = Instant::now();
    slow.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n").await.unwrap();
    // A header line now and then, as slow-loris does; the clock is for the whole head.
    let dripping = async {
        for number in 0.. {
            tokio::time::sleep(Duration::from_millis(200)).await;
            if slow.write_all(format!("x-{number}: y\r\n").as_bytes()).await.is_err() {
                return;
            }
            let mut byte = [0];
            if let Ok(0) | Err(_) =
                tokio::time::timeout(Duration::from_millis(1), slow.read(&mut byte)).await.unwrap_or(Ok(1))
            {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), dripping).await.expect("a slow head is given up");
    assert_eq!(read_to_end(&mut silent).await, "");
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
    assert_eq!(app.json("/livez").await["status"], "ok");
}

#[tokio::test]
async fn a_head_has_64_kib_and_no_more() {
    let app = TestApp::start().await;
    let begun = "GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx-long: ";
    for (letters, ended, expected) in [(60_000, "\r\n\r\n", "200"), ((64 << 10) - begun.len(), "", "431")] {
        let mut stream = connect(&app).await;
        stream.write_all(format!("{begun}{}{ended}", "x".repeat(letters)).as_bytes()).await.unwrap();
        let answer = read_to_end(&mut stream).await;
        assert_eq!(answer.split(' ').nth(1), Some(expected), "{letters} letters: {answer}");
    }
}

/// As docs/operations.md tells whoever looks for its request in the log.
#[tokio::test]
async fn what_is_no_request_is_answered_with_a_status_alone() {
    let app = TestApp::start().await;
    let many: String = (0..101).map(|number| format!("x-{number}: y\r\n")).collect();
    for (line, headers, expected) in [
        ("GET /livez HTTP/1.1", "no header\r\n", "400"),
        ("POST /jobs HTTP/1.1", "content-length: x\r\n", "400"),
        ("GET /livez HTTP/7.1", "", "400"),
        ("GET /livez HTTP/1.1", &*many, "431"),
    ] {
        let mut stream = connect(&app).await;
        stream.write_all(format!("{line}\r\n{headers}\r\n").as_bytes()).await.unwrap();
        let answer = read_to_end(&mut stream).await;
        assert_eq!(answer.split(' ').nth(1), Some(expected), "{line} {headers}: {answer}");
        assert!(!answer.contains("problem+json") && !answer.contains("x-request-id"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "a body: {answer}");
    }
}

#[tokio::test]
async fn what_is_told_of_a_sheets_query_is_not_as_long_as_what_was_sent() {
    let app = TestApp::start().await;
    app.import("shapes", &data_set(20, 6)).await;
    let many: Vec<String> = (0..10_000).map(|number| format!("x{number}")).collect();
    for (query, told) in [(vec!["x"; 30_000].join("&"), 1), (many.join("&"), 100), ("x".repeat(60_000), 1)] {
        let answer = app.get(&format!("/datasets/shapes/samples.png?{query}")).send().await.unwrap();
        assert_eq!(answer.status(), 422);
        let text = answer.text().await.unwrap();
        assert!(text.len() < 100_000, "{} bytes", text.len());
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
        let errors = answer["errors"].as_array().unwrap();
        assert_eq!(errors.len(), told);
        let lists = errors.iter().filter(|error| error["detail"].as_str().unwrap().contains("augment_gamma"));
        assert_eq!(lists.count(), 1, "{}", errors[0]);
    }
}

#[tokio::test]
async fn bodies_that_stop_arriving_are_given_up() {
    let app = TestApp::with(impatient).await;
    for head in ["POST /jobs HTTP/1.1\r\ncontent-type: application/json", "PUT /pretrained/x HTTP/1.1"] {
        let mut stream = connect(&app).await;
        let text = format!("{head}\r\nhost: localhost\r\ncontent-length: 1000\r\nconnection: close\r\n\r\n{{");
        stream.write_all(text.as_bytes()).await.unwrap();
        let answer = read_to_end(&mut stream).await;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert_eq!(status, "408", "{head}: {answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_and_are_served_later() {
    let app = TestApp::with(|config| {
        config.connections.most = 4;
        config.connections.head = Duration::from_secs(1);
    })
    .await;
    let mut idle = Vec::new();
    for _ in 0..4 {
        idle.push(connect(&app).await);
    }
    let began = Instant::now();
    assert_eq!(app.json("/livez").await["status"], "ok");
    assert!(began.elapsed() > Duration::from_millis(300), "it had to wait for a place: {:?}", began.elapsed());
}

#[tokio::test]
async fn an_early_refusal_reaches_a_client_that_is_still_writing() {
    let app = TestApp::with(|config| {
        config.limits.upload_bytes = 10_000;
        config.api_key = Some(mixmatch::config::ApiKey::new("correct-horse-battery").unwrap());
    })
    .await;
    let large = || vec![b'x'; 20 << 20];
    let big = || Form::new().text("name", "big").part("images", Part::bytes(large()).file_name("images.zip"));
    for round in 0..3 {
        // Without a key, with a wrong media type, with too much, under a bad name: none of them reads the body.
        problem(app.post("/datasets").multipart(big()).send().await.unwrap(), 401).await;
        let send = |request: reqwest::RequestBuilder| request.bearer_auth("correct-horse-battery").send();
        problem(send(app.post("/datasets").body(large())).await.unwrap(), 415).await;
        problem(send(app.post("/datasets").multipart(big())).await.unwrap(), 413).await;
        problem(send(app.put("/pretrained/Two%20Words").body(large())).await.unwrap(), 422).await;
        problem(send(app.post("/jobs").header("content-type", "application/json").body(large())).await.unwrap(), 413)
            .await;
        assert_eq!(app.get("/livez").send().await.unwrap().status(), 200, "round {round}");
    }
}

#[tokio::test]
async fn whoever_waits_to_be_asked_is_refused_without_its_body() {
    let app = TestApp::with(|config| config.limits.upload_bytes = 10_000).await;
    for line in [
        "POST /datasets HTTP/1.1\r\ncontent-type: multipart/form-data; boundary=x",
        "PUT /pretrained/x HTTP/1.1\r\ncontent-type: application/octet-stream",
    ] {
        let answer = announce(&app, &format!("{line}\r\nexpect: 100-continue"), 99_000_000).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{line}: it was not asked to go on: {answer}");
        assert!(answer.contains("--max-upload"), "{line}: {answer}");
    }
}

#[tokio::test]
async fn a_taken_name_is_told_before_the_archive_comes() {
    let app = TestApp::with(impatient).await;
    let created = app.import("shapes", &data_set(20, 6)).await;
    let begun = |name: &str| {
        format!(
            "--b\r\ncontent-disposition: form-data; name=\"name\"\r\n\r\n{name}\r\n\
             --b\r\ncontent-disposition: form-data; name=\"images\"; filename=\"i.zip\"\r\n\r\nPK"
        )
    };
    // With a key it may be the request that made the set; what is no name is told with all else that is wrong.
    for (name, key, expected) in [
        ("shapes", "", "409"),
        ("others", "", "408"),
        (created["id"].as_str().unwrap(), "", "408"),
        ("shapes", "idempotency-key: key-1\r\n", "408"),
    ] {
        let mut stream = connect(&app).await;
        let head = format!(
            "POST /datasets HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 99000000\r\n{key}\
             content-type: multipart/form-data; boundary=b\r\n\r\n"
        );
        stream.write_all(format!("{head}{}", begun(name)).as_bytes()).await.unwrap();
        let answer = read_to_end(&mut stream).await;
        assert_eq!(answer.split(' ').nth(1), Some(expected), "{name} {key:?}: {answer}");
        assert!(expected == "408" || answer.contains("\"/name\""), "{answer}");
    }
}

#[tokio::test]
async fn a_repeated_import_with_its_key_is_the_same_data_set() {
    let app = TestApp::start().await;
    let drawn = data_set(20, 6);
    let send = |key: &'static str, name: &'static str| {
        app.post("/datasets").header("idempotency-key", key).multipart(form(name, &drawn)).send()
    };
    // At once, as impatient clients do, and once more afterwards.
    let all = futures::future::join_all((0..4).map(|_| send("key-1", "shapes"))).await;
    let mut answers = Vec::new();
    for answer in all {
        answers.push(expect(answer.unwrap(), 201).await);
    }
    answers.push(expect(send("key-1", "shapes").await.unwrap(), 201).await);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
    let left = std::fs::read_dir(app.directory.path().join("data/datasets")).unwrap().count();
    assert_eq!((left, app.json("/datasets").await["items"].as_array().unwrap().len()), (1, 1));

    let other = problem(send("key-1", "others").await.unwrap(), 422).await;
    assert_eq!(super::app::pointers(&other), ["Idempotency-Key"]);
    problem(send("two words", "shapes").await.unwrap(), 422).await;
    problem(send("key-2", "shapes").await.unwrap(), 409).await;
    // A set that is gone frees its key.
    expect(app.delete("/datasets/shapes").send().await.unwrap(), 204).await;
    let again = expect(send("key-1", "shapes").await.unwrap(), 201).await;
    assert_ne!(again["id"], answers[0]["id"]);
}

#[tokio::test]
async fn a_form_of_many_fields_is_refused() {
    let app = TestApp::start().await;
    let mut form = Form::new();
    for number in 0..100 {
        form = form.text(format!("f{number}"), "x");
    }
    let answer = problem(app.post("/datasets").multipart(form).send().await.unwrap(), 422).await;
    assert_eq!(answer["errors"][0]["code"], "too_many_fields");
}

/// A form without a `content-length`, of which nobody says how much is to come: a beginning and 8 MiB of one letter.
async fn send_endless(app: &TestApp, begun: &'static str) -> reqwest::Response {
    let rest = (0..512).map(|_| vec![b'x'; 16 << 10]);
    let pieces = std::iter::once(begun.as_bytes().to_vec()).chain(rest).map(Ok::<_, std::io::Error>);
    let body = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
    let request = app.post("/datasets").header("content-type", "multipart/form-data; boundary=b").body(body);
    request.send().await.unwrap()
}

#[tokio::test]
async fn a_body_without_parts_is_refused_before_it_fills_the_memory() {
    let app = TestApp::start().await;
    for begun in ["", "--b\r\ncontent-disposition: form-data; name=\""] {
        let answer = problem(send_endless(&app, begun).await, 400).await;
        assert!(answer["detail"].as_str().unwrap().contains("boundary that content-type names"), "{begun:?}: {answer}");
    }
}

#[tokio::test]
async fn all_of_a_form_counts_against_the_limit() {
    let app = TestApp::with(|config| config.limits.upload_bytes = 10_000).await;
    // A file, a text and a field that there is not.
    let heads = [
        "--b\r\ncontent-disposition: form-data; name=\"images\"; filename=\"i.zip\"\r\n\r\n",
        "--b\r\ncontent-disposition: form-data; name=\"name\"\r\n\r\n",
        "--b\r\ncontent-disposition: form-data; name=\"other\"\r\n\r\n",
    ];
    for begun in heads {
        let answer = problem(send_endless(&app, begun).await, 413).await;
        assert!(answer["detail"].as_str().unwrap().contains("--max-upload"), "{begun:?}: {answer}");
    }
}

#[tokio::test]
async fn images_that_are_too_large_together_are_refused() {
    let app = TestApp::with(|config| config.limits.predict_pixels = 32 * 32 * 2).await;
    let ask = |images: usize| {
        let image = |form: Form, at| form.part("image", Part::bytes(picture(true, at)).file_name("a.png"));
        app.post("/predict?model=none").multipart((0..images as u32).fold(Form::new(), image)).send()
    };
    // No such model: that is found out first, whatever the images.
    problem(ask(3).await.unwrap(), 404).await;
    let app = TestApp::at(trained(app).await, |config| {
        config.limits.predict_pixels = 32 * 32 * 2;
        config.limits.predict_memory = 0; // One largest body always fits.
    })
    .await;
    let ask = |images: usize| {
        let image = |form: Form, at| form.part("image", Part::bytes(picture(true, at)).file_name("a.png"));
        app.post("/predict?model=shape").multipart((0..images as u32).fold(Form::new(), image)).send()
    };
    expect(ask(2).await.unwrap(), 200).await;
    // One that is too large by itself is not decoded: it is its own problem, and no part of the sum.
    let huge = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/image/huge-header.png")).unwrap();
    let images = [picture(true, 0), huge, picture(false, 1)];
    let form = images.into_iter().fold(Form::new(), |form, image| form.part("image", Part::bytes(image)));
    let results = expect(app.post("/predict?model=shape").multipart(form).send().await.unwrap(), 200).await;
    let results = &results["results"];
    assert!(results[0]["label"].is_string() && results[2]["label"].is_string(), "{results:#}");
    assert_eq!(results[1]["problem"]["code"], "image_too_large", "{results:#}");
    let answer = problem(ask(3).await.unwrap(), 413).await;
    assert_eq!(answer["errors"][0]["code"], "too_many_pixels");
    for media in ["image/png", "application/json", "multipart/form-data; boundary=b"] {
        let head = format!("POST /predict?model=shape HTTP/1.1\r\ncontent-type: {media}");
        let answer = announce(&app, &head, (64 << 20) + 1).await;
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("--max-predict"), "{media}: {answer}");
    }
    one_holds_the_memory(&app).await;
    nothing_is_kept(&app).await;
    errors_name_no_path(app).await;
}

/// A directory with a model named `shape` in it.
async fn trained(app: TestApp) -> tempfile::TempDir {
    app.small_data_set().await;
    let id = app.queue(&tiny_job("shapes")).await;
    let job = app.until(&id, &["succeeded", "failed"]).await;
    assert_eq!(job["state"], "succeeded", "{job:#}");
    app.stop().await
}

/// A body that says how long it is, of which nothing comes: who waits for it does not answer.
async fn announce(app: &TestApp, head: &str, length: usize) -> String {
    let mut stream = connect(app).await;
    let head = format!("{head}\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    read_to_end(&mut stream).await
}

#[tokio::test]
async fn json_that_says_that_it_is_too_large_is_refused_before_it_comes() {
    let app = TestApp::start().await;
    for line in ["POST /jobs HTTP/1.1", "PUT /models/x/aliases/y HTTP/1.1"] {
        let answer = announce(&app, &format!("{line}\r\ncontent-type: application/json"), 2 << 20).await;
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("1048576 bytes"), "{line}: {answer}");
    }
}

/// Bodies under way are counted as they come: while one takes all the room, others are refused at once. One that only says that it
/// will be large takes none.
async fn one_holds_the_memory(app: &TestApp) {
    const ALL: usize = 64 << 20;
    let ask = || app.post("/predict?model=shape").header("content-type", "image/png").body(picture(true, 5)).send();
    let head = format!(
        "POST /predict?model=shape HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/png\r\ncontent-length: {ALL}\r\n\r\n"
    );
    let mut idle = connect(app).await;
    idle.write_all(format!("{head}x").as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    expect(ask().await.unwrap(), 200).await;
    drop(idle);
    let began = Instant::now();
    let (slow, refused) = loop {
        let mut slow = connect(app).await;
        slow.write_all(head.as_bytes()).await.unwrap();
        slow.write_all(&vec![0; ALL - 1]).await.unwrap();
        // It must be in before anybody else asks: beside another one it would be the one that is refused.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let answer = ask().await.unwrap();
        if answer.status() == 503 {
            break (slow, answer);
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{}", answer.status());
    };
    assert_eq!(refused.headers()["retry-after"], "1");
    problem(refused, 503).await;
    drop(slow);
    let began = Instant::now();
    while ask().await.unwrap().status() != 200 {
        assert!(began.elapsed() < Duration::from_secs(20), "the room is free again once the slow one is gone");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Every file below the data directory, less the database's own.
fn files(app: &TestApp) -> Vec<std::path::PathBuf> {
    fn walk(directory: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    walk(app.directory.path(), &mut found);
    found.retain(|path| !path.file_name().unwrap().to_string_lossy().starts_with("mixmatch.db"));
    found.sort();
    found
}

/// A predicted image leaves no file, and its bytes are not in the database either.
async fn nothing_is_kept(app: &TestApp) {
    let before = files(app);
    let marked = [picture(true, 4242), b"a-mark-that-nothing-else-has".to_vec()].concat();
    let ask = app.post("/predict?model=shape").header("content-type", "image/png").body(marked);
    assert_eq!(expect(ask.send().await.unwrap(), 200).await["results"][0]["abstained"], false);
    assert_eq!(files(app), before);
    for place in ["mixmatch.db", "mixmatch.db-wal"] {
        let bytes = std::fs::read(app.directory.path().join("data").join(place)).unwrap_or_default();
        assert!(!bytes.windows(28).any(|window| window == b"a-mark-that-nothing-else-has"), "{place}");
    }
}

/// Whatever goes wrong, answers tell nobody where things lie here, nor how the code looks.
async fn errors_name_no_path(app: TestApp) {
    let root = app.directory.path().to_str().unwrap().to_owned();
    let mut told = Vec::new();
    let mut ask = async |request: reqwest::RequestBuilder| {
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        assert!(status >= 400, "{status}: {text}");
        for secret in [root.as_str(), "/tmp/", "/home/", "/root/", "src/", ".rs:", "panicked", "sqlite", "SELECT"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
        told.push(status);
    };
    let png = |path: &str| app.post(path).header("content-type", "image/png").body(picture(true, 1));
    ask(app.get("/nowhere")).await;
    ask(app.get("/jobs/x")).await;
    ask(app.post("/jobs").json(&json!({"dataset": "shapes", "k": "x", "pretrained": "none"}))).await;
    ask(app.post("/datasets").multipart(Form::new().text("name", "x"))).await;
    let broken = super::pictures::Drawn { images: b"PK\x03\x04 no".to_vec(), ..data_set(4, 2) };
    ask(app.post("/datasets").multipart(form("broken", &broken))).await;
    let sheet = super::pictures::Drawn { train: "\0".to_owned(), ..data_set(4, 2) };
    ask(app.post("/datasets").multipart(form("broken", &sheet))).await;
    ask(app.put("/pretrained/x?network=wrn-10-1").body("no safetensors")).await;
    ask(app.put("/pretrained/x?network=other").body("x")).await;
    ask(png("/predict?model=none")).await;

    // Files that are gone or were changed behind our back.
    let version = app.json("/models/shape/versions/1").await;
    let weights = version["weights_sha256"].as_str().unwrap().to_owned();
    let directory = app.stop().await;
    let artifacts = directory.path().join("data/artifacts/sha256");
    std::fs::write(artifacts.join(&weights[..2]).join(&weights), b"changed").unwrap();
    let datasets = directory.path().join("data/datasets");
    for dataset in std::fs::read_dir(&datasets).unwrap() {
        let dataset = dataset.unwrap().path();
        std::fs::write(dataset.join("images.zip"), b"changed").unwrap();
        std::fs::remove_dir_all(dataset.join("packed")).unwrap();
    }
    let app = TestApp::at(directory, |_| {}).await;
    let root = app.directory.path().to_str().unwrap().to_owned();
    let answers = [
        app.post("/predict?model=shape").header("content-type", "image/png").body(picture(true, 1)),
        app.put("/models/shape/aliases/champion").json(&json!({"version": 1})),
        app.get("/datasets/shapes/samples.png"),
    ];
    for request in answers {
        let text = request.send().await.unwrap().text().await.unwrap();
        assert!(text.contains("\"status\":") && !text.contains(&root), "{text}");
    }
    // A job that fails tells why, and not where.
    let id = app.queue(&tiny_job("shapes")).await;
    let job = app.until(&id, &["failed", "succeeded"]).await;
    let logs = app.get(&format!("/jobs/{id}/logs")).send().await.unwrap().text().await.unwrap();
    assert!(job["state"] == "failed" && !job.to_string().contains(&root), "{job:#}");
    assert!(!logs.contains(&root), "{logs}");
    // So does one that waits for files.
    std::fs::remove_dir_all(datasets).unwrap();
    let id = app.queue(&tiny_job("shapes")).await;
    let logs = loop {
        let logs = app.json(&format!("/jobs/{id}/logs")).await;
        if logs["items"].as_array().is_some_and(|lines| !lines.is_empty()) {
            break logs.to_string();
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    };
    assert!(logs.contains("shapes") && !logs.contains(&root), "{logs}");
    app.stop().await;
}

#[tokio::test]
async fn every_list_is_walked_without_loss_or_repeat_while_rows_come_and_go() {
    let app = TestApp::with_child("sleep 600", |_| {}).await;
    app.small_data_set().await;
    for number in 0..12 {
        app.import(&format!("kept-{number}"), &data_set(6, 2)).await;
        app.queue(&tiny_job("shapes")).await;
    }
    for (list, key) in [("/datasets", "name"), ("/jobs", "id"), ("/audit", "id")] {
        let all = app.json(&format!("{list}?limit=1000")).await;
        let names = |page: &serde_json::Value| {
            let items = page["items"].as_array().unwrap().clone();
            items.into_iter().map(|item| item[key].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let before = names(&all);
        let (mut seen, mut cursor, mut page) = (Vec::new(), String::new(), 0);
        loop {
            // Before each page something new comes, and something newer than the walk goes again.
            app.import(&format!("new-{page}"), &data_set(6, 2)).await;
            let queued = app.queue(&tiny_job("shapes")).await;
            expect(app.delete(&format!("/datasets/new-{page}")).send().await.unwrap(), 204).await;
            expect(app.post(&format!("/jobs/{queued}/cancel")).send().await.unwrap(), 202).await;
            page += 1;
            let rows = app.json(&format!("{list}?limit=3{cursor}")).await;
            seen.extend(names(&rows));
            match rows["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_walked(list, seen, &before);
    }
    app.stop().await;
}
