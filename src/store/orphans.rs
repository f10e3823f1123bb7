//! What nothing names any more. Files are written before the row that names them and removed after it, so that a process
//! which is killed in between leaves a file without a row: lost space and nothing worse. The next start clears it away.
//!
//! Whoever adds a table that names an artifact adds it to `artifact_needs!`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sqlx::{Sqlite, Transaction};
use uuid::Uuid;

use super::{Result, Store, StoreError};
use crate::data_dir::{DataDir, DataLock};

/// The query of every row that names an artifact: `sha256`, and the row as `kind`, `name` and `version`. An unfinished job
/// names the weights that it starts from by itself: those that it was queued with may be deleted while others of the same
/// bytes are there, and then those.
macro_rules! artifact_needs {
    () => {
        "SELECT weights_sha256 AS sha256, 'version' AS kind, name, version FROM model_versions
         UNION SELECT manifest_sha256, 'version', name, version FROM model_versions
         UNION SELECT predictions_sha256, 'version', name, version FROM model_versions WHERE predictions_sha256 IS NOT NULL
         UNION SELECT sha256, 'pretrained', name, 0 FROM pretrained_weights
         UNION SELECT config ->> '$.pretrained_sha256', 'job', id, 0 FROM jobs
           WHERE state IN ('queued', 'running', 'paused') AND config ->> '$.pretrained_sha256' IS NOT NULL"
    };
}

/// The query of every artifact that a row names, each once.
macro_rules! named_artifacts {
    () => {
        concat!("SELECT DISTINCT sha256 FROM (", crate::store::orphans::artifact_needs!(), ")")
    };
}
pub(super) use {artifact_needs, named_artifacts};

/// Those of `artifacts` that no row names now.
pub(super) async fn unnamed_of(tx: &mut Transaction<'_, Sqlite>, artifacts: Vec<String>) -> Result<Vec<String>> {
    let mut unnamed = Vec::new();
    for sha256 in artifacts {
        let named: bool = sqlx::query_scalar(concat!("SELECT ?1 IN (", named_artifacts!(), ")"))
            .bind(&sha256)
            .fetch_one(&mut **tx)
            .await?;
        if !named {
            unnamed.push(sha256);
        }
    }
    Ok(unnamed)
}

/// What rows name.
struct Named {
    artifacts: BTreeSet<String>,
    datasets: BTreeSet<Uuid>,
    /// Jobs that may go on from a checkpoint.
    jobs: BTreeSet<Uuid>,
}

impl Named {
    async fn read(store: &Store) -> Result<Self> {
        let artifacts: Vec<String> = sqlx::query_scalar(named_artifacts!()).fetch_all(&store.reader).await?;
        let ids = async |query| -> Result<BTreeSet<Uuid>> {
            let ids: Vec<String> = sqlx::query_scalar(query).fetch_all(&store.reader).await?;
            ids.iter().map(|id| super::jobs::parse_id(id)).collect()
        };
        Ok(Self {
            artifacts: artifacts.into_iter().collect(),
            datasets: ids("SELECT id FROM datasets").await?,
            jobs: ids("SELECT id FROM jobs WHERE state <> 'succeeded'").await?,
        })
    }

    /// Everything under the data directory that no row names and no process can be at work on.
    fn unnamed(&self, data: &DataDir) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for path in entries(&data.artifacts()) {
            if name(&path).starts_with(".tmp") {
                found.push(path);
            }
        }
        for shard in entries(&data.artifacts().join("sha256")) {
            found.extend(
                entries(&shard).into_iter().filter(|path| is_hash(name(path)) && !self.artifacts.contains(name(path))),
            );
        }
        for path in entries(&data.datasets()) {
            let row = Uuid::parse_str(name(&path)).ok();
            if name(&path).starts_with(".import-") || row.is_some_and(|id| !self.datasets.contains(&id)) {
                found.push(path);
            } else {
                found.extend(entries(&path.join("packed")).into_iter().filter(|path| name(path).starts_with(".tmp")));
            }
        }
        for path in entries(&data.runs()) {
            let Ok(id) = Uuid::parse_str(name(&path)) else { continue };
            if self.jobs.contains(&id) {
                // An attempt's own directory is its child's, and no child outlives its server.
                found.extend(entries(&path).into_iter().filter(|path| name(path).parse::<u32>().is_ok()));
            } else {
                found.push(path);
            }
        }
        found
    }
}

/// Whether there are files of data sets, models or jobs: without rows they are taken for litter.
pub(super) fn only_rows_explain(data: &DataDir) -> bool {
    let is_id = |path: &PathBuf| Uuid::parse_str(name(path)).is_ok();
    let shards = entries(&data.artifacts().join("sha256"));
    entries(&data.datasets()).iter().chain(&entries(&data.runs())).any(is_id)
        || shards.iter().any(|shard| entries(shard).iter().any(|path| is_hash(name(path))))
}

impl Store {
    /// Removes files that no row names any more. One that stays is only lost space, until the next start.
    pub(super) async fn remove_artifacts(&self, unnamed: &[String]) {
        for sha256 in unnamed {
            let path = self.artifact(sha256);
            if let Err(error) = tokio::fs::remove_file(&path).await {
                tracing::warn!(path = %path.display(), %error, "a file that no row names could not be removed");
            }
        }
    }

    /// Removes what an earlier process was killed over: only the holder of the lock may call it, and only before
    /// anything is at work. Gives the number of files and directories.
    ///
    /// # Errors
    /// The database's. That something cannot be removed is a line in the log.
    pub async fn clear_orphans(&self, data: &DataDir, _lock: &DataLock) -> Result<u64> {
        let named = Named::read(self).await?;
        let data = data.clone();
        let clear = move || {
            let mut removed = 0;
            for path in named.unnamed(&data) {
                let gone = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
                match gone {
                    Ok(()) => {
                        tracing::info!(path = %path.display(), "removed: no row names it");
                        removed += 1;
                    }
                    Err(error) => {
                        tracing::warn!(path = %path.display(), %error, "could not be removed; no row names it")
                    }
                }
            }
            removed
        };
        let root = self.artifacts.clone();
        tokio::task::spawn_blocking(clear)
            .await
            .map_err(|error| StoreError::Artifact { path: root, reason: error.to_string() })
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn is_hash(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_no_row_names_goes_and_what_is_not_ours_stays() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::new(directory.path());
        let lock = data.lock().unwrap();
        let store = Store::open(&data).await.unwrap();
        let hash = "ab".repeat(32);
        let gone = [
            data.artifacts().join(".tmpAbc"),
            data.artifacts().join("sha256/ab").join(&hash),
            data.datasets().join(".import-x/pixels.tmp"),
            data.datasets().join(Uuid::now_v7().to_string()).join("manifest.json"),
            data.run(Uuid::now_v7()).join("checkpoints/step-000000000001.checkpoint"),
        ];
        let stays = [
            data.root().join("notes.txt"),
            data.datasets().join("lost+found/x"),
            data.runs().join("readme"),
            data.artifacts().join("sha256/ab/README"),
        ];
        for path in gone.iter().chain(&stays) {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"x").unwrap();
        }
        assert_eq!(store.clear_orphans(&data, &lock).await.unwrap(), gone.len() as u64);
        for path in gone {
            assert!(!path.exists(), "{}", path.display());
        }
        for path in stays {
            assert!(path.exists(), "{}", path.display());
        }
        assert_eq!(store.clear_orphans(&data, &lock).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn files_without_a_database_are_not_taken_for_litter() {
        let hash = "ab".repeat(32);
        for place in [format!("datasets/{}/manifest.json", Uuid::now_v7()), format!("artifacts/sha256/ab/{hash}")] {
            let directory = tempfile::tempdir().unwrap();
            let data = DataDir::new(directory.path());
            let _lock = data.lock().unwrap();
            let file = directory.path().join(place);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, b"x").unwrap();
            for database in [None, Some(b"")] {
                if let Some(bytes) = database {
                    std::fs::write(data.database(), bytes).unwrap();
                }
                let refused = Store::open(&data).await.map(|_| ()).unwrap_err();
                assert!(matches!(refused, StoreError::RowsMissing { .. }), "{refused}");
                assert_eq!(data.database().exists(), database.is_some(), "nothing is made in its place");
            }
            std::fs::remove_file(data.database()).unwrap();
            std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
            Store::open(&data).await.unwrap().close().await;
        }
    }
}
