//! Jobs that are deleted: their history goes after them, in parts.

use super::*;
use crate::store::read_snapshot;

/// Rows of what happened in a job.
async fn history(store: &Store, job: Uuid) -> i64 {
    sqlx::query_scalar(
        "SELECT (SELECT COUNT(*) FROM job_events WHERE job_id = ?1) + (SELECT COUNT(*) FROM job_metrics WHERE job_id = ?1)
              + (SELECT COUNT(*) FROM job_logs WHERE job_id = ?1) + (SELECT COUNT(*) FROM job_phases WHERE job_id = ?1)",
    )
    .bind(job.to_string())
    .fetch_one(&store.reader)
    .await
    .unwrap()
}

async fn forgotten(store: &Store) -> i64 {
    sqlx::query_scalar("SELECT COUNT(*) FROM forgotten_jobs").fetch_one(&store.reader).await.unwrap()
}

impl Fixture {
    /// A job that failed after twelve epochs: 45 rows of history.
    async fn told(&self) -> Uuid {
        let job = self.running().await;
        let mut events: Vec<Event> = (1..=12).map(|number| epoch(number, 0.5, 0.5)).collect();
        events.push(Event::Phase { phase: Phase::Training });
        for _ in 0..8 {
            events.push(Event::Log { level: crate::train::event::LogLevel::Info, message: "hello".into() });
        }
        self.store.record(job.id, 1, &events).await.unwrap();
        self.store.finish_failed(job.id, 1, "network", "no memory").await.unwrap();
        // Three states; an event and a row for each epoch, line and phase.
        assert_eq!(history(&self.store, job.id).await, 3 + 2 * (12 + 8 + 1));
        job.id
    }
}

#[tokio::test]
async fn a_job_that_is_deleted_takes_its_history_along_and_no_other_ones() {
    let f = Fixture::new().await;
    let (gone, stays) = (f.told().await, f.told().await);
    // More than goes in one transaction.
    let many = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500)
                INSERT INTO job_events (job_id, attempt, at, kind, data) SELECT ?, 1, 0, 'log', '{}' FROM n";
    sqlx::query(many).bind(gone.to_string()).execute(&f.store.writer).await.unwrap();
    assert_eq!(f.store.delete_job(gone).await.unwrap(), [gone]);
    assert_eq!((history(&f.store, gone).await, history(&f.store, stays).await), (0, 45));
    assert_eq!(forgotten(&f.store).await, 0);
    assert_eq!(f.store.job(stays).await.unwrap().last.unwrap().epoch, 12);
}

#[tokio::test]
async fn a_history_goes_in_batches_between_which_others_write() {
    let f = Fixture::new().await;
    let jobs = [f.told().await, f.told().await];
    for job in jobs {
        f.store.forget_jobs(job).await.unwrap();
    }
    let whole = async || history(&f.store, jobs[0]).await + history(&f.store, jobs[1]).await;
    let (mut left, mut before, mut batches) = (&jobs[..], whole().await, 0);
    while !left.is_empty() {
        left = f.store.erase_batch(left, 10).await.unwrap();
        let after = whole().await;
        assert!(before - after <= 10, "{before} - {after}");
        // One that waits for the only connection has it between two batches.
        f.queue().await;
        (before, batches) = (after, batches + 1);
    }
    assert_eq!((before, forgotten(&f.store).await), (0, 0));
    assert!(batches >= 9, "{batches} batches for 90 rows");
}

#[tokio::test]
async fn a_deletion_that_is_cut_off_leaves_no_half_of_a_job_and_the_next_start_ends_it() {
    let f = Fixture::new().await;
    let (gone, stays) = (f.told().await, f.told().await);
    let jobs = f.store.forget_jobs(gone).await.unwrap();
    assert_eq!(f.store.erase_batch(&jobs, 20).await.unwrap(), [gone], "there is more of it");
    // Killed here: what is left belongs to no job that anybody could find.
    f.store.close().await;
    let data = DataDir::new(f.directory.path());
    let lock = data.lock().unwrap();
    let store = Store::open(&data).await.unwrap();
    assert_eq!((history(&store, gone).await, forgotten(&store).await), (25, 1));
    assert!(matches!(store.job(gone).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(store.job_metrics(gone, 0, 10).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(store.job_logs(gone, 0, 10).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(store.delete_job(gone).await, Err(StoreError::NotFound { .. })));
    let listed: Vec<Uuid> = store.jobs(None, None, 10).await.unwrap().into_iter().map(|job| job.id).collect();
    assert_eq!(listed, [stays]);
    let copy = f.directory.path().join("copy.db");
    store.snapshot(&copy).await.unwrap();
    assert_eq!(read_snapshot(&copy).await.unwrap().unfinished, [stays], "a backup of that moment is a whole one");

    store.clear_orphans(&data, &lock).await.unwrap();
    assert_eq!((history(&store, gone).await, history(&store, stays).await, forgotten(&store).await), (0, 45, 0));
}

/// The tables of a history were made with ON DELETE CASCADE.
#[tokio::test]
async fn a_file_of_the_version_before_forgets_that_a_history_hangs_on_its_job() {
    let directory = tempfile::tempdir().unwrap();
    let data = DataDir::new(directory.path());
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(data.database()).create_if_missing(true);
    let pool = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    let mut before = sqlx::migrate!();
    before.migrations = before.migrations.iter().filter(|migration| migration.version < 16).cloned().collect();
    before.run(&pool).await.unwrap();
    let (job, config) = (Uuid::now_v7(), r#"{"pretrained": "start", "pretrained_sha256": "ab"}"#);
    for statement in [
        format!(
            "INSERT INTO jobs (id, dataset_id, dataset_name, model_name, state, config, created_at)
             VALUES ('{job}', '{}', 'faces', 'gender', 'queued', '{config}', 0)",
            Uuid::now_v7()
        ),
        format!("INSERT INTO job_phases (job_id, attempt, phase, at) VALUES ('{job}', 0, 'training', 0)"),
        format!("INSERT INTO job_events (job_id, attempt, at, kind, data) VALUES ('{job}', 0, 0, 'state', '{{}}')"),
        format!("INSERT INTO job_logs (job_id, attempt, at, level, message) VALUES ('{job}', 0, 0, 'info', 'hello')"),
        format!(
            "INSERT INTO job_metrics (job_id, attempt, epoch, collapsed, validation_accuracy, validation_loss, metrics)
             VALUES ('{job}', 0, 1, 0, 0.5, 0.5, '{}')",
            serde_json::to_string(&EpochMetrics { epoch: 1, ..EpochMetrics::default() }).unwrap()
        ),
        "INSERT INTO audit (id, at, actor, action, target) VALUES ('0', 0, 'a', 'b', 'c')".to_owned(),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&pool).await.unwrap();
    }
    pool.close().await;

    let store = Store::open(&data).await.unwrap();
    assert_eq!(history(&store, job).await, 4);
    for table in ["job_phases", "job_events", "job_logs", "job_metrics"] {
        let keys = sqlx::query("SELECT 1 FROM pragma_foreign_key_list(?)").bind(table);
        assert!(keys.fetch_all(&store.writer).await.unwrap().is_empty(), "{table}");
    }
    let told = crate::store::in_use::OF_PRETRAINED;
    let needed: i64 = sqlx::query_scalar(told).bind("start").bind(9).fetch_one(&store.reader).await.unwrap();
    assert_eq!(needed, 1, "the job from before is in the index");
    store.cancel_job(job).await.unwrap();
    let jobs = store.forget_jobs(job).await.unwrap();
    assert_eq!(history(&store, job).await, 5, "nothing hangs on the row any more");
    assert!(store.erase_batch(&jobs, 100).await.unwrap().is_empty());
    assert_eq!(history(&store, job).await, 0);
    let whole: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&store.writer).await.unwrap();
    assert_eq!(whole, "ok");
}
