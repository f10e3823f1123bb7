//! A copy of the data directory, made beside a running server, serves like the original.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use mixmatch::data_dir::{DataDir, DataDirError};
use serde_json::Value;

use super::app::{TestApp, expect, tiny_job};
use super::pictures::{data_set, picture};

fn mixmatch(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mixmatch")).args(arguments).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The names in a directory, in order.
fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

/// The files below a directory by their paths in it, in order.
fn files(directory: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for name in names(directory) {
        let path = directory.join(&name);
        if path.is_dir() {
            files.extend(self::files(&path).into_iter().map(|below| format!("{name}/{below}")));
        } else {
            files.push(name);
        }
    }
    files.sort();
    files
}

/// The directory of the only data set in a data directory, or in a copy of one.
fn only_data_set(directory: &Path) -> std::path::PathBuf {
    std::fs::read_dir(directory.join("datasets")).unwrap().next().unwrap().unwrap().path()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

async fn predict(app: &TestApp) -> Value {
    let request = app.post("/predict?model=shape").header("content-type", "image/png").body(picture(true, 77));
    expect(request.send().await.unwrap(), 200).await
}

/// What a restored directory must say as the original did.
async fn seen(app: &TestApp) -> Vec<Value> {
    let mut seen = vec![predict(app).await["results"].clone()];
    for path in ["/jobs", "/models", "/datasets", "/datasets/shapes/report"] {
        seen.push(app.json(path).await);
    }
    let job = seen[1]["items"][0]["id"].as_str().unwrap().to_owned();
    seen.push(app.json(&format!("/jobs/{job}/metrics")).await);
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_serves_and_tells_what_the_original_did() {
    let app = TestApp::start().await;
    app.import("shapes", &data_set(80, 20)).await;
    let job = app.queue(&tiny_job("shapes")).await;
    let job = app.until(&job, &["succeeded", "failed"]).await;
    assert_eq!(job["state"], "succeeded", "{job:#}");
    let before = seen(&app).await;

    let (data, place) = (app.directory.path().join("data"), tempfile::tempdir().unwrap());
    let (copy, new) = (place.path().join("copy"), place.path().join("new"));
    let (data, copy, new) = (text(&data), text(&copy), text(&new));
    // The server works on meanwhile.
    let (writing, output) = tokio::join!(
        async {
            for number in 0..20 {
                app.import(&format!("set-{number}"), &data_set(12, 4)).await;
                expect(app.delete(&format!("/datasets/set-{number}")).send().await.unwrap(), 204).await;
            }
        },
        tokio::process::Command::new(env!("CARGO_BIN_EXE_mixmatch"))
            .args(["backup", "--data-dir", data, "--to", copy])
            .output()
    );
    let () = writing;
    let told = done(&output.unwrap());
    assert!(told.contains("backed up"), "{told}");
    let index: Value = serde_json::from_slice(&std::fs::read(Path::new(copy).join("backup.json")).unwrap()).unwrap();
    let mut named: Vec<&str> = index["files"].as_object().unwrap().keys().map(String::as_str).collect();
    named.push("backup.json");
    named.sort_unstable();
    assert_eq!(files(Path::new(copy)), named, "nothing of what was deleted meanwhile is in it");
    let again = mixmatch(&["backup", "--data-dir", data, "--to", copy]);
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("not empty"), "{again:?}");

    // What happens later is not in it.
    app.import("later", &data_set(12, 4)).await;
    done(&mixmatch(&["restore", "--from", copy, "--data-dir", new]));
    assert!(!mixmatch(&["restore", "--from", copy, "--data-dir", data]).status.success(), "over a full directory");
    app.stop().await;

    let restored = tempfile::tempdir().unwrap();
    std::fs::rename(new, restored.path().join("data")).unwrap();
    let app = TestApp::at(restored, |_| {}).await;
    let mut after = seen(&app).await;
    // Which of the sets that came and went were there is a matter of the moment.
    let sets = after[3]["items"].as_array_mut().unwrap();
    sets.retain(|set| !set["name"].as_str().unwrap().starts_with("set-"));
    assert_eq!(before, after);
    // And it works on: the archive came along, the packed pixels are made again.
    let job = app.queue(&tiny_job("shapes")).await;
    let job = app.until(&job, &["succeeded", "failed"]).await;
    assert_eq!(job["model"]["version"], 2, "{job:#}");
    app.stop().await;
}

#[tokio::test]
async fn a_damaged_backup_is_not_restored() {
    let app = TestApp::start().await;
    app.import("shapes", &data_set(20, 6)).await;
    let place = tempfile::tempdir().unwrap();
    let (copy, new) = (place.path().join("copy"), place.path().join("new"));
    done(&mixmatch(&["backup", "--data-dir", text(&app.directory.path().join("data")), "--to", text(&copy)]));
    let archive = only_data_set(&copy).join("images.zip");
    let whole = std::fs::read(&archive).unwrap();
    let mut bytes = whole.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    // Under a new inode: the old one is the server's own file.
    std::fs::remove_file(&archive).unwrap();
    std::fs::write(&archive, bytes).unwrap();
    let refused = mixmatch(&["restore", "--from", text(&copy), "--data-dir", text(&new)]);
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains("is damaged") && told.contains(text(&archive)), "the backup's own file: {told}");
    assert_eq!(names(&new), ["lock"], "nothing that a server could start on");

    // One file of the index is not there at all.
    std::fs::remove_file(&archive).unwrap();
    let refused = mixmatch(&["restore", "--from", text(&copy), "--data-dir", text(&new)]);
    assert!(!refused.status.success() && names(&new) == ["lock"], "{refused:?}");

    // Mended, the very same command goes.
    std::fs::write(&archive, &whole).unwrap();
    done(&mixmatch(&["restore", "--from", text(&copy), "--data-dir", text(&new)]));

    std::fs::remove_file(copy.join("backup.json")).unwrap();
    let refused = mixmatch(&["restore", "--from", text(&copy), "--data-dir", text(&place.path().join("other"))]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no whole backup"), "{refused:?}");
    app.stop().await;
}

#[tokio::test]
async fn a_checkpoint_that_is_being_written_is_not_in_a_backup() {
    let app = TestApp::with_child("sleep 600", |_| {}).await;
    app.small_data_set().await;
    let id = app.queue(&tiny_job("shapes")).await;
    let data = app.directory.path().join("data");
    let checkpoints = data.join("runs").join(&id).join("checkpoints");
    std::fs::create_dir_all(&checkpoints).unwrap();
    std::fs::write(checkpoints.join("step-000000000004.checkpoint"), b"whole").unwrap();
    let pretraining = checkpoints.join("pretraining");
    std::fs::create_dir(&pretraining).unwrap();
    std::fs::write(pretraining.join("step-000000000090.checkpoint"), b"whole too").unwrap();
    let unfinished = checkpoints.join("step-000000000008.tmp");
    std::fs::write(&unfinished, b"half").unwrap();
    let place = tempfile::tempdir().unwrap();
    let (copy, new) = (place.path().join("copy"), place.path().join("new"));
    done(&mixmatch(&["backup", "--data-dir", text(&data), "--to", text(&copy)]));

    // The child writes on, into the very file that a hard link would share.
    std::fs::OpenOptions::new().append(true).open(&unfinished).unwrap().write_all(b"the rest").unwrap();
    done(&mixmatch(&["restore", "--from", text(&copy), "--data-dir", text(&new)]));
    let restored = new.join("runs").join(&id).join("checkpoints");
    assert_eq!(names(&restored), ["pretraining", "step-000000000004.checkpoint"]);
    assert_eq!(names(&restored.join("pretraining")), ["step-000000000090.checkpoint"]);
    app.stop().await;
}

#[tokio::test]
async fn a_file_that_is_lost_is_named_with_what_needs_it_and_what_to_do() {
    let app = TestApp::with_child("sleep 600", |_| {}).await;
    app.small_data_set().await;
    let id = app.queue(&tiny_job("shapes")).await;
    app.until(&id, &["running"]).await;
    let data = app.directory.path().join("data");
    let (weights, manifest) = ("ab".repeat(32), "cd".repeat(32));
    // As an old fault would leave them: a job at work and a version, whose files are nowhere.
    let database =
        sqlx::SqlitePool::connect(&format!("sqlite://{}", data.join("mixmatch.db").display())).await.unwrap();
    let start =
        "UPDATE jobs SET config = json_set(config, '$.pretrained', 'start', '$.pretrained_sha256', ?) WHERE id = ?";
    sqlx::query(start).bind(&weights).bind(&id).execute(&database).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let backup = |to: &str| mixmatch(&["backup", "--data-dir", text(&data), "--to", text(&place.path().join(to))]);
    let refused = |to: &str, parts: &[&str]| {
        let output = backup(to);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && parts.iter().all(|part| told.contains(part)), "{output:?}");
        assert!(names(&place.path().join(to)).is_empty(), "nothing of it stays");
    };
    let (job, cancel) = (format!("job {id}"), format!("POST /jobs/{id}/cancel"));
    refused("job", &["is lost", weights.as_str(), job.as_str(), cancel.as_str()]);
    expect(app.post(&format!("/jobs/{id}/cancel")).send().await.unwrap(), 202).await;
    app.until(&id, &["canceled"]).await;
    done(&backup("job"));

    // One that was killed.
    std::fs::remove_file(place.path().join("job/backup.json")).unwrap();
    let cut_off = backup("job");
    let told = String::from_utf8_lossy(&cut_off.stderr);
    assert!(!cut_off.status.success() && told.contains("cut off") && told.contains("backup.json"), "{told}");
    assert!(place.path().join("job/mixmatch.db").exists(), "it stays");
    let into_itself = mixmatch(&["backup", "--data-dir", text(&data), "--to", text(&data)]);
    let told = String::from_utf8_lossy(&into_itself.stderr);
    assert!(!into_itself.status.success() && told.contains("not empty") && !told.contains("remove"), "{told}");

    let publish =
        "INSERT INTO model_versions (name, version, classes, metrics, weights_sha256, manifest_sha256, created_at)
         VALUES ('shape', 7, '[\"a\",\"b\"]', '{}', ?, ?, 0)";
    sqlx::query(publish).bind(&weights).bind(&manifest).execute(&database).await.unwrap();
    refused("version", &["is lost", "model shape:7", "DELETE /models/shape/versions/7"]);
    sqlx::query("DELETE FROM model_versions").execute(&database).await.unwrap();
    let sets = app.json("/datasets").await;
    std::fs::remove_dir_all(data.join("datasets").join(sets["items"][0]["id"].as_str().unwrap())).unwrap();
    refused("data-set", &["is lost", "data set \"shapes\"", "DELETE /datasets/shapes"]);
    database.close().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_versions_backup_is_restored_and_a_newer_ones_is_not() {
    let app = TestApp::start().await;
    app.import("shapes", &data_set(20, 6)).await;
    let (data, place) = (app.directory.path().join("data"), tempfile::tempdir().unwrap());
    let copy = place.path().join("copy");
    done(&mixmatch(&["backup", "--data-dir", text(&data), "--to", text(&copy)]));
    app.stop().await;
    let database = copy.join("mixmatch.db");
    let written = async |statements: &[&'static str]| {
        let pool = sqlx::SqlitePool::connect(&format!("sqlite://{}", database.display())).await.unwrap();
        for statement in statements {
            sqlx::query(*statement).execute(&pool).await.unwrap();
        }
        pool.close().await;
        // Whoever wrote it noted its hash.
        let index = copy.join("backup.json");
        let mut told: Value = serde_json::from_slice(&std::fs::read(&index).unwrap()).unwrap();
        told["files"]["mixmatch.db"] = mixmatch::sha256::of_file(&database).unwrap().into();
        std::fs::write(&index, told.to_string()).unwrap();
    };
    // As the version before the predictions left it.
    written(&[
        "DROP INDEX model_versions_facts",
        "DROP INDEX job_events_pretraining",
        "ALTER TABLE jobs DROP COLUMN pretraining",
        "ALTER TABLE jobs DROP COLUMN death_step",
        "DROP TABLE passing_artifacts",
        "DROP TABLE passing_runs",
        "ALTER TABLE audit DROP COLUMN detail",
        "DROP TABLE forgotten_jobs",
        "DROP INDEX jobs_unfinished_by_dataset",
        "DROP INDEX jobs_unfinished_by_pretrained",
        "DROP INDEX jobs_unfinished_by_weights",
        "DROP INDEX model_versions_by_weights",
        "DROP INDEX model_versions_by_manifest",
        "DROP INDEX model_versions_by_predictions",
        "DROP INDEX pretrained_weights_by_sha256",
        "CREATE INDEX jobs_by_dataset ON jobs (dataset_id)",
        "DROP TABLE passing_datasets",
        "DROP INDEX job_metrics_best",
        "ALTER TABLE job_metrics DROP COLUMN collapsed",
        "ALTER TABLE model_versions DROP COLUMN predictions_sha256",
        "CREATE INDEX job_metrics_best ON job_metrics (job_id, attempt, validation_accuracy DESC, validation_loss, epoch)",
        "DELETE FROM _sqlx_migrations WHERE version >= 13",
    ])
    .await;
    // Read-only, as a careful person keeps a backup.
    let made = std::process::Command::new("chmod").args(["-R", "a-w", text(&copy)]).status().unwrap();
    assert!(made.success());
    let new = place.path().join("new/data");
    done(&mixmatch(&["restore", "--from", text(&copy), "--data-dir", text(&new)]));
    for name in
        ["mixmatch.db".to_owned()].into_iter().chain(std::fs::read_dir(new.join("datasets")).unwrap().map(|set| {
            let set = set.unwrap().file_name().into_string().unwrap();
            format!("datasets/{set}/manifest.json")
        }))
    {
        let permissions = std::fs::metadata(new.join(&name)).unwrap().permissions();
        assert!(!permissions.readonly(), "{name} can be written again");
    }
    let restored = tempfile::tempdir().unwrap();
    std::fs::rename(&new, restored.path().join("data")).unwrap();
    let app = TestApp::at(restored, |_| {}).await;
    assert_eq!(app.json("/datasets").await["items"][0]["name"], "shapes");
    app.stop().await;

    let made = std::process::Command::new("chmod").args(["-R", "u+w,go-rwx", text(&copy)]).status().unwrap();
    assert!(made.success());
    let private = place.path().join("private");
    done(&mixmatch(&["restore", "--from", text(&copy), "--data-dir", text(&private)]));
    let mode = mode(&private.join("mixmatch.db"));
    assert_eq!(mode & 0o077, 0, "what nobody else could read in the backup nobody else reads now: {mode:o}");
    written(&["UPDATE _sqlx_migrations SET version = 9999 WHERE version = 12"]).await;
    let other = place.path().join("other");
    std::fs::create_dir_all(other.join("lost+found")).unwrap();
    let refused = mixmatch(&["restore", "--from", text(&copy), "--data-dir", text(&other)]);
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && told.contains("newer version") && told.contains(text(&copy)), "{told}");
    assert_eq!(names(&other), ["lost+found"], "nothing that a server could start on, and the disk's own stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_set_without_its_images_is_no_backup_and_linked_ones_come_along() {
    let app = TestApp::start().await;
    app.import("shapes", &data_set(20, 6)).await;
    let (data, place) = (app.directory.path().join("data"), tempfile::tempdir().unwrap());
    let sets = app.json("/datasets").await;
    let set = format!("datasets/{}", sets["items"][0]["id"].as_str().unwrap());
    let (archive, elsewhere) = (data.join(&set).join("images.zip"), place.path().join("elsewhere.zip"));
    std::fs::rename(&archive, &elsewhere).unwrap();
    let backup = |to: &str| mixmatch(&["backup", "--data-dir", text(&data), "--to", text(&place.path().join(to))]);
    let refused = |to: &str| {
        let refused = backup(to);
        let told = String::from_utf8_lossy(&refused.stderr);
        let lost = format!("{} is lost", archive.display());
        assert!(!refused.status.success() && told.contains(&lost) && told.contains("shapes"), "{told}");
    };
    refused("without");
    symlink(place.path().join("nowhere"), &archive).unwrap();
    refused("leads-nowhere");
    std::fs::remove_file(&archive).unwrap();

    // On a larger disk.
    symlink(&elsewhere, &archive).unwrap();
    done(&backup("whole"));
    let copied = place.path().join("whole").join(&set).join("images.zip");
    assert!(!copied.is_symlink() && std::fs::read(&copied).unwrap() == std::fs::read(&elsewhere).unwrap());

    // A database and an index that do not belong together.
    let index = place.path().join("whole/backup.json");
    let mut told: Value = serde_json::from_slice(&std::fs::read(&index).unwrap()).unwrap();
    told["files"].as_object_mut().unwrap().remove(&format!("{set}/images.zip")).unwrap();
    std::fs::write(&index, told.to_string()).unwrap();
    let new = place.path().join("new");
    let refused = mixmatch(&["restore", "--from", text(&place.path().join("whole")), "--data-dir", text(&new)]);
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && told.contains(&format!("{set}/images.zip is not in it")), "{told}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_of_its_own_may_be_restored_onto_and_the_keys_that_open_it_are_told() {
    let app = TestApp::start().await;
    let (data, place) = (app.directory.path().join("data"), tempfile::tempdir().unwrap());
    let keys = |directory: &Path, arguments: &[&str]| {
        done(&mixmatch(&[&["keys"], arguments, &["--data-dir", text(directory)]].concat()))
    };
    keys(&data, &["create", "--name", "leaked", "--scope", "admin"]);
    let (copy, disk) = (place.path().join("copy"), place.path().join("disk"));
    done(&mixmatch(&["backup", "--data-dir", text(&data), "--to", text(&copy)]));
    keys(&data, &["revoke", "leaked"]);
    std::fs::create_dir_all(disk.join("lost+found")).unwrap();
    let restored = mixmatch(&["restore", "--from", text(&copy), "--data-dir", text(&disk)]);
    done(&restored);
    let told = String::from_utf8_lossy(&restored.stderr);
    assert!(told.contains("leaked (") && told.contains("keys revoke"), "{told}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stray_file_beside_a_data_set_is_told_of_and_does_not_keep_it_from_a_backup() {
    let app = TestApp::start().await;
    app.import("shapes", &data_set(20, 6)).await;
    let (data, place) = (app.directory.path().join("data"), tempfile::tempdir().unwrap());
    let set = only_data_set(&data);
    std::fs::write(set.join("notes.txt"), "mine").unwrap();
    std::fs::write(set.join(OsStr::from_bytes(b"Ger\xe4t.txt")), "of an old machine").unwrap();
    symlink(place.path().join("nowhere"), set.join("old.zip")).unwrap();
    let (copy, new) = (place.path().join("copy"), place.path().join("new"));
    let made = mixmatch(&["backup", "--data-dir", text(&data), "--to", text(&copy)]);
    done(&made);
    let told = String::from_utf8_lossy(&made.stderr);
    let left = |part: &str| told.lines().any(|line| line.contains("not in the backup") && line.contains(part));
    assert!(left("no UTF-8") && left("old.zip") && !left("notes.txt"), "{told}");
    done(&mixmatch(&["restore", "--from", text(&copy), "--data-dir", text(&new)]));
    assert_eq!(names(&only_data_set(&new)), ["images.zip", "manifest.json", "notes.txt"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_works_in_a_directory_that_is_restored_to() {
    let app = TestApp::start().await;
    app.import("shapes", &data_set(20, 6)).await;
    let (data, place) = (app.directory.path().join("data"), tempfile::tempdir().unwrap());
    let (copy, new) = (place.path().join("copy"), place.path().join("new"));
    done(&mixmatch(&["backup", "--data-dir", text(&data), "--to", text(&copy)]));
    app.stop().await;
    let restore = ["restore", "--from", text(&copy), "--data-dir", text(&new)];

    // A server that has only just begun: its database is not there yet.
    let held = DataDir::new(&new).lock().unwrap();
    let refused = mixmatch(&restore);
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && told.contains("is in use by a running mixmatch"), "{told}");
    assert_eq!(names(&new), ["artifacts", "datasets", "lock", "runs", "uploads"], "and it stays as it is");
    drop(held);

    // One that reads a pipe is in the middle of it until somebody has written to that.
    let archive = only_data_set(&copy).join("images.zip");
    let whole = std::fs::read(&archive).unwrap();
    std::fs::remove_file(&archive).unwrap();
    assert!(Command::new("mkfifo").arg(&archive).status().unwrap().success());
    let mut restoring = Command::new(env!("CARGO_BIN_EXE_mixmatch"))
        .args(restore)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (began, mut options) = (Instant::now(), std::fs::OpenOptions::new());
    let reads = loop {
        // Without waiting, this succeeds as soon as somebody reads.
        match options.write(true).custom_flags(libc::O_NONBLOCK).open(&archive) {
            Ok(pipe) => break pipe,
            Err(error) => assert!(began.elapsed() < Duration::from_secs(60), "{error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let refused = DataDir::new(&new).lock();
    assert!(matches!(refused, Err(DataDirError::Held { .. })), "{refused:?}");
    let mut pipe = std::fs::OpenOptions::new().write(true).open(&archive).unwrap();
    drop(reads);
    pipe.write_all(&whole).unwrap();
    drop(pipe);
    let restored = restoring.wait().unwrap();
    assert!(restored.success(), "{:?}", restoring.wait_with_output());
    assert_eq!(std::fs::read(only_data_set(&new).join("images.zip")).unwrap(), whole);
    drop(DataDir::new(&new).lock().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_backup_at_a_time_is_made_in_a_directory() {
    let app = TestApp::start().await;
    let (data, place) = (app.directory.path().join("data"), tempfile::tempdir().unwrap());
    let copy = place.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    let backup = || mixmatch(&["backup", "--data-dir", text(&data), "--to", text(&copy)]);
    let refused = |why: &str| {
        let output = backup();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(why), "{told}");
    };
    // As one that is under way, and has nothing yet or a database.
    let turn = std::fs::File::open(&copy).unwrap();
    turn.try_lock().unwrap();
    refused("under way");
    assert!(names(&copy).is_empty());
    std::fs::write(copy.join("mixmatch.db"), "half").unwrap();
    refused("under way");
    assert_eq!(std::fs::read(copy.join("mixmatch.db")).unwrap(), b"half", "it stays");
    drop(turn);
    refused("cut off");
    std::fs::remove_file(copy.join("mixmatch.db")).unwrap();
    done(&backup());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_its_owners_alone() {
    let app = TestApp::start().await;
    let (data, place) = (app.directory.path().join("data"), tempfile::tempdir().unwrap());
    assert_eq!(mode(&data), 0o700);
    // The command line sees to that; this server was started without it.
    let database = data.join("mixmatch.db");
    std::fs::set_permissions(&database, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (copy, new) = (place.path().join("above/copy"), place.path().join("new"));
    done(&mixmatch(&["backup", "--data-dir", text(&data), "--to", text(&copy)]));
    done(&mixmatch(&["restore", "--from", text(&copy), "--data-dir", text(&new)]));
    for place in [&copy, &new] {
        assert_eq!((mode(place), mode(&place.join("mixmatch.db"))), (0o700, 0o600), "{}", place.display());
    }

    // One that is there is somebody's, who chose who may look into it.
    let shared = place.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o750)).unwrap();
    done(&mixmatch(&["backup", "--data-dir", text(&data), "--to", text(&shared)]));
    assert_eq!(mode(&shared), 0o750);
    app.stop().await;

    // Whoever may look into a data directory reads no key's hash and no photo there.
    let open = place.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o755)).unwrap();
    done(&mixmatch(&["keys", "create", "--scope", "train", "--name", "laptop", "--data-dir", text(&open)]));
    let made: Vec<_> = std::fs::read_dir(&open).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(made.contains(&open.join("mixmatch.db")), "{made:?}");
    for path in made {
        assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
    }
}
