//! What must be true of a data directory while nobody works in it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use sqlx::{Connection, SqliteConnection};

use super::ledger::Ledger;

async fn open(data: &Path) -> SqliteConnection {
    SqliteConnection::connect(&format!("sqlite://{}", data.join("mixmatch.db").display())).await.unwrap()
}

async fn texts(db: &mut SqliteConnection, query: &'static str) -> Vec<String> {
    sqlx::query_scalar(query).fetch_all(db).await.unwrap()
}

/// The database is whole, everything promised is in it, and every file that it names is there with its hash.
pub async fn whole(data: &Path, ledger: &Ledger) {
    let mut db = open(data).await;
    assert_eq!(texts(&mut db, "PRAGMA integrity_check").await, ["ok"]);
    assert!(sqlx::query("PRAGMA foreign_key_check").fetch_all(&mut db).await.unwrap().is_empty());

    let names: BTreeSet<String> = texts(&mut db, "SELECT name FROM datasets").await.into_iter().collect();
    for name in &ledger.datasets {
        assert!(names.contains(name), "data set {name} is lost: {names:?}");
    }
    for id in texts(&mut db, "SELECT id FROM datasets").await {
        let directory = data.join("datasets").join(&id);
        assert!(directory.join("manifest.json").is_file(), "a row without its files: {}", directory.display());
    }
    let jobs: BTreeSet<String> = texts(&mut db, "SELECT id FROM jobs").await.into_iter().collect();
    for id in ledger.jobs.keys() {
        assert!(jobs.contains(id), "job {id} is lost");
    }
    // One owner where a job runs, none where it does not; and one of each epoch, from the first on.
    let owners: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM jobs WHERE (state = 'running') <> (owner IS NOT NULL)")
        .fetch_one(&mut db)
        .await
        .unwrap();
    assert_eq!(owners, 0);
    let broken = texts(
        &mut db,
        "SELECT job_id FROM job_metrics m GROUP BY job_id HAVING COUNT(*) <> MAX(epoch) OR MIN(epoch) <> 1
           OR COUNT(DISTINCT attempt) <> 1 OR MAX(attempt) <> (SELECT attempt FROM jobs WHERE id = m.job_id)",
    )
    .await;
    assert!(broken.is_empty(), "gaps or repeats in {broken:?}");
    let told = texts(
        &mut db,
        "SELECT job_id FROM job_events WHERE kind = 'epoch' GROUP BY job_id, data ->> '$.epoch' HAVING COUNT(*) > 1",
    )
    .await;
    assert!(told.is_empty(), "an epoch's event was told twice in {told:?}");

    for hash in named(&mut db).await {
        let path = data.join("artifacts/sha256").join(&hash[..2]).join(&hash);
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let found: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, hash, "an artifact is not what its name says");
    }
    let published: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM jobs j WHERE state = 'succeeded'
         AND NOT EXISTS (SELECT 1 FROM model_versions v WHERE v.name = j.model_name AND v.version = j.model_version)",
    )
    .fetch_one(&mut db)
    .await
    .unwrap();
    assert_eq!(published, 0, "a job has published what is not there");
    let shadow: Option<i64> = sqlx::query_scalar("SELECT version FROM model_aliases WHERE alias = 'shadow'")
        .fetch_optional(&mut db)
        .await
        .unwrap();
    match shadow {
        Some(version) => assert!(ledger.shadow.contains(&(version as u64)), "{version} of {:?}", ledger.shadow),
        None => assert!(!ledger.has_shadow, "the alias is lost: {:?}", ledger.shadow),
    }
    db.close().await.unwrap();
}

/// What the alias `shadow` means.
pub async fn shadow(data: &Path) -> Option<u64> {
    let mut db = open(data).await;
    let version: Option<i64> = sqlx::query_scalar("SELECT version FROM model_aliases WHERE alias = 'shadow'")
        .fetch_optional(&mut db)
        .await
        .unwrap();
    db.close().await.unwrap();
    version.map(|version| version as u64)
}

async fn named(db: &mut SqliteConnection) -> Vec<String> {
    texts(
        db,
        "SELECT weights_sha256 FROM model_versions UNION SELECT manifest_sha256 FROM model_versions
         UNION SELECT predictions_sha256 FROM model_versions WHERE predictions_sha256 IS NOT NULL
         UNION SELECT sha256 FROM pretrained_weights
         UNION SELECT config ->> '$.pretrained_sha256' FROM jobs
           WHERE state IN ('queued', 'running', 'paused') AND config ->> '$.pretrained_sha256' IS NOT NULL
             AND COALESCE(checkpoint_step, 0) = 0",
    )
    .await
}

/// Files that nothing explains and that are older than `before`.
pub async fn orphans(data: &Path, before: SystemTime) -> Vec<PathBuf> {
    let mut db = open(data).await;
    let artifacts: BTreeSet<String> = named(&mut db).await.into_iter().collect();
    let datasets: BTreeSet<String> = texts(&mut db, "SELECT id FROM datasets").await.into_iter().collect();
    let jobs: BTreeSet<String> =
        texts(&mut db, "SELECT id FROM jobs WHERE state <> 'succeeded'").await.into_iter().collect();
    db.close().await.unwrap();
    let explained = |path: &Path| {
        let parts: Vec<&str> = path.strip_prefix(data).unwrap().iter().map(|part| part.to_str().unwrap()).collect();
        match parts.as_slice() {
            ["lock"] => true,
            [database] => database.starts_with("mixmatch.db"),
            ["artifacts", "sha256", _, hash] => artifacts.contains(*hash),
            // Of a server that was killed between the last step of an import and its row; models and runs are never among them.
            ["lost", "datasets", ..] => true,
            ["datasets", id, "packed", file] => datasets.contains(*id) && file.ends_with(".pack"),
            ["datasets", id, file] => datasets.contains(*id) && !file.ends_with(".tmp"),
            ["runs", id, "checkpoints", file] => {
                jobs.contains(*id) && (file.ends_with(".checkpoint") || file.ends_with(".tmp"))
            }
            _ => false,
        }
    };
    let mut found = Vec::new();
    let mut directories = vec![data.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(about) = entry.metadata() else { continue };
            if about.is_dir() {
                directories.push(entry.path());
            } else if !explained(&entry.path()) && about.modified().unwrap() < before {
                found.push(entry.path());
            }
        }
    }
    found
}
