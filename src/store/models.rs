//! Published models: versions and the aliases that point at them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sqlx::{FromRow, Sqlite, Transaction};
use uuid::Uuid;

use super::names::{self, ModelRef};
use super::{Result, Store, StoreError, commit, from_json, now, orphans, time, to_json};
use crate::model::{MANIFEST_FILE, ModelManifest, PREDICTIONS_FILE, WEIGHTS_FILE};

/// No version has an empty name: where the first page begins.
const BEFORE_EVERY_VERSION: (&str, u32) = ("", 0);

/// A published version.
#[derive(Clone, Debug)]
pub struct VersionRow {
    /// The model's name.
    pub name: String,
    /// Counts from 1.
    pub version: u32,
    /// The job that published it, unless that was deleted.
    pub job_id: Option<Uuid>,
    /// When it was published.
    pub created_at: jiff::Timestamp,
    /// What [`VersionRow::metrics`] reads; none of a row that was read without.
    metrics: Option<String>,
    /// Class names in the order of the logits.
    pub classes: Vec<String>,
    /// The algorithm that trained it; none of an old version whose job was deleted.
    pub algorithm: Option<String>,
    /// Labels trained with, where that is known.
    pub labelled: Option<u32>,
    /// Hash of the weights' file.
    pub weights_sha256: String,
    /// Hash of `model.json`.
    pub manifest_sha256: String,
    /// Hash of `predictions.csv`; none of a version that an older build published.
    pub predictions_sha256: Option<String>,
}

impl VersionRow {
    /// What the version is called, also in memory: `gender:3`.
    pub fn key(&self) -> String {
        names::version_key(&self.name, self.version)
    }

    /// `{"validation": …, "test": …}`. Of many classes it is megabytes: it is there in a page's rows ([`Store::versions`]) and those of
    /// [`Store::with_figures`], and not in every row, such as that of each prediction's model.
    ///
    /// # Errors
    /// What is stored is no JSON, or was not read.
    pub fn metrics(&self) -> Result<serde_json::Value> {
        let not_read = || StoreError::stored("metrics", "they were not read with the version");
        from_json("metrics", self.metrics.as_ref().ok_or_else(not_read)?)
    }
}

/// A model with its versions, or those of them that stand on a page.
#[derive(Clone, Debug)]
pub struct ModelRow {
    /// Its name.
    pub name: String,
    /// Newest first.
    pub versions: Vec<VersionRow>,
    /// Which version each alias means.
    pub aliases: BTreeMap<String, u32>,
}

/// A version to be published; its files are in the artifacts already.
#[derive(Debug)]
pub(super) struct NewVersion {
    classes: String,
    metrics: String,
    algorithm: Option<String>,
    labelled: Option<u32>,
    weights_sha256: String,
    manifest_sha256: String,
    predictions_sha256: Option<String>,
}

impl NewVersion {
    /// Reads a run's model directory and keeps its files through `keep`. Blocks.
    pub(super) fn from_files(directory: &Path, mut keep: impl FnMut(&Path) -> Result<String>) -> Result<Self> {
        let path = directory.join(MANIFEST_FILE);
        let manifest = ModelManifest::read(&path)
            .map_err(|error| StoreError::Artifact { path: error.path, reason: error.reason })?;
        let metrics = serde_json::json!({ "validation": manifest.validation, "test": manifest.test });
        // A run that an older build finished, and whose publication this one makes up for, has none.
        let predictions = Some(directory.join(PREDICTIONS_FILE)).filter(|path| path.exists());
        Ok(Self {
            classes: to_json(&manifest.classes)?,
            metrics: to_json(&metrics)?,
            algorithm: manifest.config["algorithm"].as_str().map(str::to_owned),
            labelled: u32::try_from(manifest.split.labelled).ok(),
            weights_sha256: keep(&directory.join(WEIGHTS_FILE))?,
            manifest_sha256: keep(&path)?,
            predictions_sha256: predictions.map(|path| keep(&path)).transpose()?,
        })
    }

    /// The hashes of its files.
    pub(super) fn artifacts(&self) -> Vec<String> {
        [&self.weights_sha256, &self.manifest_sha256].into_iter().chain(&self.predictions_sha256).cloned().collect()
    }
}

/// Adds the next version of `name`.
pub(super) async fn publish(
    tx: &mut Transaction<'_, Sqlite>,
    name: &str,
    job: Uuid,
    new: NewVersion,
) -> Result<VersionRow> {
    let row: Raw = sqlx::query_as(
        "INSERT INTO model_versions (name, version, job_id, classes, metrics, weights_sha256, manifest_sha256, created_at,
           algorithm, labelled, predictions_sha256)
         VALUES (?1, (SELECT COALESCE(MAX(version), 0) + 1 FROM
           (SELECT version FROM model_versions WHERE name = ?1 UNION ALL SELECT last FROM model_numbers WHERE name = ?1)),
           ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         RETURNING *",
    )
    .bind(name)
    .bind(job.to_string())
    .bind(new.classes)
    .bind(new.metrics)
    .bind(new.weights_sha256)
    .bind(new.manifest_sha256)
    .bind(now())
    .bind(new.algorithm)
    .bind(new.labelled)
    .bind(new.predictions_sha256)
    .fetch_one(&mut **tx)
    .await?;
    row.parse()
}

/// A query for versions with the given rest, without what their figures have for each class (`by_class`).
macro_rules! select_lines {
    ($rest:literal) => {
        concat!(
            "SELECT name, version, job_id, classes, weights_sha256, manifest_sha256, created_at, algorithm, labelled,
               predictions_sha256, json_remove(metrics",
            crate::store::by_class::by_class!(test => at "$.test"),
            crate::store::by_class::by_class!(epoch => at "$.validation"),
            ") AS metrics FROM model_versions ",
            $rest
        )
    };
}

/// Behind the version ?2 of ?1: both halves come in the index's order, and the merged ones too.
pub(super) const PAGE: &str = concat!(
    select_lines!("WHERE name = ?1 AND version < ?2"),
    " UNION ALL ",
    select_lines!("WHERE name > ?1"),
    " ORDER BY name, version DESC LIMIT ?3"
);

/// A query for versions `v` with the given rest, without their figures: from the index that has all of the rest, as by itself SQLite
/// would go to the table's rows, where the figures lie among it.
macro_rules! select_bare {
    ($rest:literal) => {
        concat!(
            "SELECT v.name, v.version, v.job_id, v.classes, NULL AS metrics, v.weights_sha256, v.manifest_sha256, v.created_at,
               v.algorithm, v.labelled, v.predictions_sha256 FROM model_versions v INDEXED BY model_versions_facts ",
            $rest
        )
    };
}

/// The version ?2 of ?1.
pub(super) const VERSION: &str = select_bare!("WHERE v.name = ?1 AND v.version = ?2");

/// The version that the alias ?2 of ?1 means.
pub(super) const ALIASED: &str = select_bare!(
    "JOIN model_aliases a ON a.name = v.name AND a.version = v.version WHERE a.name = ?1 AND a.alias = ?2"
);

/// The newest versions that an alias ?1 means.
pub(super) const NEWEST_ALIASED: &str = select_bare!(
    "JOIN model_aliases a ON a.name = v.name AND a.version = v.version
     WHERE a.alias = ?1 ORDER BY v.created_at DESC, v.name LIMIT ?2"
);

#[derive(FromRow)]
struct Raw {
    name: String,
    version: u32,
    job_id: Option<String>,
    classes: String,
    metrics: Option<String>,
    weights_sha256: String,
    manifest_sha256: String,
    created_at: i64,
    algorithm: Option<String>,
    labelled: Option<u32>,
    predictions_sha256: Option<String>,
}

impl Raw {
    fn parse(self) -> Result<VersionRow> {
        Ok(VersionRow {
            name: self.name,
            version: self.version,
            job_id: self.job_id.as_deref().map(super::jobs::parse_id).transpose()?,
            created_at: time(self.created_at)?,
            metrics: self.metrics,
            classes: from_json("class list", &self.classes)?,
            algorithm: self.algorithm,
            labelled: self.labelled,
            weights_sha256: self.weights_sha256,
            manifest_sha256: self.manifest_sha256,
            predictions_sha256: self.predictions_sha256,
        })
    }
}

impl Store {
    /// All models by name, their versions newest first: tests alone have few enough to ask for all of them.
    #[cfg(test)]
    pub(super) async fn models(&self) -> Result<Vec<ModelRow>> {
        self.models_of(self.versions(None, u32::MAX).await?).await
    }

    /// The names of the models, at most `limit`, in order.
    ///
    /// # Errors
    /// The database's.
    pub async fn model_names(&self, limit: u32) -> Result<Vec<String>> {
        let names = sqlx::query_scalar("SELECT DISTINCT name FROM model_versions ORDER BY name LIMIT ?");
        Ok(names.bind(limit).fetch_all(&self.reader).await?)
    }

    /// At most `limit` versions behind this one, by name and then newest first; without what their figures have for each class: the
    /// confusion and the classes of their test, and the shares by class of their epoch.
    ///
    /// # Errors
    /// The database's.
    pub async fn versions(&self, after: Option<(&str, u32)>, limit: u32) -> Result<Vec<VersionRow>> {
        let (name, version) = after.unwrap_or(BEFORE_EVERY_VERSION);
        let rows: Vec<Raw> = sqlx::query_as(PAGE).bind(name).bind(version).bind(limit).fetch_all(&self.reader).await?;
        rows.into_iter().map(Raw::parse).collect()
    }

    /// The models of these versions, which stand in the order of [`Store::versions`], with all their aliases.
    ///
    /// # Errors
    /// The database's.
    pub async fn models_of(&self, versions: Vec<VersionRow>) -> Result<Vec<ModelRow>> {
        let name = |row: Option<&VersionRow>| row.map(|row| row.name.clone());
        let aliases: Vec<(String, String, u32)> =
            sqlx::query_as("SELECT name, alias, version FROM model_aliases WHERE name BETWEEN ? AND ?")
                .bind(name(versions.first()))
                .bind(name(versions.last()))
                .fetch_all(&self.reader)
                .await?;
        let mut models: Vec<ModelRow> = Vec::new();
        for row in versions {
            match models.last_mut().filter(|model| model.name == row.name) {
                Some(model) => model.versions.push(row),
                None => models.push(ModelRow { name: row.name.clone(), aliases: BTreeMap::new(), versions: vec![row] }),
            }
        }
        for (name, alias, version) in aliases {
            if let Some(model) = models.iter_mut().find(|model| model.name == name) {
                model.aliases.insert(alias, version);
            }
        }
        Ok(models)
    }

    /// The champions without their figures, at most `limit`, those that were published last first.
    ///
    /// # Errors
    /// The database's.
    pub async fn champions(&self, limit: u32) -> Result<Vec<VersionRow>> {
        let rows: Vec<Raw> =
            sqlx::query_as(NEWEST_ALIASED).bind(names::CHAMPION).bind(limit).fetch_all(&self.reader).await?;
        rows.into_iter().map(Raw::parse).collect()
    }

    /// One version, without its figures.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn version(&self, name: &str, version: u32) -> Result<VersionRow> {
        sqlx::query_as::<_, Raw>(VERSION)
            .bind(name)
            .bind(version)
            .fetch_optional(&self.reader)
            .await?
            .ok_or_else(|| StoreError::not_found("model version", names::version_key(name, version)))?
            .parse()
    }

    /// A version that was read without its figures, with all of them.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] where it was deleted meanwhile.
    pub async fn with_figures(&self, row: VersionRow) -> Result<VersionRow> {
        let metrics: Option<String> =
            sqlx::query_scalar("SELECT metrics FROM model_versions WHERE name = ? AND version = ?")
                .bind(row.name.as_str())
                .bind(row.version)
                .fetch_optional(&self.reader)
                .await?;
        match metrics {
            Some(_) => Ok(VersionRow { metrics, ..row }),
            None => Err(StoreError::not_found("model version", row.key())),
        }
    }

    /// Where a version's weights and its manifest lie, in this order.
    pub fn version_files(&self, row: &VersionRow) -> (PathBuf, PathBuf) {
        (self.artifact(&row.weights_sha256), self.artifact(&row.manifest_sha256))
    }

    /// The version that `gender` (its champion), `gender@alias` or `gender:3` means, without its figures.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn resolve_model(&self, expression: &str) -> Result<VersionRow> {
        let missing = || StoreError::not_found("model", expression);
        match names::parse(expression).ok_or_else(missing)? {
            ModelRef::Version { name, version } => self.version(name, version).await,
            ModelRef::Alias { name, alias } => {
                let found: Option<Raw> =
                    sqlx::query_as(ALIASED).bind(name).bind(alias).fetch_optional(&self.reader).await?;
                match found {
                    Some(row) => row.parse(),
                    None => Err(self.without_alias(name, alias, missing()).await?),
                }
            }
        }
    }

    /// Why an alias leads nowhere: the model lacks it, or is not there at all (`missing`).
    async fn without_alias(&self, name: &str, alias: &str, missing: StoreError) -> Result<StoreError> {
        let newest: Option<u32> = sqlx::query_scalar("SELECT MAX(version) FROM model_versions WHERE name = ?")
            .bind(name)
            .fetch_one(&self.reader)
            .await?;
        let (model, alias) = (name.to_owned(), alias.to_owned());
        Ok(newest.map_or(missing, |newest| StoreError::NoAlias { model, alias, newest }))
    }

    /// Lets `alias` mean `version` from now on; gives what it meant before.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for a version that is not there, [`StoreError::InvalidName`].
    pub async fn set_alias(&self, name: &str, alias: &str, version: u32) -> Result<Option<u32>> {
        names::check_alias(alias)?;
        let mut tx = self.write().await?;
        let previous = sqlx::query_scalar("SELECT version FROM model_aliases WHERE name = ? AND alias = ?")
            .bind(name)
            .bind(alias)
            .fetch_optional(&mut *tx)
            .await?;
        let moved = sqlx::query(
            "INSERT INTO model_aliases (name, alias, version, updated_at)
             SELECT name, ?2, version, ?4 FROM model_versions WHERE name = ?1 AND version = ?3
             ON CONFLICT (name, alias) DO UPDATE SET version = excluded.version, updated_at = excluded.updated_at",
        )
        .bind(name)
        .bind(alias)
        .bind(version)
        .bind(now())
        .execute(&mut *tx)
        .await?;
        if moved.rows_affected() == 0 {
            return Err(StoreError::not_found("model version", names::version_key(name, version)));
        }
        commit(tx).await?;
        Ok(previous)
    }

    /// Takes an alias away; gives the version that it meant.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn delete_alias(&self, name: &str, alias: &str) -> Result<u32> {
        sqlx::query_scalar("DELETE FROM model_aliases WHERE name = ? AND alias = ? RETURNING version")
            .bind(name)
            .bind(alias)
            .fetch_optional(self.writable()?)
            .await?
            .ok_or_else(|| StoreError::not_found("alias", format!("{name}@{alias}")))
    }

    /// Forgets a version that no alias means, then removes its files, unless another row names the same bytes. Its number is
    /// not given again.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::NotFound`].
    pub async fn delete_version(&self, name: &str, version: u32) -> Result<()> {
        let _files = self.files.write().await;
        let mut tx = self.write().await?;
        let aliases: Vec<String> =
            sqlx::query_scalar("SELECT alias FROM model_aliases WHERE name = ? AND version = ? ORDER BY alias")
                .bind(name)
                .bind(version)
                .fetch_all(&mut *tx)
                .await?;
        if !aliases.is_empty() {
            let aliases = aliases.join(", ");
            let detail = format!("{name}:{version} is what {aliases} means; move or delete that alias first");
            return Err(StoreError::InUse { detail });
        }
        sqlx::query(
            "INSERT INTO model_numbers (name, last) SELECT name, MAX(version) FROM model_versions WHERE name = ? GROUP BY name
             ON CONFLICT (name) DO UPDATE SET last = MAX(last, excluded.last)",
        )
        .bind(name)
        .execute(&mut *tx)
        .await?;
        let files: Option<(String, String, Option<String>)> = sqlx::query_as(
            "DELETE FROM model_versions WHERE name = ? AND version = ?
             RETURNING weights_sha256, manifest_sha256, predictions_sha256",
        )
        .bind(name)
        .bind(version)
        .fetch_optional(&mut *tx)
        .await?;
        let (weights, manifest, predictions) =
            files.ok_or_else(|| StoreError::not_found("model version", names::version_key(name, version)))?;
        let files: Vec<String> = [weights, manifest].into_iter().chain(predictions).collect();
        orphans::pass(&mut tx, &files).await?;
        let unnamed = orphans::unnamed_of(&mut tx, files).await?;
        commit(tx).await?;
        self.remove_artifacts(&unnamed).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::new_store;

    async fn insert(store: &Store, name: &str, version: u32, metrics: &str, created_at: i64) {
        let insert =
            "INSERT INTO model_versions (name, version, classes, metrics, weights_sha256, manifest_sha256, created_at)
             VALUES (?, ?, '[\"a\",\"b\"]', ?, 'w', 'm', ?)";
        let insert = sqlx::query(insert).bind(name).bind(version).bind(metrics).bind(created_at);
        insert.execute(&store.writer).await.unwrap();
    }

    #[tokio::test]
    async fn the_newest_champions_are_found_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let store = new_store(directory.path()).await;
        for (name, created_at) in [("a", 3), ("b", 1), ("c", 4), ("d", 2)] {
            insert(&store, name, 1, "{}", created_at).await;
            // Newer, and no champion.
            insert(&store, name, 2, "{}", created_at + 10).await;
        }
        for (name, alias) in [("a", "champion"), ("b", "champion"), ("c", "champion"), ("d", "shadow")] {
            store.set_alias(name, alias, 1).await.unwrap();
        }
        let found = async |limit| -> Vec<String> {
            store.champions(limit).await.unwrap().iter().map(VersionRow::key).collect()
        };
        assert_eq!(found(8).await, ["c:1", "a:1", "b:1"]);
        assert_eq!(found(2).await, ["c:1", "a:1"]);
    }

    /// Of a thousand classes it is megabytes a version, and a page may have a thousand of those.
    #[tokio::test]
    async fn what_is_there_for_each_class_is_read_with_its_version_and_not_with_a_page() {
        let directory = tempfile::tempdir().unwrap();
        let store = new_store(directory.path()).await;
        let whole = serde_json::json!({
            "validation": {
                "validation_accuracy": 0.1 + 0.2,
                "guess_classes": [0.5], "unlabelled_classes": [0.5], "validation_classes": [0.5],
            },
            "test": {"accuracy": 0.1 + 0.2, "confusion": [[1]], "classes": [{"class": "a"}], "groups": []},
        });
        insert(&store, "a", 2, &whole.to_string(), 0).await;
        // As of a data set without a test sheet.
        insert(&store, "a", 1, r#"{"validation":{"epoch":1},"test":null}"#, 0).await;
        let row = store.with_figures(store.version("a", 2).await.unwrap()).await.unwrap();
        assert_eq!(row.metrics().unwrap(), whole);
        let line = serde_json::json!({
            "validation": {"validation_accuracy": 0.1 + 0.2}, "test": {"accuracy": 0.1 + 0.2, "groups": []},
        });
        let untested = serde_json::json!({"validation": {"epoch": 1}, "test": null});
        for after in [None, Some(("a", 3))] {
            let page = store.versions(after, 10).await.unwrap();
            assert_eq!(
                page.iter().map(|row| row.metrics().unwrap()).collect::<Vec<_>>(),
                [line.clone(), untested.clone()]
            );
        }
    }

    #[tokio::test]
    async fn a_version_is_found_whatever_its_figures_say() {
        let directory = tempfile::tempdir().unwrap();
        let store = new_store(directory.path()).await;
        insert(&store, "a", 1, "no JSON", 0).await;
        let row = store.resolve_model("a:1").await.unwrap();
        let row = store.with_figures(row).await.unwrap();
        assert!(row.metrics().is_err(), "they are read when they are asked for");
    }

    #[tokio::test]
    async fn figures_come_to_those_who_ask_for_them_alone() {
        let directory = tempfile::tempdir().unwrap();
        let store = new_store(directory.path()).await;
        insert(&store, "a", 1, r#"{"test":null}"#, 0).await;
        store.set_alias("a", "champion", 1).await.unwrap();
        let mut bare = store.champions(1).await.unwrap();
        for model in ["a", "a@champion", "a:1"] {
            bare.push(store.resolve_model(model).await.unwrap());
        }
        for row in bare {
            assert_eq!(row.metrics, None);
            assert!(row.metrics().is_err(), "what was not read is not told as none");
            let row = store.with_figures(row).await.unwrap();
            assert_eq!(row.metrics().unwrap(), serde_json::json!({"test": null}));
        }
        let row = store.version("a", 1).await.unwrap();
        store.delete_alias("a", "champion").await.unwrap();
        sqlx::query("DELETE FROM model_versions").execute(&store.writer).await.unwrap();
        assert!(matches!(store.with_figures(row).await, Err(StoreError::NotFound { .. })));
    }
}
