//! The store: one SQLite file and a directory of content-addressed files. Every query lives here.
//!
//! Two pools: one connection that writes, several that only read. SQLite takes one writer at a time anyway;
//! queueing for the connection instead of for the file's lock means that nobody is ever refused as busy
//! (measured, DESIGN §3.4). Whatever changes several rows is one transaction. sqlx does its work on threads
//! of its own, so that every call here may be awaited on the async executor.

mod artifacts;
mod audit;
mod datasets;
mod error;
#[cfg(test)]
mod idempotency_tests;
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

use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tokio::sync::RwLock;

use crate::data_dir::DataDir;
use crate::failpoint;

pub use audit::{AuditRow, NewAudit};
pub use datasets::{DatasetRow, NewDataset};
pub use error::StoreError;
pub use jobs::{EventRow, Idempotency, JobEntry, JobRow, JobState, LogRow, NewJob, NewJobs, NewSweep, SweepRow, Wish};
pub use keys::{KeyRow, NewKey};
pub use models::{ModelRow, VersionRow};
pub use names::is_alias;
pub use pretrained::{NewPretrained, PretrainedRow};
pub use snapshot::{NamedFiles, read_snapshot};

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

type Result<T> = std::result::Result<T, StoreError>;

impl Store {
    /// Opens the store in a data directory, making it first where there is none, and brings its tables up
    /// to date.
    ///
    /// # Errors
    /// When the file cannot be opened, is no database, or comes from a newer version of the program.
    pub async fn open(data_dir: &DataDir) -> Result<Self> {
        let path = data_dir.database();
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5));
        let writer = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
        sqlx::migrate!().run(&writer).await.map_err(|source| StoreError::Migration { path, source })?;
        let reader = SqlitePoolOptions::new().max_connections(4).connect_with(options.read_only(true)).await?;
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
        sqlx::query("SELECT 1").execute(&self.reader).await?;
        Ok(())
    }

    /// A transaction that takes the write lock at once: one that read first and wrote later could be
    /// refused in the middle.
    async fn write(&self) -> Result<sqlx::Transaction<'static, sqlx::Sqlite>> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }
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
