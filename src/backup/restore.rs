//! A backup put back: every file verified in its new place, and nothing left there where one is not right.

use std::path::Path;

use super::{
    BackupError, Copied, Index, artifact, copy_file, expect, read_index, refuse_full, remove, sync_directories,
};
use crate::data_dir::DataDir;
use crate::store::read_snapshot;

/// Puts a backup into an empty data directory and verifies every file there.
///
/// # Errors
/// See [`BackupError`].
pub async fn restore(from: &Path, data: &DataDir) -> Result<(Index, Copied), BackupError> {
    let index = read_index(from)?;
    refuse_full(data.root())?;
    match put_back(from, data, &index).await {
        Ok(copied) => Ok((index, copied)),
        Err(error) => {
            // Nobody is to serve from half of it, and the same command is to work once its reason is mended.
            for name in index.files.keys() {
                remove(&data.root().join(name))?;
            }
            remove_empty(data.root());
            Err(error)
        }
    }
}

async fn put_back(from: &Path, data: &DataDir, index: &Index) -> Result<Copied, BackupError> {
    let mut copied = Copied::default();
    let database = data.database();
    // The database last: without it, what a power cut leaves is no data directory.
    let (last, first): (Vec<_>, Vec<_>) = index.files.iter().partition(|(name, _)| data.root().join(name) == database);
    for (name, sha256) in first.into_iter().chain(last) {
        let (source, target) = (from.join(name), data.root().join(name));
        copied.bytes += copy_file(&source, &target)?;
        copied.files += 1;
        // What is damaged in the backup is told of its own file.
        expect(&target, sha256).or_else(|error| expect(&source, sha256).and(Err(error)))?;
    }
    sync_directories(data.root())?;
    let named = read_snapshot(&database).await?;
    // The index may be whole and yet not fit its database, if somebody put two backups together.
    let lacks = |sha256: &&String| !index.files.contains_key(&*artifact(sha256).to_string_lossy());
    let missing = named.artifacts.iter().find(lacks);
    if let Some(sha256) = missing {
        return Err(BackupError::NoBackup { path: from.to_owned(), reason: format!("artifact {sha256} is not in it") });
    }
    Ok(copied)
}

/// Removes the empty directories in `root`, as far as that can be done.
fn remove_empty(root: &Path) {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_empty(&entry.path());
            // One that is not empty stays.
            let _kept = std::fs::remove_dir(entry.path());
        }
    }
}
