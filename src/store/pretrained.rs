//! Imported weights that a run may start from.

use std::path::PathBuf;

use sqlx::FromRow;

use super::{DatasetRow, Result, Store, StoreError, artifacts, commit, in_use, names, now, orphans, time};
use crate::train::config::{DataFacts, PretrainedFacts};

/// Weights as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PretrainedRow {
    /// Their unique name.
    pub name: String,
    /// The network that they are for.
    pub network: String,
    /// Classes that their head answers; none without a head.
    pub classes: Option<u32>,
    /// Numbers that the optimiser moves.
    pub parameters: u64,
    /// Hash of the artifact.
    pub sha256: String,
    /// The imported file's name.
    pub source: String,
    /// Its hash.
    pub source_sha256: String,
    /// When they were imported.
    pub created_at: jiff::Timestamp,
}

/// Weights to be stored.
#[derive(Clone, Debug)]
pub struct NewPretrained {
    /// A name that is not taken.
    pub name: String,
    /// The network that they are for.
    pub network: String,
    /// Classes that their head answers.
    pub classes: Option<u32>,
    /// Numbers that the optimiser moves.
    pub parameters: u64,
    /// The checked safetensors file; it is copied.
    pub file: PathBuf,
    /// The imported file's name.
    pub source: String,
    /// Its hash.
    pub source_sha256: String,
}

#[derive(FromRow)]
struct Raw {
    name: String,
    network: String,
    classes: Option<u32>,
    parameters: i64,
    sha256: String,
    source: String,
    source_sha256: String,
    created_at: i64,
}

impl Raw {
    fn parse(self) -> Result<PretrainedRow> {
        Ok(PretrainedRow {
            name: self.name,
            network: self.network,
            classes: self.classes,
            parameters: self.parameters as u64,
            sha256: self.sha256,
            source: self.source,
            source_sha256: self.source_sha256,
            created_at: time(self.created_at)?,
        })
    }
}

impl Store {
    /// Keeps a file of weights under a name: the file first, then the row.
    ///
    /// # Errors
    /// [`StoreError::InvalidName`], [`StoreError::Taken`], or when the file cannot be copied.
    pub async fn insert_pretrained(&self, new: NewPretrained) -> Result<PretrainedRow> {
        if !names::is_alias(&new.name) {
            return Err(StoreError::InvalidName { what: "name of weights", name: new.name });
        }
        // Before hundreds of megabytes are copied; the key decides where two come at once.
        if self.pretrained(&new.name).await.is_ok() {
            return Err(StoreError::Taken { what: "set of weights", name: new.name });
        }
        let _files = self.files.read().await;
        let (root, file) = (self.artifacts.clone(), new.file);
        let staged = tokio::task::spawn_blocking(move || artifacts::stage(&root, &file)).await;
        let staged = staged.map_err(|error| StoreError::stored("file of weights", error))??;
        let sha256 = staged.sha256.clone();
        self.keep_artifacts(vec![staged]).await?;
        let mut tx = self.write().await?;
        let inserted = sqlx::query_as::<_, Raw>(
            "INSERT INTO pretrained_weights (name, network, classes, parameters, sha256, source, source_sha256, created_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING *",
        )
        .bind(&new.name)
        .bind(&new.network)
        .bind(new.classes)
        .bind(new.parameters as i64)
        .bind(sha256)
        .bind(&new.source)
        .bind(&new.source_sha256)
        .bind(now())
        .fetch_one(&mut *tx)
        .await;
        let row = match inserted {
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                return Err(StoreError::Taken { what: "set of weights", name: new.name });
            }
            other => other?,
        };
        orphans::settle(&mut *tx, std::slice::from_ref(&row.sha256)).await?;
        commit(tx).await?;
        row.parse()
    }

    /// Weights by name.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn pretrained(&self, name: &str) -> Result<PretrainedRow> {
        sqlx::query_as::<_, Raw>("SELECT * FROM pretrained_weights WHERE name = ?")
            .bind(name)
            .fetch_optional(&self.reader)
            .await?
            .ok_or_else(|| StoreError::not_found("set of weights", name))?
            .parse()
    }

    /// All weights by name.
    ///
    /// # Errors
    /// The database's.
    pub async fn all_pretrained(&self) -> Result<Vec<PretrainedRow>> {
        self.pretrained_after(None, u32::MAX).await
    }

    /// At most `limit` sets of weights behind this name.
    ///
    /// # Errors
    /// The database's.
    pub async fn pretrained_after(&self, after: Option<&str>, limit: u32) -> Result<Vec<PretrainedRow>> {
        let rows: Vec<Raw> = sqlx::query_as("SELECT * FROM pretrained_weights WHERE name > ? ORDER BY name LIMIT ?")
            .bind(after.unwrap_or_default())
            .bind(limit)
            .fetch_all(&self.reader)
            .await?;
        rows.into_iter().map(Raw::parse).collect()
    }

    /// Forgets weights that no unfinished job starts from; the file goes after the row, unless another
    /// row names the same bytes.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::NotFound`].
    pub async fn delete_pretrained(&self, name: &str) -> Result<()> {
        let _files = self.files.write().await;
        let mut tx = self.write().await?;
        let sha256: Option<String> = sqlx::query_scalar("SELECT sha256 FROM pretrained_weights WHERE name = ?")
            .bind(name)
            .fetch_optional(&mut *tx)
            .await?;
        let sha256 = sha256.ok_or_else(|| StoreError::not_found("set of weights", name))?;
        in_use::refuse_while_needed(&mut tx, in_use::OF_PRETRAINED, name, "start from these weights").await?;
        sqlx::query("DELETE FROM pretrained_weights WHERE name = ?").bind(name).execute(&mut *tx).await?;
        // Those too that a job still starts from: once that is over, nobody names them.
        orphans::pass(&mut tx, std::slice::from_ref(&sha256)).await?;
        let unnamed = orphans::unnamed_of(&mut tx, vec![sha256]).await?;
        commit(tx).await?;
        self.remove_artifacts(&unnamed).await;
        Ok(())
    }

    /// What a job on `dataset` is checked against.
    ///
    /// # Errors
    /// The database's.
    pub async fn job_facts(&self, dataset: &DatasetRow) -> Result<DataFacts> {
        let facts = |row: PretrainedRow| PretrainedFacts {
            name: row.name,
            sha256: row.sha256,
            network: row.network,
            classes: row.classes,
        };
        let pretrained = self.all_pretrained().await?.into_iter().map(facts).collect();
        Ok(DataFacts { pretrained, ..dataset.facts() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::new_store;

    fn new(directory: &std::path::Path, name: &str, content: &str) -> NewPretrained {
        let file = directory.join(format!("{content}.safetensors"));
        std::fs::write(&file, content).unwrap();
        NewPretrained {
            name: name.to_owned(),
            network: "wrn-10-1".to_owned(),
            classes: Some(2),
            parameters: 5,
            file,
            source: "weights.pth".to_owned(),
            source_sha256: "ab".to_owned(),
        }
    }

    #[tokio::test]
    async fn weights_are_kept_found_and_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let store = new_store(directory.path()).await;
        let row = store.insert_pretrained(new(directory.path(), "imagenet", "one")).await.unwrap();
        assert_eq!(store.pretrained("imagenet").await.unwrap(), row);
        assert_eq!(std::fs::read(store.artifact(&row.sha256)).unwrap(), b"one");
        let taken = store.insert_pretrained(new(directory.path(), "imagenet", "two")).await;
        assert!(matches!(taken, Err(StoreError::Taken { .. })), "{taken:?}");
        let bad = store.insert_pretrained(new(directory.path(), "Image Net", "two")).await;
        assert!(matches!(bad, Err(StoreError::InvalidName { .. })), "{bad:?}");

        // The same bytes under a second name: the file stays until the last name goes.
        store.insert_pretrained(new(directory.path(), "copy", "one")).await.unwrap();
        let names: Vec<String> = store.all_pretrained().await.unwrap().into_iter().map(|row| row.name).collect();
        assert_eq!(names, ["copy", "imagenet"]);
        store.delete_pretrained("imagenet").await.unwrap();
        assert!(store.artifact(&row.sha256).exists());
        store.delete_pretrained("copy").await.unwrap();
        assert!(!store.artifact(&row.sha256).exists());
        assert!(matches!(store.delete_pretrained("copy").await, Err(StoreError::NotFound { .. })));
    }
}
