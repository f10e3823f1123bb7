//! A backup put back: every file verified in its new place, and nothing left there where one is not right. Meanwhile the directory is
//! locked, so that no server starts on what is half there.

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::files::{LOST_AND_FOUND, copy_file, expect, refuse_full, remove, sync_directories};
use super::{BackupError, Copied, Index, WHOLE_DATASET, artifact, dataset, go_on, read_index};
use crate::data_dir::DataDir;
use crate::store::{bring_up_to_date, read_snapshot, refuse_newer};

/// Puts a backup into an empty data directory and verifies every file there. `stop` is asked between files.
///
/// # Errors
/// See [`BackupError`].
pub async fn restore(from: &Path, data: &DataDir, stop: &CancellationToken) -> Result<(Index, Copied), BackupError> {
    let index = read_index(from)?;
    refuse_newer(&DataDir::new(from).database()).await?;
    let of_lock = |entry: &Path| data.is_of_lock(entry);
    // Before the lock, which makes files of its own: somebody's own folder stays as it is. And behind it, as another restore may have held it.
    refuse_full(data.root(), of_lock)?;
    let _lock = data.lock()?;
    refuse_full(data.root(), of_lock)?;
    match put_back(from, data, &index, stop).await {
        Ok(copied) => Ok((index, copied)),
        Err(error) => {
            // Nobody is to serve from half of it, and the same command is to work once its reason is mended: the lock's file does not
            // stand in its way. One that cannot be removed is not what went wrong.
            for name in index.files.keys() {
                if let Err(left) = remove(&data.root().join(name)) {
                    tracing::warn!(error = %left, "a file of the failed restore stays");
                }
            }
            remove_empty(data.root());
            Err(error)
        }
    }
}

async fn put_back(from: &Path, data: &DataDir, index: &Index, stop: &CancellationToken) -> Result<Copied, BackupError> {
    let mut copied = Copied::default();
    let database = data.database();
    // The database last: without it, what a power cut leaves is no data directory.
    let (last, first): (Vec<_>, Vec<_>) = index.files.iter().partition(|(name, _)| data.root().join(name) == database);
    for (name, sha256) in first.into_iter().chain(last) {
        go_on(stop)?;
        let (source, target) = (from.join(name), data.root().join(name));
        copied.bytes += copy_file(&source, &target)?;
        copied.files += 1;
        // What is damaged in the backup is told of its own file.
        expect(&target, sha256).or_else(|error| expect(&source, sha256).and(Err(error)))?;
    }
    // An earlier version's backup: what its rows name is asked in this version's words.
    bring_up_to_date(&database).await?;
    sync_directories(data.root())?;
    let named = read_snapshot(&database).await?;
    // The index may be whole and yet not fit its database, if somebody put two backups together.
    let artifacts = named.artifacts.iter().map(|sha256| artifact(sha256));
    let sets = named.datasets.iter().flat_map(|id| WHOLE_DATASET.map(|name| dataset(*id).join(name)));
    let lacks = |path: &PathBuf| !index.files.contains_key(&*path.to_string_lossy());
    if let Some(missing) = artifacts.chain(sets).find(lacks) {
        let reason = format!("{} is not in it, and its database names it", missing.display());
        return Err(BackupError::NoBackup { path: from.to_owned(), reason });
    }
    Ok(copied)
}

/// Removes the empty directories in `root`, as far as that can be done.
fn remove_empty(root: &Path) {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        if entry.path().is_dir() && entry.file_name() != LOST_AND_FOUND {
            remove_empty(&entry.path());
            // One that is not empty stays.
            let _kept = std::fs::remove_dir(entry.path());
        }
    }
}
