//! Sweeps and baselines: who is reached by what, and who becomes champion.

use uuid::Uuid;

use super::{Fixture, LEASE};
use crate::data_dir::DataDir;
use crate::model::{MANIFEST_FILE, ModelManifest};
use crate::store::{Idempotency, JobEntry, JobRow, JobState, NewJobs, Store, StoreError};
use crate::train::config::{AlgorithmName, DataFacts, TrainConfig};
use crate::train::sweep::plan;

impl Fixture {
    /// What `POST /jobs` does with this body.
    async fn ask(&self, request: serde_json::Value) -> Uuid {
        self.ask_with(request, None).await
    }

    /// The same under an idempotency key.
    async fn ask_with(&self, request: serde_json::Value, idempotency: Option<Idempotency>) -> Uuid {
        let serde_json::Value::Object(request) = request else { panic!("an object is needed") };
        let facts = DataFacts {
            classes: vec!["a".into(), "b".into()],
            labelled: vec![500, 500],
            train: 1000,
            ..DataFacts::default()
        };
        let new = NewJobs::of_plan(self.dataset, plan(&request, &facts).unwrap(), request);
        let new = NewJobs { idempotency, ..new };
        self.store.insert_jobs(new).await.unwrap()
    }

    async fn sweep(&self, id: Uuid) -> Vec<JobRow> {
        self.store.sweep(id).await.unwrap().jobs
    }

    /// Claims the next job and publishes a model with this validation accuracy.
    async fn succeed(&self, accuracy: f64) -> JobRow {
        let job = self.claim(Uuid::now_v7()).await.unwrap();
        let directory = self.model_of(&format!("{}-{accuracy}", job.id), accuracy);
        self.store.finish_succeeded(job.id, job.attempt, &directory).await.unwrap();
        job
    }

    async fn champion(&self) -> Option<u32> {
        let models = self.store.models().await.unwrap();
        models.first().and_then(|model| model.aliases.get("champion").copied())
    }
}

#[tokio::test]
async fn a_baseline_is_claimed_before_its_job_and_goes_with_it() {
    let f = Fixture::new().await;
    let id = f.ask(serde_json::json!({"labelled": 40, "baseline": true})).await;
    let job = f.store.job(id).await.unwrap();
    let (baseline, state) = job.baseline.unwrap();
    assert_eq!((state, job.queue_position, job.baseline_of), (JobState::Queued, Some(2), None));
    let row = f.store.job(baseline).await.unwrap();
    assert_eq!((row.baseline_of, row.baseline, row.config), (Some(id), None, job.config.baseline()));
    assert_eq!(f.claim(Uuid::now_v7()).await.unwrap().id, baseline);

    assert_eq!(f.store.cancel_job(id).await.unwrap(), [baseline, id]);
    assert_eq!((f.state(baseline).await, f.state(id).await), (JobState::Running, JobState::Canceled));
    assert!(f.store.job(baseline).await.unwrap().cancel_requested);
    let refused = f.store.retry_job(id).await;
    let words = "of its 2 jobs 1 still being canceled";
    assert!(matches!(&refused, Err(StoreError::State { detail }) if detail.contains(words)), "{refused:?}");
    assert_eq!(f.state(id).await, JobState::Canceled, "all or none");
    assert!(matches!(f.store.delete_job(id).await, Err(StoreError::State { .. })), "its baseline still runs");
    f.store.finish_canceled(baseline, 1).await.unwrap();
    f.store.retry_job(baseline).await.unwrap();
    assert_eq!((f.state(baseline).await, f.state(id).await), (JobState::Queued, JobState::Canceled), "itself alone");
    f.store.retry_job(id).await.unwrap();
    assert_eq!(f.state(id).await, JobState::Queued);
    f.store.cancel_job(id).await.unwrap();
    f.store.delete_job(id).await.unwrap();
    assert!(matches!(f.store.job(baseline).await, Err(StoreError::NotFound { .. })));
}

#[tokio::test]
async fn a_baseline_publishes_and_is_never_made_champion() {
    let f = Fixture::new().await;
    let id = f.ask(serde_json::json!({"labelled": 40, "baseline": true})).await;
    let baseline = f.succeed(0.95).await;
    assert_eq!(baseline.baseline_of, Some(id));
    assert_eq!(f.store.version("gender", 1).await.unwrap().job_id, Some(baseline.id));
    assert_eq!(f.champion().await, None);
    assert_eq!(f.succeed(0.90).await.id, id);
    assert_eq!(f.champion().await, Some(2), "the first version of a job proper");
}

#[tokio::test]
async fn a_sweep_makes_the_best_of_its_jobs_champion_once_the_last_has_ended() {
    let f = Fixture::new().await;
    let request = serde_json::json!({"labelled": 40, "seed": [0, 1, 2, 3], "baseline": true});
    let id = f.ask(request.clone()).await;
    for accuracy in [0.99, 0.80, 0.99, 0.90, 0.99, 0.85] {
        f.succeed(accuracy).await;
        assert_eq!(f.champion().await, None, "not while others may be better");
    }
    f.succeed(0.99).await;
    let last = f.claim(Uuid::now_v7()).await.unwrap();
    f.store.finish_failed(last.id, 1, "collapsed", "one class").await.unwrap();
    assert_eq!(f.champion().await, Some(4), "the best by validation that is no baseline");
    let states: Vec<JobState> = f.sweep(id).await.iter().map(|job| job.state).collect();
    assert_eq!(JobState::of_all(&states), JobState::Failed);

    // A champion that is there is left alone.
    f.ask(serde_json::json!({"labelled": [40], "seed": 9})).await;
    f.succeed(1.0).await;
    assert_eq!(f.champion().await, Some(4));
}

#[tokio::test]
async fn a_paused_job_of_a_sweep_may_yet_be_its_champion() {
    let f = Fixture::new().await;
    let id = f.ask(serde_json::json!({"labelled": [20, 40]})).await;
    let second = f.sweep(id).await[1].id;
    f.store.pause_job(second).await.unwrap();
    f.succeed(0.8).await;
    assert_eq!(f.champion().await, None, "the other one may be better");
    f.store.resume_job(second).await.unwrap();
    assert_eq!(f.succeed(0.9).await.id, second);
    assert_eq!(f.champion().await, Some(2));
}

#[tokio::test]
async fn of_jobs_that_are_right_equally_often_the_one_with_the_least_loss_becomes_champion() {
    let f = Fixture::new().await;
    f.ask(serde_json::json!({"labelled": [20, 40, 60]})).await;
    for loss in [0.6, 0.4, 0.5] {
        let job = f.claim(Uuid::now_v7()).await.unwrap();
        let directory = f.model_of(&job.id.to_string(), 0.9);
        let path = directory.join(MANIFEST_FILE);
        let mut manifest = ModelManifest::read(&path).unwrap();
        manifest.validation["validation_loss"] = serde_json::json!(loss);
        manifest.write(&path).unwrap();
        f.store.finish_succeeded(job.id, 1, &directory).await.unwrap();
    }
    assert_eq!(f.champion().await, Some(2));
}

#[tokio::test]
async fn a_sweep_that_ends_by_a_cancel_has_its_champion_too() {
    let f = Fixture::new().await;
    let id = f.ask(serde_json::json!({"labelled": [20, 40, 60]})).await;
    let first = f.succeed(0.8).await;
    assert_eq!(f.champion().await, None);
    assert_eq!(f.store.cancel_job(id).await.unwrap().len(), 3);
    assert_eq!((f.state(first.id).await, f.champion().await), (JobState::Succeeded, Some(1)));
    let states: Vec<JobState> = f.sweep(id).await.iter().map(|job| job.state).collect();
    assert_eq!(states, [JobState::Succeeded, JobState::Canceled, JobState::Canceled]);
    assert_eq!(f.store.retry_job(id).await.unwrap().len(), 2);
    assert_eq!(f.sweep(id).await[2].state, JobState::Queued);
    assert!(matches!(f.store.delete_job(id).await, Err(StoreError::State { .. })));
    f.store.cancel_job(id).await.unwrap();
    // One at a time: the sweep goes with its last job.
    let jobs = f.sweep(id).await;
    f.store.delete_job(jobs[0].id).await.unwrap();
    assert_eq!(f.sweep(id).await.len(), 2);
    f.store.delete_job(id).await.unwrap();
    assert!(matches!(f.store.job_or_sweep(id).await, Err(StoreError::NotFound { .. })));
}

#[tokio::test]
async fn a_sweep_keeps_its_requests_key_until_its_last_job_is_deleted() {
    let f = Fixture::new().await;
    let key = Idempotency::new(None, "again", "ab".into());
    let request = serde_json::json!({"labelled": 40, "seed": [0, 1], "baseline": true});
    let id = f.ask_with(request, Some(key.clone())).await;
    f.store.cancel_job(id).await.unwrap();
    let jobs = f.sweep(id).await;
    // The second, the first that is no baseline, carried the key.
    for number in [1, 0, 3, 2] {
        assert_eq!(f.store.job_of_request(&key).await.unwrap(), Some(id), "before job {number} goes");
        f.store.delete_job(jobs[number].id).await.unwrap();
    }
    assert_eq!(f.store.job_of_request(&key).await.unwrap(), None);
    assert!(matches!(f.store.job_or_sweep(id).await, Err(StoreError::NotFound { .. })), "the sweep went with its last");
}

#[tokio::test]
async fn an_id_is_a_job_or_a_sweep() {
    let f = Fixture::new().await;
    let (job, sweep) = (f.queue().await, f.ask(serde_json::json!({"grid": {"k": [1, 2]}})).await);
    assert!(matches!(f.store.job_or_sweep(job).await.unwrap(), JobEntry::Job(row) if row.sweep.is_none()));
    let JobEntry::Sweep(row) = f.store.job_or_sweep(sweep).await.unwrap() else { panic!("a sweep") };
    assert_eq!((row.axes(), row.jobs.len(), row.dataset_name.as_str()), (vec!["k".to_owned()], 2, "faces"));
    assert!(row.jobs.iter().all(|job| job.sweep == Some(sweep)));
    let refused = f.store.job_metrics(sweep, 0, 1000).await.unwrap_err();
    assert!(matches!(refused, StoreError::IsSweep { .. }) && refused.to_string().contains("sweep"), "{refused}");
    for reach in [f.store.cancel_job(Uuid::now_v7()).await, f.store.retry_job(Uuid::now_v7()).await] {
        assert!(matches!(reach, Err(StoreError::NotFound { .. })));
    }
}

#[test]
fn many_jobs_stand_as_one() {
    use JobState::{Canceled, Failed, Queued, Running, Succeeded};
    for (states, whole) in [
        (vec![Queued, Queued], Queued),
        (vec![Succeeded, Queued], Running),
        (vec![Failed, Running], Running),
        (vec![Succeeded, Succeeded], Succeeded),
        (vec![Succeeded, Canceled], Canceled),
        (vec![Canceled, Failed, Succeeded], Failed),
    ] {
        assert_eq!(JobState::of_all(&states), whole, "{states:?}");
    }
}

/// A data directory of the version before sweeps opens, with what is in it.
#[tokio::test]
async fn a_database_from_before_sweeps_opens_with_its_jobs() {
    let f = Fixture::new().await;
    let directory = tempfile::tempdir().unwrap();
    let data = DataDir::new(directory.path());
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(data.database()).create_if_missing(true);
    let old = sqlx::SqlitePool::connect_with(options).await.unwrap();
    sqlx::migrate!().run_to(1, &old).await.unwrap();
    // Supervised runs did not pretrain then.
    let seed = i64::MAX as u64;
    let mixmatch = TrainConfig { pretrain_epochs: 100, seed, ..TrainConfig::default() };
    let supervised = TrainConfig { algorithm: AlgorithmName::Supervised, ..mixmatch.clone() };
    let ended = Uuid::now_v7();
    for (id, state, config) in [(f.dataset, "queued", &mixmatch), (ended, "canceled", &supervised)] {
        sqlx::query(
            "INSERT INTO jobs (id, dataset_id, dataset_name, model_name, state, config, created_at, finished_at)
             VALUES (?1, ?1, 'old', 'gender', ?2, ?3, 1, CASE ?2 WHEN 'canceled' THEN 2 END)",
        )
        .bind(id.to_string())
        .bind(state)
        .bind(serde_json::to_string(config).unwrap())
        .execute(&old)
        .await
        .unwrap();
    }
    old.close().await;

    let store = Store::open(&data).await.unwrap();
    let jobs = store.jobs(None, None, 10).await.unwrap();
    assert_eq!(jobs.len(), 2);
    assert!(jobs.iter().all(|job| job.sweep.is_none() && job.baseline.is_none() && job.baseline_of.is_none()));
    let claimed = store.claim(Uuid::now_v7(), "cpu", LEASE).await.unwrap().unwrap();
    assert_eq!((claimed.id, claimed.config), (f.dataset, mixmatch));
    assert_eq!(store.job(ended).await.unwrap().config, TrainConfig { pretrain_epochs: 0, ..supervised });
}
