//! The way of a path into `lost/`: under its own name or the next free one, on the same disk or another.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::data_dir::DataDir;
use crate::sha256;

/// Moves a path of the data directory into `lost/`; whether that could be done.
pub(super) fn put_aside(data: &DataDir, path: &Path) -> bool {
    let target = data.lost().join(path.strip_prefix(data.root()).unwrap_or(path));
    let parent = target.parent().map_or(Ok(()), std::fs::create_dir_all);
    let moved = parent.and_then(|()| move_aside(path, &target));
    match &moved {
        Ok(to) => tracing::warn!(
            path = %path.display(), to = %to.display(),
            "no row names this, and nobody deleted it: is the database an older one, or was an import cut off at its end? Put aside; with the \
             right database, move it back"
        ),
        Err(error) => {
            tracing::warn!(path = %path.display(), to = %target.display(), %error, "could not be put aside; no row names it")
        }
    }
    moved.is_ok()
}

/// Moves a file or a directory to that name or, where something has it, to the next free one; gives that.
fn move_aside(from: &Path, wanted: &Path) -> std::io::Result<PathBuf> {
    let to = free(wanted);
    match std::fs::rename(from, &to) {
        // One of the directories may be a disk of its own.
        Err(error) if error.kind() == ErrorKind::CrossesDevices => move_across(from, wanted),
        moved => moved.map(|()| to),
    }
}

/// As [`move_aside`], to another disk. Until it is whole there it has another name: what a failure leaves of that is removed, and what a kill
/// leaves is made anew.
fn move_across(from: &Path, wanted: &Path) -> std::io::Result<PathBuf> {
    // Copied at an earlier start, which could not remove it.
    let mut taken = numbered(wanted).take_while(|name| is_there(name));
    if let Some(there) = taken.find(|there| holds(there, from).unwrap_or(false)) {
        return remove_all(from).map(|()| there);
    }
    let to = free(wanted);
    let part = with_ending(&to, ".part");
    if is_there(&part) {
        remove_all(&part)?;
    }
    if let Err(error) = copy_all(from, &part).and_then(|()| std::fs::rename(&part, &to)) {
        // It may be what fills the database's disk.
        let _ = remove_all(&part);
        return Err(error);
    }
    to.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())?;
    remove_all(from).map(|()| to)
}

/// This name, and then with the numbers from 2.
fn numbered(path: &Path) -> impl Iterator<Item = PathBuf> {
    let more = (2..=u32::MAX).map(move |number| with_ending(path, &format!(".{number}")));
    std::iter::once(path.to_owned()).chain(more)
}

/// The first of these names that nothing has.
fn free(wanted: &Path) -> PathBuf {
    numbered(wanted).find(|name| !is_there(name)).unwrap_or_else(|| wanted.to_owned())
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}

/// Whether something has that name, be it a link that leads nowhere.
fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn remove_all(path: &Path) -> std::io::Result<()> {
    if is_directory(path) { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }
}

/// Whether all that is in `from`, or what is left of it, is in `there` with the same bytes.
fn holds(there: &Path, from: &Path) -> std::io::Result<bool> {
    if from.is_symlink() {
        return Ok(std::fs::read_link(from)? == std::fs::read_link(there)?);
    }
    if is_directory(from) {
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            if !holds(&there.join(entry.file_name()), &entry.path())? {
                return Ok(false);
            }
        }
        return Ok(is_directory(there));
    }
    let (one, other) = (from.symlink_metadata()?, there.symlink_metadata()?);
    Ok(other.is_file() && one.len() == other.len() && sha256::of_file(from)? == sha256::of_file(there)?)
}

/// Copies a file or a directory with all that is in it, and syncs it; links stay links.
fn copy_all(from: &Path, to: &Path) -> std::io::Result<()> {
    if from.is_symlink() {
        return std::os::unix::fs::symlink(std::fs::read_link(from)?, to);
    }
    if is_directory(from) {
        std::fs::create_dir(to)?;
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            copy_all(&entry.path(), &to.join(entry.file_name()))?;
        }
    } else {
        std::fs::copy(from, to)?;
    }
    File::open(to)?.sync_all()
}

/// Whether that is a directory, and no link to one.
fn is_directory(path: &Path) -> bool {
    path.is_dir() && !path.is_symlink()
}

#[cfg(test)]
mod tests {
    use super::super::entries;
    use super::super::tests::file;
    use super::*;
    use crate::dataset::IMAGES_FILE;

    #[test]
    fn what_is_moved_to_another_disk_is_whole_there_and_gone_here() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("set"), directory.path().join("lost/set"));
        file(&from.join("packed/pixels"));
        std::os::unix::fs::symlink("/nowhere", from.join(IMAGES_FILE)).unwrap();
        // Left by a kill.
        file(&directory.path().join("lost/set.part/half"));
        assert_eq!(move_across(&from, &to).unwrap(), to);
        assert_eq!(std::fs::read(to.join("packed/pixels")).unwrap(), b"x");
        assert_eq!(std::fs::read_link(to.join(IMAGES_FILE)).unwrap(), Path::new("/nowhere"));
        assert!(!to.join("half").exists() && !from.exists() && !to.with_extension("part").exists());
        move_across(&to.join("packed/pixels"), &directory.path().join("pixels")).unwrap();
        assert_eq!(std::fs::read(directory.path().join("pixels")).unwrap(), b"x");
        assert!(!to.join("packed/pixels").exists());
        assert!(move_across(&from, &to).is_err() && to.exists(), "what is not there");
    }

    #[test]
    fn what_lies_in_lost_already_keeps_nothing_from_being_put_there() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::new(directory.path());
        let (from, to) = (data.datasets().join("set"), data.lost().join("datasets/set"));
        let content = |path: &Path| std::fs::read_to_string(path.join("x")).unwrap();
        let write = |text: &str| {
            file(&from.join("x"));
            std::fs::write(from.join("x"), text).unwrap();
        };
        write("first");
        assert!(put_aside(&data, &from));
        write("second");
        assert!(put_aside(&data, &from) && !from.exists());
        let second = to.with_file_name("set.2");
        assert_eq!([&to, &second].map(|path| content(path)), ["first", "second"]);

        // To another disk, where an earlier start was killed before it had removed this.
        write("second");
        assert_eq!(move_across(&from, &to).unwrap(), second);
        assert!(!from.exists());
        write("third!");
        assert_eq!(move_across(&from, &to).unwrap(), to.with_file_name("set.3"));
        assert_eq!(entries(to.parent().unwrap()).len(), 3);
        assert_eq!([&to, &second].map(|path| content(path)), ["first", "second"], "they stay as they are");
    }

    #[test]
    fn half_a_copy_that_failed_does_not_stay() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("set"), directory.path().join("lost/set"));
        file(&from.join("x"));
        // Nothing can be copied from a socket, be it root who tries.
        let _socket = std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        for start in 1..=2 {
            assert!(move_across(&from, &to).is_err(), "start {start}");
            assert!(from.join("x").exists() && entries(to.parent().unwrap()).is_empty(), "start {start}");
        }
    }
}
