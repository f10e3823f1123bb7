//! What nothing names any more. Files are written before the row that names them and removed after it, so that a process
//! which is killed in between leaves a file without a row: lost space and nothing worse. The next start clears it away.
//!
//! What comes or goes is noted before (`passing_artifacts`, `passing_datasets`, `passing_runs`). So a data set, an artifact or a run
//! that no row names and no note tells of is no litter: the database is older than the files. It is put into `lost/`, and so is
//! every other whole thing then, as the notes are as old as the database.
//!
//! Whoever adds a table that names an artifact adds it to `artifact_needs!` and to [`NAMED`].

mod aside;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sqlx::{Sqlite, Transaction};
use uuid::Uuid;

use self::aside::put_aside;
use super::artifacts::artifact_in;
use super::{Result, Store, StoreError, commit, to_json};
use crate::data_dir::{DataDir, DataLock};
use crate::dataset::{IMAGES_FILE, MANIFEST_FILE};

/// The query of every row that names an artifact: `sha256`, and the row as `kind`, `name` and `version`. An unfinished job
/// without a checkpoint after a step names the weights that it starts from by itself: those that it was queued with may be deleted
/// while others of the same bytes are there, and then those.
macro_rules! artifact_needs {
    () => {
        "SELECT weights_sha256 AS sha256, 'version' AS kind, name, version FROM model_versions
         UNION SELECT manifest_sha256, 'version', name, version FROM model_versions
         UNION SELECT predictions_sha256, 'version', name, version FROM model_versions WHERE predictions_sha256 IS NOT NULL
         UNION SELECT sha256, 'pretrained', name, 0 FROM pretrained_weights
         UNION SELECT config ->> '$.pretrained_sha256', 'job', id, 0 FROM jobs
           WHERE state IN ('queued', 'running', 'paused') AND config ->> '$.pretrained_sha256' IS NOT NULL
             AND COALESCE(checkpoint_step, 0) = 0"
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
          AND COALESCE(checkpoint_step, 0) = 0
      )";

/// Forgets notes of artifacts.
const SETTLED: &str = "DELETE FROM passing_artifacts WHERE sha256 IN (SELECT value FROM json_each(?))";

/// Notes that artifacts come or go: until that is done, they may be there without a row.
pub(super) async fn pass(tx: &mut Transaction<'_, Sqlite>, artifacts: &[String]) -> Result<()> {
    let noted = sqlx::query("INSERT OR IGNORE INTO passing_artifacts (sha256) SELECT value FROM json_each(?)");
    noted.bind(to_json(&artifacts)?).execute(&mut **tx).await?;
    Ok(())
}

/// Forgets these notes: the artifacts have a row now, or are gone.
pub(super) async fn settle<'e>(
    executor: impl sqlx::Executor<'e, Database = Sqlite>,
    artifacts: &[String],
) -> Result<()> {
    sqlx::query(SETTLED).bind(to_json(&artifacts)?).execute(executor).await?;
    Ok(())
}

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

/// What rows name, and what is noted of the rest.
struct Named {
    artifacts: BTreeSet<String>,
    datasets: BTreeSet<Uuid>,
    /// Jobs that may go on from a checkpoint.
    jobs: BTreeSet<Uuid>,
    /// Jobs that need none any more.
    succeeded: BTreeSet<Uuid>,
    /// Jobs that are deleted, and whose run may still be there.
    forgotten: BTreeSet<Uuid>,
    /// Artifacts that are coming or going.
    passing: BTreeSet<String>,
    /// Data sets that are coming.
    coming: BTreeSet<Uuid>,
    /// Data sets that are deleted.
    going: BTreeSet<Uuid>,
}

/// What no row names.
#[derive(Default)]
struct Unnamed {
    /// What was never finished, is of no use any more or was deleted.
    litter: Vec<PathBuf>,
    /// Artifacts that are noted: litter too, unless the database is an older one, whose notes may be of what came after all.
    noted: Vec<PathBuf>,
    /// Whole, as far as the names tell, and nobody deleted it.
    whole: Vec<PathBuf>,
    /// Whole too, and must have had a row in another database, as this one never heard of it: what tells that this is an older one.
    unheard: Vec<PathBuf>,
}

impl Unnamed {
    /// Removes the litter and puts aside what is whole; gives the number of files and directories.
    fn clear(self, data: &DataDir) -> u64 {
        let Self { mut litter, noted, mut whole, unheard } = self;
        let noted_go_to = if unheard.is_empty() { &mut litter } else { &mut whole };
        noted_go_to.extend(noted);
        let aside = |paths: &[PathBuf]| paths.iter().filter(|path| put_aside(data, path)).count();
        let removed = litter.iter().filter(|path| remove(path)).count();
        let mut cleared = removed + aside(&whole);
        // What tells that the database is an older one goes last: while something stays that must be put aside for that reason, the next
        // start is to see that reason, too.
        if cleared == removed + whole.len() {
            cleared += aside(&unheard);
        } else if !unheard.is_empty() {
            tracing::warn!("the database seems to be an older one; the next start puts aside what is left");
        }
        cleared as u64
    }
}

impl Named {
    async fn read(store: &Store) -> Result<Self> {
        let hashes = async |query: &'static str| -> Result<BTreeSet<String>> {
            let hashes: Vec<String> = sqlx::query_scalar(query).fetch_all(&store.reader).await?;
            Ok(hashes.into_iter().collect())
        };
        let ids = async |query: &'static str| -> Result<BTreeSet<Uuid>> {
            let ids: Vec<String> = sqlx::query_scalar(query).fetch_all(&store.reader).await?;
            ids.iter().map(|id| super::jobs::parse_id(id)).collect()
        };
        Ok(Self {
            artifacts: hashes(named_artifacts!()).await?,
            datasets: ids("SELECT id FROM datasets").await?,
            jobs: ids("SELECT id FROM jobs WHERE state <> 'succeeded'").await?,
            succeeded: ids("SELECT id FROM jobs WHERE state = 'succeeded'").await?,
            forgotten: ids("SELECT id FROM passing_runs").await?,
            passing: hashes("SELECT sha256 FROM passing_artifacts").await?,
            coming: ids("SELECT id FROM passing_datasets WHERE going = 0").await?,
            going: ids("SELECT id FROM passing_datasets WHERE going <> 0").await?,
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
        for path in entries(&data.artifacts().join("sha256")).iter().flat_map(|shard| entries(shard)) {
            match name(&path) {
                hash if !is_hash(hash) || self.artifacts.contains(hash) => {}
                hash if self.passing.contains(hash) => found.noted.push(path),
                _ => found.unheard.push(path),
            }
        }
        for path in entries(&data.datasets()) {
            match Uuid::parse_str(name(&path)) {
                Ok(id) if self.datasets.contains(&id) => {
                    let packed = entries(&path.join("packed")).into_iter();
                    found.litter.extend(packed.filter(|path| name(path).starts_with(".tmp")));
                }
                Ok(id) if self.going.contains(&id) => found.litter.push(path),
                // Its import was cut off just before its end, or ended after this database was copied: nobody can tell, and who deletes
                // the second takes away what somebody was told is there.
                Ok(id) if self.coming.contains(&id) && is_whole(&path) => found.whole.push(path),
                Ok(id) if self.coming.contains(&id) => found.litter.push(path),
                Ok(_) => found.unheard.push(path),
                Err(_) if name(&path).starts_with(".import-") => found.litter.push(path),
                Err(_) => {}
            }
        }
        for path in entries(&data.runs()) {
            let Ok(id) = Uuid::parse_str(name(&path)) else { continue };
            if self.jobs.contains(&id) {
                // An attempt's own directory is its child's, and no child outlives its server.
                found.litter.extend(entries(&path).into_iter().filter(|path| name(path).parse::<u32>().is_ok()));
            } else if self.succeeded.contains(&id) || self.forgotten.contains(&id) {
                found.litter.push(path);
            } else {
                // A job has its row before its run begins.
                found.unheard.push(path);
            }
        }
        found
    }

    /// What is noted and not there any more, each with the statement that forgets such notes.
    fn gone(&self, data: &DataDir) -> [(&'static str, Vec<String>); 3] {
        let artifacts = self.passing.iter().filter(|hash| !artifact_in(&data.artifacts(), hash).exists());
        let datasets = self.coming.iter().chain(&self.going).filter(|id| !data.dataset(**id).exists());
        let runs = self.forgotten.iter().filter(|id| !data.run(**id).exists());
        [
            (SETTLED, artifacts.cloned().collect()),
            (
                "DELETE FROM passing_datasets WHERE id IN (SELECT value FROM json_each(?))",
                datasets.map(Uuid::to_string).collect(),
            ),
            (
                "DELETE FROM passing_runs WHERE id IN (SELECT value FROM json_each(?))",
                runs.map(Uuid::to_string).collect(),
            ),
        ]
    }
}

/// Whether nothing of a data set is missing in its directory.
fn is_whole(dataset: &Path) -> bool {
    [MANIFEST_FILE, IMAGES_FILE].iter().all(|name| dataset.join(name).is_file())
}

/// Whether there are files of data sets, models or jobs: without rows they are taken for litter.
pub(super) fn only_rows_explain(data: &DataDir) -> bool {
    let is_id = |path: &PathBuf| Uuid::parse_str(name(path)).is_ok();
    let shards = entries(&data.artifacts().join("sha256"));
    entries(&data.datasets()).iter().chain(&entries(&data.runs())).any(is_id)
        || shards.iter().any(|shard| entries(shard).iter().any(|path| is_hash(name(path))))
}

impl Store {
    /// Notes that artifacts are coming, before they are put into their place: whoever is killed before a row names them leaves litter,
    /// and nothing that was lost.
    pub(super) async fn expect_artifacts(&self, artifacts: &[String]) -> Result<()> {
        let mut tx = self.write().await?;
        pass(&mut tx, artifacts).await?;
        commit(tx).await
    }

    /// Removes files that no row names any more, and that are noted to go. One that stays is only lost space, until the next start.
    pub(super) async fn remove_artifacts(&self, unnamed: &[String]) {
        let mut gone = Vec::new();
        for sha256 in unnamed {
            let path = self.artifact(sha256);
            match tokio::fs::remove_file(&path).await {
                Ok(()) => gone.push(sha256.clone()),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "a file that no row names could not be removed");
                }
            }
        }
        // The same bytes may come again: the note of before is not to be found with them in an older database.
        let settled = async { settle(self.writable()?, &gone).await };
        if !gone.is_empty()
            && let Err(error) = settled.await
        {
            tracing::warn!(%error, "notes of files that are gone stay until the next start");
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
            let cleared = named.unnamed(&data).clear(&data);
            (cleared, named.gone(&data))
        };
        let root = self.artifacts.clone();
        let (cleared, gone) = tokio::task::spawn_blocking(clear)
            .await
            .map_err(|error| StoreError::Artifact { path: root, reason: error.to_string() })?;
        // One write of each kind, however many were deleted since the last start.
        for (forget, gone) in gone.into_iter().filter(|(_, gone)| !gone.is_empty()) {
            sqlx::query(forget).bind(to_json(&gone)?).execute(self.writable()?).await?;
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

    /// Writes a file of one byte, and what it lies in.
    pub(super) fn file(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"x").unwrap();
    }

    async fn note(store: &Store, note: &'static str, of: &str) {
        sqlx::query(note).bind(of).execute(&store.writer).await.unwrap();
    }

    async fn notes(store: &Store) -> i64 {
        let all = "SELECT (SELECT COUNT(*) FROM passing_datasets) + (SELECT COUNT(*) FROM passing_artifacts)
                        + (SELECT COUNT(*) FROM passing_runs)";
        sqlx::query_scalar(all).fetch_one(&store.reader).await.unwrap()
    }

    const DELETED_DATASET: &str = "INSERT INTO passing_datasets (id, going) VALUES (?, 1)";
    const DELETED_RUN: &str = "INSERT INTO passing_runs (id) VALUES (?)";

    #[tokio::test]
    async fn what_no_row_names_goes_and_what_is_not_ours_stays() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::new(directory.path());
        let lock = data.lock().unwrap();
        let store = Store::open(&data).await.unwrap();
        let (hash, deleted, run) = ("ab".repeat(32), Uuid::now_v7(), Uuid::now_v7());
        let coming = Uuid::now_v7();
        store.expect_dataset(coming).await.unwrap();
        store.expect_artifacts(std::slice::from_ref(&hash)).await.unwrap();
        note(&store, DELETED_DATASET, &deleted.to_string()).await;
        note(&store, DELETED_RUN, &run.to_string()).await;
        let gone = [
            data.artifacts().join(".tmpAbc"),
            data.artifacts().join("sha256/ab").join(&hash),
            data.datasets().join(".import-x/pixels.tmp"),
            data.dataset(deleted).join(MANIFEST_FILE),
            data.dataset(coming).join(MANIFEST_FILE),
            data.run(run).join("checkpoints/step-000000000001.checkpoint"),
        ];
        let stays = [
            data.root().join("notes.txt"),
            data.datasets().join("lost+found/x"),
            data.runs().join("readme"),
            data.artifacts().join("sha256/ab/README"),
        ];
        for path in gone.iter().chain(&stays) {
            file(path);
        }
        // Whole, and deleted all the same.
        file(&data.dataset(deleted).join(IMAGES_FILE));
        assert_eq!(store.clear_orphans(&data, &lock).await.unwrap(), gone.len() as u64);
        for path in gone {
            assert!(!path.exists(), "{}", path.display());
        }
        for path in stays {
            assert!(path.exists(), "{}", path.display());
        }
        assert_eq!(store.clear_orphans(&data, &lock).await.unwrap(), 0);
        assert_eq!((notes(&store).await, data.lost().exists()), (0, false));
    }

    #[tokio::test]
    async fn what_an_older_database_does_not_know_is_put_aside() {
        let unknown = [
            format!("datasets/{}/images.zip", Uuid::now_v7()),
            format!("artifacts/sha256/ab/{}", "ab".repeat(32)),
            format!("runs/{}/checkpoints/step-000000000001.checkpoint", Uuid::now_v7()),
        ];
        // Each of them by itself tells of an older database.
        for unknown in &unknown {
            let directory = tempfile::tempdir().unwrap();
            let data = DataDir::new(directory.path());
            let lock = data.lock().unwrap();
            let store = Store::open(&data).await.unwrap();
            // Of what was just being published when that was copied: its row came afterwards.
            let (published, deleted) = ("cd".repeat(32), Uuid::now_v7());
            store.expect_artifacts(std::slice::from_ref(&published)).await.unwrap();
            note(&store, DELETED_RUN, &deleted.to_string()).await;
            let kept = [unknown.clone(), format!("artifacts/sha256/cd/{published}")];
            let litter = [data.artifacts().join(".tmpAbc"), data.run(deleted).join("checkpoints/x.checkpoint")];
            for path in kept.iter().map(|path| data.root().join(path)).chain(litter.iter().cloned()) {
                file(&path);
            }
            assert_eq!(store.clear_orphans(&data, &lock).await.unwrap(), 4, "{unknown}");
            for path in &kept {
                assert!(data.lost().join(path).exists() && !data.root().join(path).exists(), "{path}");
            }
            for path in litter {
                assert!(!path.exists(), "what was never whole goes, and what was deleted");
            }
            assert_eq!(store.clear_orphans(&data, &lock).await.unwrap(), 0);
            assert!(data.lost().join(unknown).exists());
            assert_eq!(notes(&store).await, 0);
        }
    }

    #[tokio::test]
    async fn what_cannot_be_put_aside_at_one_start_is_no_litter_at_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::new(directory.path());
        let lock = data.lock().unwrap();
        let store = Store::open(&data).await.unwrap();
        let hash = "cd".repeat(32);
        store.expect_artifacts(std::slice::from_ref(&hash)).await.unwrap();
        let (noted, unheard) = (store.artifact(&hash), data.dataset(Uuid::now_v7()).join(IMAGES_FILE));
        let in_the_way = data.lost().join("artifacts");
        for path in [&noted, &unheard, &in_the_way] {
            file(path);
        }
        for start in 1..=2 {
            assert_eq!(store.clear_orphans(&data, &lock).await.unwrap(), 0, "start {start}");
            assert!(noted.exists() && unheard.exists(), "start {start}");
        }
        std::fs::remove_file(&in_the_way).unwrap();
        assert_eq!(store.clear_orphans(&data, &lock).await.unwrap(), 2);
        for path in [noted, unheard] {
            assert!(!path.exists() && data.lost().join(path.strip_prefix(data.root()).unwrap()).exists());
        }
    }

    #[tokio::test]
    async fn a_whole_data_set_that_was_still_coming_is_put_aside_and_litter_beside_it_goes() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::new(directory.path());
        let lock = data.lock().unwrap();
        let store = Store::open(&data).await.unwrap();
        let (coming, hash) = (Uuid::now_v7(), "ab".repeat(32));
        store.expect_dataset(coming).await.unwrap();
        store.expect_artifacts(std::slice::from_ref(&hash)).await.unwrap();
        let artifact = store.artifact(&hash);
        let whole = [MANIFEST_FILE, IMAGES_FILE].map(|name| data.dataset(coming).join(name));
        for path in whole.iter().chain([&artifact]) {
            file(path);
        }
        assert_eq!(store.clear_orphans(&data, &lock).await.unwrap(), 2);
        let aside = data.lost().join("datasets").join(coming.to_string());
        assert!(is_whole(&aside) && !data.dataset(coming).exists());
        assert!(!artifact.exists(), "its job goes on from its checkpoint and publishes it again");
        assert_eq!(notes(&store).await, 0);
    }

    #[tokio::test]
    async fn files_without_a_database_are_not_taken_for_litter() {
        let hash = "ab".repeat(32);
        for place in [
            format!("datasets/{}/manifest.json", Uuid::now_v7()),
            format!("artifacts/sha256/ab/{hash}"),
            format!("runs/{}/checkpoints/step-000000000001.checkpoint", Uuid::now_v7()),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let data = DataDir::new(directory.path());
            let _lock = data.lock().unwrap();
            let file = directory.path().join(&place);
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
            std::fs::remove_dir_all(directory.path().join(place.split('/').next().unwrap())).unwrap();
            Store::open(&data).await.unwrap().close().await;
        }
    }
}
