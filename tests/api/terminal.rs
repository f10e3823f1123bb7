//! A server as somebody started it from a terminal: the terminal goes, the program's file goes.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::Value;

use super::app::{expect, form, tiny_job};
use super::pictures::data_set;

/// A shell line's server, and where it listens.
fn served(line: &str, directory: &std::path::Path) -> (Child, String) {
    let mut server = Command::new("/bin/sh")
        .args(["-c", line])
        .env("DATA", directory.join("data"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
    let base = loop {
        let line = lines.next().expect("the server has ended").unwrap();
        if let Some((_, rest)) = line.split_once("listening on ") {
            break rest.split([',', ' ']).next().unwrap().to_owned();
        }
    };
    // Whatever else it says shall not block it.
    std::thread::spawn(move || lines.for_each(drop));
    (server, base)
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

/// A server on a terminal of its own, and that terminal.
fn on_a_terminal(directory: &std::path::Path) -> (Child, std::fs::File) {
    let (mut master, mut slave) = (0, 0);
    let none = std::ptr::null_mut();
    // SAFETY: both descriptors are written, and each is owned once from here on.
    let (mut terminal, end) = unsafe {
        assert_eq!(libc::openpty(&raw mut master, &raw mut slave, none, std::ptr::null(), std::ptr::null()), 0);
        (std::fs::File::from_raw_fd(master), OwnedFd::from_raw_fd(slave))
    };
    let mut server = Command::new(env!("CARGO_BIN_EXE_mixmatch"));
    server.args(["serve", "--listen", "127.0.0.1:0", "--devices", "cpu", "--data-dir"]).arg(directory.join("data"));
    let server = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(end).spawn().unwrap();
    let mut said = Vec::new();
    let mut piece = [0; 4096];
    while !String::from_utf8_lossy(&said).contains("listening on ") {
        let length = terminal.read(&mut piece).unwrap();
        said.extend(&piece[..length]);
    }
    (server, terminal)
}

const SERVE: &str = "serve --data-dir \"$DATA\" --listen 127.0.0.1:0 --devices cpu";

#[test]
fn a_server_ends_in_order_with_its_terminal_and_outlives_it_under_nohup() {
    let binary = env!("CARGO_BIN_EXE_mixmatch");
    let directory = tempfile::tempdir().unwrap();
    let (mut server, _base) = served(&format!("exec {binary} {SERVE}"), directory.path());
    signal(&server, libc::SIGHUP);
    assert_eq!(ended(&mut server, Duration::from_secs(30)), Some(Some(0)));

    // With the terminal goes what is written to it, and of its two signals the second is none to hurry for.
    let (mut server, terminal) = on_a_terminal(directory.path());
    drop(terminal);
    signal(&server, libc::SIGHUP);
    signal(&server, libc::SIGHUP);
    assert_eq!(ended(&mut server, Duration::from_secs(30)), Some(Some(0)));

    let (mut server, _base) = served(&format!("trap '' HUP; exec {binary} {SERVE}"), directory.path());
    signal(&server, libc::SIGHUP);
    assert_eq!(ended(&mut server, Duration::from_secs(1)), None);
    signal(&server, libc::SIGTERM);
    assert_eq!(ended(&mut server, Duration::from_secs(30)), Some(Some(0)));
}

#[test]
fn a_servers_waiting_threads_sleep_unless_somebody_has_said_how_they_wait() {
    let binary = env!("CARGO_BIN_EXE_mixmatch");
    let directory = tempfile::tempdir().unwrap();
    for (given, expected) in [
        ("unset OMP_WAIT_POLICY GOMP_SPINCOUNT", ["OMP_WAIT_POLICY=PASSIVE", "GOMP_SPINCOUNT=1000"].as_slice()),
        ("unset GOMP_SPINCOUNT; export OMP_WAIT_POLICY=ACTIVE", &["OMP_WAIT_POLICY=ACTIVE"]),
    ] {
        let (mut server, _base) = served(&format!("{given}; exec {binary} {SERVE}"), directory.path());
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
