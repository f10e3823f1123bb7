//! Content-addressed files: the name is the SHA-256 of the bytes, so that a file is whole or not there.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

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

/// The hash that [`put`] will give. Blocks.
pub(super) fn hash(source: &Path) -> Result<String, StoreError> {
    sha256::of_file(source).map_err(|error| StoreError::io(source, error))
}

/// Copies `source` into the directory `root` and gives its hash, which is noted already (`Store::expect_artifacts`). Blocks.
///
/// The copy is synced under another name and then renamed, its directory synced after: when this returns,
/// the file survives a power cut, and a row may name it.
pub(super) fn put(root: &Path, source: &Path) -> Result<String, StoreError> {
    let mut input = File::open(source).map_err(|e| StoreError::io(source, e))?;
    std::fs::create_dir_all(root).map_err(|e| StoreError::io(root, e))?;
    let mut copy = tempfile::NamedTempFile::new_in(root).map_err(|e| StoreError::io(root, e))?;
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
    let sha256 = sha256::hex(hash);
    let target = artifact_in(root, &sha256);
    if target.exists() {
        return Ok(sha256);
    }
    let parent = target.parent().unwrap_or(root);
    failpoint::pass("artifact.fsync").map_err(|e| StoreError::io(&target, e))?;
    copy.as_file().sync_all().map_err(|e| StoreError::io(&target, e))?;
    std::fs::create_dir_all(parent).map_err(|e| StoreError::io(parent, e))?;
    failpoint::pass("artifact.rename").map_err(|e| StoreError::io(&target, e))?;
    copy.persist(&target).map_err(|e| StoreError::io(&target, e.error))?;
    failpoint::pass("artifact.renamed").map_err(|e| StoreError::io(&target, e))?;
    for directory in [parent, &root.join("sha256"), root] {
        File::open(directory).and_then(|d| d.sync_all()).map_err(|e| StoreError::io(directory, e))?;
    }
    Ok(sha256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_hash_and_the_same_bytes_are_kept_once() {
        let directory = tempfile::tempdir().unwrap();
        let (root, source) = (directory.path().join("artifacts"), directory.path().join("source"));
        std::fs::write(&source, b"abc").unwrap();
        let hash = put(&root, &source).unwrap();
        assert_eq!(super::hash(&source).unwrap(), hash);
        assert_eq!(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(put(&root, &source).unwrap(), hash);
        assert_eq!(std::fs::read(artifact_in(&root, &hash)).unwrap(), b"abc");
        let left: Vec<_> = std::fs::read_dir(&root).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["sha256"], "a temporary file was left behind");
        assert!(put(&root, &directory.path().join("gone")).is_err());
    }
}
