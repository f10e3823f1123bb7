//! What can go wrong in the store.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::full_disk::lacks_room;

const SQLITE_PERM: i64 = 3;
const SQLITE_BUSY: i64 = 5;
const SQLITE_LOCKED: i64 = 6;
const SQLITE_READONLY: i64 = 8;
const SQLITE_IOERR: i64 = 10;
const SQLITE_CORRUPT: i64 = 11;
const SQLITE_FULL: i64 = 13;
const SQLITE_CANTOPEN: i64 = 14;
const SQLITE_NOTADB: i64 = 26;

/// A write that the system refuses for another reason than a full disk: its owner's quota, say. SQLite does not tell which.
pub(super) const SQLITE_IOERR_WRITE: i64 = 778;

/// The index of the write-ahead log cannot grow.
const SQLITE_IOERR_SHMSIZE: i64 = 4874;

/// A failure of the store. The first eight are answers that a caller must expect; the rest are trouble.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such thing.
    #[error("there is no {what} {name:?}")]
    NotFound {
        /// What was looked for.
        what: &'static str,
        /// Under which name or id.
        name: String,
    },
    /// The model is there, and nothing of that name points at one of its versions.
    #[error(
        "model {model:?} has no alias {alias:?}: ask for a version ({model}:{newest} is the newest) or for another alias, or make \
         one point at it"
    )]
    NoAlias {
        /// The model.
        model: String,
        /// The alias.
        alias: String,
        /// Its newest version.
        newest: u32,
    },
    /// The id is a sweep's, and only a single job has what was asked for.
    #[error("{id} is a sweep of several jobs; ask for one of them by its own id")]
    IsSweep {
        /// The sweep.
        id: Uuid,
    },
    /// The name belongs to another one.
    #[error("a {what} named {name:?} exists already")]
    Taken {
        /// What has the name.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A job's state does not allow it.
    #[error("{detail}")]
    State {
        /// The state, and what would be possible.
        detail: String,
    },
    /// Something else still needs it.
    #[error("{detail}")]
    InUse {
        /// What needs it.
        detail: String,
    },
    /// A name that cannot be one.
    #[error("{name:?} is no {what}: allowed are 1 to 64 of a-z, 0-9, - and _, not digits alone")]
    InvalidName {
        /// What it should be.
        what: &'static str,
        /// What was given.
        name: String,
    },
    /// An idempotency key that stands for another request.
    #[error("the idempotency key {key:?} was used with another body; send a new key with a new request")]
    KeyReused {
        /// The key.
        key: String,
    },
    /// The job belongs to another attempt now; nothing was written.
    #[error("attempt {attempt} of job {job} no longer holds the lease")]
    Fenced {
        /// The job.
        job: Uuid,
        /// The attempt that wanted to write.
        attempt: u32,
    },
    /// SQLite's.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// The tables could not be brought up to date.
    #[error("database {}: {source}", path.display())]
    Migration {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: sqlx::migrate::MigrateError,
    },
    /// The file cannot be opened, or nothing be written beside it.
    #[error(
        "the database {} cannot be opened: {reason}; mixmatch must be able to write it and the files beside it (-wal, -shm), also where \
         it only reads",
        path.display()
    )]
    Unopened {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The file is damaged, or none of ours.
    #[error(
        "the database {} is damaged, or is none: {reason}; `mixmatch restore` a backup into a new directory. Was the file put there in \
         place of another one? Then the -wal and -shm of that one must be taken away with it",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The file was taken away, or another one put in its place.
    #[error(
        "the database {} was removed or replaced while it was open, and what is written now would be lost: stop the server, put the data \
         directory back (or `mixmatch restore` a backup), and start it again",
        path.display()
    )]
    Replaced {
        /// Where it was.
        path: PathBuf,
    },
    /// There is no store here.
    #[error("there is no database {}: is this the data directory of a server?", path.display())]
    NotThere {
        /// The file that was looked for.
        path: PathBuf,
    },
    /// The rows are gone, and what they named is there.
    #[error(
        "the database {} is missing or empty, while data sets, models or checkpoints lie beside it, which it must name: put it back \
         (with its -wal file, if there is one), or `mixmatch restore` a backup into a new directory; to begin anew, move datasets, \
         artifacts and runs away",
        path.display()
    )]
    RowsMissing {
        /// The file that was looked for.
        path: PathBuf,
    },
    /// Another version of the program keeps this store.
    #[error(
        "database {} has the tables of {} version of mixmatch (step {found}, this one knows {known}): {}",
        path.display(),
        if found > known { "a newer" } else { "an earlier" },
        if found > known {
            "use that version, or a newer one"
        } else {
            "use the program that serves it, or start `mixmatch serve` of this version there first, which brings them up to date"
        }
    )]
    OtherTables {
        /// The file.
        path: PathBuf,
        /// Its last migration.
        found: i64,
        /// The last that this program knows.
        known: i64,
    },
    /// A stored value is not what it should be.
    #[error("a stored {what} cannot be read: {reason}")]
    Stored {
        /// Which value.
        what: &'static str,
        /// The reason.
        reason: String,
    },
    /// The file system refuses a content-addressed file.
    #[error("artifact {}: {error}", path.display())]
    Io {
        /// The file, or its directory.
        path: PathBuf,
        /// The system's reason.
        error: std::io::Error,
    },
    /// A content-addressed file is not what it should be.
    #[error("artifact {}: {reason}", path.display())]
    Artifact {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
}

impl StoreError {
    /// Whether another process holds the database just now: the same call may succeed a moment later.
    pub fn is_busy(&self) -> bool {
        // Writers wait for each other first; behind a few that wait for another process, the last gives up so.
        matches!(self, Self::Database(sqlx::Error::PoolTimedOut))
            || matches!(self.sqlite_code(), Some(SQLITE_BUSY | SQLITE_LOCKED))
    }

    /// Whether the store was closed meanwhile: the server stops.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Database(sqlx::Error::PoolClosed))
    }

    /// Whether there is no room on the disk.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io { error, .. } | Self::Database(sqlx::Error::Io(error)) => lacks_room(error),
            Self::Database(error) => code_of(error).is_some_and(tells_of_no_room),
            _ => false,
        }
    }

    fn sqlite_code(&self) -> Option<i64> {
        let Self::Database(error) = self else { return None };
        code_of(error).map(primary)
    }

    /// Why a database could not be opened, with what mends it: SQLite's words name no file.
    pub(super) fn opening(path: &Path, error: sqlx::Error) -> Self {
        let path = path.to_owned();
        let reason = match &error {
            sqlx::Error::Database(told) => told.to_string(),
            other => other.to_string(),
        };
        let code = code_of(&error);
        if code.is_some_and(|code| tells_of_no_room(code) || code == SQLITE_IOERR_SHMSIZE) {
            return Self::Unopened { path, reason: format!("there is no room on its disk ({reason})") };
        }
        match code.map(primary) {
            Some(SQLITE_PERM | SQLITE_READONLY | SQLITE_IOERR | SQLITE_CANTOPEN) => Self::Unopened { path, reason },
            Some(SQLITE_CORRUPT | SQLITE_NOTADB) => Self::Damaged { path, reason },
            // Another process holds it, which passes, or the error is none of the file's.
            _ => error.into(),
        }
    }

    pub(super) fn io(path: &Path, error: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), error }
    }

    pub(super) fn stored(what: &'static str, reason: impl ToString) -> Self {
        Self::Stored { what, reason: reason.to_string() }
    }

    pub(super) fn not_found(what: &'static str, name: impl ToString) -> Self {
        Self::NotFound { what, name: name.to_string() }
    }
}

/// Whether a result code of SQLite tells of no room.
fn tells_of_no_room(code: i64) -> bool {
    primary(code) == SQLITE_FULL || code == SQLITE_IOERR_WRITE
}

/// SQLite's result code, with all that its higher bits say.
fn code_of(error: &sqlx::Error) -> Option<i64> {
    let sqlx::Error::Database(error) = error else { return None };
    error.code()?.parse().ok()
}

/// A result code less what its higher bits add to it.
fn primary(code: i64) -> i64 {
    code & 0xff
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What SQLite says with a code.
    #[derive(Debug, thiserror::Error)]
    #[error("disk I/O error")]
    struct Told(i64);

    impl sqlx::error::DatabaseError for Told {
        fn message(&self) -> &str {
            "disk I/O error"
        }

        fn code(&self) -> Option<std::borrow::Cow<'_, str>> {
            Some(self.0.to_string().into())
        }

        fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
            self
        }

        fn kind(&self) -> sqlx::error::ErrorKind {
            sqlx::error::ErrorKind::Other
        }
    }

    fn told(code: i64) -> sqlx::Error {
        sqlx::Error::Database(Box::new(Told(code)))
    }

    #[test]
    fn a_database_that_cannot_be_opened_is_told_with_its_path_and_that_its_disk_is_full() {
        let opening = |code| StoreError::opening(Path::new("/data/mixmatch.db"), told(code));
        for code in [SQLITE_IOERR_SHMSIZE, SQLITE_IOERR_WRITE, SQLITE_FULL] {
            let refused = opening(code).to_string();
            assert!(refused.contains("/data/mixmatch.db") && refused.contains("no room on its disk"), "{refused}");
        }
        let refused = opening(SQLITE_IOERR | (1 << 8)).to_string();
        assert!(refused.contains("/data/mixmatch.db") && !refused.contains("no room"), "{refused}");
        assert!(opening(SQLITE_BUSY).is_busy(), "that passes");
    }

    #[test]
    fn a_writer_that_waited_in_vain_behind_others_may_try_again() {
        assert!(StoreError::from(sqlx::Error::PoolTimedOut).is_busy());
        assert!(!StoreError::from(sqlx::Error::RowNotFound).is_busy());
    }

    #[tokio::test]
    async fn a_full_disk_is_known_by_its_code_wherever_it_shows() {
        for number in [libc::ENOSPC, libc::EDQUOT] {
            let full = || std::io::Error::from_raw_os_error(number);
            assert!(StoreError::io(Path::new("x"), full()).is_full());
            assert!(StoreError::from(sqlx::Error::Io(full())).is_full());
        }
        assert!(StoreError::from(told(SQLITE_IOERR_WRITE)).is_full());
        assert!(!StoreError::from(told(SQLITE_IOERR)).is_full());
        assert!(!StoreError::from(sqlx::Error::RowNotFound).is_full());

        // A database that may grow to two pages meets the same end as one on a full disk.
        let options = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1);
        let pool = options.connect("sqlite::memory:").await.unwrap();
        for statement in ["CREATE TABLE t (x BLOB)", "PRAGMA max_page_count = 2"] {
            sqlx::query(statement).execute(&pool).await.unwrap();
        }
        let refused = sqlx::query("INSERT INTO t VALUES (zeroblob(100000))").execute(&pool).await.unwrap_err();
        let refused = StoreError::from(refused);
        assert!(refused.is_full() && !refused.is_busy(), "{refused}");
    }
}
