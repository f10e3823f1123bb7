//! Reports of imports: what stands beside a data set is short, however much there is to tell.

use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use uuid::Uuid;

use super::{NewDataset, Store, StoreError};
use crate::data_dir::DataDir;
use crate::dataset::{Counts, ImportReport, Manifest, RejectedRow, Role, Sample, Warning};

/// A report of 3,000 rows, about 300 kB.
fn long_report() -> ImportReport {
    let rejected = (2..3_002).map(|row| RejectedRow {
        sheet: "train".into(),
        row,
        image: format!("{row}.jpg"),
        code: "missing_image".into(),
        detail: "it is not in the archive".into(),
    });
    let warning = Warning { code: "one_class".into(), detail: "a doubt".into(), examples: vec!["row 2".into()] };
    ImportReport { rejected_rows: 3_000, rejected: rejected.collect(), warnings: vec![warning] }
}

async fn assert_kept(store: &Store, id: Uuid, whole: &ImportReport) {
    let listed = store.datasets(None, 10).await.unwrap().remove(0).report;
    assert_eq!(store.dataset(&id.to_string()).await.unwrap().report, listed);
    assert_eq!((listed.rejected_rows, &listed.warnings), (whole.rejected.len(), &whole.warnings));
    assert_eq!(listed.rejected, whole.rejected[..100]);
    assert_eq!(store.dataset_report(id).await.unwrap(), *whole);
    let bytes: i64 = sqlx::query_scalar("SELECT length(report) FROM datasets").fetch_one(&store.reader).await.unwrap();
    assert!(bytes < 20_000, "{bytes} bytes are read with each look at the data set");
}

#[tokio::test]
async fn a_long_report_is_read_only_by_whoever_asks_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&DataDir::new(directory.path())).await.unwrap();
    let manifest = Manifest { format_version: 1, classes: vec!["a".into(), "b".into()], ..Manifest::default() };
    let (id, report) = (Uuid::now_v7(), long_report());
    let new = NewDataset { id, name: "faces".into(), task: "t".into(), manifest: &manifest, report: &report };
    store.insert_dataset(new).await.unwrap();
    assert_kept(&store, id, &report).await;

    store.delete_dataset(id).await.unwrap();
    assert!(matches!(store.dataset_report(id).await, Err(StoreError::NotFound { .. })));
}

#[tokio::test]
async fn of_several_sets_of_one_content_the_oldest_is_meant() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&DataDir::new(directory.path())).await.unwrap();
    let manifest = Manifest {
        format_version: 1,
        classes: vec!["a".into(), "b".into()],
        content_hash: "c0ffee".into(),
        ..Manifest::default()
    };
    let (report, ids) = (long_report(), [Uuid::now_v7(), Uuid::now_v7()]);
    for (id, name) in ids.into_iter().zip(["first", "second"]) {
        let new = NewDataset { id, name: name.into(), task: "t".into(), manifest: &manifest, report: &report };
        store.insert_dataset(new).await.unwrap();
    }
    assert_eq!(store.dataset_of_content("c0ffee").await.unwrap(), Some(ids[0]));
    assert_eq!(store.dataset_of_content("tea").await.unwrap(), None);
}

#[tokio::test]
async fn a_data_set_is_found_by_its_id_however_that_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&DataDir::new(directory.path())).await.unwrap();
    let manifest = Manifest { format_version: 1, classes: vec!["a".into(), "b".into()], ..Manifest::default() };
    let (id, report) = (Uuid::now_v7(), long_report());
    // The other one's name is the id of the first.
    for (id, name) in [(id, "faces".to_owned()), (Uuid::now_v7(), id.to_string())] {
        let new = NewDataset { id, name, task: "t".into(), manifest: &manifest, report: &report };
        store.insert_dataset(new).await.unwrap();
    }
    for written in ["faces".to_owned(), id.to_string(), id.to_string().to_uppercase(), id.simple().to_string()] {
        assert_eq!(store.dataset(&written).await.unwrap().name, "faces", "{written}");
    }
    for other in ["Faces".to_owned(), Uuid::now_v7().to_string()] {
        assert!(matches!(store.dataset(&other).await, Err(StoreError::NotFound { .. })), "{other}");
    }
}

#[tokio::test]
async fn a_file_of_the_version_before_keeps_its_reports_and_tells_what_trained_its_models() {
    let directory = tempfile::tempdir().unwrap();
    let data = DataDir::new(directory.path());
    let options = SqliteConnectOptions::new().filename(data.database()).create_if_missing(true).foreign_keys(true);
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    let mut before = sqlx::migrate!();
    before.migrations = before.migrations.iter().filter(|migration| migration.version < 9).cloned().collect();
    before.run(&pool).await.unwrap();
    let (id, report) = (Uuid::now_v7(), long_report());
    let mut of_before = serde_json::to_value(&report).unwrap();
    of_before.as_object_mut().unwrap().remove("rejected_rows").unwrap();
    sqlx::query("INSERT INTO datasets VALUES (?, 'faces', 'gender', '[\"a\"]', ?, ?, 'h', 0)")
        .bind(id.to_string())
        .bind(serde_json::to_string(&Counts::default()).unwrap())
        .bind(of_before.to_string())
        .execute(&pool)
        .await
        .unwrap();
    let job = Uuid::now_v7().to_string();
    sqlx::query(
        r#"INSERT INTO jobs (id, dataset_id, dataset_name, model_name, state, config, created_at, finished_at, model_version)
           VALUES (?, ?, 'faces', 'gender', 'succeeded', '{"algorithm": "supervised", "labelled": 250}', 0, 0, 1)"#,
    )
    .bind(&job)
    .bind(id.to_string())
    .execute(&pool)
    .await
    .unwrap();
    for (version, job) in [(1, Some(&job)), (2, None)] {
        let insert = "INSERT INTO model_versions (name, version, job_id, classes, metrics, weights_sha256, manifest_sha256, created_at)
                      VALUES ('gender', ?, ?, '[]', '{}', 'w', 'm', 0)";
        sqlx::query(insert).bind(version).bind(job).execute(&pool).await.unwrap();
    }
    pool.close().await;

    let store = Store::open(&data).await.unwrap();
    assert_kept(&store, id, &report).await;
    let known = |row: super::VersionRow| (row.algorithm, row.labelled);
    assert_eq!(known(store.version("gender", 1).await.unwrap()), (Some("supervised".to_owned()), Some(250)));
    assert_eq!(known(store.version("gender", 2).await.unwrap()), (None, None), "its job is not there any more");
    let whole: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&store.writer).await.unwrap();
    assert_eq!(whole, "ok");
}

#[tokio::test]
async fn what_a_deletion_that_was_cut_off_leaves_is_litter() {
    let directory = tempfile::tempdir().unwrap();
    let data = DataDir::new(directory.path());
    let lock = data.lock().unwrap();
    let store = Store::open(&data).await.unwrap();
    let manifest = Manifest { format_version: 1, classes: vec!["a".into(), "b".into()], ..Manifest::default() };
    let (id, report) = (Uuid::now_v7(), long_report());
    store.expect_dataset(id).await.unwrap();
    let new = NewDataset { id, name: "faces".into(), task: "t".into(), manifest: &manifest, report: &report };
    store.insert_dataset(new).await.unwrap();
    std::fs::create_dir_all(data.dataset(id)).unwrap();
    for file in ["manifest.json", "images.zip"] {
        std::fs::write(data.dataset(id).join(file), "x").unwrap();
    }
    store.delete_dataset(id).await.unwrap();
    assert_eq!(store.clear_orphans(&data, &lock).await.unwrap(), 1);
    assert!(!data.dataset(id).exists() && !directory.path().join("lost").exists(), "whole, and meant to go");
}

/// Those that were picked do not validate: a job that asks for more labels than the others leave is refused by that number.
#[tokio::test]
async fn a_job_is_checked_against_the_labels_that_were_drawn_and_those_that_were_picked() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&DataDir::new(directory.path())).await.unwrap();
    let sample = |(entry, label, split, picked): (u32, Option<u32>, Role, bool)| Sample {
        image: format!("{entry}.png"),
        entry,
        label,
        split,
        picked,
        group: None,
        attributes: Default::default(),
    };
    let samples = [
        (0, Some(0), Role::Train, false),
        (1, Some(1), Role::Train, false),
        (2, Some(0), Role::Train, true),
        (3, None, Role::Train, false),
        (4, Some(1), Role::Test, false),
    ];
    let classes = vec!["a".into(), "b".into()];
    let samples = samples.map(sample).to_vec();
    let manifest = Manifest { format_version: 1, classes, samples, ..Manifest::default() };
    let (id, report) = (Uuid::now_v7(), ImportReport::default());
    let new = NewDataset { id, name: "faces".into(), task: "t".into(), manifest: &manifest, report: &report };
    store.insert_dataset(new).await.unwrap();
    let facts = store.job_facts(&store.dataset("faces").await.unwrap()).await.unwrap();
    assert_eq!((facts.labelled.as_slice(), facts.train, facts.picked), ([2, 1].as_slice(), 4, 1));
}
