//! The data directory: where things lie in it, and the lock that keeps two processes from working in it
//! at once.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::failpoint;

/// How the names of uploads begin: `tempfile`'s own prefix.
const UPLOAD: &str = ".tmp";

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
        for directory in [self.root().to_owned(), self.artifacts(), self.datasets(), self.uploads(), self.runs()] {
            failpoint::pass("data_dir.create").and_then(|()| std::fs::create_dir_all(directory)).map_err(io)?;
        }
        let path = self.0.join("lock");
        let mut file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                return Err(DataDirError::Held { path: self.0.clone(), holder: holder.trim().to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        // Who holds it, for the one who is refused; a stale line here means nothing without the lock.
        let line = format!("process {}\n", std::process::id());
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(line.as_bytes()));
        Ok(DataLock { _file: file })
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

/// Held while a process works in the data directory.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// A server (or another command) works in it.
    #[error(
        "{} is in use by a running mixmatch ({holder}); ask that server over HTTP, stop it, or name another --data-dir",
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
