//! Files of a backup and of a directory that one is put back into: listed, copied, compared, synced.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::{BackupError, io};
use crate::data_dir::make_private;
use crate::full_disk::lacks_room;
use crate::sha256;

/// What a new file system has in its root.
pub(super) const LOST_AND_FOUND: &str = "lost+found";

/// Names of the files in a directory, be they links to such, less hidden ones and what is below it; none where it is gone.
pub(super) fn plain_files(directory: &Path) -> Result<Option<Vec<OsString>>, BackupError> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        entries => entries.map_err(io(directory))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io(directory))?;
        let name = entry.file_name();
        // A link that leads nowhere may be a file that is lost.
        let is_file = std::fs::metadata(entry.path()).map_or(true, |metadata| metadata.is_file());
        if is_file && !name.as_encoded_bytes().starts_with(b".") {
            names.push(name);
        }
    }
    names.sort();
    Ok(Some(names))
}

/// True where the new file is a hard link: the same bytes, which nobody changes in place.
pub(super) fn link_or_copy(source: &Path, target: &Path) -> Result<bool, BackupError> {
    make_parent(target)?;
    // A link to a link would lead out of the copy.
    if !source.is_symlink() && std::fs::hard_link(source, target).is_ok() {
        return Ok(true);
    }
    copy_file(source, target).map(|_| false)
}

/// Nobody may read the copy who could not read the original; what was made read-only in a backup is written again where it is put back.
pub(super) fn copy_file(source: &Path, target: &Path) -> Result<u64, BackupError> {
    make_parent(target)?;
    let mut from = File::open(source).map_err(io(source))?;
    let mut to =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(target).map_err(io(target))?;
    // One call for both: which of the two disks is at fault, its kind tells.
    let copied = std::io::copy(&mut from, &mut to).map_err(|error| {
        let path = if no_room(&error) { target } else { source };
        BackupError::Io { path: path.to_owned(), error }
    })?;
    let mode = from.metadata().map_err(io(source))?.permissions().mode() & 0o777 | 0o600;
    to.set_permissions(Permissions::from_mode(mode)).and_then(|()| to.sync_all()).map_err(io(target))?;
    Ok(copied)
}

/// Whether only what is written to can have caused it.
fn no_room(error: &std::io::Error) -> bool {
    lacks_room(error) || error.kind() == std::io::ErrorKind::ReadOnlyFilesystem
}

fn make_parent(path: &Path) -> Result<(), BackupError> {
    path.parent().map_or(Ok(()), |parent| std::fs::create_dir_all(parent).map_err(io(parent)))
}

pub(super) fn expect(path: &Path, sha256: &str) -> Result<(), BackupError> {
    if hash_of(path)? == sha256 {
        return Ok(());
    }
    Err(BackupError::Damaged { path: path.to_owned(), expected: sha256.to_owned() })
}

pub(super) fn hash_of(path: &Path) -> Result<String, BackupError> {
    sha256::of_file(path).map_err(io(path))
}

/// Removes a file that may be there. A read-only disk refuses that for one that never was.
pub(super) fn remove(path: &Path) -> Result<(), BackupError> {
    match std::fs::remove_file(path) {
        Err(error) if path.symlink_metadata().is_ok() => Err(BackupError::Io { path: path.to_owned(), error }),
        _ => Ok(()),
    }
}

/// Removes the files below a directory that are not among the `named` ones, and directories in which none is left.
pub(super) fn remove_unnamed(directory: &Path, named: &dyn Fn(&Path) -> bool) -> Result<(), BackupError> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(io(directory))?,
    };
    for entry in entries {
        let entry = entry.map_err(io(directory))?;
        let path = entry.path();
        if entry.file_type().map_err(io(&path))?.is_dir() {
            remove_unnamed(&path, named)?;
        } else if !named(&path) {
            remove(&path)?;
        }
    }
    // One that is not empty stays.
    let _kept = std::fs::remove_dir(directory);
    Ok(())
}

/// Makes the directory, for nobody but its owner, where there is none, and refuses one with more in it than `passes`.
pub(super) fn refuse_full(directory: &Path, passes: impl Fn(&Path) -> bool) -> Result<(), BackupError> {
    make_private(directory).map_err(io(directory))?;
    for entry in std::fs::read_dir(directory).map_err(io(directory))? {
        let entry = entry.map_err(io(directory))?;
        if entry.file_name() != LOST_AND_FOUND && !passes(&entry.path()) {
            return Err(BackupError::NotEmpty(directory.to_owned()));
        }
    }
    Ok(())
}

/// Makes new names survive a power cut.
pub(super) fn sync_directories(directory: &Path) -> Result<(), BackupError> {
    for entry in std::fs::read_dir(directory).map_err(io(directory))?.flatten() {
        // Root's alone, on a disk of its own.
        if entry.path().is_dir() && entry.file_name() != LOST_AND_FOUND {
            sync_directories(&entry.path())?;
        }
    }
    File::open(directory).and_then(|file| file.sync_all()).map_err(io(directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_was_there_is_removed_already() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, b"x").unwrap();
        remove(&file.join("below")).expect("the system refuses with another error than that it is not there");
        remove(&file).unwrap();
        remove(&file).unwrap();
        assert!(matches!(remove(directory.path()), Err(BackupError::Io { .. })), "what is there and stays");
    }

    #[test]
    fn a_copy_can_be_written_to_by_its_owner_whatever_the_original_allowed() {
        let directory = tempfile::tempdir().unwrap();
        let [source, target] = ["source", "target"].map(|name| directory.path().join(name));
        std::fs::write(&source, b"x").unwrap();
        for (mode, copied) in [(0o400, 0o600), (0o440, 0o640), (0o600, 0o600)] {
            std::fs::set_permissions(&source, Permissions::from_mode(mode)).unwrap();
            copy_file(&source, &target).unwrap();
            assert_eq!(target.metadata().unwrap().permissions().mode() & 0o777, copied, "of {mode:o}");
        }
    }

    #[test]
    fn a_full_disk_is_told_of_the_one_that_is_full() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("images.zip");
        std::fs::write(&source, b"x").unwrap();
        let full = Path::new("/dev/full");
        match copy_file(&source, full) {
            Err(BackupError::Io { path, error }) => {
                assert_eq!((path.as_path(), error.kind()), (full, std::io::ErrorKind::StorageFull));
            }
            other => panic!("{other:?}"),
        }
        match copy_file(&directory.path().join("gone.zip"), &directory.path().join("copy.zip")) {
            Err(BackupError::Io { path, .. }) => assert!(path.ends_with("gone.zip"), "{}", path.display()),
            other => panic!("{other:?}"),
        }
    }
}
