//! The store is opened: its file is found or made, and its tables are brought up to date, by one process at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, SqlitePool};

use super::{MIGRATIONS, Result, Store, StoreError, orphans};
use crate::data_dir::DataDir;

impl Store {
    /// Opens the store in a data directory, making it first where there is none, and brings its tables up
    /// to date.
    ///
    /// # Errors
    /// When the file cannot be opened or written, is no database, or comes from a newer version of the program; and where it is missing
    /// beside files that only rows explain ([`StoreError::RowsMissing`]): the next start would remove those.
    pub async fn open(data_dir: &DataDir) -> Result<Self> {
        let path = data_dir.database();
        if !path.exists() && orphans::only_rows_explain(data_dir) {
            return Err(StoreError::RowsMissing { path });
        }
        let _turn = turn_to_migrate(&path).await?;
        let writer = connect(&path, options(&path).create_if_missing(true)).await?;
        let prepared = async {
            refuse_read_only(&writer, &path).await?;
            migrate(&writer, data_dir).await
        };
        if let Err(error) = prepared.await {
            writer.close().await;
            return Err(error);
        }
        // What is taken away under those who have it open is not made anew by them.
        writer.set_connect_options(options(&path));
        Self::around(writer, data_dir).await
    }

    /// Opens a store that a server may be using, and leaves its tables as they are: that server may be of an earlier version,
    /// and what it does not know it could never open again.
    ///
    /// # Errors
    /// When there is no store, or its tables are not those of this version.
    pub async fn open_beside(data_dir: &DataDir) -> Result<Self> {
        let path = data_dir.database();
        if !path.exists() {
            return Err(StoreError::NotThere { path });
        }
        let _turn = turn_beside(&path).await;
        let writer = connect(&path, options(&path)).await?;
        let (applied, known) = (applied(&writer, &path).await?, known());
        if applied != known {
            writer.close().await;
            if applied.is_empty() {
                return Err(StoreError::NotThere { path });
            }
            return Err(StoreError::OtherTables { path, found: last(&applied), known: last(&known) });
        }
        Self::around(writer, data_dir).await
    }

    /// Readers connect last: one that has seen the tables before a migration would go on seeing those.
    async fn around(writer: SqlitePool, data_dir: &DataDir) -> Result<Self> {
        let path = data_dir.database();
        let readers = SqlitePoolOptions::new().max_connections(4).connect_with(options(&path).read_only(true));
        let reader = readers.await.map_err(|error| StoreError::opening(&path, error))?;
        let database = Arc::new(OpenedFile::at(path)?);
        Ok(Self { writer, reader, database, artifacts: data_dir.artifacts(), files: Arc::default() })
    }
}

/// The file that was opened. What lies at its path may be another one by now, or nothing: SQLite would go on with the one that has no
/// name any more, and all that is written would be gone with the process.
#[derive(Debug)]
pub(super) struct OpenedFile {
    path: PathBuf,
    device_and_inode: (u64, u64),
}

impl OpenedFile {
    fn at(path: PathBuf) -> Result<Self> {
        match device_and_inode(&path) {
            Ok(device_and_inode) => Ok(Self { path, device_and_inode }),
            Err(error) => Err(StoreError::Unopened { path, reason: error.to_string() }),
        }
    }

    /// Whether it is still the one at its path: one look at what the kernel has in memory, as the file is open.
    pub(super) fn check(&self) -> Result<()> {
        match device_and_inode(&self.path) {
            Ok(there) if there == self.device_and_inode => Ok(()),
            _ => Err(StoreError::Replaced { path: self.path.clone() }),
        }
    }
}

fn device_and_inode(path: &Path) -> std::io::Result<(u64, u64)> {
    std::fs::metadata(path).map(|about| (about.dev(), about.ino()))
}

/// Refuses a file that can only be read: SQLite opens another user's without a word, and begins even transactions that write.
async fn refuse_read_only(writer: &SqlitePool, path: &Path) -> Result<()> {
    let tried = async {
        let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query("PRAGMA user_version = 1").execute(&mut *tx).await?;
        // Nothing of it has reached the disk, which may be full.
        tx.rollback().await
    };
    match tried.await.map_err(|error| StoreError::opening(path, error)) {
        Err(refused @ StoreError::Unopened { .. }) => Err(refused),
        // Whoever holds it is writing, so it can be written; what is damaged is told of by the first that reads it.
        _ => Ok(()),
    }
}

/// Brings the tables up to date, in a file that is there now.
async fn migrate(writer: &SqlitePool, data_dir: &DataDir) -> Result<()> {
    let path = data_dir.database();
    let tables = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM sqlite_schema").fetch_one(writer).await;
    let tables = tables.map_err(|error| StoreError::opening(&path, error))?;
    if tables == 0 && orphans::only_rows_explain(data_dir) {
        return Err(StoreError::RowsMissing { path });
    }
    let (found, known) = (last(&applied(writer, &path).await?), last(&known()));
    if found > known {
        return Err(StoreError::OtherTables { path, found, known });
    }
    if 0 < found && found < known {
        tracing::info!(path = %path.display(), "bringing the tables from step {found} to {known}; of many rows that takes a while");
    }
    MIGRATIONS.run(writer).await.map_err(|source| StoreError::Migration { path, source })
}

/// The steps that the tables have come; none where there are no tables.
async fn applied(writer: &SqlitePool, path: &Path) -> Result<Vec<i64>> {
    let read = async {
        let kept = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = '_sqlx_migrations')";
        if !sqlx::query_scalar::<_, bool>(kept).fetch_one(writer).await? {
            return Ok(Vec::new());
        }
        let steps = "SELECT version FROM _sqlx_migrations WHERE success ORDER BY version";
        sqlx::query_scalar::<_, i64>(steps).fetch_all(writer).await
    };
    read.await.map_err(|error| StoreError::opening(path, error))
}

/// The steps that this program knows.
fn known() -> Vec<i64> {
    MIGRATIONS.iter().map(|step| step.version).collect()
}

fn last(steps: &[i64]) -> i64 {
    steps.last().copied().unwrap_or(0)
}

/// Waits until nobody else looks at the tables or changes them; that lasts as long as the returned file, and never longer than the
/// process. Of two first starts at once each would make the tables: SQLite's own lock parts their steps and not the whole way.
async fn turn_to_migrate(database: &Path) -> Result<File> {
    let path = turns(database);
    let opened = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        // Another user's can be locked all the same.
        .or_else(|refused| File::open(&path).map_err(|_| refused));
    let locked = match opened {
        Ok(file) => locked(file, &path, File::try_lock, File::lock).await,
        Err(error) => Err(error),
    };
    locked.map_err(|error| {
        let reason = format!("{}: {error}", path.display());
        StoreError::Unopened { path: database.to_owned(), reason }
    })
}

/// Waits until nobody changes the tables. Where there is no file to lock, nobody of this version ever did; nothing is made here, as
/// whoever only looks may be another user than the server's.
async fn turn_beside(database: &Path) -> Option<File> {
    let path = turns(database);
    let file = File::open(&path).ok()?;
    locked(file, &path, File::try_lock_shared, File::lock_shared).await.ok()
}

/// The file that is locked: the database itself cannot be, SQLite would lose its own locks when that was closed.
fn turns(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push("-migrating");
    PathBuf::from(path)
}

/// Takes the lock; who has to wait for it says so.
async fn locked(
    file: File,
    path: &Path,
    at_once: fn(&File) -> std::result::Result<(), TryLockError>,
    lock: fn(&File) -> std::io::Result<()>,
) -> std::io::Result<File> {
    match at_once(&file) {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {
            tracing::info!(path = %path.display(), "waiting for another process, which looks at the tables or changes them");
        }
        Err(TryLockError::Error(error)) => return Err(error),
    }
    tokio::task::spawn_blocking(move || lock(&file).map(|()| file)).await.map_err(std::io::Error::other)?
}

async fn connect(path: &Path, options: SqliteConnectOptions) -> Result<SqlitePool> {
    // Where the disk is full or fails, SQLite ends a transaction by itself. sqlx then cannot roll it back, takes the connection to be inside it
    // for ever, and would begin no other: such a connection is closed, and another one opened.
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }));
    pool.connect_with(options).await.map_err(|error| StoreError::opening(path, error))
}

fn options(database: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(database)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(5))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::store::{NewAudit, new_store};

    async fn write(store: &Store, sql: &'static str) {
        sqlx::query(sql).execute(&store.writer).await.unwrap();
    }

    #[tokio::test]
    async fn first_starts_at_once_make_the_tables_once() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::new(directory.path());
        let opened = futures::future::join_all((0..8).map(|_| Store::open(&data))).await;
        for store in opened {
            let store = store.unwrap();
            store.ping().await.unwrap();
            store.close().await;
        }
        Store::open_beside(&data).await.expect("these are the tables of this version").close().await;
    }

    #[tokio::test]
    async fn what_was_committed_is_on_the_disk_and_refers_to_what_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let store = new_store(directory.path()).await;
        let mut told = Vec::new();
        for pragma in ["PRAGMA synchronous", "PRAGMA foreign_keys"] {
            told.push(sqlx::query_scalar::<_, i64>(pragma).fetch_one(&store.writer).await.unwrap());
        }
        assert_eq!(told, [2, 1], "FULL: in WAL mode NORMAL loses what was answered as done with a power cut");
    }

    #[tokio::test]
    async fn whoever_opens_it_beside_waits_for_the_tables() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::new(directory.path());
        let turn = turn_to_migrate(&data.database()).await.unwrap();
        // As a first start has it before its first step.
        std::fs::write(data.database(), b"").unwrap();
        let mut beside = std::pin::pin!(Store::open_beside(&data));
        tokio::time::timeout(Duration::from_millis(100), &mut beside).await.expect_err("it waits");
        let writer = connect(&data.database(), options(&data.database())).await.unwrap();
        migrate(&writer, &data).await.unwrap();
        drop(turn);
        beside.await.unwrap().close().await;
        writer.close().await;
    }

    #[tokio::test]
    async fn a_store_of_another_version_is_not_touched() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::new(directory.path());
        let told = async || Store::open_beside(&data).await.err().map(|error| error.to_string());
        assert!(told().await.unwrap().contains("is this the data directory"));
        assert!(!data.database().exists(), "looking for a store makes none");

        let store = Store::open(&data).await.unwrap();
        assert_eq!(told().await, None);
        write(
            &store,
            "INSERT INTO _sqlx_migrations SELECT 9999, description, installed_on, success, checksum, execution_time \
                       FROM _sqlx_migrations WHERE version = 1",
        )
        .await;
        let refusal = told().await.unwrap();
        assert!(refusal.contains("a newer version") && refusal.contains("use that version"), "{refusal}");
        let served = Store::open(&data).await.unwrap_err().to_string();
        assert_eq!(served, refusal, "a server says the same");
        write(&store, "DELETE FROM _sqlx_migrations WHERE version > 3").await;
        let refusal = told().await.unwrap();
        assert!(refusal.contains("an earlier version") && refusal.contains("step 3"), "{refusal}");
        let (steps,): (i64,) =
            sqlx::query_as("SELECT max(version) FROM _sqlx_migrations").fetch_one(&store.reader).await.unwrap();
        assert_eq!(steps, 3, "they are as they were");
    }

    #[tokio::test]
    async fn a_database_that_was_taken_away_does_not_answer_and_takes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = new_store(directory.path()).await;
        store.ping().await.unwrap();
        let database = directory.path().join("data/mixmatch.db");
        let new = || NewAudit { actor: "a", action: "PUT /x", target: "/x", request_id: None };
        let begun = store.begin_audit(new()).await.unwrap();
        let refused = async |what: &str| {
            let gone = |error: &StoreError| matches!(error, StoreError::Replaced { path } if *path == database);
            assert!(store.ping().await.is_err_and(|error| gone(&error)), "{what}");
            assert!(store.write().await.is_err_and(|error| gone(&error)), "{what}");
            assert!(store.begin_audit(new()).await.is_err_and(|error| gone(&error)), "{what}");
            assert!(store.complete_audit(begun, 200, None, None).await.is_err_and(|error| gone(&error)), "{what}");
            assert!(store.delete_alias("gender", "shadow").await.is_err_and(|error| gone(&error)), "{what}");
            assert!(store.revoke_key("ci").await.is_err_and(|error| gone(&error)), "{what}");
        };
        let away = directory.path().join("away.db");
        std::fs::rename(&database, &away).unwrap();
        refused("it is gone").await;
        std::fs::write(&database, b"").unwrap();
        refused("it is another one").await;
        std::fs::rename(&away, &database).unwrap();
        store.ping().await.unwrap();
        store.begin_audit(new()).await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_is_opened_later_makes_no_new_database() {
        let directory = tempfile::tempdir().unwrap();
        let store = new_store(directory.path()).await;
        let database = directory.path().join("data/mixmatch.db");
        std::fs::remove_file(&database).unwrap();
        // As the pool does with one that is half an hour old.
        store.writer.acquire().await.unwrap().close().await.unwrap();
        sqlx::query("SELECT 1").execute(&store.writer).await.unwrap_err();
        assert!(!database.exists());
    }

    #[tokio::test]
    async fn a_damaged_database_is_told_with_its_path_and_what_mends_it() {
        let malformed = |mut bytes: Vec<u8>| {
            for at in 0..bytes.len() {
                if bytes[at..].starts_with(b"CREATE TABLE") {
                    bytes[at + 2] = b'O';
                }
            }
            bytes
        };
        let overwritten = |bytes: Vec<u8>| vec![b'x'; bytes.len()];
        type Damage<'a> = &'a dyn Fn(Vec<u8>) -> Vec<u8>;
        let damages: [(Damage<'_>, &str); 2] =
            [(&malformed, "malformed database schema"), (&overwritten, "not a database")];
        for (damage, words) in damages {
            let directory = tempfile::tempdir().unwrap();
            let data = DataDir::new(directory.path());
            Store::open(&data).await.unwrap().close().await;
            let whole = std::fs::read(data.database()).unwrap();
            std::fs::write(data.database(), damage(whole)).unwrap();
            for refused in [Store::open(&data).await, Store::open_beside(&data).await] {
                let told = refused.unwrap_err().to_string();
                assert!(told.contains(words) && told.contains(data.database().to_str().unwrap()), "{told}");
                assert!(told.contains("`mixmatch restore`") && told.contains("-wal"), "{told}");
            }
        }
    }

    #[tokio::test]
    async fn a_database_that_can_only_be_read_is_not_opened_to_write() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::new(directory.path());
        let (store, path) = (Store::open(&data).await.unwrap(), data.database());
        // Root may write everything: a connection like the one that SQLite makes of another user's file.
        let reader = connect(&path, options(&path).read_only(true)).await.unwrap();
        let refused = refuse_read_only(&reader, &path).await.unwrap_err();
        assert!(matches!(refused, StoreError::Unopened { .. }), "{refused}");
        let told = refused.to_string();
        assert!(told.contains(path.to_str().unwrap()) && told.contains("must be able to write it"), "{told}");
        reader.close().await;
        refuse_read_only(&store.writer, &path).await.unwrap();
        let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&store.writer).await.unwrap();
        assert_eq!(version, 0, "it was only tried");
        store.close().await;

        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444)).unwrap();
        if OpenOptions::new().write(true).open(&path).is_err() {
            let refused = Store::open(&data).await.unwrap_err();
            assert!(matches!(refused, StoreError::Unopened { .. }), "{refused}");
        }
    }

    #[tokio::test]
    async fn where_nothing_can_be_written_beside_it_that_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::new(directory.path());
        Store::open(&data).await.unwrap().close().await;
        // Root may write into a read-only directory; no one can write to a folder.
        std::fs::create_dir(directory.path().join("mixmatch.db-wal")).unwrap();
        for refused in [Store::open(&data).await, Store::open_beside(&data).await] {
            let told = refused.unwrap_err().to_string();
            assert!(told.contains("must be able to write it and the files beside it (-wal, -shm)"), "{told}");
            assert!(told.contains(data.database().to_str().unwrap()), "{told}");
        }
    }
}
