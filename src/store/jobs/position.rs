//! Places in the queue of the jobs that a reader asked for.

use std::collections::BTreeMap;

use super::row::Raw;
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
    /// Fills in the places of those that are queued. One that is claimed meanwhile has none.
    pub(super) async fn place(&self, rows: &mut [Raw]) -> Result<()> {
        // By priority the first and the last id: a page holds neighbours, so that little lies between them.
        let mut spans: BTreeMap<i64, (String, String)> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.state == "queued") {
            let span = spans.entry(row.priority).or_insert_with(|| (row.id.clone(), row.id.clone()));
            if row.id < span.0 {
                span.0.clone_from(&row.id);
            }
            if row.id > span.1 {
                span.1.clone_from(&row.id);
            }
        }
        for (priority, (first, last)) in spans {
            let places: Vec<(String, i64)> =
                sqlx::query_as(PLACES).bind(priority).bind(first).bind(last).fetch_all(&self.reader).await?;
            let places: BTreeMap<String, i64> = places.into_iter().collect();
            for row in rows.iter_mut().filter(|row| row.priority == priority) {
                row.queue_position = places.get(&row.id).copied();
            }
        }
        Ok(())
    }
}
