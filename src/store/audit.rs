//! Who changed what: a row before each change, completed after it. Rows are only ever added.

use sqlx::FromRow;
use uuid::Uuid;

use super::{BEHIND_EVERY_ID, Result, Store, now, time};

/// One change, or one attempt at it.
#[derive(Clone, Debug)]
pub struct AuditRow {
    /// UUID v7.
    pub id: Uuid,
    /// When it began.
    pub at: jiff::Timestamp,
    /// Who: a key's name and prefix, or where the caller sits.
    pub actor: String,
    /// What: method and route, or a command.
    pub action: String,
    /// Of what: the path, or the command's object.
    pub target: String,
    /// Where a new thing is.
    pub created: Option<String>,
    /// The request's id.
    pub request_id: Option<String>,
    /// The answer's status; none where it never went out.
    pub status: Option<u16>,
}

/// A change that is about to be made.
#[derive(Clone, Debug)]
pub struct NewAudit<'a> {
    /// Who.
    pub actor: &'a str,
    /// What.
    pub action: &'a str,
    /// Of what.
    pub target: &'a str,
    /// The request's id.
    pub request_id: Option<&'a str>,
}

#[derive(FromRow)]
struct Raw {
    id: String,
    at: i64,
    actor: String,
    action: String,
    target: String,
    created: Option<String>,
    request_id: Option<String>,
    status: Option<i64>,
}

impl Raw {
    fn parse(self) -> Result<AuditRow> {
        Ok(AuditRow {
            id: super::jobs::parse_id(&self.id)?,
            at: time(self.at)?,
            actor: self.actor,
            action: self.action,
            target: self.target,
            created: self.created,
            request_id: self.request_id,
            status: self.status.and_then(|status| status.try_into().ok()),
        })
    }
}

impl Store {
    /// Writes that a change begins; gives its id for [`Store::complete_audit`].
    ///
    /// # Errors
    /// The database's; then the change must not be made.
    pub async fn begin_audit(&self, new: NewAudit<'_>) -> Result<Uuid> {
        let id = Uuid::now_v7();
        sqlx::query("INSERT INTO audit (id, at, actor, action, target, request_id) VALUES (?, ?, ?, ?, ?, ?)")
            .bind(id.to_string())
            .bind(now())
            .bind(new.actor)
            .bind(new.action)
            .bind(new.target)
            .bind(new.request_id)
            .execute(&self.writer)
            .await?;
        Ok(id)
    }

    /// Writes how a change ended, and where the thing is that it made.
    ///
    /// # Errors
    /// The database's.
    pub async fn complete_audit(&self, id: Uuid, status: u16, created: Option<&str>) -> Result<()> {
        sqlx::query("UPDATE audit SET status = ?, created = ? WHERE id = ?")
            .bind(status)
            .bind(created)
            .bind(id.to_string())
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// At most `limit` rows older than `before`, newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn audit(&self, before: Option<Uuid>, limit: u32) -> Result<Vec<AuditRow>> {
        let rows: Vec<Raw> = sqlx::query_as("SELECT * FROM audit WHERE id < ? ORDER BY id DESC LIMIT ?")
            .bind(before.map_or(BEHIND_EVERY_ID.to_owned(), |id| id.to_string()))
            .bind(limit)
            .fetch_all(&self.reader)
            .await?;
        rows.into_iter().map(Raw::parse).collect()
    }
}
