//! Who changed what: a row before each change, completed after it. Rows are only ever added, and forgotten by age alone.

use std::time::Duration;

use sqlx::FromRow;
use uuid::Uuid;

use super::{BEHIND_EVERY_ID, Result, Store, now, time};

/// Rows that are forgotten in one transaction: whoever else writes does so in between.
const BATCH: u32 = 1000;

/// What a row about rows that were forgotten has as its action.
const PRUNE: &str = "audit prune";

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
    /// What exactly, where the path does not say it: `gender@champion: 3 -> 4`.
    pub detail: Option<String>,
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
    detail: Option<String>,
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
            detail: self.detail,
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
            .execute(self.writable()?)
            .await?;
        Ok(id)
    }

    /// Writes how a change ended, where the thing is that it made, and what exactly it was.
    ///
    /// # Errors
    /// The database's.
    pub async fn complete_audit(
        &self,
        id: Uuid,
        status: u16,
        created: Option<&str>,
        detail: Option<&str>,
    ) -> Result<()> {
        sqlx::query("UPDATE audit SET status = ?, created = ?, detail = ? WHERE id = ?")
            .bind(status)
            .bind(created)
            .bind(detail)
            .bind(id.to_string())
            .execute(self.writable()?)
            .await?;
        Ok(())
    }

    /// Forgets the rows of changes that began earlier than `kept` before now, and leaves a row about that; gives how many there were.
    /// Ended early, it leaves the rest for the next time.
    ///
    /// Counted from the newest change where that is earlier: a clock that is years ahead at one start must not take all of them away.
    ///
    /// # Errors
    /// The database's.
    pub async fn prune_audit(&self, now: jiff::Timestamp, kept: Duration) -> Result<u64> {
        let Some(newest) = self.newest_change().await? else { return Ok(0) };
        // Before the beginning of time there is nothing to forget.
        let Ok(before) = now.min(newest).checked_sub(kept) else { return Ok(0) };
        let end = place_of(before);
        let old: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM audit WHERE id < ?").bind(&end).fetch_one(&self.reader).await?;
        if old == 0 {
            return Ok(0);
        }
        let target = format!("{old} rows before {before:.0}");
        let new = NewAudit { actor: "the server", action: PRUNE, target: &target, request_id: None };
        let id = self.begin_audit(new).await?;
        let mut gone = 0;
        let pruned = loop {
            match self.prune_batch(&end, BATCH).await {
                Ok(0) => break Ok(gone),
                Ok(rows) => gone += rows,
                Err(error) => break Err(error),
            }
        };
        // As commands do: no answer has this status, it says whether it was done.
        self.complete_audit(id, if pruned.is_ok() { 200 } else { 500 }, None, None).await?;
        pruned
    }

    /// When the newest change began that is no pruning.
    async fn newest_change(&self) -> Result<Option<jiff::Timestamp>> {
        let newest = sqlx::query_scalar::<_, i64>("SELECT at FROM audit WHERE action <> ? ORDER BY id DESC LIMIT 1");
        newest.bind(PRUNE).fetch_optional(&self.reader).await?.map(time).transpose()
    }

    /// Forgets at most `limit` of the oldest rows before `end`.
    async fn prune_batch(&self, end: &str, limit: u32) -> Result<u64> {
        let gone = sqlx::query("DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE id < ? ORDER BY id LIMIT ?)")
            .bind(end)
            .bind(limit)
            .execute(self.writable()?)
            .await?;
        Ok(gone.rows_affected())
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

/// Where the ids of a moment begin: a UUID v7 starts with its milliseconds, so the table needs no index by time.
fn place_of(moment: jiff::Timestamp) -> String {
    let milliseconds = moment.as_millisecond().max(0);
    format!("{:08x}-{:04x}", milliseconds >> 16, milliseconds & 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::new_store;
    use jiff::{SignedDuration, Timestamp};

    const KEPT: Duration = Duration::from_secs(400 * 24 * 60 * 60);

    fn days_ago(days: i64) -> Timestamp {
        Timestamp::now() - SignedDuration::from_hours(24 * days)
    }

    async fn insert(store: &Store, at: Timestamp, rows: u32) {
        let mut tx = store.write().await.unwrap();
        for _ in 0..rows {
            let seconds = uuid::Timestamp::from_unix(uuid::NoContext, at.as_second() as u64, 0);
            sqlx::query("INSERT INTO audit (id, at, actor, action, target) VALUES (?, ?, 'a', 'POST /jobs', '/jobs')")
                .bind(Uuid::new_v7(seconds).to_string())
                .bind(at.as_millisecond())
                .execute(&mut *tx)
                .await
                .unwrap();
        }
        super::super::commit(tx).await.unwrap();
    }

    #[tokio::test]
    async fn rows_go_by_their_age_and_their_going_is_written_down() {
        let directory = tempfile::tempdir().unwrap();
        let store = new_store(directory.path()).await;
        insert(&store, days_ago(500), 2 * BATCH + 10).await;
        insert(&store, days_ago(401), 3).await;
        insert(&store, days_ago(399), 4).await;
        insert(&store, Timestamp::now() - SignedDuration::from_hours(1), 1).await;
        assert_eq!(store.prune_audit(Timestamp::now(), KEPT).await.unwrap(), u64::from(2 * BATCH + 13));

        let left = store.audit(None, 1000).await.unwrap();
        assert_eq!(left.len(), 6, "five that are young enough, and the pruning itself");
        assert!(left.iter().all(|row| row.at > days_ago(400)));
        let pruning = &left[0];
        assert_eq!((pruning.actor.as_str(), pruning.action.as_str()), ("the server", "audit prune"));
        assert!(pruning.target.starts_with("2013 rows before 20"), "{}", pruning.target);
        assert_eq!(pruning.status, Some(200));

        assert_eq!(store.prune_audit(Timestamp::now(), KEPT).await.unwrap(), 0);
        assert_eq!(store.audit(None, 1000).await.unwrap().len(), 6, "nothing to do leaves no row");
    }

    #[tokio::test]
    async fn a_pruning_that_fails_is_not_written_down_as_done() {
        let directory = tempfile::tempdir().unwrap();
        let store = new_store(directory.path()).await;
        insert(&store, days_ago(500), 2).await;
        insert(&store, Timestamp::now() - SignedDuration::from_hours(1), 1).await;
        let never = "CREATE TRIGGER kept BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'not today'); END";
        sqlx::query(never).execute(&store.writer).await.unwrap();
        let refused = store.prune_audit(Timestamp::now(), KEPT).await.unwrap_err();
        assert!(refused.to_string().contains("not today"), "{refused}");
        let rows = store.audit(None, 10).await.unwrap();
        assert_eq!((rows.len(), rows[0].action.as_str(), rows[0].status), (4, PRUNE, Some(500)));
    }

    #[tokio::test]
    async fn a_clock_that_is_far_ahead_takes_nothing_away() {
        let directory = tempfile::tempdir().unwrap();
        let store = new_store(directory.path()).await;
        assert_eq!(store.prune_audit(Timestamp::now(), KEPT).await.unwrap(), 0, "nothing is there");
        insert(&store, days_ago(500), 2).await;
        insert(&store, days_ago(0), 3).await;
        // Twice: what it does itself is no change to count from.
        assert_eq!(store.prune_audit(days_ago(-500), KEPT).await.unwrap(), 2);
        assert_eq!(store.prune_audit(days_ago(-500), KEPT).await.unwrap(), 0);
        assert_eq!(store.audit(None, 10).await.unwrap().len(), 4, "those of today, and the pruning");
    }

    #[tokio::test]
    async fn a_row_says_what_exactly_was_changed() {
        let directory = tempfile::tempdir().unwrap();
        let store = new_store(directory.path()).await;
        for detail in [None, Some("gender@champion: 3 -> 4")] {
            let new = NewAudit { actor: "a", action: "PUT /x", target: "/x", request_id: None };
            let id = store.begin_audit(new).await.unwrap();
            assert_eq!(store.audit(None, 1).await.unwrap()[0].detail, None, "it is not done yet");
            store.complete_audit(id, 200, None, detail).await.unwrap();
            let row = store.audit(None, 1).await.unwrap().remove(0);
            assert_eq!((row.id, row.status, row.detail.as_deref()), (id, Some(200), detail));
        }
    }

    #[tokio::test]
    async fn a_batch_takes_the_oldest_and_no_more_than_it_may() {
        let directory = tempfile::tempdir().unwrap();
        let store = new_store(directory.path()).await;
        insert(&store, days_ago(3), 4).await;
        insert(&store, days_ago(2), 4).await;
        assert_eq!(store.prune_batch(&place_of(days_ago(1)), 5).await.unwrap(), 5);
        let left = store.audit(None, 10).await.unwrap();
        assert!(left.len() == 3 && left.iter().all(|row| row.at > days_ago(3) + SignedDuration::from_hours(1)));
    }

    #[test]
    fn ids_of_a_moment_lie_behind_its_place_and_earlier_ones_before_it() {
        let moment: Timestamp = "2026-11-25T10:00:00.123Z".parse().unwrap();
        let id = |milliseconds: i64| {
            let at = moment.as_millisecond() + milliseconds;
            let (seconds, rest) = (at / 1000, at % 1000);
            let at = uuid::Timestamp::from_unix(uuid::NoContext, seconds as u64, rest as u32 * 1_000_000);
            Uuid::new_v7(at).to_string()
        };
        assert!(id(-1) < place_of(moment) && id(0) > place_of(moment) && id(1) > place_of(moment));
    }
}
