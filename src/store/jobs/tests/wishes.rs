//! Pause, resume, and what a migrated file thinks of them.

use uuid::Uuid;

use super::{Fixture, LEASE, NewJob, NewJobs, epoch, weights};
use crate::data_dir::DataDir;
use crate::store::jobs::{JobState, Wish};
use crate::store::{NewSweep, Store, StoreError};
use crate::train::config::TrainConfig;
use crate::train::event::{EpochMetrics, EpochWarning, Event};

#[tokio::test]
async fn pausing_is_at_once_for_a_queued_job_and_a_wish_for_a_running_one() {
    let f = Fixture::new().await;
    let queued = f.queue().await;
    for _ in 0..2 {
        f.store.pause_job(queued).await.unwrap();
        assert_eq!(f.state(queued).await, JobState::Paused);
    }
    assert!(f.claim(Uuid::now_v7()).await.is_none(), "a paused job is not claimed");
    for _ in 0..2 {
        f.store.resume_job(queued).await.unwrap();
        assert_eq!(f.state(queued).await, JobState::Queued);
    }
    let job = f.claim(Uuid::now_v7()).await.unwrap();
    assert!(!job.pause_requested);
    f.store.pause_job(job.id).await.unwrap();
    assert_eq!(f.state(job.id).await, JobState::Running);
    assert_eq!(f.store.heartbeat(job.id, 1, LEASE).await.unwrap(), Some(Wish::Pause));
    f.store.cancel_job(job.id).await.unwrap();
    assert_eq!(f.store.heartbeat(job.id, 1, LEASE).await.unwrap(), Some(Wish::Cancel), "to cancel weighs more");
    assert_eq!(f.store.release(job.id, 1).await.unwrap(), JobState::Canceled);
}

#[tokio::test]
async fn a_wish_that_was_taken_back_while_the_child_stopped_is_not_met() {
    let f = Fixture::new().await;
    let job = f.running().await;
    f.store.pause_job(job.id).await.unwrap();
    assert_eq!(f.store.heartbeat(job.id, 1, LEASE).await.unwrap(), Some(Wish::Pause));
    f.store.resume_job(job.id).await.unwrap();
    assert_eq!(f.store.release(job.id, 1).await.unwrap(), JobState::Queued);

    let job = f.claim(Uuid::now_v7()).await.unwrap();
    f.store.pause_job(job.id).await.unwrap();
    assert_eq!(f.store.release(job.id, job.attempt).await.unwrap(), JobState::Paused);
    let paused = f.store.job(job.id).await.unwrap();
    assert!(paused.pause_requested && paused.finished_at.is_none());
}

#[tokio::test]
async fn what_is_over_is_neither_paused_nor_resumed_and_what_is_paused_is_kept() {
    let f = Fixture::new().await;
    let done = f.running().await;
    f.store.finish_failed(done.id, 1, "x", "y").await.unwrap();
    let refused = |result: Result<Vec<Uuid>, StoreError>, words: [&str; 2]| {
        let Err(StoreError::State { detail }) = result else { panic!("{result:?}") };
        assert!(words.iter().all(|word| detail.contains(word)), "{detail}");
    };
    refused(f.store.pause_job(done.id).await, ["failed", "paused"]);
    refused(f.store.resume_job(done.id).await, ["failed", "resumed"]);

    let paused = f.queue().await;
    f.store.pause_job(paused).await.unwrap();
    refused(f.store.retry_job(paused).await, ["paused", "resume it"]);
    refused(f.store.delete_job(paused).await, ["paused", "cancel it first"]);
    assert!(matches!(f.store.delete_dataset(f.dataset).await, Err(StoreError::InUse { .. })));
    f.store.cancel_job(paused).await.unwrap();
    assert_eq!(f.state(paused).await, JobState::Canceled);
    assert_eq!(f.store.delete_job(paused).await.unwrap(), [paused]);
}

#[tokio::test]
async fn what_is_still_being_canceled_is_retried_when_it_is_canceled() {
    let f = Fixture::new().await;
    let job = f.running().await;
    assert_eq!(f.store.retry_job(job.id).await.unwrap(), [job.id], "it runs, as was asked");
    f.store.cancel_job(job.id).await.unwrap();
    let refused = f.store.retry_job(job.id).await;
    let Err(StoreError::State { detail }) = &refused else { panic!("{refused:?}") };
    assert_eq!(detail, "the job is still being canceled: retry it when it is canceled");
    assert!(f.store.job(job.id).await.unwrap().cancel_requested, "the cancel stands");
    f.store.release(job.id, 1).await.unwrap();
    f.store.retry_job(job.id).await.unwrap();
    let job = f.store.job(job.id).await.unwrap();
    assert_eq!((job.state, job.cancel_requested), (JobState::Queued, false));
}

impl Fixture {
    /// Imports weights; gives their hash.
    async fn import(&self, name: &str) -> String {
        let file = self.directory.path().join("start.safetensors");
        std::fs::write(&file, "start").unwrap();
        self.store.insert_pretrained(weights(name, file)).await.unwrap().sha256
    }

    /// A sweep of one job from random weights and so many from imported ones; the ids of all.
    async fn sweep_from(&self, name: &str, sha256: &str, imported: usize) -> (Uuid, Vec<Uuid>) {
        let from = TrainConfig {
            pretrained: Some(name.into()),
            pretrained_sha256: Some(sha256.into()),
            ..TrainConfig::default()
        };
        let configs = std::iter::once(TrainConfig::default()).chain(std::iter::repeat_n(from, imported));
        let job = |config| NewJob { id: Uuid::now_v7(), config, baseline_of: None };
        let jobs: Vec<NewJob> = configs.map(job).collect();
        let ids = jobs.iter().map(|job| job.id).collect();
        let sweep = Some(NewSweep { id: Uuid::now_v7(), request: serde_json::Map::new() });
        let new = NewJobs { dataset_id: self.dataset, jobs, sweep, idempotency: None };
        (self.store.insert_jobs(new).await.unwrap(), ids)
    }
}

#[tokio::test]
async fn a_job_is_retried_without_its_weights_where_its_checkpoint_holds_what_became_of_them() {
    let f = Fixture::new().await;
    let sha256 = f.import("base").await;
    let (sweep, ids) = f.sweep_from("base", &sha256, 1).await;
    let job = ids[1];
    f.store.cancel_job(ids[0]).await.unwrap();
    assert_eq!(f.claim(Uuid::now_v7()).await.unwrap().id, job);
    f.store.finish_failed(job, 1, "network", "no memory").await.unwrap();
    f.store.delete_pretrained("base").await.unwrap();
    let refused = async || match f.store.retry_job(job).await {
        Err(StoreError::State { detail }) => detail,
        other => panic!("{other:?}"),
    };
    assert!(refused().await.contains("the weights \"base\" that the job starts from were deleted"));
    let checkpoint = async |step: i64| {
        let write = sqlx::query("UPDATE jobs SET checkpoint_step = ? WHERE id = ?").bind(step).bind(job.to_string());
        write.execute(&f.store.writer).await.unwrap();
    };
    // Pretraining begins with the weights, and then reads its checkpoint.
    checkpoint(0).await;
    assert!(refused().await.contains("import the same file again"));
    checkpoint(36).await;
    assert_eq!(f.store.retry_job(job).await.unwrap(), [job]);
    assert_eq!(f.claim(Uuid::now_v7()).await.unwrap().id, job);
    // That checkpoint is gone, too: without the weights it would fail so each time.
    f.store.finish_failed(job, 2, "pretrained", "no such file").await.unwrap();
    assert!(refused().await.contains("import the same file again"));

    // The same bytes will do under another name.
    checkpoint(0).await;
    assert!(refused().await.contains("under whatever name"));
    f.import("again").await;
    assert_eq!(f.store.retry_job(sweep).await.unwrap(), ids);
}

#[tokio::test]
async fn those_of_a_sweep_that_lack_their_weights_hold_up_no_other() {
    let f = Fixture::new().await;
    let sha256 = f.import("base").await;
    let (sweep, ids) = f.sweep_from("base", &sha256, 2).await;
    f.store.cancel_job(sweep).await.unwrap();
    f.store.delete_pretrained("base").await.unwrap();
    // Repeating is harmless.
    for _ in 0..2 {
        assert_eq!(f.store.retry_job(sweep).await.unwrap(), ids[..1]);
        let states = [f.state(ids[0]).await, f.state(ids[1]).await, f.state(ids[2]).await];
        assert_eq!(states, [JobState::Queued, JobState::Canceled, JobState::Canceled]);
    }
    // One that waits until it is resumed does not go on by this.
    f.store.pause_job(sweep).await.unwrap();
    let refused = f.store.retry_job(sweep).await;
    assert!(matches!(&refused, Err(StoreError::State { detail }) if detail.contains("\"base\"")), "{refused:?}");
    assert_eq!(f.state(ids[0]).await, JobState::Paused);
}

#[tokio::test]
async fn a_resumed_run_leaves_no_gap_and_repeats_nothing() {
    let f = Fixture::new().await;
    let job = f.running().await;
    let begins = Event::Start { step: 0, epoch: 0, restored: false };
    let first = [begins, epoch(1, 0.5, 0.9), epoch(2, 0.6, 0.8), Event::Checkpoint { step: 20 }];
    f.store.record(job.id, 1, &first).await.unwrap();
    f.store.record(job.id, 1, &[epoch(3, 0.65, 0.7)]).await.unwrap();
    f.store.release(job.id, 1).await.unwrap();
    f.claim(Uuid::now_v7()).await.unwrap();
    let rows = async || f.store.job_metrics(job.id, 0, 1000).await.unwrap();
    assert_eq!(rows().await.len(), 3, "all stays to be seen until the new attempt says where it goes on");

    // It goes on after the second epoch, whose event never arrived in this story; the third comes again.
    let goes_on = Event::Start { step: 20, epoch: 2, restored: true };
    let again = [goes_on, epoch(1, 0.5, 0.9), epoch(2, 0.6, 0.8), epoch(3, 0.7, 0.6)];
    f.store.record(job.id, 2, &again).await.unwrap();
    f.store.record(job.id, 2, &[epoch(4, 0.75, 0.5)]).await.unwrap();
    assert_eq!(rows().await.iter().map(|row| row.epoch).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(rows().await[2].validation_accuracy, 0.7);
    let events = f.store.job_events(job.id, 0, 100).await.unwrap();
    let told = events.iter().filter(|event| event.kind == "epoch").map(|event| event.data["epoch"].as_u64().unwrap());
    assert_eq!(told.collect::<Vec<_>>(), [1, 2, 3, 4]);
    let row = f.store.job(job.id).await.unwrap();
    assert_eq!((row.checkpoint_step, row.last.unwrap().epoch), (Some(20), 4));
}

#[tokio::test]
async fn an_epoch_whose_event_was_lost_with_the_server_is_told_by_the_next_attempt() {
    let f = Fixture::new().await;
    let job = f.running().await;
    let begins = Event::Start { step: 0, epoch: 0, restored: false };
    f.store.record(job.id, 1, &[begins, epoch(1, 0.5, 0.9)]).await.unwrap();
    // Epochs 2 and 3 ended, their checkpoint was written, and nobody heard of it.
    f.store.reclaim(Uuid::now_v7()).await.unwrap();
    f.claim(Uuid::now_v7()).await.unwrap();
    let goes_on = Event::Start { step: 30, epoch: 3, restored: true };
    let again = [goes_on, epoch(1, 0.5, 0.9), epoch(2, 0.6, 0.8), epoch(3, 0.7, 0.6)];
    f.store.record(job.id, 2, &again).await.unwrap();
    let rows = f.store.job_metrics(job.id, 0, 1000).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.epoch).collect::<Vec<_>>(), [1, 2, 3]);
    let events = f.store.job_events(job.id, 0, 100).await.unwrap();
    assert_eq!(events.iter().filter(|event| event.kind == "epoch").count(), 3);
}

#[tokio::test]
async fn what_a_newer_version_wrote_besides_is_seen_and_does_not_run() {
    let f = Fixture::new().await;
    let job = f.queue().await;
    let write = sqlx::query(
        "UPDATE jobs SET config = json_set(config, '$.seed', 7, '$.algorithm', 'fixmatch', '$.colour', 1) WHERE id = ?",
    );
    write.bind(job.to_string()).execute(&f.store.writer).await.unwrap();
    let listed = f.store.jobs(None, None, 10).await.unwrap();
    assert_eq!((listed.len(), listed[0].config.seed), (1, 7));
    let refused = f.store.claim(Uuid::now_v7(), "cpu", LEASE).await.map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("unknown"), "it might learn something else without it: {refused}");
    assert_eq!(f.state(job).await, JobState::Failed);

    // What is no configuration at all is told with the job that it is of.
    let write = sqlx::query("UPDATE jobs SET config = '\"x\"' WHERE id = ?");
    write.bind(job.to_string()).execute(&f.store.writer).await.unwrap();
    let refused = f.store.jobs(None, None, 10).await.map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains(&job.to_string()), "{refused}");
}

#[tokio::test]
async fn a_file_of_the_version_before_takes_paused_jobs_and_keeps_its_rows() {
    let directory = tempfile::tempdir().unwrap();
    let path = DataDir::new(directory.path()).database();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).create_if_missing(true).foreign_keys(true);
    let pool = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    let mut before = sqlx::migrate!();
    before.migrations = before.migrations.iter().filter(|migration| migration.version < 4).cloned().collect();
    before.run(&pool).await.unwrap();
    let (dataset, job) = (Uuid::now_v7().to_string(), Uuid::now_v7());
    let told = |epoch: u32, accuracy: f64, warnings: &[EpochWarning]| {
        let row = EpochMetrics { epoch, warnings: warnings.to_vec(), ..EpochMetrics::default() };
        let row = serde_json::to_string(&row).unwrap();
        format!(
            "INSERT INTO job_metrics (job_id, attempt, epoch, validation_accuracy, validation_loss, metrics)
             VALUES ('{job}', 0, {epoch}, {accuracy}, 0.5, '{row}')"
        )
    };
    for statement in [
        format!("INSERT INTO datasets VALUES ('{dataset}', 'faces', 'gender', '[]', '{{}}', '{{}}', 'h', 0)"),
        format!(
            "INSERT INTO jobs (id, dataset_id, dataset_name, model_name, state, config, created_at)
             VALUES ('{job}', '{dataset}', 'faces', 'gender', 'queued', '{{}}', 0)"
        ),
        format!("INSERT INTO job_events (job_id, attempt, at, kind, data) VALUES ('{job}', 0, 0, 'state', '{{}}')"),
        told(1, 0.7, &[]),
        told(2, 0.9, &[EpochWarning::AnswersCollapsed]),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&pool).await.unwrap();
    }
    pool.close().await;

    let store = Store::open(&DataDir::new(directory.path())).await.unwrap();
    assert_eq!(store.job(job).await.unwrap().state, JobState::Queued);
    assert_eq!(store.job_events(job, 0, 10).await.unwrap().len(), 1);
    assert_eq!(store.job(job).await.unwrap().best.unwrap().epoch, 1, "the other leaves a class out");
    let rows = store.job_metrics(job, 0, 10).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.validation_collapsed).collect::<Vec<_>>(), [false, true]);
    store.pause_job(job).await.unwrap();
    assert_eq!(store.job(job).await.unwrap().state, JobState::Paused);
    let nonsense = sqlx::query("UPDATE jobs SET state = 'asleep'").execute(&store.writer).await;
    assert!(nonsense.unwrap_err().to_string().contains("CHECK"), "the table still knows its states");
    let whole: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&store.writer).await.unwrap();
    assert_eq!(whole, "ok");
}
