//! The queue and the run on a real file: transitions, fencing, claims, walks.

mod crash;
mod deletion;
mod growth;
mod histories;
mod model;
mod sweeps;
mod wishes;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use uuid::Uuid;

use super::{JobRow, JobState, NewJob, NewJobs, Wish};
use crate::data_dir::DataDir;
use crate::dataset::{ImportReport, Manifest};
use crate::model::{FORMAT_VERSION, Golden, ModelManifest, SplitSizes};
use crate::store::{NewDataset, NewPretrained, Store, StoreError};
use crate::train::config::TrainConfig;
use crate::train::event::{EpochMetrics, Event, Phase, StepProgress, TestMetrics};

const LEASE: Duration = Duration::from_secs(60);

struct Fixture {
    directory: tempfile::TempDir,
    store: Store,
    dataset: Uuid,
}

impl Fixture {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&DataDir::new(directory.path())).await.unwrap();
        let dataset = insert_dataset(&store, "faces").await.unwrap();
        Self { directory, store, dataset }
    }

    async fn queue(&self) -> Uuid {
        let job = NewJob { id: Uuid::now_v7(), config: TrainConfig::default(), baseline_of: None };
        let new = NewJobs { dataset_id: self.dataset, jobs: vec![job], sweep: None, idempotency: None };
        self.store.insert_jobs(new).await.unwrap()
    }

    async fn claim(&self, boot: Uuid) -> Option<JobRow> {
        self.store.claim(boot, "cpu", LEASE).await.unwrap()
    }

    async fn running(&self) -> JobRow {
        self.queue().await;
        self.claim(Uuid::now_v7()).await.unwrap()
    }

    async fn state(&self, id: Uuid) -> JobState {
        self.store.job(id).await.unwrap().state
    }

    /// A model directory as a run leaves it.
    fn model(&self, content: &str) -> std::path::PathBuf {
        self.model_of(content, 0.9)
    }

    fn model_of(&self, content: &str, accuracy: f64) -> std::path::PathBuf {
        let directory = self.directory.path().join(format!("model-{content}"));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("weights.safetensors"), content).unwrap();
        let manifest = ModelManifest {
            format_version: FORMAT_VERSION,
            network: "wrn-10-1".into(),
            head: crate::nn::Head::Linear,
            classes: vec!["a".into(), "b".into()],
            preprocess: TrainConfig::default().preprocess(),
            temperature: 1.0,
            config: serde_json::json!({}),
            dataset_hash: "h".into(),
            group_column: None,
            data_warnings: vec![],
            split: SplitSizes::default(),
            labelled_classes: vec![],
            validation: serde_json::json!({"validation_accuracy": accuracy, "validation_loss": 0.5}),
            last_epochs: None,
            training: None,
            test: None,
            created_at: content.into(),
            golden: Golden { seed: 0, logits: vec![] },
            int8: None,
        };
        manifest.write(&directory.join("model.json")).unwrap();
        directory
    }
}

/// Weights to be imported.
fn weights(name: &str, file: std::path::PathBuf) -> NewPretrained {
    NewPretrained {
        name: name.into(),
        network: "wrn-10-1".into(),
        classes: None,
        parameters: 1,
        file,
        source: "a test".into(),
        source_sha256: String::new(),
    }
}

async fn insert_dataset(store: &Store, name: &str) -> Result<Uuid, StoreError> {
    let manifest = Manifest {
        format_version: 1,
        task: "Gender".into(),
        classes: vec!["a".into(), "b".into()],
        content_hash: "h".into(),
        ..Manifest::default()
    };
    let id = Uuid::now_v7();
    let report = ImportReport::default();
    let new = NewDataset { id, name: name.into(), task: "Gender".into(), manifest: &manifest, report: &report };
    store.insert_dataset(new).await.map(|()| id)
}

#[tokio::test]
async fn no_job_is_queued_whose_weights_were_deleted_meanwhile() {
    let f = Fixture::new().await;
    let config = TrainConfig {
        pretrained: Some("start".into()),
        pretrained_sha256: Some("ab".repeat(32)),
        ..TrainConfig::default()
    };
    let job = |config: &TrainConfig| NewJob { id: Uuid::now_v7(), config: config.clone(), baseline_of: None };
    // Whichever of a request's jobs it is.
    for jobs in [vec![job(&config)], vec![job(&TrainConfig::default()), job(&config)]] {
        let new = NewJobs { dataset_id: f.dataset, jobs, sweep: None, idempotency: None };
        let refused = f.store.insert_jobs(new).await;
        assert!(matches!(&refused, Err(StoreError::NotFound { name, .. }) if name == "start"), "{refused:?}");
    }
    assert!(f.claim(Uuid::now_v7()).await.is_none());
}

#[tokio::test]
async fn a_job_whose_weights_were_deleted_is_not_retried() {
    let f = Fixture::new().await;
    let job = f.running().await;
    f.store.finish_failed(job.id, 1, "network", "no memory").await.unwrap();
    // As if it had started from weights that are there no more: those of a job at work cannot be deleted.
    let start = format!("'$.pretrained', 'start', '$.pretrained_sha256', '{}'", "ab".repeat(32));
    let mut tx = f.store.write().await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(format!("UPDATE jobs SET config = json_set(config, {start})")))
        .execute(&mut *tx)
        .await
        .unwrap();
    crate::store::commit(tx).await.unwrap();
    let refused = f.store.retry_job(job.id).await;
    assert!(matches!(&refused, Err(StoreError::State { detail }) if detail.contains("\"start\"")), "{refused:?}");
}

fn epoch(epoch: u32, accuracy: f64, loss: f64) -> Event {
    let row = EpochMetrics { epoch, validation_accuracy: accuracy, validation_loss: loss, ..EpochMetrics::default() };
    Event::Epoch(row)
}

fn step(step: u64) -> Event {
    let (epoch, epochs, steps) = (1, 2, 10);
    Event::Step(StepProgress { epoch, epochs, step, steps, loss: 1.0, images_per_second: 9.0, eta_seconds: 1.0 })
}

#[tokio::test]
async fn pretraining_has_steps_of_its_own_which_last_as_long_as_what_came_of_them() {
    let f = Fixture::new().await;
    let job = f.running().await;
    let at = |step: u64| {
        let (epoch, epochs, steps) = (1, 4, 80);
        let (images_per_second, eta_seconds) = (100.0, 9.0);
        Event::Pretraining(StepProgress { epoch, epochs, step, steps, loss: 1.0, images_per_second, eta_seconds })
    };
    f.store.record(job.id, 1, &[Event::Phase { phase: Phase::Pretraining }, at(1), at(40)]).await.unwrap();
    let told = f.store.job(job.id).await.unwrap();
    assert_eq!((told.pretraining.unwrap().step, told.progress), (40, None));
    let events = f.store.job_events(job.id, 0, 100).await.unwrap();
    assert_eq!(events.iter().filter(|event| event.kind == "pretraining").count(), 1, "the newest is kept");

    // Without a checkpoint it begins anew, with one it goes on.
    for (checkpoint, expected) in [(None, None), (Some(Event::Checkpoint { step: 0 }), Some(40))] {
        let attempt = f.store.job(job.id).await.unwrap().attempt;
        f.store.record(job.id, attempt, &[at(40)]).await.unwrap();
        f.store.record(job.id, attempt, checkpoint.as_slice()).await.unwrap();
        f.store.release(job.id, attempt).await.unwrap();
        let again = f.claim(Uuid::now_v7()).await.unwrap();
        assert_eq!(again.pretraining.map(|progress| progress.step), expected);
    }
}

#[tokio::test]
async fn a_job_runs_from_the_queue_to_a_published_model() {
    let f = Fixture::new().await;
    let id = f.queue().await;
    assert_eq!(f.store.job(id).await.unwrap().queue_position, Some(1));
    let job = f.claim(Uuid::now_v7()).await.unwrap();
    assert_eq!((job.id, job.attempt, job.state), (id, 1, JobState::Running));
    assert_eq!(job.dataset_name, "faces");
    let events = [Event::Phase { phase: Phase::Training }, step(1), step(2), epoch(1, 0.8, 0.5), epoch(2, 0.7, 0.4)];
    f.store.record(id, 1, &events).await.unwrap();
    let job = f.store.job(id).await.unwrap();
    assert_eq!(job.phase.as_deref(), Some("training"));
    assert_eq!((job.last.unwrap().epoch, job.best.unwrap().epoch, job.progress.unwrap().step), (2, 1, 2));

    let version = f.store.finish_succeeded(id, 1, &f.model("one")).await.unwrap();
    assert_eq!((version.name.as_str(), version.version), ("gender", 1));
    let job = f.store.job(id).await.unwrap();
    assert_eq!((job.state, job.model), (JobState::Succeeded, Some(("gender".into(), 1))));
    assert!(f.store.artifact(&version.weights_sha256).exists() && f.store.artifact(&version.manifest_sha256).exists());
    let links = |sha256: &str| std::fs::metadata(f.store.artifact(sha256)).map(|metadata| metadata.nlink()).unwrap();
    assert_eq!(links(&version.weights_sha256), 2, "what a run has made needs no room for a second copy");
    assert_eq!(f.store.resolve_model("gender").await.unwrap().version, 1);
    let kinds: Vec<String> =
        f.store.job_events(id, 0, 100).await.unwrap().into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds, ["state", "state", "phase", "step", "epoch", "epoch", "state"], "one step event is kept");
}

#[tokio::test]
async fn the_first_version_is_the_champion_and_later_ones_are_not() {
    let f = Fixture::new().await;
    for content in ["one", "two"] {
        let job = f.running().await;
        f.store.finish_succeeded(job.id, job.attempt, &f.model(content)).await.unwrap();
    }
    assert_eq!(f.store.resolve_model("gender").await.unwrap().version, 1);
    assert_eq!(f.store.resolve_model("gender:2").await.unwrap().version, 2);
    assert_eq!(f.store.set_alias("gender", "champion", 2).await.unwrap(), Some(1), "what it meant, to go back to");
    assert_eq!(f.store.set_alias("gender", "shadow", 1).await.unwrap(), None);
    let models = f.store.models().await.unwrap();
    assert_eq!(models[0].versions.iter().map(|v| v.version).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(f.store.model_names(9).await.unwrap(), ["gender"], "once, however many versions it has");
    assert_eq!(models[0].aliases, BTreeMap::from([("champion".to_owned(), 2), ("shadow".to_owned(), 1)]));
    assert!(matches!(f.store.set_alias("gender", "champion", 9).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(f.store.set_alias("gender", "Bad Alias", 1).await, Err(StoreError::InvalidName { .. })));
    assert!(matches!(f.store.resolve_model("mask").await, Err(StoreError::NotFound { .. })));
}

#[tokio::test]
async fn a_stale_attempt_can_write_nothing() {
    let f = Fixture::new().await;
    let job = f.running().await;
    f.store.release(job.id, 1).await.unwrap();
    let fenced = |result: Result<(), StoreError>| assert!(matches!(result, Err(StoreError::Fenced { .. })));
    for _ in 0..2 {
        // Once while queued, once while the next attempt runs.
        fenced(f.store.heartbeat(job.id, 1, LEASE).await.map(drop));
        fenced(f.store.record(job.id, 1, &[epoch(1, 0.5, 0.5)]).await);
        fenced(f.store.finish_failed(job.id, 1, "x", "y").await);
        fenced(f.store.finish_canceled(job.id, 1).await);
        fenced(f.store.release(job.id, 1).await.map(drop));
        fenced(f.store.finish_succeeded(job.id, 1, &f.model("stale")).await.map(drop));
        f.claim(Uuid::now_v7()).await;
    }
    let now = f.store.job(job.id).await.unwrap();
    assert_eq!((now.state, now.attempt), (JobState::Running, 2));
    assert!(f.store.job_metrics(job.id, 0, 1000).await.unwrap().is_empty());
    assert!(f.store.models().await.unwrap().is_empty() && f.store.model_names(9).await.unwrap().is_empty());
}

#[tokio::test]
async fn metrics_are_the_last_attempts() {
    let f = Fixture::new().await;
    let job = f.running().await;
    f.store.record(job.id, 1, &[epoch(1, 0.9, 0.1), epoch(2, 0.9, 0.1)]).await.unwrap();
    f.store.finish_failed(job.id, 1, "killed", "no memory").await.unwrap();
    let failed = f.store.job(job.id).await.unwrap();
    assert_eq!(failed.error, Some(("killed".into(), "no memory".into())));
    f.store.retry_job(job.id).await.unwrap();
    f.claim(Uuid::now_v7()).await.unwrap();
    assert_eq!(
        f.store.job_metrics(job.id, 0, 1000).await.unwrap().len(),
        2,
        "they stay until the new attempt says where it begins"
    );
    let begins = Event::Start { step: 0, epoch: 0, restored: false };
    f.store.record(job.id, 2, &[begins, epoch(1, 0.6, 0.3)]).await.unwrap();
    let rows = f.store.job_metrics(job.id, 0, 1000).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.validation_accuracy).collect::<Vec<_>>(), [0.6]);
    assert_eq!(f.store.job(job.id).await.unwrap().error, None);
}

#[tokio::test]
async fn a_new_attempt_has_no_test_figures_before_its_own() {
    let f = Fixture::new().await;
    let job = f.running().await;
    let test = TestMetrics { images: 60, ..TestMetrics::default() };
    f.store.record(job.id, 1, &[Event::Test(test)]).await.unwrap();
    let told = async || f.store.job(job.id).await.unwrap().test.map(|test| test.images);
    f.store.release(job.id, 1).await.unwrap();
    assert_eq!(told().await, Some(60), "until the next one begins");
    assert_eq!(f.claim(Uuid::now_v7()).await.unwrap().test, None);
    assert_eq!(told().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_claimers_take_each_job_once() {
    let f = Fixture::new().await;
    let mut queued = BTreeSet::new();
    for _ in 0..60 {
        queued.insert(f.queue().await);
    }
    let claimers = (0..8).map(|_| {
        let store = f.store.clone();
        tokio::spawn(async move {
            let mut mine = Vec::new();
            while let Some(job) = store.claim(Uuid::now_v7(), "cpu", LEASE).await.unwrap() {
                mine.push(job.id);
            }
            mine
        })
    });
    let mut claimed = Vec::new();
    for claimer in claimers.collect::<Vec<_>>() {
        claimed.extend(claimer.await.unwrap());
    }
    assert_eq!(claimed.len(), 60);
    assert_eq!(claimed.into_iter().collect::<BTreeSet<_>>(), queued);
}

#[tokio::test]
async fn the_oldest_job_is_claimed_first_and_positions_follow() {
    let f = Fixture::new().await;
    let ids = [f.queue().await, f.queue().await, f.queue().await];
    assert_eq!(f.store.job(ids[2]).await.unwrap().queue_position, Some(3));
    assert_eq!(f.claim(Uuid::now_v7()).await.unwrap().id, ids[0]);
    assert_eq!(f.store.job(ids[2]).await.unwrap().queue_position, Some(2));
    assert_eq!(f.store.job(ids[0]).await.unwrap().queue_position, None);
}

#[tokio::test]
async fn what_is_set_aside_is_passed_over_be_it_a_job_or_a_data_set_with_all_its_jobs() {
    let mut f = Fixture::new().await;
    let (first, second) = (f.queue().await, f.queue().await);
    let other = insert_dataset(&f.store, "others").await.unwrap();
    let dataset = std::mem::replace(&mut f.dataset, other);
    let third = f.queue().await;
    let claim = async |aside: Uuid| {
        let claimed = f.store.claim_but(&[aside.to_string()], Uuid::now_v7(), "cpu", LEASE).await.unwrap();
        claimed.map(|job| job.id)
    };
    assert_eq!(claim(dataset).await, Some(third));
    assert_eq!(claim(first).await, Some(second));
    assert_eq!(claim(dataset).await, None);
    assert_eq!(claim(other).await, Some(first));
}

#[tokio::test]
async fn weights_that_are_set_aside_keep_back_whoever_is_still_to_start_from_them() {
    let f = Fixture::new().await;
    let file = f.directory.path().join("start.safetensors");
    std::fs::write(&file, b"weights").unwrap();
    let sha256 = f.store.insert_pretrained(weights("start", file)).await.unwrap().sha256;
    let from = TrainConfig {
        pretrained: Some("start".into()),
        pretrained_sha256: Some(sha256.clone()),
        ..TrainConfig::default()
    };
    let new_job = |config| NewJob { id: Uuid::now_v7(), config, baseline_of: None };
    let jobs = vec![new_job(from.clone()), new_job(from), new_job(TrainConfig::default())];
    let (goes_on, pretrains, random) = (jobs[0].id, jobs[1].id, jobs[2].id);
    let new = NewJobs { dataset_id: f.dataset, jobs, sweep: None, idempotency: None };
    f.store.insert_jobs(new).await.unwrap();
    // A checkpoint of pretraining is after no step: should it be lost, the weights are read again.
    for (id, step) in [(goes_on, 20), (pretrains, 0)] {
        assert_eq!(f.claim(Uuid::now_v7()).await.unwrap().id, id);
        f.store.record(id, 1, &[Event::Checkpoint { step }]).await.unwrap();
    }
    for id in [goes_on, pretrains] {
        assert_eq!(f.store.release(id, 1).await.unwrap(), JobState::Queued);
    }
    for expected in [Some(goes_on), Some(random), None] {
        let claimed = f.store.claim_but(std::slice::from_ref(&sha256), Uuid::now_v7(), "cpu", LEASE).await.unwrap();
        assert_eq!(claimed.map(|job| job.id), expected);
    }
    assert_eq!(f.claim(Uuid::now_v7()).await.unwrap().id, pretrains);
}

#[tokio::test]
async fn canceling_is_at_once_for_a_queued_job_and_a_wish_for_a_running_one() {
    let f = Fixture::new().await;
    let queued = f.queue().await;
    f.store.cancel_job(queued).await.unwrap();
    f.store.cancel_job(queued).await.unwrap();
    assert_eq!(f.state(queued).await, JobState::Canceled);

    let job = f.running().await;
    assert_eq!(f.store.heartbeat(job.id, 1, LEASE).await.unwrap(), None);
    f.store.cancel_job(job.id).await.unwrap();
    assert_eq!(f.state(job.id).await, JobState::Running);
    assert_eq!(f.store.heartbeat(job.id, 1, LEASE).await.unwrap(), Some(Wish::Cancel));
    f.store.finish_canceled(job.id, 1).await.unwrap();
    assert_eq!(f.state(job.id).await, JobState::Canceled);

    let done = f.running().await;
    f.store.finish_failed(done.id, 1, "x", "y").await.unwrap();
    assert!(matches!(f.store.cancel_job(done.id).await, Err(StoreError::State { .. })));
    assert!(matches!(f.store.cancel_job(Uuid::now_v7()).await, Err(StoreError::NotFound { .. })));
}

#[tokio::test]
async fn what_may_be_retried_and_deleted() {
    let f = Fixture::new().await;
    let job = f.running().await;
    assert!(matches!(f.store.delete_job(job.id).await, Err(StoreError::State { .. })));
    f.store.finish_succeeded(job.id, 1, &f.model("one")).await.unwrap();
    assert!(matches!(f.store.retry_job(job.id).await, Err(StoreError::State { .. })));
    f.store.delete_job(job.id).await.unwrap();
    assert!(matches!(f.store.job(job.id).await, Err(StoreError::NotFound { .. })));
    let version = f.store.version("gender", 1).await.unwrap();
    assert_eq!(version.job_id, None, "the model outlives its job");
}

#[tokio::test]
async fn a_data_set_is_kept_while_a_job_needs_it() {
    let f = Fixture::new().await;
    let job = f.running().await;
    assert!(matches!(f.store.delete_dataset(f.dataset).await, Err(StoreError::InUse { .. })));
    f.store.finish_canceled(job.id, 1).await.unwrap();
    f.store.delete_dataset(f.dataset).await.unwrap();
    assert_eq!(f.store.job(job.id).await.unwrap().dataset_name, "faces", "history stays readable");
    assert!(matches!(f.store.retry_job(job.id).await, Err(StoreError::State { .. })));
    assert!(matches!(f.store.dataset("faces").await, Err(StoreError::NotFound { .. })));
}

#[tokio::test]
async fn a_name_is_taken_once() {
    let f = Fixture::new().await;
    assert!(matches!(insert_dataset(&f.store, "faces").await, Err(StoreError::Taken { .. })));
    let other = insert_dataset(&f.store, "others").await.unwrap();
    assert_eq!(f.store.dataset("others").await.unwrap().id, other);
    assert_eq!(f.store.dataset(&other.to_string()).await.unwrap().name, "others");
}

#[tokio::test]
async fn a_new_boot_takes_back_what_the_old_one_left_and_gives_up_in_the_end() {
    let f = Fixture::new().await;
    let id = f.queue().await;
    for crash in 1..=3 {
        let boot = Uuid::now_v7();
        assert_eq!(f.claim(boot).await.unwrap().id, id);
        assert_eq!(f.store.reclaim(boot).await.unwrap(), 0, "its own jobs are left alone");
        assert_eq!(f.store.reclaim(Uuid::now_v7()).await.unwrap(), 1);
        let expected = if crash < 3 { JobState::Queued } else { JobState::Failed };
        assert_eq!(f.state(id).await, expected, "after crash {crash}");
    }
    assert_eq!(f.store.job(id).await.unwrap().error.unwrap().0, "crashed_repeatedly");

    let wished = f.running().await;
    f.store.cancel_job(wished.id).await.unwrap();
    f.store.reclaim(Uuid::now_v7()).await.unwrap();
    assert_eq!(f.state(wished.id).await, JobState::Canceled);
}

#[tokio::test]
async fn a_walk_sees_each_job_once_while_others_are_added() {
    let f = Fixture::new().await;
    let mut expected = BTreeSet::new();
    for _ in 0..25 {
        expected.insert(f.queue().await);
    }
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = f.store.jobs(Some(JobState::Queued), before, 4).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        seen.extend(page.into_iter().map(|job| job.id));
        f.queue().await;
    }
    assert_eq!(seen.len(), 25);
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), expected);
}

#[tokio::test]
async fn everything_is_there_after_reopening() {
    let f = Fixture::new().await;
    let job = f.running().await;
    let log = Event::Log { level: crate::train::event::LogLevel::Info, message: "hello".into() };
    f.store.record(job.id, 1, &[epoch(1, 0.5, 0.5), log]).await.unwrap();
    f.store.close().await;
    let store = Store::open(&DataDir::new(f.directory.path())).await.unwrap();
    assert_eq!(store.job_metrics(job.id, 0, 1000).await.unwrap().len(), 1);
    assert_eq!(store.job_logs(job.id, 0, 10).await.unwrap()[0].message, "hello");
    assert_eq!(store.count_jobs().await.unwrap()[1], (JobState::Running, 1));
}

#[test]
fn several_jobs_are_paused_where_nothing_else_is_left_to_do() {
    use JobState::{Canceled, Failed, Paused, Queued, Running, Succeeded};
    let told = [
        (vec![Queued, Queued], Queued),
        (vec![Queued, Paused], Running),
        (vec![Succeeded, Queued], Running),
        (vec![Paused, Paused], Paused),
        (vec![Succeeded, Paused, Failed], Paused),
        (vec![Paused, Running], Running),
        (vec![Succeeded, Succeeded], Succeeded),
        (vec![Succeeded, Failed, Canceled], Failed),
        (vec![Succeeded, Canceled], Canceled),
    ];
    for (states, whole) in told {
        assert_eq!(JobState::of_all(&states), whole, "{states:?}");
    }
}

#[tokio::test]
async fn a_job_that_stopped_tells_the_steps_of_its_checkpoint_and_the_newest_event() {
    let f = Fixture::new().await;
    let job = f.running().await;
    f.store.record(job.id, 1, &[step(10), Event::Checkpoint { step: 20 }]).await.unwrap();
    assert_eq!(f.store.job(job.id).await.unwrap().step(), 20);
    f.store.record(job.id, 1, &[step(25)]).await.unwrap();
    assert_eq!(f.store.job(job.id).await.unwrap().step(), 25);
    let events = f.store.job_events(job.id, 0, 100).await.unwrap();
    assert!(events.len() > 1, "{events:?}");
    assert_eq!(f.store.newest_event(job.id).await.unwrap(), events.last().unwrap().seq);
}

#[test]
fn final_states_lead_nowhere_but_back_into_the_queue() {
    for from in JobState::ALL {
        for to in JobState::ALL {
            if from.is_final() && from.may_become(to) {
                assert_eq!(to, JobState::Queued);
            }
            assert!(!(from == to && from.may_become(to)));
        }
    }
    assert!(!JobState::Succeeded.may_become(JobState::Queued));
}

#[tokio::test]
async fn a_job_that_cannot_be_read_has_failed_and_holds_up_nobody() {
    let f = Fixture::new().await;
    let (bad, good) = (f.queue().await, f.queue().await);
    let write = sqlx::query("UPDATE jobs SET config = '{\"labelled\": \"many\"}' WHERE id = ?").bind(bad.to_string());
    write.execute(&f.store.writer).await.unwrap();
    let refused = f.store.claim(Uuid::now_v7(), "cpu", LEASE).await.map(|_| ()).unwrap_err();
    assert!(matches!(refused, StoreError::Stored { .. }), "{refused}");
    let told: (String, Option<String>, Option<String>) =
        sqlx::query_as("SELECT state, owner, error_code FROM jobs WHERE id = ?")
            .bind(bad.to_string())
            .fetch_one(&f.store.reader)
            .await
            .unwrap();
    assert_eq!(told, ("failed".into(), None, Some("unreadable".into())));
    assert_eq!(f.claim(Uuid::now_v7()).await.unwrap().id, good);
}
