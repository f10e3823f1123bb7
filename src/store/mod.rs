//! The store: one SQLite file and a directory of content-addressed files. Every query lives here.
//!
//! Two pools: one connection that writes, several that only read. SQLite takes one writer at a time anyway;
//! queueing for the connection instead of for the file's lock means that nobody is ever refused as busy
//! (measured, DESIGN §3.4). Whatever changes several rows is one transaction. sqlx does its work on threads
//! of its own, so that every call here may be awaited on the async executor.

mod artifacts;
mod audit;
mod by_class;
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
mod opening;
mod orphans;
mod pretrained;
mod snapshot;

use std::path::PathBuf;
use std::sync::Arc;

use sqlx::SqlitePool;
use tokio::sync::RwLock;

use crate::failpoint;

pub use artifacts::artifact_in;
pub use audit::{AuditRow, NewAudit};
pub use by_class::{EPOCH_BY_CLASS, TEST_BY_CLASS};
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
    database: Arc<opening::OpenedFile>,
    artifacts: PathBuf,
    /// Shared while a file is kept and then named by a row, alone while a row goes and then its file: in between, the same
    /// bytes may lose one name and get another.
    files: Arc<RwLock<()>>,
}

/// The tables, step by step.
static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!();

type Result<T> = std::result::Result<T, StoreError>;

impl Store {
    /// Waits for what is under way and closes the file.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    /// Whether the file answers, and is still the one that was opened.
    ///
    /// # Errors
    /// When it does not, [`StoreError::Replaced`].
    pub async fn ping(&self) -> Result<()> {
        self.database.check()?;
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
        Ok(self.writable()?.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// The connection that writes, where what it writes is not lost.
    fn writable(&self) -> Result<&SqlitePool> {
        self.database.check()?;
        Ok(&self.writer)
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
    let data = crate::data_dir::DataDir::new(directory.join("data"));
    let _lock = data.lock().unwrap();
    Store::open(&data).await.unwrap()
}

#[cfg(test)]
mod tests {
    use sqlx::ConnectOptions;
    use sqlx::sqlite::SqliteConnectOptions;

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
    async fn nobody_else_writes_between_what_a_transaction_reads_and_what_it_writes() {
        let directory = tempfile::tempdir().unwrap();
        let store = new_store(directory.path()).await;
        let impatient = SqliteConnectOptions::new()
            .filename(directory.path().join("data/mixmatch.db"))
            .busy_timeout(std::time::Duration::ZERO);
        let mut other = impatient.connect().await.unwrap();
        let tx = store.write().await.unwrap();
        let refused = sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap_err();
        assert!(refused.to_string().contains("database is locked"), "{refused}");
        tx.rollback().await.unwrap();
        sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    }
}
