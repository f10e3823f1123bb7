//! Imported data sets.
//!
//! What an import found may be tens of megabytes. All of it is a row of its own, which is read by whoever asks for it and
//! by nobody else; beside the data set stands what lists show.

use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use uuid::Uuid;

use super::{BEHIND_EVERY_ID, Idempotency, Result, Store, StoreError, commit, from_json, in_use, now, time, to_json};
use crate::dataset::{Counts, ImportReport, Manifest, RejectedRow, Warning};
use crate::train::config::DataFacts;

/// Left-out rows that are listed beside a data set.
const ROWS_LISTED: usize = 100;

/// A data set as stored.
#[derive(Clone, Debug)]
pub struct DatasetRow {
    /// UUID v7; also the name of its directory.
    pub id: Uuid,
    /// Its unique name.
    pub name: String,
    /// What is classified.
    pub task: String,
    /// Class names in order.
    pub classes: Vec<String>,
    /// Images per split and class.
    pub counts: Counts,
    /// What the import found, in short.
    pub report: ReportSummary,
    /// When it was imported.
    pub created_at: jiff::Timestamp,
}

/// What is shown of an import's report with the data set itself; [`Store::dataset_report`] has all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportSummary {
    /// How many rows were left out.
    pub rejected_rows: usize,
    /// The first hundred of them.
    pub rejected: Vec<RejectedRow>,
    /// All doubts about the data set.
    pub warnings: Vec<Warning>,
}

impl ReportSummary {
    fn of(report: &ImportReport) -> Self {
        Self {
            rejected_rows: report.rejected_rows as usize,
            rejected: report.rejected.iter().take(ROWS_LISTED).cloned().collect(),
            warnings: report.warnings.clone(),
        }
    }
}

impl DatasetRow {
    /// What a job's configuration is checked against, without the weights there are (see [`Store::job_facts`]).
    pub(crate) fn facts(&self) -> DataFacts {
        let labelled: Vec<u64> =
            self.classes.iter().map(|class| self.counts.train.get(class).copied().unwrap_or(0)).collect();
        let train = labelled.iter().sum::<u64>() + self.counts.unlabelled;
        DataFacts { classes: self.classes.clone(), labelled, train, picked: self.counts.picked, pretrained: Vec::new() }
    }
}

/// A data set to be stored; its directory is in place already.
#[derive(Clone, Debug)]
pub struct NewDataset<'a> {
    /// UUID v7.
    pub id: Uuid,
    /// A name that is not taken.
    pub name: String,
    /// What is classified.
    pub task: String,
    /// Its samples.
    pub manifest: &'a Manifest,
    /// What the import found.
    pub report: &'a ImportReport,
}

#[derive(FromRow)]
struct Raw {
    id: String,
    name: String,
    task: String,
    classes: String,
    counts: String,
    report: String,
    created_at: i64,
}

impl Raw {
    fn parse(self) -> Result<DatasetRow> {
        Ok(DatasetRow {
            id: super::jobs::parse_id(&self.id)?,
            name: self.name,
            task: self.task,
            classes: from_json("class list", &self.classes)?,
            counts: from_json("count", &self.counts)?,
            report: from_json("import report", &self.report)?,
            created_at: time(self.created_at)?,
        })
    }
}

impl Store {
    /// Notes that files of a data set are coming, before there is a row: whoever is killed in between leaves litter, and nothing
    /// that was lost.
    ///
    /// # Errors
    /// The database's.
    pub async fn expect_dataset(&self, id: Uuid) -> Result<()> {
        let mut tx = self.write().await?;
        let noted = sqlx::query("INSERT OR IGNORE INTO passing_datasets (id) VALUES (?)").bind(id.to_string());
        noted.execute(&mut *tx).await?;
        commit(tx).await
    }

    /// Stores an imported data set.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when the name is another one's.
    pub async fn insert_dataset(&self, new: NewDataset<'_>) -> Result<()> {
        self.insert_dataset_once(new, None).await.map(drop)
    }

    /// Stores an imported data set and the key of the request that brought it, both or neither. Gives its id, or that
    /// of the set that an earlier request with this key made; then nothing is stored.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when the name is another one's, [`StoreError::KeyReused`].
    pub async fn insert_dataset_once(&self, new: NewDataset<'_>, idempotency: Option<&Idempotency>) -> Result<Uuid> {
        let mut tx = self.write().await?;
        if let Some(idempotency) = idempotency {
            if let Some(earlier) = earlier_request(&mut *tx, idempotency).await? {
                return Ok(earlier);
            }
            let expired = now() - Idempotency::LIFE.as_millis() as i64;
            sqlx::query("DELETE FROM dataset_requests WHERE created_at <= ?").bind(expired).execute(&mut *tx).await?;
        }
        let inserted = sqlx::query(
            "INSERT INTO datasets (id, name, task, classes, counts, report, content_hash, created_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(new.id.to_string())
        .bind(&new.name)
        .bind(&new.task)
        .bind(to_json(&new.manifest.classes)?)
        .bind(to_json(&new.manifest.counts())?)
        .bind(to_json(&ReportSummary::of(new.report))?)
        .bind(&new.manifest.content_hash)
        .bind(now())
        .execute(&mut *tx)
        .await;
        match inserted {
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                return Err(StoreError::Taken { what: "data set", name: new.name });
            }
            other => other.map(drop)?,
        }
        sqlx::query("DELETE FROM passing_datasets WHERE id = ?").bind(new.id.to_string()).execute(&mut *tx).await?;
        sqlx::query("INSERT INTO dataset_reports (dataset_id, report) VALUES (?, ?)")
            .bind(new.id.to_string())
            .bind(to_json(new.report)?)
            .execute(&mut *tx)
            .await?;
        if let Some(idempotency) = idempotency {
            sqlx::query(
                "INSERT INTO dataset_requests (idempotency_key, request_sha256, dataset_id, created_at)
                 VALUES (?, ?, ?, ?)",
            )
            .bind(&idempotency.key)
            .bind(&idempotency.request_sha256)
            .bind(new.id.to_string())
            .bind(now())
            .execute(&mut *tx)
            .await?;
        }
        commit(tx).await?;
        Ok(new.id)
    }

    /// The data set that an earlier request with this key made.
    ///
    /// # Errors
    /// [`StoreError::KeyReused`] when that request had another body.
    pub async fn dataset_of_request(&self, idempotency: &Idempotency) -> Result<Option<Uuid>> {
        earlier_request(&self.reader, idempotency).await
    }

    /// A data set by id, however that is written, or name.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn dataset(&self, id_or_name: &str) -> Result<DatasetRow> {
        let id = Uuid::parse_str(id_or_name).ok().map(|id| id.to_string());
        // A name that looks like another set's id must not hide that set: the id goes first.
        sqlx::query_as::<_, Raw>("SELECT * FROM datasets WHERE id = ?1 OR name = ?2 ORDER BY id = ?1 DESC LIMIT 1")
            .bind(id)
            .bind(id_or_name)
            .fetch_optional(&self.reader)
            .await?
            .ok_or_else(|| StoreError::not_found("data set", id_or_name))?
            .parse()
    }

    /// The data set of this content, where there is one; of several the oldest.
    ///
    /// # Errors
    /// The database's.
    pub async fn dataset_of_content(&self, hash: &str) -> Result<Option<Uuid>> {
        let id: Option<String> =
            sqlx::query_scalar("SELECT id FROM datasets WHERE content_hash = ? ORDER BY id LIMIT 1")
                .bind(hash)
                .fetch_optional(&self.reader)
                .await?;
        id.as_deref().map(super::jobs::parse_id).transpose()
    }

    /// All that the import of a data set found.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn dataset_report(&self, id: Uuid) -> Result<ImportReport> {
        let report: Option<String> = sqlx::query_scalar("SELECT report FROM dataset_reports WHERE dataset_id = ?")
            .bind(id.to_string())
            .fetch_optional(&self.reader)
            .await?;
        let mut report: ImportReport =
            from_json("import report", &report.ok_or_else(|| StoreError::not_found("data set", id))?)?;
        // Those of before list every row and do not count them.
        report.rejected_rows = report.rejected_rows.max(report.rejected.len() as u64);
        Ok(report)
    }

    /// At most `limit` data sets older than `before`, newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn datasets(&self, before: Option<Uuid>, limit: u32) -> Result<Vec<DatasetRow>> {
        let rows: Vec<Raw> = sqlx::query_as("SELECT * FROM datasets WHERE id < ? ORDER BY id DESC LIMIT ?")
            .bind(before.map_or(BEHIND_EVERY_ID.to_owned(), |id| id.to_string()))
            .bind(limit)
            .fetch_all(&self.reader)
            .await?;
        rows.into_iter().map(Raw::parse).collect()
    }

    /// Forgets a data set that no unfinished job needs, and its report. Its directory is the caller's to remove,
    /// afterwards.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::NotFound`].
    pub async fn delete_dataset(&self, id: Uuid) -> Result<()> {
        let mut tx = self.write().await?;
        in_use::refuse_while_needed(&mut tx, in_use::OF_DATASET, &id.to_string(), "need this data set").await?;
        let gone = sqlx::query("DELETE FROM datasets WHERE id = ?").bind(id.to_string()).execute(&mut *tx).await?;
        if gone.rows_affected() == 0 {
            return Err(StoreError::not_found("data set", id));
        }
        // Never named again: whole or not, what is left of it is litter.
        let noted = sqlx::query(
            "INSERT INTO passing_datasets (id, going) VALUES (?, 1) ON CONFLICT (id) DO UPDATE SET going = 1",
        );
        noted.bind(id.to_string()).execute(&mut *tx).await?;
        commit(tx).await
    }
}

async fn earlier_request<'e>(
    executor: impl sqlx::Executor<'e, Database = sqlx::Sqlite>,
    idempotency: &Idempotency,
) -> Result<Option<Uuid>> {
    let found: Option<(String, String)> = sqlx::query_as(
        "SELECT dataset_id, request_sha256 FROM dataset_requests WHERE idempotency_key = ? AND created_at > ?",
    )
    .bind(&idempotency.key)
    .bind(now() - Idempotency::LIFE.as_millis() as i64)
    .fetch_optional(executor)
    .await?;
    idempotency.same_request(found)
}
