//! The store: one SQLite file and a directory of content-addressed files. Every query lives here.
//!
//! Two pools: one connection that writes, several that only read. SQLite takes one writer at a time anyway;
//! queueing for the connection instead of for the file's lock means that nobody is ever refused as busy
//! (measured, DESIGN §3.4). Whatever changes several rows is one transaction. sqlx does its work on threads
//! of its own, so that every call here may be awaited on the async executor.

mod artifacts;
mod audit;
mod champion;
#[cfg(test)]
mod dataset_tests;
mod datasets;
mod error;
#[cfg(test)]
mod idempotency_tests;
mod in_use;
mod jobs;
mod keys;
mod models;
mod names;
mod orphans;
mod pretrained;
mod snapshot;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, SqlitePool};
use tokio::sync::RwLock;

use crate::data_dir::DataDir;
use crate::failpoint;

pub use artifacts::artifact_in;
pub use audit::{AuditRow, NewAudit};
pub use datasets::{DatasetRow, NewDataset, ReportSummary};
pub use error::StoreError;
pub use jobs::{
    EventRow, Idempotency, JobEntry, JobRow, JobState, LogRow, NOTHING_TO_GO_ON_FROM, NewJob, NewJobs, NewSweep,
    SweepRow, Wish,
};
pub use keys::{KeyRow, NewKey};
pub use models::{ModelRow, VersionRow};
pub use names::{is_alias, version_key, version_number};
pub use pretrained::{NewPretrained, PretrainedRow};
pub use snapshot::{NamedFile, NamedFiles, Need, bring_up_to_date, needs_of, read_snapshot, refuse_newer};

/// The store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    writer: SqlitePool,
    reader: SqlitePool,
    artifacts: PathBuf,
    /// Shared while a file is kept and then named by a row, alone while a row goes and then its file: in between, the same
    /// bytes may lose one name and get another.
    files: Arc<RwLock<()>>,
}

/// The tables, step by step.
static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!();

type Result<T> = std::result::Result<T, StoreError>;

impl Store {
    /// Opens the store in a data directory, making it first where there is none, and brings its tables up
    /// to date.
    ///
    /// # Errors
    /// When the file cannot be opened, is no database, or comes from a newer version of the program; and where it is missing
    /// beside files that only rows explain ([`StoreError::RowsMissing`]): the next start would remove those.
    pub async fn open(data_dir: &DataDir) -> Result<Self> {
        let path = data_dir.database();
        if !path.exists() && orphans::only_rows_explain(data_dir) {
            return Err(StoreError::RowsMissing { path });
        }
        let writer = connect(data_dir).await?;
        let tables: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM sqlite_schema").fetch_one(&writer).await?;
        if tables == 0 && orphans::only_rows_explain(data_dir) {
            writer.close().await;
            return Err(StoreError::RowsMissing { path });
        }
        MIGRATIONS.run(&writer).await.map_err(|source| StoreError::Migration { path, source })?;
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
        let writer = connect(data_dir).await?;
        let applied = sqlx::query_as("SELECT version FROM _sqlx_migrations WHERE success ORDER BY version")
            .fetch_all(&writer)
            .await
            .map_err(|_no_table| StoreError::NotThere { path: path.clone() })?;
        let known: Vec<(i64,)> = MIGRATIONS.iter().map(|migration| (migration.version,)).collect();
        if applied != known {
            writer.close().await;
            let last = |versions: &[(i64,)]| versions.last().map_or(0, |(version,)| *version);
            return Err(StoreError::OtherTables { path, found: last(&applied), known: last(&known) });
        }
        Self::around(writer, data_dir).await
    }

    /// Readers connect last: one that has seen the tables before a migration would go on seeing those.
    async fn around(writer: SqlitePool, data_dir: &DataDir) -> Result<Self> {
        let options = options(data_dir).read_only(true);
        let reader = SqlitePoolOptions::new().max_connections(4).connect_with(options).await?;
        Ok(Self { writer, reader, artifacts: data_dir.artifacts(), files: Arc::default() })
    }

    /// Waits for what is under way and closes the file.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    /// Whether the file answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<()> {
        // `SELECT 1` would read nothing of the file.
        let newest =
            "SELECT (SELECT config FROM jobs ORDER BY id DESC LIMIT 1), (SELECT classes FROM model_versions LIMIT 1),
            (SELECT name FROM datasets LIMIT 1)";
        sqlx::query(newest).fetch_one(&self.reader).await?;
        Ok(())
    }

    /// A transaction that takes the write lock at once: one that read first and wrote later could be
    /// refused in the middle.
    async fn write(&self) -> Result<sqlx::Transaction<'static, sqlx::Sqlite>> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }
}

async fn connect(data_dir: &DataDir) -> Result<SqlitePool> {
    // Where the disk is full or fails, SQLite ends a transaction by itself. sqlx then cannot roll it back, takes the connection to be inside it
    // for ever, and would begin no other: such a connection is closed, and another one opened.
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }));
    Ok(pool.connect_with(options(data_dir)).await?)
}

fn options(data_dir: &DataDir) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(data_dir.database())
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(5))
}

/// Ends a transaction. Killed before, none of it is there; killed after, all of it is, though nobody was told.
async fn commit(tx: sqlx::Transaction<'static, sqlx::Sqlite>) -> Result<()> {
    failpoint::pass("store.commit").map_err(sqlx::Error::Io)?;
    tx.commit().await?;
    failpoint::pass("store.committed").map_err(sqlx::Error::Io)?;
    Ok(())
}

/// Sorts behind every id: the cursor of a list's first page. A query that asked "no cursor, or smaller than it" could use
/// no index, and a page would cost as much as all the pages before it.
const BEHIND_EVERY_ID: &str = "g";

/// Now, unix milliseconds.
fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond() + failpoint::clock_shift()
}

/// A stored time.
fn time(milliseconds: i64) -> Result<jiff::Timestamp> {
    jiff::Timestamp::from_millisecond(milliseconds).map_err(|e| StoreError::stored("time", e))
}

/// A value as stored JSON.
fn to_json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| StoreError::stored("JSON", e))
}

/// Stored JSON as a value; `what` is for messages.
fn from_json<T: serde::de::DeserializeOwned>(what: &'static str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| StoreError::stored(what, e))
}

/// A store in a new data directory.
#[cfg(test)]
async fn new_store(directory: &std::path::Path) -> Store {
    let data = DataDir::new(directory.join("data"));
    let _lock = data.lock().unwrap();
    Store::open(&data).await.unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn write(store: &Store, sql: &'static str) {
        sqlx::query(sql).execute(&store.writer).await.unwrap();
    }

    #[tokio::test]
    async fn a_disk_that_was_full_once_is_written_to_again() {
        let directory = tempfile::tempdir().unwrap();
        let store = new_store(directory.path()).await;
        write(&store, "CREATE TABLE much (bytes BLOB)").await;
        let (pages,): (i64,) = sqlx::query_as("PRAGMA page_count").fetch_one(&store.writer).await.unwrap();
        // Of this connection alone: the one that follows has room.
        let limit = sqlx::query(sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}")));
        limit.execute(&store.writer).await.unwrap();
        let insert = async |store: &Store| -> Result<()> {
            let mut tx = store.write().await?;
            sqlx::query("INSERT INTO much VALUES (zeroblob(1000000))").execute(&mut *tx).await?;
            commit(tx).await
        };
        let full = insert(&store).await.unwrap_err();
        assert!(full.is_full(), "{full}");
        insert(&store).await.expect("there is room again");
        let (rows,): (i64,) = sqlx::query_as("SELECT count(*) FROM much").fetch_one(&store.reader).await.unwrap();
        assert_eq!(rows, 1);
    }

    #[tokio::test]
    async fn a_store_of_another_version_is_not_touched_beside_its_server() {
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
        assert!(told().await.unwrap().contains("a newer version"));
        write(&store, "DELETE FROM _sqlx_migrations WHERE version > 3").await;
        let refusal = told().await.unwrap();
        assert!(refusal.contains("an earlier version") && refusal.contains("step 3"), "{refusal}");
        let (steps,): (i64,) =
            sqlx::query_as("SELECT max(version) FROM _sqlx_migrations").fetch_one(&store.reader).await.unwrap();
        assert_eq!(steps, 3, "they are as they were");
    }
}
