//! The data directory: where things lie in it, and the lock that keeps two processes from working in it
//! at once.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::failpoint;

/// How the names of uploads begin: `tempfile`'s own prefix.
const UPLOAD: &str = ".tmp";

/// The file that names who holds the directory.
const LOCK: &str = "lock";

/// Where things are kept.
#[derive(Debug, Clone)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// The data directory at `path`; nothing is touched before [`DataDir::lock`].
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// The SQLite file.
    pub fn database(&self) -> PathBuf {
        self.0.join("mixmatch.db")
    }

    /// Content-addressed files.
    pub fn artifacts(&self) -> PathBuf {
        self.0.join("artifacts")
    }

    /// One directory for each imported data set.
    pub fn datasets(&self) -> PathBuf {
        self.0.join("datasets")
    }

    /// That of one data set.
    pub fn dataset(&self, id: Uuid) -> PathBuf {
        self.datasets().join(id.to_string())
    }

    /// Uploads on their way in; what an earlier process left of them is removed at start.
    pub fn uploads(&self) -> PathBuf {
        self.0.join("uploads")
    }

    /// What an older database does not know, in its old order.
    pub fn lost(&self) -> PathBuf {
        self.0.join("lost")
    }

    /// One directory for each job that is not over: its checkpoints, and a directory of the attempt at work.
    pub fn runs(&self) -> PathBuf {
        self.0.join("runs")
    }

    /// That of one job.
    pub fn run(&self, job: Uuid) -> PathBuf {
        self.runs().join(job.to_string())
    }

    /// Makes the directory and takes its lock, which lasts as long as the returned value (and never
    /// longer than the process, however that ends).
    ///
    /// # Errors
    /// When another process holds it, or the directory cannot be made.
    pub fn lock(&self) -> Result<DataLock, DataDirError> {
        let io = |error| DataDirError::Io { path: self.0.clone(), error };
        failpoint::pass("data_dir.create").and_then(|()| make_private(self.root())).map_err(io)?;
        for directory in self.rooms() {
            failpoint::pass("data_dir.create").and_then(|()| std::fs::create_dir_all(directory)).map_err(io)?;
        }
        // The directory itself, as somebody may take the file for a stale one and remove it. And the file: earlier versions hold that
        // alone, and not every file system locks directories (NFS does not).
        let directory = File::open(self.root()).map_err(io)?;
        if matches!(directory.try_lock(), Err(TryLockError::WouldBlock)) {
            return Err(self.held());
        }
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(self.lock_file())
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(self.held()),
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        // Who holds it, for the one who is refused; a stale line here means nothing without the lock.
        let line = format!("process {}\n", std::process::id());
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(line.as_bytes()));
        Ok(DataLock { _directory: directory, _file: file })
    }

    /// The directories that the lock makes.
    fn rooms(&self) -> [PathBuf; 4] {
        [self.artifacts(), self.datasets(), self.uploads(), self.runs()]
    }

    fn lock_file(&self) -> PathBuf {
        self.0.join(LOCK)
    }

    fn held(&self) -> DataDirError {
        // Whoever removed the file took the holder's name along.
        let told = std::fs::read_to_string(self.lock_file()).unwrap_or_default();
        let holder = if told.trim().is_empty() { "its lock file does not say which" } else { told.trim() };
        DataDirError::Held { path: self.0.clone(), holder: holder.to_owned() }
    }

    /// Whether this entry of the directory is what [`DataDir::lock`] alone makes in it: the file, or a directory with nothing in it.
    pub(crate) fn is_of_lock(&self, entry: &Path) -> bool {
        let is_empty = |room: &Path| std::fs::read_dir(room).is_ok_and(|mut entries| entries.next().is_none());
        entry == self.lock_file()
            || self.rooms().iter().any(|room| room == entry && !room.is_symlink() && is_empty(room))
    }

    /// Removes what an earlier process left half done, and nothing else: a directory that is somebody's own may have a folder of that
    /// name. Only the holder of the lock may call it.
    pub fn sweep_uploads(&self, _lock: &DataLock) {
        let Ok(entries) = std::fs::read_dir(self.uploads()) else { return };
        let ours = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(UPLOAD.as_bytes());
        for entry in entries.flatten().filter(|entry| ours(&entry.file_name())) {
            let path = entry.path();
            let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            if let Err(error) = removed {
                tracing::warn!(path = %path.display(), %error, "an old upload could not be removed");
            }
        }
    }
}

/// Makes a directory that nobody but its owner looks into. One that is there stays as it is, and directories above it are as others are.
pub(crate) fn make_private(directory: &Path) -> std::io::Result<()> {
    directory.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Held while a process works in the data directory.
#[derive(Debug)]
pub struct DataLock {
    _directory: File,
    _file: File,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// A server (or another command) works in it.
    #[error(
        "{} is in use by a running mixmatch ({holder}); ask that server over HTTP, stop it, or name another --data-dir. The file `lock` \
         is never stale: leave it where it is",
        path.display()
    )]
    Held {
        /// The directory.
        path: PathBuf,
        /// Who, as far as the lock file tells.
        holder: String,
    },
    /// The file system refuses.
    #[error("{} cannot be used as a data directory: {error}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_and_told_who_holds_it() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::new(directory.path().join("new"));
        let lock = data.lock().unwrap();
        let refusal = data.lock().unwrap_err().to_string();
        assert!(refusal.contains(&std::process::id().to_string()), "{refusal}");
        drop(lock);
        data.lock().unwrap();
    }

    #[test]
    fn who_removes_the_lock_file_lets_nobody_in() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::new(directory.path());
        let lock = data.lock().unwrap();
        std::fs::remove_file(data.lock_file()).unwrap();
        let refused = data.lock().unwrap_err();
        assert!(matches!(refused, DataDirError::Held { .. }), "{refused}");
        assert!(refused.to_string().contains("is never stale"), "{refused}");
        assert!(!data.lock_file().exists(), "nobody holds it under another name");
        drop(lock);
        data.lock().unwrap();
    }

    #[test]
    fn an_earlier_versions_server_holds_the_file_alone() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::new(directory.path());
        let file = File::create(data.lock_file()).unwrap();
        file.lock().unwrap();
        assert!(matches!(data.lock(), Err(DataDirError::Held { .. })));
        drop(file);
        data.lock().unwrap();
    }

    #[test]
    fn a_new_directory_is_its_owners_alone_and_an_old_one_stays_as_it_is() {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::new(directory.path().join("above/data"));
        drop(data.lock().unwrap());
        assert_eq!(mode(data.root()), 0o700);
        std::fs::create_dir(directory.path().join("any")).unwrap();
        assert_eq!(mode(&directory.path().join("above")), mode(&directory.path().join("any")));
        std::fs::set_permissions(data.root(), std::fs::Permissions::from_mode(0o750)).unwrap();
        drop(data.lock().unwrap());
        assert_eq!(mode(data.root()), 0o750);
    }

    #[test]
    fn the_lock_names_its_holder_alone_whatever_stood_there() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::new(directory.path());
        std::fs::write(data.lock_file(), "process 1234567890, of a version that told more of itself\n").unwrap();
        let _lock = data.lock().unwrap();
        let told = std::fs::read_to_string(data.lock_file()).unwrap();
        assert_eq!(told, format!("process {}\n", std::process::id()));
    }

    #[test]
    fn what_the_lock_makes_is_told_from_what_is_somebodys() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::new(directory.path());
        drop(data.lock().unwrap());
        assert!(data.is_of_lock(&data.lock_file()));
        assert!(data.rooms().iter().all(|room| data.is_of_lock(room)));
        std::fs::write(data.runs().join("notes"), b"x").unwrap();
        assert!(!data.is_of_lock(&data.runs()), "there is something in it");
        // A way to another disk, which would be filled although it is somebody's own.
        let elsewhere = directory.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        assert!(!data.is_of_lock(&elsewhere), "the lock makes none of that name");
        std::fs::remove_dir(data.artifacts()).unwrap();
        std::os::unix::fs::symlink(&elsewhere, data.artifacts()).unwrap();
        assert!(!data.is_of_lock(&data.artifacts()), "a link was put there");
    }

    #[test]
    fn a_folder_of_uploads_that_is_somebodys_own_stays_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::new(directory.path());
        std::fs::create_dir_all(data.uploads().join("my photos")).unwrap();
        std::fs::write(data.uploads().join("thesis.docx"), b"x").unwrap();
        let lock = data.lock().unwrap();
        let [left, whole] = [tempfile::TempDir::new_in(data.uploads()), tempfile::TempDir::new_in(data.uploads())];
        let left = left.unwrap().keep();
        std::fs::write(left.join("images"), b"half of it").unwrap();
        let file = tempfile::NamedTempFile::new_in(data.uploads()).unwrap().keep().unwrap().1;
        data.sweep_uploads(&lock);
        assert!(!left.exists() && !file.exists() && !whole.unwrap().path().exists(), "what a process left goes");
        assert!(data.uploads().join("my photos").exists() && data.uploads().join("thesis.docx").exists());
    }
}
