//! The way from an archive to answers without a server; and a server of which the system lets few files be open.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::app::{expect, form};
use super::pictures::{data_set, picture};

/// Runs the binary there, as from a shell whose output goes into a file.
fn mixmatch(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mixmatch")).current_dir(directory).args(arguments).output().unwrap()
}

fn lines(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What commands left in the audit, in their order: `200 import shapes /datasets` for one that made something there.
async fn audit(there: &Path) -> Vec<String> {
    let url = format!("sqlite://{}", there.join("data/mixmatch.db").display());
    let database = sqlx::SqlitePool::connect(&url).await.unwrap();
    let of_commands =
        "SELECT status, action, target, created FROM audit WHERE actor LIKE 'command line, user %' ORDER BY id";
    let rows: Vec<(Option<i64>, String, String, Option<String>)> =
        sqlx::query_as(of_commands).fetch_all(&database).await.unwrap();
    database.close().await;
    let words = |(status, action, target, created): (Option<i64>, String, String, Option<String>)| {
        let (place, _) = created.as_deref().and_then(|created| created.rsplit_once('/')).unwrap_or_default();
        format!("{} {action} {target} {place}", status.unwrap_or_default()).trim_end().to_owned()
    };
    rows.into_iter().map(words).collect()
}

#[tokio::test]
async fn a_data_set_is_imported_trained_on_and_its_model_asked() {
    let directory = tempfile::tempdir().unwrap();
    let there = directory.path();
    let drawn = data_set(120, 30);
    for (name, bytes) in [("images.zip", &drawn.images), ("train.csv", &drawn.train.into_bytes())] {
        std::fs::write(there.join(name), bytes).unwrap();
    }
    std::fs::write(there.join("test.csv"), drawn.test).unwrap();
    std::fs::write(there.join("disc.png"), picture(true, 5000)).unwrap();

    let files = ["--images", "images.zip", "--train", "train.csv", "--test", "test.csv"];
    let imported = mixmatch(there, &[&["import", "--name", "shapes", "--task", "shape"], files.as_slice()].concat());
    assert!(imported.status.success(), "{imported:?}");

    let small = ["network=wrn-10-1", "size=16", "batch=8", "epochs=2", "steps_per_epoch=25", "pretrain_epochs=2"];
    let settings = small.iter().flat_map(|setting| ["--set", *setting]);
    let order: Vec<&str> = ["train", "--dataset", "shapes", "--labelled", "40"].into_iter().chain(settings).collect();
    let trained = mixmatch(there, &order);
    let (told, answer) = (lines(&trained.stderr), lines(&trained.stdout));
    assert!(trained.status.success(), "{told}{answer}");
    // Without a terminal there is no bar, and the lines are there all the same.
    for line in [
        "40 labelled images, 96 without their label",
        "pretraining, epoch 2 of 2",
        "epoch   1/2  loss",
        "epoch   2/2  loss",
    ] {
        assert_eq!(told.matches(line).count(), 1, "{line:?} in\n{told}");
    }
    assert!(answer.contains("model shape:1") && answer.contains("test accuracy"), "{answer}");

    // Several runs are told apart by what the grid gives each, as the report names them.
    let grid = ["--grid", "guess_from=ema,raw", "--set", "pretrain_epochs=0", "--set", "epochs=1"];
    let settings = small[..3].iter().chain(&small[4..5]).flat_map(|setting| ["--set", *setting]);
    let order: Vec<&str> =
        ["train", "--dataset", "shapes", "--labelled", "40"].into_iter().chain(settings).chain(grid).collect();
    let trained = mixmatch(there, &order);
    let told = lines(&trained.stderr);
    assert!(trained.status.success(), "{told}");
    for line in
        ["[1/2] MixMatch, 40 labels, guess_from ema, seed 0\n", "[2/2] MixMatch, 40 labels, guess_from raw, seed 0\n"]
    {
        assert_eq!(told.matches(line).count(), 1, "{line:?} in\n{told}");
    }

    let asked = mixmatch(there, &["predict", "--model", "shape", "disc.png", "missing.png", "data"]);
    let answers: Vec<Value> = lines(&asked.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(asked.status.code(), Some(1), "two of three are no files: {asked:?}");
    assert!(answers[0]["label"].is_string() && answers[0]["model"] == "shape:1", "{answers:?}");
    assert_eq!(answers[1]["problem"]["code"], "unreadable", "{answers:?}");
    let alone = mixmatch(there, &["predict", "--model", "shape", "missing.png"]);
    assert!(lines(&alone.stdout).contains("\"unreadable\""), "{alone:?}");
    assert_eq!(answers[2]["problem"]["detail"], "it is a folder; name its files, as data/*.jpg", "{answers:?}");
    std::fs::File::create(there.join("huge.png")).unwrap().set_len(1 << 40).unwrap();
    let huge = mixmatch(there, &["predict", "--model", "shape", "huge.png"]);
    assert!(lines(&huge.stdout).contains("\"image_too_many_bytes\""), "nothing of a terabyte is read: {huge:?}");

    let exported = mixmatch(there, &["export", "--model", "shape", "--to", "exported"]);
    assert!(exported.status.success(), "{exported:?}");
    let imported = mixmatch(there, &["import-weights", "exported/weights.safetensors", "--name", "own"]);
    assert!(imported.status.success(), "{imported:?}");
    assert_eq!(
        audit(there).await,
        [
            "200 import shapes /datasets",
            "200 train shapes /jobs",
            "200 train shapes /jobs",
            "200 import-weights own /pretrained"
        ],
        "what they changed stands in the audit, and what they only looked at does not"
    );
}

#[test]
fn an_import_learns_from_images_that_no_sheet_names_if_it_is_told_to() {
    let directory = tempfile::tempdir().unwrap();
    let there = directory.path();
    let drawn = data_set(20, 6);
    let eight: String = drawn.train.lines().take(9).map(|line| format!("{line}\n")).collect();
    std::fs::write(there.join("images.zip"), &drawn.images).unwrap();
    std::fs::write(there.join("train.csv"), eight).unwrap();
    std::fs::write(there.join("test.csv"), &drawn.test).unwrap();
    let import = |name: &str, more: &[&str]| {
        let files = ["--images", "images.zip", "--train", "train.csv", "--test", "test.csv", "--json"];
        mixmatch(there, &[&["import", "--name", name, "--task", "shape"], files.as_slice(), more].concat())
    };
    for (name, unlisted, unlabelled) in [("plain", "ignore", 0_u64), ("learned", "unlabelled", 12)] {
        let imported = import(name, &["--unlisted", unlisted]);
        assert!(imported.status.success(), "{imported:?}");
        let answer: Value = serde_json::from_slice(&imported.stdout).unwrap();
        assert_eq!(answer["counts"]["unlabelled"], unlabelled, "{answer}");
    }
    let refused = import("other", &["--unlisted", "all"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let told = lines(&refused.stderr);
    assert!(told.contains("ignore or unlabelled"), "{told}");
}

#[test]
fn a_refused_import_names_the_option_that_mends_it() {
    let directory = tempfile::tempdir().unwrap();
    let there = directory.path();
    std::fs::write(there.join("images.zip"), data_set(12, 4).images).unwrap();
    // A column that is called as the form's field is told as it is called.
    std::fs::write(there.join("train.csv"), "image,label_column\na.png,disc\n").unwrap();
    let import = ["import", "--name", "shapes", "--task", "shape", "--images", "images.zip", "--train", "train.csv"];
    let none: &[&str] = &[];
    for (options, told, not) in [
        (none, "\"label_column\"; name it with --label-column", "in label_column"),
        (&["--label-column", "image"][..], "name another one with --image-column", "image_column"),
        (
            &["--label-column", "label_column", "--group-column", "who"][..],
            "name it with --group-column",
            "group_column",
        ),
    ] {
        let refused = mixmatch(there, &[&import[..], options].concat());
        let text = lines(&refused.stderr);
        assert!(!refused.status.success() && text.contains(told) && !text.contains(not), "{options:?}: {text}");
    }
    let surplus = format!("{}a, b.png,disc,x,y,z\n", data_set(12, 4).train);
    std::fs::write(there.join("train.csv"), surplus).unwrap();
    let refused = mixmatch(there, &[&import[..], &["--unlisted", "unlabelled"]].concat());
    let text = lines(&refused.stderr);
    assert!(!refused.status.success() && text.contains("mend the rows, or leave out --unlisted"), "{text}");
}

#[test]
fn what_may_be_wrong_with_the_columns_names_the_option_that_mends_it() {
    let directory = tempfile::tempdir().unwrap();
    let there = directory.path();
    let drawn = data_set(12, 4);
    std::fs::write(there.join("images.zip"), drawn.images).unwrap();
    let import = |name: &str, sheet: &str| {
        std::fs::write(there.join("train.csv"), sheet).unwrap();
        let import = ["import", "--task", "shape", "--images", "images.zip", "--train", "train.csv", "--name", name];
        mixmatch(there, &import)
    };
    let refused = import("one", &drawn.train.replace("stripes", "disc"));
    let told = lines(&refused.stderr);
    assert!(!refused.status.success() && told.contains("name another column with --label-column"), "{told}");
    let doubtful = drawn.train.replace("artist", "person,class");
    let half: String = doubtful.lines().take(9).map(|line| format!("{line}\n")).collect();
    let made = import("two", &half);
    let told = lines(&made.stderr);
    assert!(made.status.success(), "{told}");
    for option in ["name it with --group-column", "name it with --label-column", "a label with --unlisted unlabelled"] {
        assert!(told.contains(option), "{option} is not in: {told}");
    }
    assert!(!told.contains("in group_column") && !told.contains("in label_column"), "{told}");
}

#[test]
fn an_import_says_into_which_directory_and_whether_that_is_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let there = directory.path();
    let drawn = data_set(12, 4);
    std::fs::write(there.join("images.zip"), drawn.images).unwrap();
    std::fs::write(there.join("train.csv"), drawn.train).unwrap();
    let place = there.canonicalize().unwrap().join("data");
    for (name, is_new) in [("first", true), ("second", false)] {
        let files = ["--images", "images.zip", "--train", "train.csv"];
        let made = mixmatch(there, &[&["import", "--name", name, "--task", "shape"], files.as_slice()].concat());
        let (answer, told) = (lines(&made.stdout), lines(&made.stderr));
        let first = answer.lines().next().unwrap_or_default();
        assert!(first.starts_with(&format!("imported {name} (")), "{answer}");
        assert!(first.ends_with(&format!(") into {}", place.display())), "{answer}");
        assert_eq!(told.contains(&format!("{} is a new data directory", place.display())), is_new, "{told}");
    }
}

#[tokio::test]
async fn a_refused_import_tells_a_program_every_row() {
    let directory = tempfile::tempdir().unwrap();
    let there = directory.path();
    let drawn = data_set(12, 4);
    let gone: String = (0..30).map(|row| format!("gone-{row}.png,disc,0\n")).collect();
    std::fs::write(there.join("images.zip"), drawn.images).unwrap();
    std::fs::write(there.join("train.csv"), &drawn.train).unwrap();
    std::fs::write(there.join("more.csv"), format!("{}{gone}", drawn.train)).unwrap();
    let import = |sheet: &str, more: &[&str]| {
        let import = ["import", "--name", "shapes", "--task", "shape", "--images", "images.zip", "--json", "--train"];
        mixmatch(there, &[&import[..], &[sheet], more].concat())
    };
    let refusal = |refused: &Output| -> Value {
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        serde_json::from_slice(&refused.stdout).unwrap()
    };

    let refused = import("more.csv", &["--strict"]);
    let (told, text) = (refusal(&refused), lines(&refused.stderr));
    let rows = told["rejected"].as_array().unwrap();
    let named = |row: &&Value| row["image"].as_str().unwrap().starts_with("gone-");
    assert_eq!(rows.iter().filter(named).count(), 30, "{told:#}");
    assert!(rows[0]["sheet"] == "train" && rows[0]["code"].is_string() && rows[0]["row"].is_u64(), "{told:#}");
    assert!(told["code"].is_string() && text.contains(told["detail"].as_str().unwrap()), "{told:#}\n{text}");
    assert!(text.contains("left out: 10 more"), "{text}");

    // What no row is to blame for has the same shape.
    let told = refusal(&import("train.csv", &["--label-column", "none"]));
    assert!(told["rejected"] == serde_json::json!([]) && told["code"].is_string(), "{told:#}");
    let made = import("train.csv", &[]);
    assert!(made.status.success(), "{made:?}");
    assert_eq!(refusal(&import("train.csv", &[]))["code"], "taken");
    let made = "200 import shapes /datasets";
    assert_eq!(audit(there).await, ["422 import shapes", "422 import shapes", made, "422 import shapes"]);
}

#[test]
fn a_full_disk_is_told_of_the_data_directory_and_not_of_the_users_file() {
    let directory = tempfile::tempdir().unwrap();
    let there = directory.path();
    let drawn = data_set(12, 4);
    std::fs::create_dir(there.join("from")).unwrap();
    std::fs::write(there.join("from/images.zip"), drawn.images).unwrap();
    std::fs::write(there.join("from/train.csv"), drawn.train).unwrap();
    let refused = Command::new(env!("CARGO_BIN_EXE_mixmatch"))
        .current_dir(there)
        .env("MIXMATCH_FAIL", "import.copy=enospc")
        .args(["import", "--name", "shapes", "--task", "shape", "--data-dir", "place"])
        .args(["--images", "from/images.zip", "--train", "from/train.csv"])
        .output()
        .unwrap();
    let told = lines(&refused.stderr);
    assert!(!refused.status.success() && told.contains("/place/datasets: "), "{told}");
    assert!(told.contains("from/images.zip cannot be copied there"), "{told}");
    let left: Vec<_> = std::fs::read_dir(there.join("place/datasets")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn weights_are_imported_under_a_name_or_into_a_file() {
    let directory = tempfile::tempdir().unwrap();
    for more in [&[][..], &["--name", "a", "--output", "b.safetensors"]] {
        let refused = mixmatch(directory.path(), &[&["import-weights", "x.pth"][..], more].concat());
        let text = lines(&refused.stderr);
        assert!(refused.status.code() == Some(2) && text.contains("--name") && text.contains("--output"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_leave_files_to_all_else() {
    let directory = tempfile::tempdir().unwrap();
    let binary = env!("CARGO_BIN_EXE_mixmatch");
    // Soft and hard limit: 80 connections, and as many files for the rest.
    let line = format!("ulimit -n 160; exec {binary} serve --listen 127.0.0.1:0 --devices cpu --data-dir data");
    let mut server = Command::new("/bin/sh")
        .args(["-c", &line])
        .current_dir(directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(server.stderr.take().unwrap()).lines();
    let mut before = String::new();
    let base = loop {
        let line = told.next().expect("the server has ended").unwrap();
        if let Some((_, rest)) = line.split_once("listening on ") {
            break rest.split(',').next().unwrap().to_owned();
        }
        before.push_str(&line);
    };
    // Whatever else it says shall not block it.
    std::thread::spawn(move || told.for_each(drop));
    assert!(before.contains("fewer connections are taken"), "{before}");

    let client = reqwest::Client::new();
    let ready = || client.get(format!("{base}/readyz")).send();
    expect(ready().await.unwrap(), 200).await;
    let address = base.trim_start_matches("http://");
    let idle: Vec<_> = (0..160).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    let open = || std::fs::read_dir(format!("/proc/{}/fd", server.id())).unwrap().count();
    let (began, mut files) = (Instant::now(), 0);
    // It takes connections until it takes no more.
    while files < 80 || files != open() {
        assert!(began.elapsed() < Duration::from_secs(10), "{files} files");
        files = open();
        std::thread::sleep(Duration::from_millis(200));
    }
    let imported = client.post(format!("{base}/datasets")).multipart(form("shapes", &data_set(12, 4)));
    expect(imported.send().await.unwrap(), 201).await;
    expect(ready().await.unwrap(), 200).await;
    drop(idle);
    server.kill().unwrap();
    server.wait().unwrap();
}
