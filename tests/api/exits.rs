//! How a command ends whose output goes to a full disk or to nobody, that is asked twice to stop, or that is used wrongly.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::pictures::{data_set, picture};

/// A command in a directory, which has nothing to read.
fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mixmatch"));
    command.current_dir(directory).args(arguments).stdin(Stdio::null());
    command
}

fn mixmatch(directory: &Path, arguments: &[&str]) -> Output {
    command(directory, arguments).output().unwrap()
}

fn lines(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A directory where a data set `shapes` is imported.
fn with_data_set() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let there = directory.path();
    let drawn = data_set(80, 20);
    std::fs::write(there.join("images.zip"), drawn.images).unwrap();
    std::fs::write(there.join("train.csv"), drawn.train).unwrap();
    std::fs::write(there.join("test.csv"), drawn.test).unwrap();
    let files = ["--images", "images.zip", "--train", "train.csv", "--test", "test.csv"];
    let imported = mixmatch(there, &[&["import", "--name", "shapes", "--task", "shape"], files.as_slice()].concat());
    assert!(imported.status.success(), "{imported:?}");
    directory
}

/// A small training with its output in pipes.
fn training(directory: &Path, epochs: &str) -> Child {
    let small = ["network=wrn-10-1", "size=16", "batch=8", "steps_per_epoch=4", epochs];
    let settings = small.iter().flat_map(|setting| ["--set", *setting]);
    let order: Vec<&str> =
        ["train", "--dataset", "shapes", "--devices", "cpu", "--labelled", "20"].into_iter().chain(settings).collect();
    command(directory, &order).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Runs a command whose reader has gone before it writes.
fn unread(directory: &Path, arguments: &[&str]) -> Output {
    let mut running = command(directory, arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(running.stdout.take());
    running.wait_with_output().unwrap()
}

/// Runs a command that writes to a full disk.
fn onto_a_full_disk(directory: &Path, arguments: &[&str]) -> Output {
    let full = File::options().write(true).open("/dev/full").unwrap();
    command(directory, arguments).stdout(full).output().unwrap()
}

#[test]
fn a_training_outlives_whoever_reads_of_it_and_results_that_cannot_be_written_are_a_failure() {
    let directory = with_data_set();
    let there = directory.path();
    let mut train = training(there, "epochs=3");
    let mut told = BufReader::new(train.stderr.take().unwrap());
    let mut first = String::new();
    assert!(told.read_line(&mut first).unwrap() > 0);
    drop(told);
    let trained = train.wait_with_output().unwrap();
    assert!(trained.status.success(), "{trained:?}");
    assert!(lines(&trained.stdout).contains("model shape:1"), "{trained:?}");

    std::fs::write(there.join("disc.png"), picture(true, 5000)).unwrap();
    let engine = ["bench", "engine", "--network", "wrn-10-1", "--size", "16", "--batch", "1", "--rounds", "1"];
    for arguments in [
        &["predict", "--model", "shape", "disc.png"][..],
        &["test", "--model", "shape", "--dataset", "shapes"],
        &["export", "--model", "shape", "--to", "exported"],
        &["import-weights", "exported/weights.safetensors", "--name", "own"],
        &["backup", "--to", "copy"],
        &["restore", "--from", "copy", "--data-dir", "restored"],
        &["keys", "list"],
        &["presets"],
        &["openapi"],
        &engine,
    ] {
        let failed = onto_a_full_disk(there, arguments);
        let told = lines(&failed.stderr);
        assert_eq!(failed.status.code(), Some(1), "{arguments:?}: {failed:?}");
        assert!(told.contains("standard output: No space left") && !told.contains("panicked"), "{arguments:?}: {told}");
    }
    for arguments in [&["presets"][..], &["keys", "list"], &["backup", "--to", "another"], &engine] {
        let ended = unread(there, arguments);
        assert_eq!(ended.status.signal(), Some(libc::SIGPIPE), "{arguments:?}: {ended:?}");
        assert!(!lines(&ended.stderr).contains("panicked"), "{ended:?}");
    }
}

#[test]
fn a_key_that_nobody_could_see_opens_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let there = directory.path();
    let create = |name| ["keys", "create", "--scope", "admin", "--name", name];
    for failed in [onto_a_full_disk(there, &create("full")), unread(there, &create("gone"))] {
        let told = lines(&failed.stderr);
        assert_eq!(failed.status.code(), Some(1), "{failed:?}");
        assert!(told.contains("is revoked; make another") && !told.contains("panicked"), "{told}");
    }
    let listed = lines(&mixmatch(there, &["keys", "list", "--json"]).stdout);
    let keys: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(keys.len() == 2 && keys.iter().all(|key| key["state"] == "revoked"), "{listed}");
    // They were the first all the same: what is to be known of that is told with the one that somebody sees.
    let hints = ["seen", "another"].map(|name| lines(&mixmatch(there, &create(name)).stderr));
    let told = hints.each_ref().map(|told| told.contains("a server wants one from this machine, too"));
    assert_eq!(told, [true, false], "{hints:?}");
}

/// The child processes of one, once there are any.
fn children(parent: u32) -> Vec<libc::pid_t> {
    let began = Instant::now();
    loop {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let numbers = processes.filter_map(|process| process.file_name().to_str()?.parse::<libc::pid_t>().ok());
        let of_parent = |number: &libc::pid_t| {
            let status = std::fs::read_to_string(format!("/proc/{number}/status")).unwrap_or_default();
            status.lines().any(|line| line == format!("PPid:\t{parent}"))
        };
        let found: Vec<libc::pid_t> = numbers.filter(of_parent).collect();
        if !found.is_empty() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "no child");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn send(process: libc::pid_t, signal: libc::c_int) {
    // SAFETY: a signal to a process of our own, or of one of ours.
    assert_eq!(unsafe { libc::kill(process, signal) }, 0);
}

#[test]
fn whoever_asks_a_training_twice_to_stop_does_not_wait_for_its_run() {
    let directory = with_data_set();
    let mut train = training(directory.path(), "epochs=10000");
    let id = libc::pid_t::try_from(train.id()).unwrap();
    let mut told = BufReader::new(train.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("epoch ") {
        line.clear();
        assert!(told.read_line(&mut line).unwrap() > 0, "the training has ended");
    }
    // One that hangs: it would be waited for as long as a run has to write its checkpoint.
    children(train.id()).into_iter().for_each(|child| send(child, libc::SIGSTOP));
    send(id, libc::SIGINT);
    while !line.contains("stopping the run") {
        line.clear();
        assert!(told.read_line(&mut line).unwrap() > 0, "the training has ended");
    }
    // What comes sooner is the same wish.
    std::thread::sleep(Duration::from_millis(2500));
    let asked = Instant::now();
    send(id, libc::SIGINT);
    let status = train.wait().unwrap();
    assert_eq!(status.code(), Some(130), "{status:?}");
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    let mut rest = String::new();
    told.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("asked to stop again"), "{rest}");
}

#[test]
fn a_backup_that_is_asked_to_stop_removes_what_it_has_copied() {
    let directory = with_data_set();
    let there = directory.path();
    let set = std::fs::read_dir(there.join("data/datasets")).unwrap().next().unwrap().unwrap().path();
    // A file that nobody has read to its end while somebody holds it open to write.
    let manifest = set.join("manifest.json");
    std::fs::remove_file(&manifest).unwrap();
    let name = std::ffi::CString::new(manifest.to_str().unwrap()).unwrap();
    // SAFETY: the name is a C string.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    // Refused as long as nobody reads it.
    let hold = || File::options().write(true).custom_flags(libc::O_NONBLOCK).open(&manifest);

    let mut backup = command(there, &["backup", "--to", "copy"]).stderr(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    let held = loop {
        match hold() {
            Ok(held) => break held,
            Err(error) => assert!(began.elapsed() < Duration::from_secs(60), "{error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    send(libc::pid_t::try_from(backup.id()).unwrap(), libc::SIGTERM);
    let mut told = BufReader::new(backup.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("asked to stop: ") {
        line.clear();
        assert!(told.read_line(&mut line).unwrap() > 0, "the backup has ended");
    }
    drop(held);
    // It is read once more, in its new place.
    let status = loop {
        drop(hold());
        if let Some(status) = backup.try_wait().unwrap() {
            break status;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "the backup goes on");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(status.code(), Some(1), "{status:?}");
    assert_eq!(std::fs::read_dir(there.join("copy")).unwrap().count(), 0);
    told.read_to_string(&mut line).unwrap();
    assert!(line.contains("stopped on request"), "{line}");
}

#[test]
fn a_demo_outlives_whoever_reads_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let there = directory.path();
    // By its name a demo finds a data set that need not be drawn.
    let drawn = data_set(300, 60);
    std::fs::write(there.join("images.zip"), drawn.images).unwrap();
    std::fs::write(there.join("train.csv"), drawn.train).unwrap();
    let files = ["--images", "images.zip", "--train", "train.csv", "--data-dir", "demo-data"];
    let import = ["import", "--name", "drawn-masks", "--task", "mask"];
    let imported = mixmatch(there, &[import.as_slice(), files.as_slice()].concat());
    assert!(imported.status.success(), "{imported:?}");
    let order = ["demo", "--exit", "--listen", "127.0.0.1:0", "--devices", "cpu"];
    let mut demo = command(there, &order).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    drop(demo.stderr.take());
    // By then it has told that it found the data set.
    children(demo.id());
    send(libc::pid_t::try_from(demo.id()).unwrap(), libc::SIGTERM);
    let status = demo.wait().unwrap();
    assert_eq!(status.code(), Some(1), "{status:?}");
}

#[test]
fn a_demo_beyond_this_machine_is_used_wrongly() {
    let directory = tempfile::tempdir().unwrap();
    let refused = mixmatch(directory.path(), &["demo", "--listen", "0.0.0.0:7205"]);
    let told = lines(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(told.contains("--listen 127.0.0.1:7205") && !told.contains("keys create"), "{told}");
    assert!(!directory.path().join("demo-data").exists());
}

#[test]
fn an_import_that_does_not_even_begin_tells_a_program_why() {
    let directory = tempfile::tempdir().unwrap();
    let there = directory.path();
    let import = |name: &str| {
        let files = ["--task", "shape", "--images", "images.zip", "--train", "train.csv", "--json"];
        mixmatch(there, &[&["import", "--name", name], files.as_slice()].concat())
    };
    let held = mixmatch::data_dir::DataDir::new(there.join("data")).lock().unwrap();
    for (name, exit, code) in [("b lobs", 2, "invalid_value"), ("blobs", 1, "in_use")] {
        let refused = import(name);
        assert_eq!(refused.status.code(), Some(exit), "{refused:?}");
        let told: Value = serde_json::from_slice(&refused.stdout).unwrap();
        assert!(told["code"] == code && told["rejected"] == serde_json::json!([]), "{told}");
        assert!(lines(&refused.stderr).contains(told["detail"].as_str().unwrap()), "{told}");
    }
    drop(held);
}
