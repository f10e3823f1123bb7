//! Keys as their holders and their owners meet them: scopes, revocation beside a running server, rates, the audit.

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::Output;

use futures::StreamExt;
use mixmatch::config::ServeConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::app::{TestApp, expect, problem, tiny_job};
use super::pictures::picture;
use super::terminal::{SERVE, begun, told};

/// Runs `mixmatch keys` on a data directory, whoever works in it.
/// Blocks: the server needs a thread of its own beside it, or what it was just writing would lock the database.
fn keys(data: &Path, arguments: &[&str]) -> Output {
    let binary = std::process::Command::new(env!("CARGO_BIN_EXE_mixmatch"))
        .arg("keys")
        .args(arguments)
        .env("MIXMATCH_DATA_DIR", data)
        .output();
    binary.unwrap()
}

/// Makes a key; gives its text.
fn create(data: &Path, name: &str, scope: &str) -> String {
    let made = keys(data, &["create", "--name", name, "--scope", scope, "--expires", "1d"]);
    assert!(made.status.success(), "{made:?}");
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

fn data(app: &TestApp) -> std::path::PathBuf {
    app.directory.path().join("data")
}

/// Every route of the description with its method and the scope that it declares.
fn routes() -> Vec<(String, String, Option<String>)> {
    let description: Value = serde_json::from_str(&mixmatch::api::openapi_json()).unwrap();
    let mut routes = Vec::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let scope = operation["security"][0]["api_key"][0].as_str().map(str::to_owned);
            routes.push((method.to_uppercase(), path.clone(), scope));
        }
    }
    routes
}

#[test]
fn every_route_but_health_declares_its_scope_and_its_refusals() {
    let description: Value = serde_json::from_str(&mixmatch::api::openapi_json()).unwrap();
    for (method, path, scope) in routes() {
        let operation = &description["paths"][&path][method.to_lowercase()];
        let open = ["/livez", "/readyz"].contains(&path.as_str());
        assert_eq!(scope.is_none(), open, "{method} {path} declares {scope:?}");
        for status in ["401", "403", "429"] {
            assert_eq!(operation["responses"][status].is_object(), !open, "{method} {path}: {status}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_what_its_scope_covers_and_nothing_else() {
    let app = TestApp::start().await;
    app.json("/jobs").await; // Without any key, this machine may do everything.
    let tokens = ["predict", "train", "admin"].map(|scope| create(&data(&app), scope, scope));
    problem(app.get("/jobs").send().await.unwrap(), 401).await;
    let mut refused = 0;
    for (method, path, needed) in routes() {
        let Some(needed) = needed else { continue };
        let url = format!("{}{}", app.base, path.replace("{id}", "0192f0a2-3c1e-7c4d-8f00-000000000001"));
        for (scope, token) in ["predict", "train", "admin"].into_iter().zip(&tokens) {
            let order = |scope: &str| ["predict", "train", "admin"].iter().position(|known| *known == scope).unwrap();
            let request = app.client.request(method.parse().unwrap(), &url).bearer_auth(token);
            let answer = request.send().await.unwrap();
            let status = answer.status().as_u16();
            if order(scope) >= order(&needed) {
                assert!(status != 401 && status != 403, "{scope} on {method} {path}, which needs {needed}: {status}");
            } else {
                let body = expect(answer, 403).await;
                assert!(body["detail"].as_str().unwrap().contains(&needed), "{body}");
                refused += 1;
                if method == "GET" {
                    let head = app.client.head(&url).bearer_auth(token).send().await.unwrap();
                    assert_eq!(head.status(), 403, "{scope} on HEAD {path}, whose length tells of what is there");
                }
            }
        }
    }
    assert!(refused > 20, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_dead_at_once_and_its_end_does_not_open_the_server() {
    let app = TestApp::start().await;
    let token = create(&data(&app), "laptop", "train");
    let ask = |token: String| app.get("/jobs").bearer_auth(token).send();
    assert_eq!(ask(token.clone()).await.unwrap().status(), 200);
    let mut wrong = token.clone();
    wrong.replace_range(token.len() - 1.., if token.ends_with('A') { "B" } else { "A" });
    problem(ask(wrong).await.unwrap(), 401).await;

    let listed = String::from_utf8(keys(&data(&app), &["list", "--json"]).stdout).unwrap();
    let listed: Value = serde_json::from_str(listed.trim()).unwrap();
    assert_eq!((listed["name"].as_str(), listed["state"].as_str()), (Some("laptop"), Some("live")));
    // It may have the character in it, too.
    let secret = token.splitn(3, '_').nth(2).unwrap();
    assert_eq!(secret.len(), 43);
    for place in ["mixmatch.db", "mixmatch.db-wal"] {
        let bytes = std::fs::read(data(&app).join(place)).unwrap_or_default();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "the secret lies in {place}");
    }

    assert!(keys(&data(&app), &["revoke", "laptop"]).status.success());
    let answer = problem(ask(token).await.unwrap(), 401).await;
    assert!(answer["detail"].as_str().unwrap().contains("revoked"), "{answer}");
    problem(app.get("/jobs").send().await.unwrap(), 401).await;
    let gone = keys(&data(&app), &["revoke", "nobody"]);
    assert!(!gone.status.success() && String::from_utf8_lossy(&gone.stderr).contains("nobody"), "{gone:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_keys_stream_of_events_ends() {
    let app = TestApp::with_child("sleep 600", |_| {}).await;
    app.small_data_set().await;
    let id = app.queue(&tiny_job("shapes")).await;
    let token = create(&data(&app), "laptop", "train");
    let answer = app.get(&format!("/jobs/{id}/events")).bearer_auth(&token).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(keys(&data(&app), &["revoke", "laptop"]).status.success());
    // The job goes on for ten minutes.
    let rest = tokio::time::timeout(std::time::Duration::from_secs(60), answer.text()).await.expect("it ends");
    assert!(rest.unwrap().contains("event: state"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_key_sends_that_is_revoked_meanwhile_is_not_kept() {
    let app = TestApp::start().await;
    let part = |name: &str, of: &str| format!("--b\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{of}\r\n");
    let file = |name: &str| part(&format!("{name}\"; filename=\"{name}"), "x");
    let form = ["name", "task"].map(|name| part(name, "faces")).concat() + &file("images");
    let uploads = [
        ("PUT", "/pretrained/w", "", "some bytes".to_owned(), "and more".to_owned()),
        ("POST", "/datasets", "multipart/form-data; boundary=b", form, file("train") + "--b--\r\n"),
    ];
    for (method, path, kind, first, last) in uploads {
        let token = create(&data(&app), method, "train");
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let last = async move {
            gone.await.unwrap();
            Ok::<_, std::io::Error>(last)
        };
        let body = futures::stream::iter([Ok(first)]).chain(futures::stream::once(last));
        let request = app.client.request(method.parse().unwrap(), format!("{}{path}", app.base)).bearer_auth(&token);
        let sent = request.header("content-type", kind).body(reqwest::Body::wrap_stream(body)).send();
        let sent = tokio::spawn(sent);
        // It was let in: only the body is missing.
        let uploads = app.directory.path().join("data/uploads");
        while std::fs::read_dir(&uploads).unwrap().count() == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert!(keys(&data(&app), &["revoke", method]).status.success());
        go.send(()).unwrap();
        let answer = problem(sent.await.unwrap().unwrap(), 401).await;
        assert!(answer["detail"].as_str().unwrap().contains("was revoked"), "{path}: {answer}");
    }
}

/// A request whose handler waits for its body, and that body.
struct Waiting {
    line: &'static str,
    stream: TcpStream,
    body: Vec<u8>,
}

impl Waiting {
    async fn begin(app: &TestApp, key: Option<&str>, line: &'static str, kind: &str, body: Vec<u8>) -> Self {
        let mut stream = TcpStream::connect(app.base.trim_start_matches("http://")).await.unwrap();
        let key = key.map_or(String::new(), |key| format!("authorization: Bearer {key}\r\n"));
        let length = body.len();
        let head = format!(
            "{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{key}content-type: {kind}\r\ncontent-length: {length}\r\n\
             expect: 100-continue\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // It was let in: nobody asks for a body before that.
        let mut asked = [0_u8; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
        stream.read_exact(&mut asked).await.unwrap();
        assert!(asked.starts_with(b"HTTP/1.1 100 "), "{line}: {}", String::from_utf8_lossy(&asked));
        Self { line, stream, body }
    }

    /// Sends the body; it must be refused for this reason.
    async fn ends_refused(mut self, reason: &str) {
        self.stream.write_all(&self.body).await.unwrap();
        let mut answer = Vec::new();
        let reading = self.stream.read_to_end(&mut answer);
        tokio::time::timeout(std::time::Duration::from_secs(60), reading).await.expect("it ends").unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains(reason), "{}: {answer}", self.line);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_after_its_key_was_revoked_or_the_first_was_made_does_nothing() {
    let app = TestApp::start().await;
    app.small_data_set().await;
    let id = app.queue(&tiny_job("shapes")).await;
    let job = app.until(&id, &["succeeded", "failed"]).await;
    assert_eq!(job["state"], "succeeded", "{job:#}");
    let begin = async |key: Option<&str>| {
        let alias = json!({"version": 1}).to_string().into_bytes();
        let (job, json) = (tiny_job("shapes").to_string().into_bytes(), "application/json");
        let waiting = [
            Waiting::begin(&app, key, "PUT /models/shape/aliases/late", json, alias).await,
            Waiting::begin(&app, key, "POST /jobs", json, job).await,
            Waiting::begin(&app, key, "POST /predict?model=shape", "image/png", picture(true, 7)).await,
        ];
        // A prediction's key is not looked up again where its image is there at once.
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        waiting
    };
    let waiting = begin(None).await;
    let admin = create(&data(&app), "first", "admin");
    for request in waiting {
        request.ends_refused("first API key was made").await;
    }
    let late = create(&data(&app), "late", "admin");
    let waiting = begin(Some(&late)).await;
    assert!(keys(&data(&app), &["revoke", "late"]).status.success());
    for request in waiting {
        request.ends_refused("was revoked").await;
    }
    let read = async |path: &str| expect(app.get(path).bearer_auth(&admin).send().await.unwrap(), 200).await;
    assert_eq!(read("/models/shape").await["aliases"], json!({"champion": 1}));
    assert_eq!(read("/jobs").await["items"].as_array().unwrap().len(), 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_revoked_while_a_version_is_loaded_moves_no_alias() {
    let app = TestApp::start().await;
    app.small_data_set().await;
    let id = app.queue(&tiny_job("shapes")).await;
    let job = app.until(&id, &["succeeded", "failed"]).await;
    assert_eq!(job["state"], "succeeded", "{job:#}");
    let version = app.json("/models/shape/versions/1").await;
    let sha256 = version["weights_sha256"].as_str().unwrap();
    let weights = data(&app).join("artifacts/sha256").join(&sha256[..2]).join(sha256);
    let content = std::fs::read(&weights).unwrap();
    // Whoever reads them waits until somebody writes.
    std::fs::remove_file(&weights).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&weights).status().unwrap().success());
    let (admin, late) = (create(&data(&app), "admin", "admin"), create(&data(&app), "late", "admin"));
    let asked = app.put("/models/shape/aliases/late").bearer_auth(&late).json(&json!({"version": 1})).send();
    let asked = tokio::spawn(asked);
    // That it can be opened says that somebody reads it.
    let mut writing = std::fs::OpenOptions::new();
    writing.write(true).custom_flags(libc::O_NONBLOCK);
    let began = std::time::Instant::now();
    let held = loop {
        if let Ok(held) = writing.open(&weights) {
            break held;
        }
        assert!(!asked.is_finished(), "it is answered without its version");
        assert!(began.elapsed() < std::time::Duration::from_secs(60), "nobody loads it");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    assert!(keys(&data(&app), &["revoke", "late"]).status.success());
    let aside = weights.with_extension("aside");
    std::fs::rename(&weights, &aside).unwrap();
    std::fs::write(&weights, &content).unwrap();
    tokio::task::spawn_blocking(move || std::fs::write(aside, content)).await.unwrap().unwrap();
    drop(held);
    let answer = problem(asked.await.unwrap().unwrap(), 401).await;
    assert!(answer["detail"].as_str().unwrap().contains("was revoked"), "{answer}");
    let model = app.get("/models/shape").bearer_auth(&admin).send().await.unwrap();
    assert_eq!(expect(model, 200).await["aliases"], json!({"champion": 1}));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_sends_too_much_is_told_when_to_come_back() {
    const CONFIGURED: &str = "correct-horse-battery";
    let app = TestApp::with(|config| {
        config.limits.requests_per_second = std::num::NonZeroU32::new(5);
        config.api_key = Some(mixmatch::config::ApiKey::new(CONFIGURED).unwrap());
    })
    .await;
    let (busy, calm) = (create(&data(&app), "busy", "predict"), create(&data(&app), "calm", "predict"));
    let ask = |token: &str| app.get("/models").bearer_auth(token).send();
    // Twenty at once are more than five a second, but not on a machine that takes seconds to answer them.
    for token in [CONFIGURED, &busy] {
        let mut refused = None;
        for _ in 0..50 {
            let answers = futures::future::join_all((0..20).map(|_| ask(token))).await;
            refused = answers.into_iter().map(Result::unwrap).find(|answer| answer.status() == 429);
            if refused.is_some() {
                break;
            }
        }
        let refused = refused.expect("a thousand are too many");
        assert_eq!(refused.headers()["retry-after"], "1");
        problem(refused, 429).await;
    }
    assert_eq!(ask(&calm).await.unwrap().status(), 200, "another key is not held back");
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(ask(&busy).await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_this_machine_a_key_is_needed_before_the_server_listens() {
    let directory = tempfile::tempdir().unwrap();
    let config = || {
        let mut config = ServeConfig::new(directory.path().join("data"), "0.0.0.0:0".parse().unwrap());
        config.worker.devices = "cpu".parse().unwrap();
        config
    };
    let start = async || mixmatch::api::Server::start(config(), mixmatch::nn::device::CudaStatus::NoDriver).await;
    let refusal = start().await.err().expect("an open server").to_string();
    assert!(refusal.contains("mixmatch keys create"), "{refusal}");
    let made = keys(&directory.path().join("data"), &["create", "--name", "first", "--scope", "predict"]);
    let told = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(told.contains("first key") && told.contains("--scope admin"), "{told}");
    let made = keys(&directory.path().join("data"), &["create", "--name", "second", "--scope", "predict"]);
    assert!(!String::from_utf8_lossy(&made.stderr).contains("first key"), "{made:?}");
    start().await.expect("a key is there").stop().await;
    for name in ["first", "second"] {
        assert!(keys(&directory.path().join("data"), &["revoke", name]).status.success());
    }
    let refusal = start().await.err().expect("a revoked key is none").to_string();
    assert!(refusal.contains("the last, second (") && refusal.contains("mixmatch keys create"), "{refusal}");
}

#[test]
fn a_server_whose_only_key_has_ended_says_which_and_when() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let made = keys(&data, &["create", "--name", "yearly", "--scope", "predict", "--expires", "1s"]);
    assert!(made.status.success(), "{made:?}");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let refused = std::process::Command::new(env!("CARGO_BIN_EXE_mixmatch"))
        .args(["serve", "--listen", "0.0.0.0:0", "--devices", "cpu"])
        .env("MIXMATCH_DATA_DIR", &data)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(2) && told.contains("the last, yearly ("), "{refused:?}");
    assert!(told.contains("), ended 2") && !told.contains("there is no API key"), "{told}");
}

#[test]
fn keys_that_soon_end_are_told_of_when_a_server_starts() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    // The newest is told of first.
    for (name, expires) in [("soon", "13d"), ("later", "15d"), ("always", "never"), ("taken-back", "13d")] {
        assert!(keys(&data, &["create", "--name", name, "--scope", "train", "--expires", expires]).status.success());
    }
    assert!(keys(&data, &["revoke", "taken-back"]).status.success());
    let binary = env!("CARGO_BIN_EXE_mixmatch");
    let (mut server, said) = begun(&format!("exec {binary} {SERVE}"), directory.path());
    let lines = told(&said, "the API key soon (");
    let of_others = |line: &String| {
        ["later", "always", "taken-back"].iter().any(|name| line.contains(&format!("the API key {name} ")))
    };
    assert!(lines.last().unwrap().contains("WARN") && !lines.iter().any(of_others), "{lines:#?}");
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn first_keys_that_are_made_at_once_are_all_made() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let create = |name: String| {
        std::process::Command::new(env!("CARGO_BIN_EXE_mixmatch"))
            .args(["keys", "create", "--scope", "predict", "--name", &name])
            .env("MIXMATCH_DATA_DIR", &data)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    };
    let at_once: Vec<_> = (0..6).map(|number| create(format!("key-{number}"))).collect();
    for made in at_once {
        let made = made.wait_with_output().unwrap();
        assert!(made.status.success() && made.stdout.starts_with(b"mm_"), "{made:?}");
    }
    let listed = String::from_utf8(keys(&data, &["list", "--json"]).stdout).unwrap();
    assert_eq!(listed.lines().count(), 6, "{listed}");
    let mode = std::fs::metadata(&data).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700, "it is its owner's alone, as a server would have made it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_told_though_its_row_in_the_audit_cannot_be_completed() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    create(&data, "first", "admin");
    let url = format!("sqlite://{}", data.join("mixmatch.db").display());
    let database = sqlx::SqlitePool::connect(&url).await.unwrap();
    let trigger = "CREATE TRIGGER no_end BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'not today'); END";
    sqlx::query(trigger).execute(&database).await.unwrap();

    let made = keys(&data, &["create", "--name", "second", "--scope", "admin"]);
    let told = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(made.status.success() && made.stdout.starts_with(b"mm_"), "{made:?}");
    assert!(told.contains("warning: ") && told.contains("not today"), "{told}");
    let revoked = keys(&data, &["revoke", "second"]);
    let told = String::from_utf8_lossy(&revoked.stderr).into_owned();
    assert!(revoked.status.success() && told.contains("is revoked") && told.contains("not today"), "{revoked:?}");
    let begun: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM audit WHERE status IS NULL").fetch_one(&database).await.unwrap();
    assert_eq!(begun, 2, "that they began stands there");
    database.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_from_elsewhere_cannot_use_an_open_server() {
    let app = TestApp::start().await;
    let rebound = app.get("/jobs").header("host", "evil.example:8080").send().await.unwrap();
    problem(rebound, 401).await;
    let forged = app.post("/datasets").header("origin", "https://evil.example").body("x").send().await.unwrap();
    problem(forged, 401).await;
    assert_eq!(app.get("/jobs").header("origin", &app.base).send().await.unwrap().status(), 200);
    // A picture that the page names comes without an origin; a link from there to our own pages may be followed.
    let from = |path: &str, site: &str| app.get(path).header("sec-fetch-site", site.to_owned()).send();
    for path in ["/datasets/none/samples.png", "/jobs", "/metrics"] {
        problem(from(path, "cross-site").await.unwrap(), 401).await;
    }
    for path in ["/", "/docs/", "/openapi.json", "/livez"] {
        assert_eq!(from(path, "cross-site").await.unwrap().status(), 200, "{path}");
    }
    for site in ["same-origin", "same-site", "none"] {
        assert_eq!(from("/jobs", site).await.unwrap().status(), 200, "{site}");
    }
}

/// Programs count their requests; two of them may count alike.
#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_is_that_of_the_api_key_that_it_came_with() {
    let app = TestApp::with_child("sleep 600", |_| {}).await;
    app.small_data_set().await;
    let [one, other, another] = ["one", "other", "another"].map(|name| create(&data(&app), name, "train"));
    let ask = async |token: &str, seed: u32| {
        let mut job = tiny_job("shapes");
        job["seed"] = json!(seed);
        let request = app.post("/jobs").bearer_auth(token).header("idempotency-key", "1").json(&job);
        expect(request.send().await.unwrap(), 202).await["id"].as_str().unwrap().to_owned()
    };
    let (first, second, third) = (ask(&one, 1).await, ask(&other, 1).await, ask(&another, 2).await);
    assert!(first != second && second != third && first != third, "whatever the others asked for");
    assert_eq!((ask(&one, 1).await, ask(&other, 1).await), (first, second), "each finds its own again");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_stand_in_the_audit_with_who_and_what() {
    let app = TestApp::with_child("sleep 600", |_| {}).await;
    app.small_data_set().await;
    let (train, admin) = (create(&data(&app), "trainer", "train"), create(&data(&app), "boss", "admin"));
    let queue = app.post("/jobs").bearer_auth(&train).header("x-request-id", "req-1").json(&tiny_job("shapes"));
    let job = expect(queue.send().await.unwrap(), 202).await;
    let wrong = app.post("/jobs").bearer_auth(&train).json(&json!({"dataset": "none"}));
    problem(wrong.send().await.unwrap(), 404).await;
    app.get("/jobs").bearer_auth(&train).send().await.unwrap();
    let cancel = format!("/jobs/{}/cancel", job["id"].as_str().unwrap());
    expect(app.post(&cancel).bearer_auth(&admin).send().await.unwrap(), 202).await;
    problem(app.get("/audit").bearer_auth(&train).send().await.unwrap(), 403).await;

    // Walked with cursors while more is written.
    let (mut rows, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = app.get(&format!("/audit?limit=2{cursor}")).bearer_auth(&admin).send().await.unwrap();
        let page = expect(page, 200).await;
        rows.extend(page["items"].as_array().unwrap().clone());
        expect(app.post(&cancel).bearer_auth(&admin).send().await.unwrap(), 202).await;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let rows: Vec<_> = rows.iter().map(|row| (row["action"].as_str().unwrap(), row)).collect();
    let actions: Vec<&str> = rows.iter().map(|(action, _)| *action).collect();
    assert_eq!(
        actions,
        ["POST /jobs/{id}/cancel", "POST /jobs", "POST /jobs", "keys create", "keys create", "POST /datasets",]
    );
    let (canceled, refused, queued, imported) = (rows[0].1, rows[1].1, rows[2].1, rows[5].1);
    assert!(canceled["actor"].as_str().unwrap().starts_with("boss ("), "{canceled}");
    assert_eq!((canceled["status"].as_u64(), canceled["target"].as_str()), (Some(202), Some(cancel.as_str())));
    assert_eq!((refused["status"].as_u64(), &refused["created"]), (Some(404), &Value::Null));
    assert_eq!(queued["created"], format!("/jobs/{}", job["id"].as_str().unwrap()));
    assert_eq!((queued["request_id"].as_str(), queued["status"].as_u64()), (Some("req-1"), Some(202)));
    assert_eq!(imported["actor"], "anyone on this machine");
    app.stop().await;
}
