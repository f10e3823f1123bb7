//! Copies of a data directory: made beside a running server, verified, and put back.
//!
//! A backup has the layout of a data directory, and `backup.json` with the hash of every file, written last: without
//! it the copy is not whole. Order of making it: the database as of one moment, then the files that its rows name.
//! Those files are never changed in place; where one was deleted meanwhile, a newer moment is taken, and what only the moment
//! before named goes. One that a newer moment's rows still name was not deleted: it is lost, and said to be.
//!
//! Of work in progress, whole checkpoints come along where there are any: a job that was under way is queued again by the server
//! that starts on the copy. Not in it: `packed/` (made again when needed) and `uploads/`. Blocks; the caller finds a
//! thread for it.

mod files;
mod restore;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use restore::restore;

use files::{expect, hash_of, link_or_copy, plain_files, refuse_full, remove, remove_unnamed, sync_directories};

use crate::data_dir::{DataDir, DataDirError, make_private};
use crate::dataset::{IMAGES_FILE, MANIFEST_FILE};
use crate::store::{NamedFile, NamedFiles, Need, Store, StoreError, artifact_in, needs_of, read_snapshot};

/// The file that makes a directory a backup.
const INDEX: &str = "backup.json";

/// Version of [`Index`]; another one is refused.
const FORMAT: u32 = 1;

/// How the name of a whole checkpoint ends. Under every other name beside it, a child may just be writing: a link to that
/// would go on growing inside the backup.
const WHOLE_CHECKPOINT: &str = ".checkpoint";

/// Without these a data set is nothing; what else lies beside them comes along where it can.
const WHOLE_DATASET: [&str; 2] = [MANIFEST_FILE, IMAGES_FILE];

/// New moments that are tried when files vanish under the copy.
const MOMENTS: usize = 5;

/// Needs of a lost file that a message names.
const NAMED: usize = 5;

/// SHA-256 of files by their paths below a directory.
pub type Hashes = BTreeMap<String, String>;

/// What `backup.json` says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Index {
    /// Version of this file.
    pub format: u32,
    /// Version of the program that wrote it.
    pub mixmatch: String,
    /// The moment of the database.
    pub taken_at: jiff::Timestamp,
    /// SHA-256 of each file by its path below the directory.
    pub files: Hashes,
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Files.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Files that are hard links, which need no room of their own.
    pub linked: u64,
}

/// Why there is no whole copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The target has something in it already.
    #[error("{} is not empty; name a directory that is empty or does not exist yet", .0.display())]
    NotEmpty(PathBuf),
    /// What is in the target seems to be a backup that did not come to its end.
    #[error(
        "{} is not empty: a backup seems to have been cut off there, as there is no backup.json; look whether that is so, then remove it, or name \
         another directory",
        .0.display()
    )]
    Unfinished(PathBuf),
    /// Another backup is being made there.
    #[error("another backup into {} is under way; wait for its end, or name another directory", .0.display())]
    UnderWay(PathBuf),
    /// No backup lies there.
    #[error("{} holds no whole backup: {reason}", path.display())]
    NoBackup {
        /// The directory.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// A file's bytes are not those that its name or the index says.
    #[error("{} is damaged: its SHA-256 is not {expected}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The hash it should have.
        expected: String,
    },
    /// Rows name a file that is not there.
    #[error("{} is lost, and needed by {needs}: put it back from an earlier backup, or {ways}", path.display())]
    Lost {
        /// The file; the data set's directory where all of it is gone.
        path: PathBuf,
        /// What needs it.
        needs: String,
        /// How to do without it.
        ways: String,
    },
    /// Somebody asked for its end, between two files.
    #[error("stopped on request; what was copied is removed again")]
    Stopped,
    /// Files kept vanishing.
    #[error("files were deleted faster than they could be copied; try again in a quieter moment")]
    Moving,
    /// The file system refuses.
    #[error("{}: {error}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Somebody works in the directory that is restored to, or it can be none.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> BackupError + '_ {
    |error| BackupError::Io { path: path.to_owned(), error }
}

/// What the file system refuses is told of the file alone: a copy of the database is no artifact.
fn of_file(error: StoreError) -> BackupError {
    match error {
        StoreError::Io { path, error } => BackupError::Io { path, error },
        error => error.into(),
    }
}

/// Copies `data` into `to`, a directory that is empty or does not exist yet. The server may run.
///
/// Artifacts are hard-linked where the file system allows it; every file is read and hashed in its new place. `stop` is asked between files.
///
/// # Errors
/// See [`BackupError`]; nothing of it stays then, as it may be what fills the disk, and the same command is to work later.
pub async fn backup(data: &DataDir, to: &Path, stop: &CancellationToken) -> Result<(Index, Copied), BackupError> {
    let copy = DataDir::new(to);
    make_private(to).map_err(io(to))?;
    // Kept until what failed is removed: two that began at once would empty each other's directory.
    let turn = take_turn(to)?;
    match (refuse_full(to, |_| false), &turn) {
        (Ok(()), Some(_)) => {}
        // A server holds its data directory too.
        (Err(refused), _) if !is_cut_off(&copy) => return Err(refused),
        (Err(_), Some(_)) => return Err(BackupError::Unfinished(to.to_owned())),
        (_, None) => return Err(BackupError::UnderWay(to.to_owned())),
    }
    let made = make(data, &copy, stop).await;
    if made.is_err() {
        remove_made(&copy);
    }
    made
}

/// Holds the directory for one backup, as long as the returned file is open; none where another process holds it.
fn take_turn(directory: &Path) -> Result<Option<File>, BackupError> {
    let turn = File::open(directory).map_err(io(directory))?;
    match turn.try_lock() {
        Err(TryLockError::WouldBlock) => Ok(None),
        // Not every file system locks directories (NFS does not).
        _ => Ok(Some(turn)),
    }
}

/// Whether a backup was begun there that has no end. In a data directory, a database has a lock's file beside it.
fn is_cut_off(copy: &DataDir) -> bool {
    copy.database().exists()
        && ![INDEX, "lock", "mixmatch.db-migrating"].iter().any(|name| copy.root().join(name).exists())
}

/// Removes what a backup has made in a directory that was empty. What cannot be removed is not what went wrong.
fn remove_made(copy: &DataDir) {
    // The index first: without it, the rest is no backup.
    for path in [copy.root().join(INDEX), copy.database(), copy.artifacts(), copy.datasets(), copy.runs()] {
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path).map_err(io(&path)) } else { remove(&path) };
        if let Err(left) = removed {
            tracing::warn!(error = %left, "a part of the failed backup stays");
        }
    }
}

async fn make(data: &DataDir, copy: &DataDir, stop: &CancellationToken) -> Result<(Index, Copied), BackupError> {
    let to = copy.root();
    let store = Store::open_beside(data).await?;
    let mut missed = BTreeSet::new();
    for _ in 0..MOMENTS {
        let taken_at = jiff::Timestamp::now();
        remove(&copy.database())?;
        store.snapshot(&copy.database()).await.map_err(of_file)?;
        let named = read_snapshot(&copy.database()).await?;
        let (files, copied) = match copy_named(data, copy, &named, stop)? {
            Round::Whole(files, copied) => (files, copied),
            Round::Lacks(file, path) => {
                // Rows go before their files.
                if missed.contains(&file) {
                    return Err(lost(data, &path, &needs_of(&copy.database(), &file).await?));
                }
                missed.insert(file);
                continue;
            }
        };
        store.close().await;
        let index = Index { format: FORMAT, mixmatch: env!("CARGO_PKG_VERSION").to_owned(), taken_at, files };
        write_index(to, &index)?;
        return Ok((index, copied));
    }
    Err(BackupError::Moving)
}

/// What came of one moment.
enum Round {
    /// All that its rows name.
    Whole(Hashes, Copied),
    /// This is not there any more, or that file of it, by its path below the directory.
    Lacks(NamedFile, PathBuf),
}

/// Copies what the rows name.
fn copy_named(
    data: &DataDir,
    copy: &DataDir,
    named: &NamedFiles,
    stop: &CancellationToken,
) -> Result<Round, BackupError> {
    let mut copied = Copying::new(data, copy, stop);
    copied.note(&copy.database(), hash_of(&copy.database())?)?;
    for sha256 in &named.artifacts {
        if !copied.take(&artifact(sha256), Some(sha256))? {
            return Ok(Round::Lacks(NamedFile::Artifact(sha256.clone()), artifact(sha256)));
        }
    }
    for id in &named.datasets {
        if let Some(missing) = copied.take_dataset(*id)? {
            return Ok(Round::Lacks(NamedFile::Dataset(*id), missing));
        }
    }
    for id in &named.unfinished {
        let directory = Path::new("runs").join(id.to_string()).join("checkpoints");
        // Those of a run that still pretrains lie in a folder of their own.
        for directory in [directory.join("pretraining"), directory] {
            let names = plain_files(&data.root().join(&directory))?.unwrap_or_default();
            for name in names.iter().filter_map(|name| name.to_str()).filter(|name| name.ends_with(WHOLE_CHECKPOINT)) {
                // One that was overtaken meanwhile is not missed.
                copied.take(&directory.join(name), None)?;
            }
        }
    }
    // Of what was copied at a moment before, rows were deleted meanwhile; and of what could not be read to its end, a part is there.
    let named = |path: &Path| copied.files.contains_key(&name_in(copy, path));
    for room in [copy.artifacts(), copy.datasets(), copy.runs()] {
        remove_unnamed(&room, &named)?;
    }
    sync_directories(copy.root())?;
    Ok(Round::Whole(copied.files, copied.sum))
}

/// What the index calls a file of the copy.
fn name_in(copy: &DataDir, path: &Path) -> String {
    path.strip_prefix(copy.root()).unwrap_or(path).to_string_lossy().into_owned()
}

/// The error of a file that nobody has and that these need.
fn lost(data: &DataDir, path: &Path, needs: &[Need]) -> BackupError {
    let told = |need: &Need| match need {
        Need::Version(name, version) => {
            (format!("model {name}:{version}"), format!("delete it (DELETE /models/{name}/versions/{version})"))
        }
        Need::Pretrained(name) => (format!("the weights {name:?}"), format!("delete them (DELETE /pretrained/{name})")),
        Need::Job(id) => (format!("job {id}"), format!("cancel it (POST /jobs/{id}/cancel)")),
        Need::Dataset(name) => (format!("data set {name:?}"), format!("delete it (DELETE /datasets/{name})")),
    };
    let (mut names, mut ways): (Vec<_>, Vec<_>) = needs.iter().take(NAMED).map(told).unzip();
    if needs.len() > NAMED {
        names.push(format!("{} more", needs.len() - NAMED));
        ways.push("so on".to_owned());
    }
    BackupError::Lost { path: data.root().join(path), needs: names.join(", "), ways: ways.join(", ") }
}

/// A copy under way: what is in it so far.
struct Copying<'a> {
    data: &'a DataDir,
    copy: &'a DataDir,
    stop: &'a CancellationToken,
    files: Hashes,
    sum: Copied,
}

impl<'a> Copying<'a> {
    fn new(data: &'a DataDir, copy: &'a DataDir, stop: &'a CancellationToken) -> Self {
        Self { data, copy, stop, files: BTreeMap::new(), sum: Copied::default() }
    }

    /// Copies a file by its path below the directory and verifies it against `sha256`, or against what its source
    /// holds; false where the source is gone.
    fn take(&mut self, name: &Path, sha256: Option<&str>) -> Result<bool, BackupError> {
        go_on(self.stop)?;
        let (source, target) = (self.data.root().join(name), self.copy.root().join(name));
        let taken = || -> Result<(bool, String), BackupError> {
            let hash = sha256.map_or_else(|| hash_of(&source), |sha256| Ok(sha256.to_owned()))?;
            let linked = !target.exists() && link_or_copy(&source, &target)?;
            expect(&target, &hash)?;
            Ok((linked, hash))
        };
        let (linked, hash) = match taken() {
            // The target may be what is not there: a disk that went away is no reason to call the source lost.
            Err(BackupError::Io { error, .. }) if error.kind() == std::io::ErrorKind::NotFound && !source.exists() => {
                return Ok(false);
            }
            taken => taken?,
        };
        self.sum.linked += u64::from(linked);
        self.note(&target, hash)?;
        Ok(true)
    }

    /// Copies a data set; gives what is missing of it, by its path below the directory: one that is being deleted loses one file after the
    /// other.
    fn take_dataset(&mut self, id: Uuid) -> Result<Option<PathBuf>, BackupError> {
        let directory = dataset(id);
        let Some(names) = plain_files(&self.data.root().join(&directory))? else { return Ok(Some(directory)) };
        for needed in WHOLE_DATASET.map(|name| directory.join(name)) {
            if !self.take(&needed, None)? {
                return Ok(Some(needed));
            }
        }
        for name in names {
            if !WHOLE_DATASET.iter().any(|needed| name == *needed) {
                self.take_beside(&directory.join(name))?;
            }
        }
        Ok(None)
    }

    /// Copies what lies beside a data set's own files, where it can be read and the index can have its name.
    fn take_beside(&mut self, name: &Path) -> Result<(), BackupError> {
        let source = self.data.root().join(name);
        let reason = if name.to_str().is_none() {
            "its name is no UTF-8".to_owned()
        } else {
            match self.take(name, None) {
                Ok(true) => return Ok(()),
                Ok(false) => "there is no such file, or it is a link that leads nowhere".to_owned(),
                Err(BackupError::Io { path, error }) if path == source => error.to_string(),
                Err(error) => return Err(error),
            }
        };
        tracing::warn!(path = %source.display(), %reason, "not in the backup, and nothing needs it");
        Ok(())
    }

    /// Counts a file that is in its place.
    fn note(&mut self, target: &Path, sha256: String) -> Result<(), BackupError> {
        self.sum.files += 1;
        self.sum.bytes += std::fs::metadata(target).map_err(io(target))?.len();
        self.files.insert(name_in(self.copy, target), sha256);
        Ok(())
    }
}

/// Before another file is copied.
fn go_on(stop: &CancellationToken) -> Result<(), BackupError> {
    if stop.is_cancelled() { Err(BackupError::Stopped) } else { Ok(()) }
}

/// Path of an artifact below the data directory.
fn artifact(sha256: &str) -> PathBuf {
    artifact_in(&DataDir::new("").artifacts(), sha256)
}

/// Path of a data set below the data directory.
fn dataset(id: Uuid) -> PathBuf {
    DataDir::new("").dataset(id)
}

fn write_index(directory: &Path, index: &Index) -> Result<(), BackupError> {
    let path = directory.join(INDEX);
    let text = serde_json::to_vec_pretty(index).expect("strings and numbers always encode");
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(io(&path))?;
    file.write_all(&text).and_then(|()| file.as_file().sync_all()).map_err(io(&path))?;
    file.persist(&path).map_err(|error| BackupError::Io { path: path.clone(), error: error.error })?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io(directory))
}

fn read_index(directory: &Path) -> Result<Index, BackupError> {
    let no_backup = |reason: String| BackupError::NoBackup { path: directory.to_owned(), reason };
    let text = std::fs::read(directory.join(INDEX)).map_err(|error| no_backup(format!("{INDEX}: {error}")))?;
    let index: Index = serde_json::from_slice(&text).map_err(|error| no_backup(format!("{INDEX}: {error}")))?;
    if index.format != FORMAT {
        return Err(no_backup(format!("{INDEX} has format {}, this program reads {FORMAT}", index.format)));
    }
    // A name that leads out of the directory would be written wherever it leads.
    let leads_out =
        |name: &&String| Path::new(name).components().any(|part| !matches!(part, std::path::Component::Normal(_)));
    match index.files.keys().find(leads_out) {
        Some(name) => Err(no_backup(format!("{INDEX} names {name:?}"))),
        None => Ok(index),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::NewPretrained;

    fn write(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }

    #[test]
    fn what_was_deleted_between_two_moments_is_not_in_the_copy() {
        let place = tempfile::tempdir().unwrap();
        let (data, copy) = (DataDir::new(place.path().join("data")), DataDir::new(place.path().join("copy")));
        let [stays, goes, gone, run] = [(); 4].map(|()| Uuid::now_v7());
        let checkpoint = |data: &DataDir| data.run(run).join("checkpoints/step-000000000004.checkpoint");
        for set in [stays, goes] {
            WHOLE_DATASET.iter().for_each(|name| write(&data.dataset(set).join(name)));
        }
        write(&checkpoint(&data));
        write(&copy.database());
        let named = |datasets: &[Uuid], unfinished: &[Uuid]| NamedFiles {
            artifacts: Vec::new(),
            datasets: datasets.to_vec(),
            unfinished: unfinished.to_vec(),
        };
        let first = copy_named(&data, &copy, &named(&[stays, goes], &[run]), &CancellationToken::new()).unwrap();
        assert!(matches!(first, Round::Whole(files, _) if files.len() == 6));
        let second = copy_named(&data, &copy, &named(&[stays, goes, gone], &[run]), &CancellationToken::new()).unwrap();
        assert!(matches!(second, Round::Lacks(NamedFile::Dataset(id), _) if id == gone));
        assert!(copy.dataset(goes).join(IMAGES_FILE).exists() && checkpoint(&copy).exists());

        let Round::Whole(files, copied) =
            copy_named(&data, &copy, &named(&[stays], &[]), &CancellationToken::new()).unwrap()
        else {
            panic!("all of it is there")
        };
        assert!(!copy.dataset(goes).exists() && !copy.runs().exists(), "nobody's photos and labels stay behind");
        assert_eq!((files.len(), copied.files), (3, 3));
        assert!(files.keys().all(|name| copy.root().join(name).exists()), "{files:?}");
        assert!(data.dataset(goes).exists(), "the original is as it was");
    }

    #[tokio::test]
    async fn what_is_asked_to_stop_leaves_nothing_behind() {
        let place = tempfile::tempdir().unwrap();
        let [data, copy, restored] = ["data", "copy", "restored"].map(|name| DataDir::new(place.path().join(name)));
        let file = place.path().join("start.safetensors");
        write(&file);
        std::fs::create_dir(data.root()).unwrap();
        let store = Store::open(&data).await.unwrap();
        let weights = NewPretrained {
            name: "start".to_owned(),
            network: "wrn-10-1".to_owned(),
            classes: None,
            parameters: 1,
            file,
            source: "a test".to_owned(),
            source_sha256: String::new(),
        };
        store.insert_pretrained(weights).await.unwrap();
        store.close().await;
        let (never, stop) = (CancellationToken::new(), CancellationToken::new());
        stop.cancel();
        let stopped = backup(&data, copy.root(), &stop).await;
        assert!(matches!(stopped, Err(BackupError::Stopped)), "{stopped:?}");
        assert_eq!(std::fs::read_dir(copy.root()).unwrap().count(), 0);

        backup(&data, copy.root(), &never).await.unwrap();
        let stopped = restore(copy.root(), &restored, &stop).await;
        assert!(matches!(stopped, Err(BackupError::Stopped)), "{stopped:?}");
        assert!(!restored.database().exists() && !restored.artifacts().exists());
        // The same command works later.
        restore(copy.root(), &restored, &never).await.unwrap();

        // Two backups that somebody put together: the index is whole, and the database names more.
        let file = copy.root().join(INDEX);
        let mut index: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let files = index["files"].as_object_mut().unwrap();
        let weights = files.keys().find(|name| name.starts_with("artifacts")).unwrap().clone();
        files.remove(&weights);
        std::fs::write(&file, index.to_string()).unwrap();
        let half = DataDir::new(place.path().join("half"));
        let refused = restore(copy.root(), &half, &never).await.unwrap_err().to_string();
        assert!(refused.contains(&weights) && refused.contains("its database names it"), "{refused}");
        assert!(!half.database().exists());

        // And weights that are not what was published are backed up nowhere.
        std::fs::write(data.root().join(&weights), b"other weights").unwrap();
        let other = place.path().join("other");
        let refused = backup(&data, &other, &never).await.unwrap_err().to_string();
        assert!(refused.contains(&weights), "{refused}");
        assert!(!other.join(INDEX).exists());
    }
}
