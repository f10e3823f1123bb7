//! The store for a backup: a copy of the database as of one moment, and the files that its rows name.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use uuid::Uuid;

use super::orphans::{artifact_needs, named_artifacts};
use super::{MIGRATIONS, Result, Store, StoreError};

/// What a copy of the database needs besides itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedFiles {
    /// Hashes of the artifacts that models, imported weights and unfinished jobs name, sorted, each once.
    pub artifacts: Vec<String>,
    /// Data sets, each a directory.
    pub datasets: Vec<Uuid>,
    /// Jobs that may go on from a checkpoint, where they have one.
    pub unfinished: Vec<Uuid>,
}

/// One of those that cannot be done without.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NamedFile {
    /// An artifact by its hash.
    Artifact(String),
    /// A data set's directory.
    Dataset(Uuid),
}

/// A row that names a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// A version of a model.
    Version(String, u32),
    /// Imported weights by their name.
    Pretrained(String),
    /// An unfinished job that starts from it.
    Job(Uuid),
    /// A data set by its name.
    Dataset(String),
}

impl Store {
    /// Writes all that is committed at this moment to a new file, while others read and write, and syncs it.
    ///
    /// # Errors
    /// When `target` exists or cannot be written.
    pub async fn snapshot(&self, target: &Path) -> Result<()> {
        let path = target.to_str().ok_or_else(|| StoreError::stored("path", "it is no UTF-8"))?;
        // VACUUM only reads here: the server's writes go on. This connection could write, as it must for `INTO`.
        sqlx::query("VACUUM INTO ?").bind(path).execute(&self.writer).await?;
        let synced = std::fs::File::open(target).and_then(|file| file.sync_all());
        synced.map_err(|error| StoreError::io(target, error))
    }
}

/// Checks a copy of the database, page by page and reference by reference, and reads which files it names.
///
/// # Errors
/// When the copy is damaged.
pub async fn read_snapshot(path: &Path) -> Result<NamedFiles> {
    let mut copy = open_copy(path).await?;
    let health: String = sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_one(&mut copy).await?;
    let dangling = sqlx::query("PRAGMA foreign_key_check").fetch_optional(&mut copy).await?;
    if health != "ok" || dangling.is_some() {
        let reason = if health == "ok" { "a row refers to one that is not there".to_owned() } else { health };
        return Err(StoreError::Artifact { path: path.to_owned(), reason });
    }
    let artifacts = sqlx::query_scalar(concat!(named_artifacts!(), " ORDER BY 1")).fetch_all(&mut copy).await?;
    let ids: Vec<String> = sqlx::query_scalar("SELECT id FROM datasets ORDER BY id").fetch_all(&mut copy).await?;
    let jobs: Vec<String> =
        sqlx::query_scalar("SELECT id FROM jobs WHERE state <> 'succeeded' ORDER BY id").fetch_all(&mut copy).await?;
    copy.close().await?;
    let parse = |ids: Vec<String>| ids.iter().map(|id| super::jobs::parse_id(id)).collect::<Result<_>>();
    Ok(NamedFiles { artifacts, datasets: parse(ids)?, unfinished: parse(jobs)? })
}

/// Refuses a copy of the database that a newer version of the program made.
///
/// # Errors
/// [`StoreError::OtherTables`], and when it is no such copy.
pub async fn refuse_newer(path: &Path) -> Result<()> {
    let mut copy = open_copy(path).await?;
    let found: Option<i64> =
        sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations").fetch_one(&mut copy).await?;
    copy.close().await?;
    let (found, known) = (found.unwrap_or(0), MIGRATIONS.iter().map(|step| step.version).max().unwrap_or(0));
    if found > known {
        return Err(StoreError::OtherTables { path: path.to_owned(), found, known });
    }
    Ok(())
}

/// Gives a copy of the database, which nobody else has open, the tables of this version.
///
/// # Errors
/// [`StoreError::Migration`].
pub async fn bring_up_to_date(path: &Path) -> Result<()> {
    let mut copy = SqliteConnectOptions::new().filename(path).foreign_keys(true).connect().await?;
    let updated = MIGRATIONS.run(&mut copy).await;
    copy.close().await?;
    updated.map_err(|source| StoreError::Migration { path: path.to_owned(), source })
}

/// Who needs a file, in a copy of the database.
///
/// # Errors
/// The database's.
pub async fn needs_of(path: &Path, file: &NamedFile) -> Result<Vec<Need>> {
    let mut copy = open_copy(path).await?;
    let mut needs = Vec::new();
    match file {
        NamedFile::Artifact(sha256) => {
            let rows: Vec<(String, String, u32)> = sqlx::query_as(concat!(
                "SELECT kind, name, version FROM (",
                artifact_needs!(),
                ") WHERE sha256 = ? ORDER BY kind DESC, name, version"
            ))
            .bind(sha256)
            .fetch_all(&mut copy)
            .await?;
            for (kind, name, version) in rows {
                needs.push(match kind.as_str() {
                    "version" => Need::Version(name, version),
                    "pretrained" => Need::Pretrained(name),
                    _ => Need::Job(super::jobs::parse_id(&name)?),
                });
            }
        }
        NamedFile::Dataset(id) => {
            let names: Vec<String> = sqlx::query_scalar("SELECT name FROM datasets WHERE id = ?")
                .bind(id.to_string())
                .fetch_all(&mut copy)
                .await?;
            needs.extend(names.into_iter().map(Need::Dataset));
        }
    }
    copy.close().await?;
    Ok(needs)
}

async fn open_copy(path: &Path) -> Result<SqliteConnection> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true).immutable(true);
    Ok(options.connect().await?)
}
