//! The store for a backup: a copy of the database as of one moment, and the files that its rows name.

use std::fs::{File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use uuid::Uuid;

use super::error::SQLITE_IOERR_WRITE;
use super::orphans::{artifact_needs, named_artifacts};
use super::{MIGRATIONS, Result, Store, StoreError};

const SQLITE_READONLY: i64 = 8;
const SQLITE_FULL: i64 = 13;
const SQLITE_CANTOPEN: i64 = 14;

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
    /// Writes all that is committed at this moment to a new file, while others read and write, and syncs it. Nobody may read the
    /// copy who could not read the original.
    ///
    /// # Errors
    /// [`StoreError::Io`] with `target` when that exists or cannot be written; nothing is left of it then.
    pub async fn snapshot(&self, target: &Path) -> Result<()> {
        // SQLite takes a file that is there and empty, and would make one that everybody may read.
        let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target);
        drop(new.map_err(|error| StoreError::io(target, error))?);
        let written = self.write_snapshot(target).await;
        if written.is_err()
            && let Err(error) = std::fs::remove_file(target)
        {
            tracing::warn!(path = %target.display(), %error, "half a copy of the database stays");
        }
        written
    }

    async fn write_snapshot(&self, target: &Path) -> Result<()> {
        let path = target.to_str().ok_or_else(|| StoreError::stored("path", "it is no UTF-8"))?;
        // A connection of its own, as no other statement may take that long unheard. VACUUM only reads here: the server's writes go on.
        let options = SqliteConnectOptions::clone(&self.writer.connect_options()).disable_statement_logging();
        let source = options.get_filename();
        let mut connection = options.connect().await.map_err(|error| StoreError::opening(source, error))?;
        let written = sqlx::query("VACUUM INTO ?").bind(path).execute(&mut connection).await;
        written.map_err(|error| of_target(target, error))?;
        connection.close().await?;
        let mode = std::fs::metadata(source).map_err(|error| StoreError::io(source, error))?.permissions().mode();
        let file = File::open(target).map_err(|error| StoreError::io(target, error))?;
        let synced = file.set_permissions(Permissions::from_mode(mode & 0o777 | 0o600)).and_then(|()| file.sync_all());
        synced.map_err(|error| StoreError::io(target, error))
    }
}

/// An error of the file that SQLite writes, with its path, which SQLite's words lack; any other as it is.
fn of_target(target: &Path, error: sqlx::Error) -> StoreError {
    let Some(told) = error.as_database_error() else { return error.into() };
    let kind = match told.code().and_then(|code| code.parse::<i64>().ok()) {
        Some(SQLITE_IOERR_WRITE) => ErrorKind::Other,
        // The higher bits say why.
        Some(code) => match code & 0xff {
            SQLITE_FULL => ErrorKind::StorageFull,
            SQLITE_READONLY => ErrorKind::ReadOnlyFilesystem,
            SQLITE_CANTOPEN => ErrorKind::Other,
            _ => return error.into(),
        },
        None => return error.into(),
    };
    StoreError::io(target, std::io::Error::new(kind, told.message()))
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
    let options = SqliteConnectOptions::new().filename(path).foreign_keys(true).disable_statement_logging();
    let mut copy = options.connect().await?;
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
    // All of it is read, page by page: no statement is slow there that somebody could mend.
    Ok(options.disable_statement_logging().connect().await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::new_store;

    #[tokio::test]
    async fn a_copy_may_be_read_by_those_who_may_read_the_original() {
        let directory = tempfile::tempdir().unwrap();
        let store = new_store(directory.path()).await;
        let original = directory.path().join("data/mixmatch.db");
        for mode in [0o600, 0o640] {
            std::fs::set_permissions(&original, Permissions::from_mode(mode)).unwrap();
            let copy = directory.path().join(format!("{mode:o}.db"));
            store.snapshot(&copy).await.unwrap();
            let copied = std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777;
            assert_eq!(copied, mode, "{copied:o} of {mode:o}");
            read_snapshot(&copy).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_copy_that_cannot_be_written_is_told_with_its_path_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = new_store(directory.path()).await;
        let there = directory.path().join("there.db");
        std::fs::write(&there, b"somebody's").unwrap();
        for (target, kind) in
            [(there.clone(), ErrorKind::AlreadyExists), (directory.path().join("gone/copy.db"), ErrorKind::NotFound)]
        {
            match store.snapshot(&target).await {
                Err(StoreError::Io { path, error }) => assert_eq!((path, error.kind()), (target, kind)),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(std::fs::read(&there).unwrap(), b"somebody's");

        // The original is none: the copy is made, and then nothing can be written to it.
        store.close().await;
        std::fs::write(directory.path().join("data/mixmatch.db"), vec![b'x'; 8192]).unwrap();
        let half = directory.path().join("half.db");
        let refused = store.snapshot(&half).await.unwrap_err();
        assert!(!half.exists(), "{refused}");
    }

    #[tokio::test]
    async fn a_copy_that_rotted_or_whose_rows_refer_to_nothing_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = new_store(directory.path()).await;
        let version =
            "INSERT INTO model_versions (name, version, classes, metrics, weights_sha256, manifest_sha256, created_at)
             VALUES ('unmistakable', 1, '[\"a\",\"b\"]', '{}', 'w', 'm', 0)";
        sqlx::query(version).execute(&store.writer).await.unwrap();
        let refused = async |copy: &Path| match read_snapshot(copy).await {
            Err(StoreError::Artifact { path, reason }) if path == copy => reason,
            other => panic!("{other:?}"),
        };

        let torn = directory.path().join("torn.db");
        store.snapshot(&torn).await.unwrap();
        read_snapshot(&torn).await.unwrap();
        let options = SqliteConnectOptions::new().filename(&torn).foreign_keys(false);
        let mut database = options.connect().await.unwrap();
        let alias =
            "INSERT INTO model_aliases (name, alias, version, updated_at) VALUES ('unmistakable', 'champion', 2, 0)";
        sqlx::query(alias).execute(&mut database).await.unwrap();
        database.close().await.unwrap();
        assert_eq!(refused(torn.as_path()).await, "a row refers to one that is not there");

        // A letter is another one, in the table and not in its index or the other way round.
        let rotten = directory.path().join("rotten.db");
        store.snapshot(&rotten).await.unwrap();
        let mut bytes = std::fs::read(&rotten).unwrap();
        let at = bytes.windows(12).position(|window| window == b"unmistakable").unwrap();
        bytes[at] = b'x';
        std::fs::write(&rotten, bytes).unwrap();
        let reason = refused(rotten.as_path()).await;
        assert!(reason.contains("index"), "{reason}");
    }

    #[tokio::test]
    async fn a_full_disk_under_a_copy_is_told_of_the_copy() {
        // A database that may grow to two pages meets the same end as one on a full disk.
        let mut database = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        for statement in ["CREATE TABLE t (x BLOB)", "PRAGMA max_page_count = 2"] {
            sqlx::query(statement).execute(&mut database).await.unwrap();
        }
        let full = sqlx::query("INSERT INTO t VALUES (zeroblob(100000))").execute(&mut database).await.unwrap_err();
        let told = of_target(Path::new("/backups/copy.db"), full);
        assert!(told.is_full(), "{told}");
        assert!(matches!(&told, StoreError::Io { path, .. } if path == Path::new("/backups/copy.db")), "{told}");
        let other = of_target(Path::new("/backups/copy.db"), sqlx::Error::RowNotFound);
        assert!(matches!(other, StoreError::Database(_)), "{other}");
    }
}
