//! Versions that are deleted: their files, their numbers, and what races with them. And what is not, because something
//! needs it.

use super::*;
use crate::model::PREDICTIONS_FILE;
use crate::store::orphans::{self, named_artifacts};
use crate::store::{VersionRow, read_snapshot};

impl Fixture {
    async fn publish(&self, content: &str) -> VersionRow {
        let job = self.running().await;
        self.store.finish_succeeded(job.id, job.attempt, &self.model(content)).await.unwrap()
    }

    fn kept(&self, version: &VersionRow) -> [bool; 2] {
        [&version.weights_sha256, &version.manifest_sha256].map(|sha256| self.store.artifact(sha256).exists())
    }
}

#[tokio::test]
async fn a_deleted_version_takes_its_files_along_and_its_number_is_not_given_again() {
    let f = Fixture::new().await;
    let (first, second) = (f.publish("one").await, f.publish("two").await);
    let job = first.job_id.unwrap();

    let in_use = f.store.delete_version("gender", 1).await.unwrap_err();
    assert!(matches!(&in_use, StoreError::InUse { detail } if detail.contains("champion")), "{in_use}");
    assert_eq!(f.kept(&first), [true, true]);

    f.store.delete_version("gender", 2).await.unwrap();
    assert_eq!((f.kept(&first), f.kept(&second)), ([true, true], [false, false]));
    assert!(matches!(f.store.version("gender", 2).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(f.store.delete_version("gender", 2).await, Err(StoreError::NotFound { .. })));
    assert_eq!(f.publish("three").await.version, 3, "2 was somebody else's");

    assert_eq!(f.store.delete_alias("gender", "champion").await.unwrap(), 1);
    assert!(matches!(f.store.delete_alias("gender", "champion").await, Err(StoreError::NotFound { .. })));
    f.store.delete_version("gender", 1).await.unwrap();
    f.store.delete_version("gender", 3).await.unwrap();
    assert!(f.store.models().await.unwrap().is_empty());
    let job = f.store.job(job).await.unwrap();
    assert_eq!((job.state, job.model), (JobState::Succeeded, Some(("gender".into(), 1))), "the run stays");

    // All are gone, and still the count goes on; the model has no champion, so the next one becomes it.
    assert_eq!(f.publish("four").await.version, 4);
    assert_eq!(f.store.resolve_model("gender").await.unwrap().version, 4);
}

#[tokio::test]
async fn bytes_that_another_row_names_stay() {
    let f = Fixture::new().await;
    let (first, second) = (f.publish("same").await, f.publish("same").await);
    assert_eq!(first.weights_sha256, second.weights_sha256);
    f.store.delete_version("gender", 2).await.unwrap();
    assert_eq!(f.kept(&first), [true, true]);

    f.store.insert_pretrained(weights("start", f.store.artifact(&first.weights_sha256))).await.unwrap();
    f.store.delete_alias("gender", "champion").await.unwrap();
    f.store.delete_version("gender", 1).await.unwrap();
    assert_eq!(f.kept(&first), [true, false], "the weights are still named, as something to start from");
    f.store.delete_pretrained("start").await.unwrap();
    assert_eq!(f.kept(&first), [false, false]);
}

/// Between keeping a file and naming it, the same bytes must not lose the file to a deletion.
#[tokio::test]
async fn a_deletion_waits_for_files_that_are_being_published() {
    let f = Fixture::new().await;
    f.publish("one").await;
    f.publish("two").await;
    let publishing = f.store.files.read().await;
    let deletion = f.store.delete_version("gender", 2);
    tokio::pin!(deletion);
    let early = tokio::time::timeout(Duration::from_millis(200), &mut deletion).await;
    assert!(early.is_err(), "it did not wait: {early:?}");
    drop(publishing);
    deletion.await.unwrap();
}

/// What is not a file cannot be removed as one.
fn in_the_way(file: &std::path::Path) {
    std::fs::remove_file(file).unwrap();
    std::fs::create_dir(file).unwrap();
}

#[tokio::test]
async fn what_a_cut_off_publication_or_deletion_leaves_is_litter() {
    let f = Fixture::new().await;
    let data = DataDir::new(f.directory.path());
    let lock = data.lock().unwrap();
    let cleared = async || f.store.clear_orphans(&data, &lock).await.unwrap();
    let notes = async || -> i64 {
        let all = "SELECT (SELECT COUNT(*) FROM passing_artifacts) + (SELECT COUNT(*) FROM passing_runs)";
        sqlx::query_scalar(all).fetch_one(&f.store.reader).await.unwrap()
    };
    // Its files are in their place, and then it is not the job's attempt any more.
    let job = f.running().await;
    let fenced = f.store.finish_succeeded(job.id, job.attempt + 1, &f.model("one")).await;
    assert!(matches!(fenced, Err(StoreError::Fenced { .. })), "{fenced:?}");
    assert_eq!((notes().await, cleared().await, notes().await), (2, 2, 0));

    f.store.finish_succeeded(job.id, job.attempt, &f.model("one")).await.unwrap();
    let version = f.publish("two").await;
    assert_eq!((notes().await, cleared().await), (0, 0));

    let file = f.store.artifact(&version.weights_sha256);
    in_the_way(&file);
    f.store.delete_version("gender", 2).await.unwrap();
    assert!(file.exists());
    assert_eq!((notes().await, cleared().await, notes().await), (1, 1, 0));

    // As the server removes it afterwards.
    std::fs::create_dir_all(data.run(job.id).join("checkpoints")).unwrap();
    f.store.delete_job(job.id).await.unwrap();
    assert_eq!((notes().await, cleared().await, notes().await), (1, 1, 0));
    assert!(!data.lost().exists(), "none of it tells of an older database");
}

#[tokio::test]
async fn a_start_clears_what_dead_attempts_left_and_keeps_what_a_job_may_go_on_from() {
    let f = Fixture::new().await;
    let data = DataDir::new(f.directory.path());
    let lock = data.lock().unwrap();
    let (failed, canceled) = (f.running().await, f.running().await);
    f.store.finish_failed(failed.id, failed.attempt, "gone", "gone").await.unwrap();
    f.store.finish_canceled(canceled.id, canceled.attempt).await.unwrap();
    let done = f.publish("one").await.job_id.unwrap();
    let write = |path: std::path::PathBuf| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, b"x").unwrap();
        path
    };
    let checkpoint = |id| write(data.run(id).join("checkpoints/step-000000000001.checkpoint"));
    let packed = |name: &str| write(data.dataset(f.dataset).join("packed").join(name));
    let stays = [checkpoint(failed.id), checkpoint(canceled.id), packed("whole.pack")];
    let goes = [checkpoint(done), write(data.run(failed.id).join("1/events")), packed(".tmpAbc")];
    assert_eq!(f.store.clear_orphans(&data, &lock).await.unwrap(), 3);
    assert!(stays.iter().all(|path| path.exists()), "{stays:?}");
    assert!(goes.iter().all(|path| !path.exists()), "{goes:?}");
    assert!(!data.lost().exists(), "none of it tells of an older database");
}

#[tokio::test]
async fn a_number_is_not_given_again_whichever_version_is_deleted_first() {
    let f = Fixture::new().await;
    for content in ["one", "two", "three"] {
        f.publish(content).await;
    }
    for version in [3, 2] {
        f.store.delete_version("gender", version).await.unwrap();
    }
    assert_eq!(f.publish("four").await.version, 4, "3 was somebody else's");
}

#[tokio::test]
async fn models_and_checkpoints_of_one_data_set_outlast_an_older_database() {
    let f = Fixture::new().await;
    let data = DataDir::new(f.directory.path());
    let older = f.directory.path().join("older.db");
    f.store.snapshot(&older).await.unwrap();
    let version = f.publish("one").await;
    let later = f.queue().await;
    let checkpoint = data.run(later).join("checkpoints/step-000000000001.checkpoint");
    std::fs::create_dir_all(checkpoint.parent().unwrap()).unwrap();
    std::fs::write(&checkpoint, b"days of work").unwrap();
    let files = [f.store.artifact(&version.weights_sha256), f.store.artifact(&version.manifest_sha256), checkpoint];
    f.store.close().await;
    std::fs::rename(&older, data.database()).unwrap();

    let lock = data.lock().unwrap();
    let store = Store::open(&data).await.unwrap();
    assert_eq!(store.clear_orphans(&data, &lock).await.unwrap(), 3);
    for file in files {
        let aside = data.lost().join(file.strip_prefix(data.root()).unwrap());
        assert!(aside.exists() && !file.exists(), "{}", file.display());
    }
}

/// Two names of the same bytes: a job that is retried by the second holds on to them when both are gone.
#[tokio::test]
async fn weights_that_an_unfinished_job_starts_from_outlast_a_start_and_come_along_in_a_backup() {
    let f = Fixture::new().await;
    let file = f.directory.path().join("start.safetensors");
    std::fs::write(&file, "start").unwrap();
    let sha256 = f.store.insert_pretrained(weights("a", file.clone())).await.unwrap().sha256;
    f.store.insert_pretrained(weights("b", file)).await.unwrap();
    let config =
        TrainConfig { pretrained: Some("a".into()), pretrained_sha256: Some(sha256.clone()), ..TrainConfig::default() };
    let job = NewJob { id: Uuid::now_v7(), config, baseline_of: None };
    let new = NewJobs { dataset_id: f.dataset, jobs: vec![job], sweep: None, idempotency: None };
    let id = f.store.insert_jobs(new).await.unwrap();
    f.claim(Uuid::now_v7()).await.unwrap();
    f.store.finish_failed(id, 1, "network", "no memory").await.unwrap();
    f.store.delete_pretrained("a").await.unwrap();
    f.store.retry_job(id).await.unwrap();
    f.store.delete_pretrained("b").await.unwrap();

    let data = DataDir::new(f.directory.path());
    let lock = data.lock().unwrap();
    assert_eq!(f.store.clear_orphans(&data, &lock).await.unwrap(), 0);
    assert!(f.store.artifact(&sha256).exists());
    let copy = f.directory.path().join("copy.db");
    f.store.snapshot(&copy).await.unwrap();
    assert_eq!(read_snapshot(&copy).await.unwrap().artifacts, std::slice::from_ref(&sha256));

    f.store.cancel_job(id).await.unwrap();
    assert_eq!(f.store.clear_orphans(&data, &lock).await.unwrap(), 1, "nobody starts from them any more");
    assert!(!f.store.artifact(&sha256).exists());
    assert!(!f.directory.path().join("lost").exists(), "they were meant to go");
}

/// Whatever may be retried goes on from its checkpoint, and so a backup needs that.
#[tokio::test]
async fn every_job_but_one_that_succeeded_has_its_checkpoints_in_a_backup() {
    let f = Fixture::new().await;
    let succeeded = f.running().await;
    f.store.finish_succeeded(succeeded.id, 1, &f.model("w")).await.unwrap();
    let failed = f.running().await;
    f.store.finish_failed(failed.id, 1, "network", "no memory").await.unwrap();
    let running = f.running().await;
    let (canceled, paused, queued) = (f.queue().await, f.queue().await, f.queue().await);
    f.store.cancel_job(canceled).await.unwrap();
    f.store.pause_job(paused).await.unwrap();
    let copy = f.directory.path().join("copy.db");
    f.store.snapshot(&copy).await.unwrap();
    assert_eq!(read_snapshot(&copy).await.unwrap().unfinished, [failed.id, running.id, canceled, paused, queued]);
}

/// The question about one artifact and the list of all of them must know the same tables.
#[tokio::test]
async fn whatever_names_an_artifact_is_found_by_its_hash() {
    let f = Fixture::new().await;
    let job = f.running().await;
    let directory = f.model("one");
    std::fs::write(directory.join(PREDICTIONS_FILE), "image,answer\n").unwrap();
    f.store.finish_succeeded(job.id, job.attempt, &directory).await.unwrap();
    let file = f.directory.path().join("start.safetensors");
    std::fs::write(&file, "start").unwrap();
    f.store.insert_pretrained(weights("start", file)).await.unwrap();
    let waiting = f.queue().await;
    let start =
        sqlx::query("UPDATE jobs SET config = json_set(config, '$.pretrained_sha256', 'of a job') WHERE id = ?");
    start.bind(waiting.to_string()).execute(&f.store.writer).await.unwrap();

    let all =
        async || -> Vec<String> { sqlx::query_scalar(named_artifacts!()).fetch_all(&f.store.reader).await.unwrap() };
    let unnamed = async |artifacts: Vec<String>| {
        let mut tx = f.store.write().await.unwrap();
        orphans::unnamed_of(&mut tx, artifacts).await.unwrap()
    };
    let named = all().await;
    assert_eq!(
        named.len(),
        5,
        "weights, model.json, predictions, what to start from, and what a job starts from: {named:?}"
    );
    assert_eq!(unnamed(named).await, [""; 0]);
    assert_eq!(unnamed(vec!["of nothing".into(), "of a job".into()]).await, ["of nothing"]);

    let checkpoint = async |step: Option<u32>| {
        let update = sqlx::query("UPDATE jobs SET checkpoint_step = ? WHERE id = ?");
        update.bind(step).bind(waiting.to_string()).execute(&f.store.writer).await.unwrap();
    };
    checkpoint(Some(36)).await;
    assert_eq!(all().await.len(), 4);
    assert_eq!(unnamed(vec!["of a job".into()]).await, ["of a job"], "it goes on from its checkpoint");
    checkpoint(None).await;

    f.store.cancel_job(waiting).await.unwrap();
    assert_eq!(all().await.len(), 4);
    assert_eq!(unnamed(vec!["of a job".into()]).await, ["of a job"], "a job that is over starts from nothing");
}

#[tokio::test]
async fn what_unfinished_jobs_need_stays_and_the_refusal_says_how_many_they_are() {
    let f = Fixture::new().await;
    let told = |result: Result<(), StoreError>| match result {
        Err(StoreError::InUse { detail }) => detail,
        other => panic!("{other:?}"),
    };
    let file = f.directory.path().join("start.safetensors");
    std::fs::write(&file, "start").unwrap();
    let sha256 = f.store.insert_pretrained(weights("start", file)).await.unwrap().sha256;
    let insert = async |jobs: usize| {
        let config = TrainConfig {
            pretrained: Some("start".into()),
            pretrained_sha256: Some(sha256.clone()),
            ..TrainConfig::default()
        };
        let job = |_| NewJob { id: Uuid::now_v7(), config: config.clone(), baseline_of: None };
        let jobs = (0..jobs).map(job).collect();
        let new = NewJobs { dataset_id: f.dataset, jobs, sweep: None, idempotency: None };
        f.store.insert_jobs(new).await.unwrap();
    };
    let two_are_in_the_way = async || {
        let in_the_way = told(f.store.delete_dataset(f.dataset).await);
        assert_eq!(in_the_way, "2 unfinished job(s) need this data set; cancel them first");
        let in_the_way = told(f.store.delete_pretrained("start").await);
        assert_eq!(in_the_way, "2 unfinished job(s) start from these weights; cancel them first");
    };
    insert(2).await;
    two_are_in_the_way().await;
    for job in f.store.jobs(None, None, 10).await.unwrap() {
        f.store.pause_job(job.id).await.unwrap();
    }
    two_are_in_the_way().await;
    insert(99).await;
    assert!(told(f.store.delete_dataset(f.dataset).await).starts_with("more than 100 unfinished job(s) need"));
    assert!(told(f.store.delete_pretrained("start").await).starts_with("more than 100 unfinished job(s) start"));

    let all = sqlx::query("UPDATE jobs SET state = 'canceled', finished_at = 1");
    all.execute(&f.store.writer).await.unwrap();
    f.store.delete_pretrained("start").await.unwrap();
    assert!(!f.store.artifact(&sha256).exists());
    f.store.delete_dataset(f.dataset).await.unwrap();
}
