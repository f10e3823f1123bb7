//! A server as somebody started it from a terminal: the terminal goes, the program's file goes; under limits and names of that shell's; and
//! stopped before it has started.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use reqwest::Client;
use reqwest::multipart::{Form, Part};
use serde_json::Value;

use super::app::{expect, form, problem, tiny_job};
use super::pictures::data_set;

/// A shell line's server that has only been begun, and what it says.
pub fn begun(line: &str, directory: &Path) -> (Child, Receiver<String>) {
    let mut server = Command::new("/bin/sh")
        .args(["-c", line])
        .env("DATA", directory.join("data"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(server.stderr.take().unwrap()).lines();
    let (says, said) = channel();
    // Whatever it says when nobody listens any more shall not block it.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(says.send(line))));
    (server, said)
}

/// What it says until a line has these words, with that line.
pub fn told(said: &Receiver<String>, words: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    while lines.last().is_none_or(|line| !line.contains(words)) {
        match said.recv_timeout(Duration::from_secs(60)) {
            Ok(line) => lines.push(line),
            Err(error) => panic!("{words:?}: {error} after {lines:#?}"),
        }
    }
    lines
}

/// A shell line's server, and where it listens.
fn served(line: &str, directory: &Path) -> (Child, String) {
    let (server, said) = begun(line, directory);
    let lines = told(&said, "listening on ");
    let (_, rest) = lines.last().unwrap().split_once("listening on ").unwrap();
    (server, rest.split([',', ' ']).next().unwrap().to_owned())
}

fn signal(server: &Child, signal: libc::c_int) {
    // SAFETY: a signal to a process of our own.
    assert_eq!(unsafe { libc::kill(server.id() as libc::pid_t, signal) }, 0);
}

/// Its exit code; none while it runs on.
fn ended(server: &mut Child, within: Duration) -> Option<Option<i32>> {
    let began = Instant::now();
    while began.elapsed() < within {
        if let Some(status) = server.try_wait().unwrap() {
            return Some(status.code());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    None
}

/// A shell line's server on a terminal of its own, and that terminal.
fn on_a_terminal(line: &str, directory: &Path) -> (Child, std::fs::File) {
    let (mut master, mut slave) = (0, 0);
    let none = std::ptr::null_mut();
    // SAFETY: both descriptors are written, and each is owned once from here on.
    let (mut terminal, end) = unsafe {
        assert_eq!(libc::openpty(&raw mut master, &raw mut slave, none, std::ptr::null(), std::ptr::null()), 0);
        (std::fs::File::from_raw_fd(master), OwnedFd::from_raw_fd(slave))
    };
    let mut server = Command::new("/bin/sh");
    server.args(["-c", line]).env("DATA", directory.join("data"));
    let server = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(end).spawn().unwrap();
    let mut said = Vec::new();
    let mut piece = [0; 4096];
    while !String::from_utf8_lossy(&said).contains("listening on ") {
        let length = terminal.read(&mut piece).unwrap();
        said.extend(&piece[..length]);
    }
    (server, terminal)
}

/// How a shell starts a server on a free port.
pub const SERVE: &str = "serve --data-dir \"$DATA\" --listen 127.0.0.1:0 --devices cpu";

#[test]
fn a_server_ends_in_order_with_its_terminal_and_outlives_it_under_nohup() {
    let binary = env!("CARGO_BIN_EXE_mixmatch");
    let directory = tempfile::tempdir().unwrap();
    // With the terminal goes what is written to it, and of its two signals the second is none to hurry for.
    let (mut server, terminal) = on_a_terminal(&format!("exec {binary} {SERVE}"), directory.path());
    drop(terminal);
    signal(&server, libc::SIGHUP);
    signal(&server, libc::SIGHUP);
    assert_eq!(ended(&mut server, Duration::from_secs(30)), Some(Some(0)));

    let (mut server, terminal) = on_a_terminal(&format!("trap '' HUP; exec {binary} {SERVE}"), directory.path());
    signal(&server, libc::SIGHUP);
    assert_eq!(ended(&mut server, Duration::from_secs(1)), None);
    signal(&server, libc::SIGTERM);
    assert_eq!(ended(&mut server, Duration::from_secs(30)), Some(Some(0)));
    drop(terminal);
}

#[test]
fn a_server_without_a_terminal_does_not_end_where_its_log_is_to_be_opened_anew() {
    let binary = env!("CARGO_BIN_EXE_mixmatch");
    let directory = tempfile::tempdir().unwrap();
    let (mut server, _base) = served(&format!("exec {binary} {SERVE}"), directory.path());
    signal(&server, libc::SIGHUP);
    assert_eq!(ended(&mut server, Duration::from_secs(1)), None);
    signal(&server, libc::SIGTERM);
    assert_eq!(ended(&mut server, Duration::from_secs(30)), Some(Some(0)));
}

#[test]
fn a_server_that_waits_for_its_tables_says_so_and_can_be_stopped() {
    let binary = env!("CARGO_BIN_EXE_mixmatch");
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    std::fs::create_dir(&data).unwrap();
    // As another process that has long to do with them.
    let turn = std::fs::File::create(data.join("mixmatch.db-migrating")).unwrap();
    turn.lock().unwrap();
    for asked in [libc::SIGTERM, libc::SIGINT] {
        let (mut server, said) = begun(&format!("exec {binary} {SERVE}"), directory.path());
        told(&said, "waiting for another process");
        signal(&server, asked);
        assert_eq!(ended(&mut server, Duration::from_secs(30)), Some(Some(0)));
    }
    drop(turn);
    let (mut server, _base) = served(&format!("exec {binary} {SERVE}"), directory.path());
    signal(&server, libc::SIGTERM);
    assert_eq!(ended(&mut server, Duration::from_secs(30)), Some(Some(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_beyond_a_limit_on_files_is_refused_and_the_server_lives_on() {
    let binary = env!("CARGO_BIN_EXE_mixmatch");
    let directory = tempfile::tempdir().unwrap();
    // In blocks of 512 bytes, in some shells of 1,024: more than the database takes, and less than the upload.
    let (mut server, base) = served(&format!("ulimit -f 16384; exec {binary} {SERVE}"), directory.path());
    let client = Client::new();
    let images = Part::bytes(vec![0; 20 << 20]).file_name("images.zip");
    let upload = Form::new().text("name", "shapes").text("task", "shape").part("images", images);
    problem(client.post(format!("{base}/datasets")).multipart(upload).send().await.unwrap(), 507).await;
    expect(client.get(format!("{base}/readyz")).send().await.unwrap(), 200).await;
    let imported = client.post(format!("{base}/datasets")).multipart(form("shapes", &data_set(12, 4)));
    expect(imported.send().await.unwrap(), 201).await;
    signal(&server, libc::SIGTERM);
    assert_eq!(ended(&mut server, Duration::from_secs(30)), Some(Some(0)));
}

#[test]
fn a_servers_waiting_threads_sleep_unless_somebody_has_said_how_they_wait() {
    let binary = env!("CARGO_BIN_EXE_mixmatch");
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("mixmatch-link");
    std::os::unix::fs::symlink(binary, &link).unwrap();
    let (link, ours) = (link.to_str().unwrap(), ["OMP_WAIT_POLICY=PASSIVE", "GOMP_SPINCOUNT=1000"]);
    for (given, program, expected) in [
        ("unset OMP_WAIT_POLICY GOMP_SPINCOUNT", binary, ours.as_slice()),
        ("unset OMP_WAIT_POLICY GOMP_SPINCOUNT", link, &ours),
        ("unset GOMP_SPINCOUNT; export OMP_WAIT_POLICY=ACTIVE", binary, &["OMP_WAIT_POLICY=ACTIVE"]),
    ] {
        let (mut server, _base) = served(&format!("{given}; exec {program} {SERVE}"), directory.path());
        let environment = std::fs::read_to_string(format!("/proc/{}/environ", server.id())).unwrap();
        let mut waiting: Vec<&str> =
            environment.split('\0').filter(|entry| entry.contains("OMP_WAIT") || entry.contains("SPINCOUNT")).collect();
        waiting.sort_unstable_by(|a, b| b.cmp(a));
        assert_eq!(waiting, expected);
        let name = std::fs::read_to_string(format!("/proc/{}/comm", server.id())).unwrap();
        assert_eq!(name.trim_end(), "mixmatch");
        signal(&server, libc::SIGTERM);
        assert_eq!(ended(&mut server, Duration::from_secs(30)), Some(Some(0)));
    }
}

#[test]
fn a_server_that_cannot_start_itself_once_more_says_how_its_threads_should_wait() {
    let binary = env!("CARGO_BIN_EXE_mixmatch");
    let directory = tempfile::tempdir().unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut files = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    let loader = files.find(|path| path.contains("/ld-")).expect("whoever is linked dynamically has one");
    let line = format!("unset OMP_WAIT_POLICY GOMP_SPINCOUNT; exec {loader} {binary} {SERVE}");
    let (mut server, said) = begun(&line, directory.path());
    let lines = told(&said, "listening on ");
    assert!(lines.iter().any(|line| line.contains("OMP_WAIT_POLICY=PASSIVE")), "{lines:#?}");
    signal(&server, libc::SIGTERM);
    assert_eq!(ended(&mut server, Duration::from_secs(30)), Some(Some(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_program_was_removed_trains_on() {
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_mixmatch"));
    let directory = tempfile::tempdir().unwrap();
    // Beside it, where it finds the same libraries.
    let removed = binary.with_file_name(format!("mixmatch-{}", std::process::id()));
    std::fs::hard_link(binary, &removed).unwrap();
    let (mut server, base) = served(&format!("exec {} {SERVE}", removed.display()), directory.path());
    std::fs::remove_file(&removed).unwrap();

    let client = Client::new();
    let imported = client.post(format!("{base}/datasets")).multipart(form("shapes", &data_set(80, 20)));
    expect(imported.send().await.unwrap(), 201).await;
    let job = client.post(format!("{base}/jobs")).json(&tiny_job("shapes")).send().await.unwrap();
    let id = expect(job, 202).await["id"].as_str().unwrap().to_owned();
    let began = Instant::now();
    let job: Value = loop {
        let job = expect(client.get(format!("{base}/jobs/{id}")).send().await.unwrap(), 200).await;
        if !["queued", "running"].contains(&job["state"].as_str().unwrap()) {
            break job;
        }
        assert!(began.elapsed() < Duration::from_secs(200), "{job:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(job["state"], "succeeded", "{job:#}");
    signal(&server, libc::SIGTERM);
    assert_eq!(ended(&mut server, Duration::from_secs(30)), Some(Some(0)));
}
