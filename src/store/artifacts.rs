//! Content-addressed files: the name is the SHA-256 of the bytes, so that a file is whole or not there.

use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempPath};

use super::Store;
use super::error::StoreError;
use crate::{failpoint, sha256};

impl Store {
    /// Where the file with this hash lies, whether it is there or not.
    pub fn artifact(&self, sha256: &str) -> PathBuf {
        artifact_in(&self.artifacts, sha256)
    }
}

/// Where the file with this hash lies in a directory of artifacts.
pub fn artifact_in(root: &Path, sha256: &str) -> PathBuf {
    root.join("sha256").join(sha256.get(..2).unwrap_or("__")).join(sha256)
}

/// A file on its way to the artifacts: copied or linked, hashed and synced, under a temporary name beside them. Dropped that name is gone;
/// what a kill leaves of it, the next start knows for litter by it.
#[derive(Debug)]
pub(super) struct Staged {
    /// The hash of its bytes, which is to be its name.
    pub(super) sha256: String,
    /// None where the same bytes are kept already.
    copy: Option<TempPath>,
}

/// Copies `source`, which is somebody's own, into the directory `root`, for [`Store::keep_artifacts`]. Blocks.
pub(super) fn stage(root: &Path, source: &Path) -> Result<Staged, StoreError> {
    let mut input = File::open(source).map_err(|e| StoreError::io(source, e))?;
    std::fs::create_dir_all(root).map_err(|e| StoreError::io(root, e))?;
    let mut copy = NamedTempFile::new_in(root).map_err(|e| StoreError::io(root, e))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    failpoint::pass("artifact.write").map_err(|e| StoreError::io(root, e))?;
    loop {
        let read = input.read(&mut buffer).map_err(|e| StoreError::io(source, e))?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        copy.write_all(&buffer[..read]).map_err(|e| StoreError::io(root, e))?;
    }
    let (file, copy) = copy.into_parts();
    sync(root, sha256::hex(hash), &file, copy)
}

/// As [`stage`], for a file that a run has made and that nobody changes any more, but for its rights: a hard link where the file system
/// allows it. A second copy would wait for room that the first one takes.
pub(super) fn stage_own(root: &Path, source: &Path) -> Result<Staged, StoreError> {
    std::fs::create_dir_all(root).map_err(|e| StoreError::io(root, e))?;
    // Behind a symbolic link lies what is somebody else's.
    if source.is_symlink() {
        return stage(root, source);
    }
    let link = tempfile::Builder::new().make_in(root, |link| std::fs::hard_link(source, link));
    let Ok(link) = link else { return stage(root, source) };
    let link = link.into_temp_path();
    failpoint::pass("artifact.write").map_err(|e| StoreError::io(root, e))?;
    let file = File::open(&link).map_err(|e| StoreError::io(source, e))?;
    // As a copy would have them.
    file.set_permissions(Permissions::from_mode(0o600)).map_err(|e| StoreError::io(source, e))?;
    let sha256 = sha256::of_file(&link).map_err(|e| StoreError::io(source, e))?;
    sync(root, sha256, &file, link)
}

/// Syncs what is to be kept under this hash, unless it is kept already.
fn sync(root: &Path, sha256: String, file: &File, copy: TempPath) -> Result<Staged, StoreError> {
    let target = artifact_in(root, &sha256);
    if target.exists() {
        return Ok(Staged { sha256, copy: None });
    }
    failpoint::pass("artifact.fsync").map_err(|e| StoreError::io(&target, e))?;
    file.sync_all().map_err(|e| StoreError::io(&target, e))?;
    Ok(Staged { sha256, copy: Some(copy) })
}

impl Staged {
    /// Gives the copy its name and syncs the directory that it is then in: when this returns, the file survives a power cut, and a row may
    /// name it. Blocks.
    fn keep(self, root: &Path) -> Result<(), StoreError> {
        let Self { sha256, copy: Some(copy) } = self else { return Ok(()) };
        let target = artifact_in(root, &sha256);
        let parent = target.parent().unwrap_or(root);
        std::fs::create_dir_all(parent).map_err(|e| StoreError::io(parent, e))?;
        failpoint::pass("artifact.rename").map_err(|e| StoreError::io(&target, e))?;
        copy.persist(&target).map_err(|e| StoreError::io(&target, e.error))?;
        failpoint::pass("artifact.renamed").map_err(|e| StoreError::io(&target, e))?;
        for directory in [parent, &root.join("sha256"), root] {
            File::open(directory).and_then(|d| d.sync_all()).map_err(|e| StoreError::io(directory, e))?;
        }
        Ok(())
    }
}

impl Store {
    /// Puts staged files into their place, where rows may name them then. They are noted before: whoever is killed in between leaves litter,
    /// and nothing that was lost.
    ///
    /// The caller holds `files`, so that what is there already stays.
    pub(super) async fn keep_artifacts(&self, staged: Vec<Staged>) -> Result<(), StoreError> {
        let hashes: Vec<String> = staged.iter().map(|staged| staged.sha256.clone()).collect();
        self.expect_artifacts(&hashes).await?;
        let root = self.artifacts.clone();
        let keep = move || staged.into_iter().try_for_each(|staged| staged.keep(&root));
        tokio::task::spawn_blocking(keep)
            .await
            .map_err(|error| StoreError::Artifact { path: self.artifacts.clone(), reason: error.to_string() })?
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::store::new_store;

    #[test]
    fn the_name_is_the_hash_and_the_same_bytes_are_kept_once() {
        let directory = tempfile::tempdir().unwrap();
        let (root, source) = (directory.path().join("artifacts"), directory.path().join("source"));
        std::fs::write(&source, b"abc").unwrap();
        let staged = stage(&root, &source).unwrap();
        let hash = staged.sha256.clone();
        assert_eq!(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        staged.keep(&root).unwrap();
        let again = stage(&root, &source).unwrap();
        assert!(again.sha256 == hash && again.copy.is_none(), "{again:?}");
        again.keep(&root).unwrap();
        assert_eq!(std::fs::read(artifact_in(&root, &hash)).unwrap(), b"abc");
        assert_eq!(names(&root), ["sha256"], "a temporary file was left behind");
        assert!(stage(&root, &directory.path().join("gone")).is_err());
    }

    #[test]
    fn what_a_run_has_made_is_linked_and_what_is_somebodys_own_is_copied() {
        let directory = tempfile::tempdir().unwrap();
        let (root, source) = (directory.path().join("artifacts"), directory.path().join("source"));
        std::fs::write(&source, b"abc").unwrap();
        std::fs::set_permissions(&source, Permissions::from_mode(0o644)).unwrap();
        let facts = |path: &Path| {
            let metadata = std::fs::metadata(path).unwrap();
            (metadata.nlink(), metadata.mode() & 0o777)
        };
        let copied = stage(&root, &source).unwrap();
        assert_eq!((facts(&source), facts(copied.copy.as_deref().unwrap())), ((1, 0o644), (1, 0o600)));
        drop(copied);

        let aside = directory.path().join("aside");
        std::os::unix::fs::symlink(&source, &aside).unwrap();
        let copied = stage_own(&root, &aside).unwrap();
        assert_eq!((facts(&source), facts(copied.copy.as_deref().unwrap())), ((1, 0o644), (1, 0o600)));
        drop(copied);

        let linked = stage_own(&root, &source).unwrap();
        let hash = linked.sha256.clone();
        assert_eq!(hash, sha256::of(b"abc"));
        assert_eq!(facts(&source), (2, 0o600), "it needs no room of its own");
        linked.keep(&root).unwrap();
        // Published once more, after a final write that failed.
        assert!(stage_own(&root, &source).unwrap().copy.is_none());
        assert_eq!((names(&root), facts(&source)), (vec!["sha256".to_owned()], (2, 0o600)));
        std::fs::remove_file(&source).unwrap();
        assert_eq!(std::fs::read(artifact_in(&root, &hash)).unwrap(), b"abc");
        assert!(matches!(stage_own(&root, &source), Err(StoreError::Io { path, .. }) if path == source));
    }

    #[tokio::test]
    async fn what_is_staged_has_no_name_before_it_is_noted_and_is_litter_until_then() {
        let directory = tempfile::tempdir().unwrap();
        let store = new_store(directory.path()).await;
        let source = directory.path().join("source");
        std::fs::write(&source, b"abc").unwrap();
        let staged = stage(&store.artifacts, &source).unwrap();
        let artifact = store.artifact(&staged.sha256);
        // As it would lie there after a kill; `store::orphans` removes what is called so.
        let left = names(&store.artifacts);
        assert!(left.iter().any(|name| name.starts_with(".tmp")) && !artifact.exists(), "{left:?}");

        let (database, away) = (directory.path().join("data/mixmatch.db"), directory.path().join("away.db"));
        std::fs::rename(&database, &away).unwrap();
        let refused = store.keep_artifacts(vec![staged]).await;
        assert!(matches!(refused, Err(StoreError::Replaced { .. })), "{refused:?}");
        let left = names(&store.artifacts);
        assert!(!left.iter().any(|name| name.starts_with(".tmp")) && !artifact.exists(), "{left:?}");
        std::fs::rename(&away, &database).unwrap();

        let staged = stage(&store.artifacts, &source).unwrap();
        let hash = staged.sha256.clone();
        store.keep_artifacts(vec![staged]).await.unwrap();
        let noted: Vec<String> =
            sqlx::query_scalar("SELECT sha256 FROM passing_artifacts").fetch_all(&store.reader).await.unwrap();
        assert!(noted == [hash] && artifact.exists(), "{noted:?}");
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}
