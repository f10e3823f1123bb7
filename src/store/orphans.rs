//! What nothing names any more. Files are written before the row that names them and removed after it, so that a process
//! which is killed in between leaves a file without a row: lost space and nothing worse. The next start clears it away.
//!
//! But a data set that no row names, and that was neither being imported nor deleted, tells of a database that is older than the
//! files. Then nothing whole is removed: it is put into `lost/`.
//!
//! Whoever adds a table that names an artifact adds it to `artifact_needs!` and to [`NAMED`].

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sqlx::{Sqlite, Transaction};
use uuid::Uuid;

use super::{Result, Store, StoreError, to_json};
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

/// Whether a row names the artifact ?1, by the same tables and columns, each through an index: whoever deletes holds up
/// everybody who writes, so that not all names may be gathered to look for one.
pub(super) const NAMED: &str = "
    SELECT EXISTS (SELECT 1 FROM model_versions WHERE weights_sha256 = ?1)
      OR EXISTS (SELECT 1 FROM model_versions WHERE manifest_sha256 = ?1)
      OR EXISTS (SELECT 1 FROM model_versions WHERE predictions_sha256 = ?1)
      OR EXISTS (SELECT 1 FROM pretrained_weights WHERE sha256 = ?1)
      OR EXISTS (
        SELECT 1 FROM jobs WHERE config ->> '$.pretrained_sha256' = ?1 AND state IN ('queued', 'running', 'paused')
      )";

/// Those of `artifacts` that no row names now.
pub(super) async fn unnamed_of(tx: &mut Transaction<'_, Sqlite>, artifacts: Vec<String>) -> Result<Vec<String>> {
    let mut unnamed = Vec::new();
    for sha256 in artifacts {
        let named: bool = sqlx::query_scalar(NAMED).bind(&sha256).fetch_one(&mut **tx).await?;
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
    /// Data sets that are coming or going.
    passing: BTreeSet<Uuid>,
}

/// What no row names.
#[derive(Default)]
struct Unnamed {
    /// What was never finished.
    litter: Vec<PathBuf>,
    /// Data sets, models and checkpoints: whole, as far as their names tell.
    whole: Vec<PathBuf>,
    /// Whether there is a data set among those that was neither coming nor going.
    is_lost: bool,
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
            passing: ids("SELECT id FROM passing_datasets").await?,
        })
    }

    /// Everything under the data directory that no row names and no process can be at work on.
    fn unnamed(&self, data: &DataDir) -> Unnamed {
        let mut found = Unnamed::default();
        for path in entries(&data.artifacts()) {
            if name(&path).starts_with(".tmp") {
                found.litter.push(path);
            }
        }
        for shard in entries(&data.artifacts().join("sha256")) {
            found.whole.extend(
                entries(&shard).into_iter().filter(|path| is_hash(name(path)) && !self.artifacts.contains(name(path))),
            );
        }
        for path in entries(&data.datasets()) {
            match Uuid::parse_str(name(&path)) {
                Ok(id) if self.passing.contains(&id) && !self.datasets.contains(&id) => found.litter.push(path),
                Ok(id) if !self.datasets.contains(&id) => {
                    found.is_lost = true;
                    found.whole.push(path);
                }
                Err(_) if name(&path).starts_with(".import-") => found.litter.push(path),
                _ => {
                    let packed = entries(&path.join("packed")).into_iter();
                    found.litter.extend(packed.filter(|path| name(path).starts_with(".tmp")));
                }
            }
        }
        for path in entries(&data.runs()) {
            let Ok(id) = Uuid::parse_str(name(&path)) else { continue };
            if self.jobs.contains(&id) {
                // An attempt's own directory is its child's, and no child outlives its server.
                found.litter.extend(entries(&path).into_iter().filter(|path| name(path).parse::<u32>().is_ok()));
            } else {
                found.whole.push(path);
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

    /// Removes what an earlier process was killed over, rows of deleted jobs as well, and puts aside what an older database does
    /// not know: only the holder of the lock may call it, and only before anything is at work. Gives the number of files and directories.
    ///
    /// # Errors
    /// The database's. That something cannot be removed is a line in the log.
    pub async fn clear_orphans(&self, data: &DataDir, _lock: &DataLock) -> Result<u64> {
        if let Err(error) = self.erase_forgotten().await {
            // Nobody finds them any more: no reason not to serve.
            tracing::warn!(%error, "rows of deleted jobs are left; the next start tries again");
        }
        let named = Named::read(self).await?;
        let data = data.clone();
        let clear = move || {
            let Unnamed { litter, whole, is_lost } = named.unnamed(&data);
            let whole = whole.iter().filter(|path| if is_lost { put_aside(&data, path) } else { remove(path) });
            let cleared = litter.iter().filter(|path| remove(path)).count() + whole.count();
            let gone: Vec<Uuid> = named.passing.into_iter().filter(|id| !data.dataset(*id).exists()).collect();
            (cleared as u64, gone)
        };
        let root = self.artifacts.clone();
        let (cleared, gone) = tokio::task::spawn_blocking(clear)
            .await
            .map_err(|error| StoreError::Artifact { path: root, reason: error.to_string() })?;
        if !gone.is_empty() {
            // One write, however many were deleted since the last start.
            let forget = "DELETE FROM passing_datasets WHERE id IN (SELECT value FROM json_each(?))";
            sqlx::query(forget).bind(to_json(&gone)?).execute(&self.writer).await?;
        }
        Ok(cleared)
    }
}

/// Whether that could be done.
fn remove(path: &Path) -> bool {
    let gone = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match &gone {
        Ok(()) => tracing::info!(path = %path.display(), "removed: no row names it"),
        Err(error) => tracing::warn!(path = %path.display(), %error, "could not be removed; no row names it"),
    }
    gone.is_ok()
}

/// Moves a path of the data directory into `lost/`; whether that could be done.
fn put_aside(data: &DataDir, path: &Path) -> bool {
    let target = data.lost().join(path.strip_prefix(data.root()).unwrap_or(path));
    let parent = target.parent().map_or(Ok(()), std::fs::create_dir_all);
    let moved = parent.and_then(|()| std::fs::rename(path, &target));
    match &moved {
        Ok(()) => tracing::warn!(
            path = %path.display(), to = %target.display(),
            "no row names this, and nobody deleted it: is the database an older one? Put aside; with the right database, move it back"
        ),
        Err(error) => {
            tracing::warn!(path = %path.display(), to = %target.display(), %error, "could not be put aside; no row names it")
        }
    }
    moved.is_ok()
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
        let (hash, deleted) = ("ab".repeat(32), Uuid::now_v7());
        let coming = Uuid::now_v7();
        store.expect_dataset(coming).await.unwrap();
        let told = sqlx::query("INSERT INTO passing_datasets (id) VALUES (?)").bind(deleted.to_string());
        told.execute(&store.writer).await.unwrap();
        let gone = [
            data.artifacts().join(".tmpAbc"),
            data.artifacts().join("sha256/ab").join(&hash),
            data.datasets().join(".import-x/pixels.tmp"),
            data.dataset(deleted).join("manifest.json"),
            data.dataset(coming).join("manifest.json"),
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
        let told: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM passing_datasets").fetch_one(&store.reader).await.unwrap();
        assert_eq!((told, data.lost().exists()), (0, false));
    }

    #[tokio::test]
    async fn what_an_older_database_does_not_know_is_put_aside() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::new(directory.path());
        let lock = data.lock().unwrap();
        let store = Store::open(&data).await.unwrap();
        let (hash, set, job) = ("ab".repeat(32), Uuid::now_v7(), Uuid::now_v7());
        let kept = [
            format!("datasets/{set}/images.zip"),
            format!("artifacts/sha256/ab/{hash}"),
            format!("runs/{job}/checkpoints/step-000000000001.checkpoint"),
        ];
        let litter = data.artifacts().join(".tmpAbc");
        for path in kept.iter().map(|path| data.root().join(path)).chain([litter.clone()]) {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"x").unwrap();
        }
        assert_eq!(store.clear_orphans(&data, &lock).await.unwrap(), 4);
        for path in &kept {
            assert!(data.lost().join(path).exists() && !data.root().join(path).exists(), "{path}");
        }
        assert!(!litter.exists(), "what was never whole goes");
        assert_eq!(store.clear_orphans(&data, &lock).await.unwrap(), 0);
        assert!(data.lost().join(&kept[0]).exists());
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
