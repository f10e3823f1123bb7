//! Unfinished jobs that still need what somebody wants to delete.
//!
//! Each of these states the condition of its index word for word (`0016`): SQLite takes a partial index for nothing less.

use sqlx::{Sqlite, Transaction};

use super::{Result, StoreError};

/// How far they are counted: everybody who writes waits meanwhile, and of more it is enough to know that they are many.
const COUNTED: i64 = 100;

/// Those that learn from the data set ?1, at most ?2 of them.
pub(super) const OF_DATASET: &str = "
    SELECT COUNT(*) FROM (
      SELECT 1 FROM jobs WHERE dataset_id = ?1 AND state IN ('queued', 'running', 'paused') LIMIT ?2
    )";

/// Those that were queued to start from the weights named ?1, at most ?2 of them.
pub(super) const OF_PRETRAINED: &str = "
    SELECT COUNT(*) FROM (
      SELECT 1 FROM jobs WHERE config ->> '$.pretrained' = ?1 AND state IN ('queued', 'running', 'paused') LIMIT ?2
    )";

/// Refuses while one of the above finds jobs; `need` is what the message says that they do.
pub(super) async fn refuse_while_needed(
    tx: &mut Transaction<'_, Sqlite>,
    jobs: &'static str,
    of: &str,
    need: &str,
) -> Result<()> {
    let needed: i64 = sqlx::query_scalar(jobs).bind(of).bind(COUNTED + 1).fetch_one(&mut **tx).await?;
    if needed == 0 {
        return Ok(());
    }
    let count = if needed > COUNTED { format!("more than {COUNTED}") } else { needed.to_string() };
    Err(StoreError::InUse { detail: format!("{count} unfinished job(s) {need}; cancel them first") })
}
