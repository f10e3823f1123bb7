//! Places in the queue of the jobs that a reader asked for.

use std::collections::{BTreeMap, BTreeSet};

use super::row::{JobRow, Raw};
use crate::store::{Result, Store};

/// The places of the queued jobs of one priority between two ids: how many come before the first of them, counted
/// once, and from there on one after another.
pub(super) const PLACES: &str = "
    WITH before (n) AS (
        SELECT (SELECT COUNT(*) FROM jobs INDEXED BY jobs_queue WHERE state = 'queued' AND priority > ?1)
             + (SELECT COUNT(*) FROM jobs INDEXED BY jobs_queue WHERE state = 'queued' AND priority = ?1 AND id < ?2)
    )
    SELECT id, (SELECT n FROM before) + ROW_NUMBER() OVER (ORDER BY id)
    FROM jobs INDEXED BY jobs_queue WHERE state = 'queued' AND priority = ?1 AND id BETWEEN ?2 AND ?3";

impl Store {
    /// The jobs of these rows, with the places of those that are queued. One that is claimed meanwhile has none.
    pub(super) async fn placed(&self, mut rows: Vec<Raw>) -> Result<Vec<JobRow>> {
        let mut queued: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.state == "queued") {
            queued.entry(row.priority).or_default().insert(row.id.clone());
        }
        let mut places: BTreeMap<String, i64> = BTreeMap::new();
        for (priority, ids) in queued {
            // A page holds neighbours, so that little lies between the first and the last.
            let span = sqlx::query_as(PLACES).bind(priority).bind(ids.first()).bind(ids.last());
            let found: Vec<(String, i64)> = span.fetch_all(&self.reader).await?;
            places.extend(found);
        }
        for row in &mut rows {
            row.queue_position = places.get(&row.id).copied();
        }
        rows.into_iter().map(Raw::parse).collect()
    }
}
