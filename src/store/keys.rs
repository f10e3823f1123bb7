//! API keys: who may call, until when. The server reads them with every request, so that a key that was revoked by
//! another process opens nothing from that moment on.

use sqlx::FromRow;
use uuid::Uuid;

use super::{Result, Store, StoreError, commit, now, time};
use crate::keys::Scope;

/// A key as stored, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// UUID v7.
    pub id: Uuid,
    /// What its owner calls it.
    pub name: String,
    /// The key's public part.
    pub prefix: String,
    /// SHA-256 of the key.
    pub sha256: String,
    /// What it may do.
    pub scope: Scope,
    /// When it was made.
    pub created_at: jiff::Timestamp,
    /// When it ends; none: never.
    pub expires_at: Option<jiff::Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<jiff::Timestamp>,
}

impl KeyRow {
    /// `live`, `revoked` or `expired`, at this moment.
    pub fn state(&self) -> &'static str {
        match (self.revoked_at, self.expires_at) {
            (Some(_), _) => "revoked",
            (None, Some(end)) if end <= jiff::Timestamp::now() => "expired",
            (None, _) => "live",
        }
    }

    /// Whether it opens anything now.
    pub fn is_live(&self) -> bool {
        self.state() == "live"
    }

    /// Since when it opens nothing any more; none while it does.
    pub fn ended_at(&self) -> Option<jiff::Timestamp> {
        let expired = self.expires_at.filter(|end| *end <= jiff::Timestamp::now());
        // Another one of its name may have been made later, which revokes it.
        self.revoked_at.into_iter().chain(expired).min()
    }
}

/// A key to be stored.
#[derive(Clone, Debug)]
pub struct NewKey<'a> {
    /// A name that no live key has.
    pub name: &'a str,
    /// The key's public part.
    pub prefix: &'a str,
    /// SHA-256 of the key.
    pub sha256: &'a str,
    /// What it may do.
    pub scope: Scope,
    /// When it ends; none: never.
    pub expires_at: Option<jiff::Timestamp>,
}

#[derive(FromRow)]
struct Raw {
    id: String,
    name: String,
    prefix: String,
    sha256: String,
    scope: String,
    created_at: i64,
    expires_at: Option<i64>,
    revoked_at: Option<i64>,
}

impl Raw {
    fn parse(self) -> Result<KeyRow> {
        Ok(KeyRow {
            id: super::jobs::parse_id(&self.id)?,
            name: self.name,
            prefix: self.prefix,
            sha256: self.sha256,
            scope: self.scope.parse().map_err(|reason| StoreError::stored("scope", reason))?,
            created_at: time(self.created_at)?,
            expires_at: self.expires_at.map(time).transpose()?,
            revoked_at: self.revoked_at.map(time).transpose()?,
        })
    }
}

impl Store {
    /// Stores a key. An expired one of that name is revoked before, which gives its name free.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when a live key has the name.
    pub async fn insert_key(&self, new: NewKey<'_>) -> Result<KeyRow> {
        let mut tx = self.write().await?;
        sqlx::query("UPDATE api_keys SET revoked_at = ?2 WHERE name = ?1 AND revoked_at IS NULL AND expires_at <= ?2")
            .bind(new.name)
            .bind(now())
            .execute(&mut *tx)
            .await?;
        let inserted = sqlx::query_as::<_, Raw>(
            "INSERT INTO api_keys (id, name, prefix, sha256, scope, created_at, expires_at)
             VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING *",
        )
        .bind(Uuid::now_v7().to_string())
        .bind(new.name)
        .bind(new.prefix)
        .bind(new.sha256)
        .bind(new.scope.as_str())
        .bind(now())
        .bind(new.expires_at.map(jiff::Timestamp::as_millisecond))
        .fetch_one(&mut *tx)
        .await;
        match inserted {
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                Err(StoreError::Taken { what: "key", name: new.name.to_owned() })
            }
            other => {
                let key = other?.parse()?;
                commit(tx).await?;
                Ok(key)
            }
        }
    }

    /// A key by its id, whatever its state.
    ///
    /// # Errors
    /// The database's.
    pub async fn key_of_id(&self, id: Uuid) -> Result<Option<KeyRow>> {
        let query = sqlx::query_as("SELECT * FROM api_keys WHERE id = ?").bind(id.to_string());
        query.fetch_optional(&self.reader).await?.map(Raw::parse).transpose()
    }

    /// The key with this public part, whatever its state.
    ///
    /// # Errors
    /// The database's.
    pub async fn key(&self, prefix: &str) -> Result<Option<KeyRow>> {
        let found: Option<Raw> =
            sqlx::query_as("SELECT * FROM api_keys WHERE prefix = ?").bind(prefix).fetch_optional(&self.reader).await?;
        found.map(Raw::parse).transpose()
    }

    /// All keys, newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn keys(&self) -> Result<Vec<KeyRow>> {
        let rows: Vec<Raw> = sqlx::query_as("SELECT * FROM api_keys ORDER BY id DESC").fetch_all(&self.reader).await?;
        rows.into_iter().map(Raw::parse).collect()
    }

    /// Whether a key was ever made here, be it revoked by now.
    ///
    /// # Errors
    /// The database's.
    pub async fn has_keys(&self) -> Result<bool> {
        Ok(sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM api_keys)").fetch_one(&self.reader).await?)
    }

    /// Takes a key back, by its prefix or its name. A revoked one keeps the time of its first revocation.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn revoke_key(&self, prefix_or_name: &str) -> Result<KeyRow> {
        let revoked: Option<Raw> = sqlx::query_as(
            "UPDATE api_keys SET revoked_at = COALESCE(revoked_at, ?2)
             WHERE id = (SELECT id FROM api_keys WHERE prefix = ?1 OR name = ?1
                         ORDER BY prefix = ?1 DESC, revoked_at IS NULL DESC, id DESC LIMIT 1)
             RETURNING *",
        )
        .bind(prefix_or_name)
        .bind(now())
        .fetch_optional(self.writable()?)
        .await?;
        revoked.ok_or_else(|| StoreError::not_found("key", prefix_or_name))?.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_dir::DataDir;

    fn new<'a>(name: &'a str, prefix: &'a str, expires_at: Option<jiff::Timestamp>) -> NewKey<'a> {
        NewKey { name, prefix, sha256: "ab", scope: Scope::Train, expires_at }
    }

    #[tokio::test]
    async fn a_key_lives_until_it_ends_or_is_revoked_and_its_name_is_then_free() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&DataDir::new(directory.path())).await.unwrap();
        assert!(!store.has_keys().await.unwrap());
        let key = store.insert_key(new("ci", "aaaaaaaa", None)).await.unwrap();
        assert_eq!(store.key("aaaaaaaa").await.unwrap().as_ref(), Some(&key));
        assert!(key.is_live() && key.scope == Scope::Train && key.ended_at().is_none());
        let taken = store.insert_key(new("ci", "bbbbbbbb", None)).await;
        assert!(matches!(taken, Err(StoreError::Taken { .. })), "{taken:?}");

        // Another process revokes it; the one that serves sees it at once.
        let other = Store::open(&DataDir::new(directory.path())).await.unwrap();
        let revoked = other.revoke_key("ci").await.unwrap();
        assert_eq!(store.key("aaaaaaaa").await.unwrap().unwrap().state(), "revoked");
        assert_eq!(store.revoke_key("aaaaaaaa").await.unwrap().revoked_at, revoked.revoked_at);
        assert_eq!(revoked.ended_at(), revoked.revoked_at);
        assert!(store.has_keys().await.unwrap() && !store.keys().await.unwrap().iter().any(KeyRow::is_live));

        let past = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(1);
        let expired = store.insert_key(new("ci", "cccccccc", Some(past))).await.unwrap();
        assert_eq!(expired.state(), "expired");
        // The name means the key that is not revoked.
        assert_eq!(store.revoke_key("ci").await.unwrap().prefix, "cccccccc");
        assert!(matches!(store.revoke_key("nobody").await, Err(StoreError::NotFound { .. })));
        assert_eq!(store.keys().await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn an_expired_key_gives_its_name_to_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&DataDir::new(directory.path())).await.unwrap();
        let past = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(1);
        let expired = store.insert_key(new("ci", "aaaaaaaa", Some(past))).await.unwrap();
        let next = store.insert_key(new("ci", "bbbbbbbb", None)).await.unwrap();
        let revoked = store.key_of_id(expired.id).await.unwrap().unwrap();
        assert_eq!((revoked.state(), revoked.ended_at()), ("revoked", expired.expires_at));
        assert!(store.key_of_id(next.id).await.unwrap().unwrap().is_live());
        // One that still opens something keeps it.
        let taken = store.insert_key(new("ci", "cccccccc", None)).await;
        assert!(matches!(taken, Err(StoreError::Taken { .. })), "{taken:?}");
        assert_eq!(store.revoke_key("ci").await.unwrap().prefix, "bbbbbbbb");
    }

    #[tokio::test]
    async fn a_prefix_means_its_own_key_though_a_newer_one_is_named_so() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&DataDir::new(directory.path())).await.unwrap();
        let leaked = store.insert_key(new("laptop", "aaaaaaaa", None)).await.unwrap();
        let namesake = store.insert_key(new("aaaaaaaa", "bbbbbbbb", None)).await.unwrap();
        assert_eq!(store.revoke_key("aaaaaaaa").await.unwrap().id, leaked.id);
        assert!(store.key_of_id(namesake.id).await.unwrap().unwrap().is_live());
    }

    #[tokio::test]
    async fn a_key_that_was_revoked_long_ago_stays_so_when_its_name_is_given_again() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&DataDir::new(directory.path())).await.unwrap();
        let past = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(1);
        let old = store.insert_key(new("ci", "aaaaaaaa", Some(past))).await.unwrap();
        sqlx::query("UPDATE api_keys SET revoked_at = 1000").execute(&store.writer).await.unwrap();
        store.insert_key(new("ci", "bbbbbbbb", None)).await.unwrap();
        let old = store.key_of_id(old.id).await.unwrap().unwrap();
        assert_eq!(old.revoked_at, Some(jiff::Timestamp::from_second(1).unwrap()));
    }
}
