//! Keys of repeated requests, for jobs and data sets alike: one thing a key, for a day.

use uuid::Uuid;

use super::{Idempotency, NewDataset, NewJob, NewJobs, Store, StoreError};
use crate::data_dir::DataDir;
use crate::dataset::{ImportReport, Manifest};
use crate::train::config::TrainConfig;

fn key(request: &str) -> Idempotency {
    Idempotency::new(None, "key", request.to_owned())
}

async fn import(store: &Store, name: &str, idempotency: Option<&Idempotency>) -> Result<Uuid, StoreError> {
    let manifest = Manifest { format_version: 1, classes: vec!["a".into(), "b".into()], ..Manifest::default() };
    let (id, report) = (Uuid::now_v7(), ImportReport::default());
    let new = NewDataset { id, name: name.into(), task: "t".into(), manifest: &manifest, report: &report };
    store.insert_dataset_once(new, idempotency).await
}

async fn queue(store: &Store, dataset_id: Uuid, idempotency: Idempotency) -> Result<Uuid, StoreError> {
    let job = NewJob { id: Uuid::now_v7(), config: TrainConfig::default(), baseline_of: None };
    store.insert_jobs(NewJobs { dataset_id, jobs: vec![job], sweep: None, idempotency: Some(idempotency) }).await
}

/// Makes everything stored a day older.
async fn a_day_passes(store: &Store) {
    for table in ["jobs", "dataset_requests"] {
        let older = sqlx::AssertSqlSafe(format!("UPDATE {table} SET created_at = created_at - 86400000"));
        sqlx::query(older).execute(&store.writer).await.unwrap();
    }
}

#[tokio::test]
async fn a_key_stands_for_one_thing_for_a_day() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&DataDir::new(directory.path())).await.unwrap();
    let set = import(&store, "one", Some(&key("a"))).await.unwrap();
    // Another name does not matter: it is the same request, and nothing new is stored.
    assert_eq!(import(&store, "two", Some(&key("a"))).await.unwrap(), set);
    assert_eq!(store.dataset_of_request(&key("a")).await.unwrap(), Some(set));
    assert!(matches!(import(&store, "two", Some(&key("b"))).await, Err(StoreError::KeyReused { .. })));
    // Keys of jobs and of data sets do not meet.
    let job = queue(&store, set, key("a")).await.unwrap();
    assert_eq!(queue(&store, set, key("a")).await.unwrap(), job);
    assert!(matches!(queue(&store, set, key("b")).await, Err(StoreError::KeyReused { .. })));

    a_day_passes(&store).await;
    assert_eq!(store.dataset_of_request(&key("a")).await.unwrap(), None);
    let later = import(&store, "two", Some(&key("b"))).await.unwrap();
    assert_ne!(later, set);
    let second = queue(&store, set, key("b")).await.unwrap();
    assert_ne!(second, job);
    assert_eq!(queue(&store, set, key("b")).await.unwrap(), second);
    assert_eq!(store.datasets(None, 10).await.unwrap().len(), 2);
    // A name that is taken stays taken, and the key is not spent on it.
    let other = Idempotency::new(None, "other", "c".to_owned());
    assert!(matches!(import(&store, "one", Some(&other)).await, Err(StoreError::Taken { .. })));
    assert_eq!(store.dataset_of_request(&other).await.unwrap(), None);
}

#[tokio::test]
async fn two_callers_may_count_alike() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&DataDir::new(directory.path())).await.unwrap();
    let of = |caller: u128, request: &str| Idempotency::new(Some(Uuid::from_u128(caller)), "1:1", request.to_owned());
    let set = import(&store, "one", Some(&of(1, "a"))).await.unwrap();
    assert_ne!(import(&store, "two", Some(&of(2, "a"))).await.unwrap(), set);
    let job = queue(&store, set, of(1, "a")).await.unwrap();
    assert_ne!(queue(&store, set, of(2, "a")).await.unwrap(), job);
    assert_ne!(queue(&store, set, of(3, "b")).await.unwrap(), job, "another body of another caller is no reuse");
    let reused = queue(&store, set, of(1, "b")).await.unwrap_err().to_string();
    assert!(reused.contains("\"1:1\""), "the key as it was sent: {reused}");
}
