//! Who becomes a model's first champion.

use sqlx::{Sqlite, Transaction};
use uuid::Uuid;

use super::names::CHAMPION;
use super::{Result, now};

/// The job ?1 and its sweep's, found by their keys: without CROSS, SQLite begins with every job that has succeeded.
pub(super) const CROWN: &str = "
    INSERT OR IGNORE INTO model_aliases (name, alias, version, updated_at)
    SELECT v.name, ?2, v.version, ?3
    FROM (
      SELECT ?1 AS id
      UNION SELECT s.id FROM jobs s WHERE s.sweep_id = (SELECT sweep_id FROM jobs WHERE id = ?1)
    ) member
    CROSS JOIN jobs j ON j.id = member.id
    CROSS JOIN model_versions v ON v.name = j.model_name AND v.version = j.model_version
    WHERE j.state = 'succeeded' AND j.baseline_of IS NULL
      AND NOT EXISTS (
        SELECT 1 FROM jobs o
        WHERE o.sweep_id = (SELECT sweep_id FROM jobs WHERE id = ?1) AND o.state IN ('queued', 'running', 'paused')
      )
    ORDER BY v.metrics ->> '$.validation.validation_accuracy' DESC,
      v.metrics ->> '$.validation.validation_loss', j.id
    LIMIT 1
    RETURNING name, version";

/// Gives a model without a champion one, now that `job` has ended.
///
/// A job's version becomes the champion. A sweep waits for its last job, and then it is the version with the best
/// validation figures (never test: a figure that chose is no test any more). A baseline is there to measure
/// others by and is never taken; whoever wants it served says so with an alias.
pub(super) async fn crown(tx: &mut Transaction<'_, Sqlite>, job: Uuid) -> Result<()> {
    let crowned: Option<(String, u32)> =
        sqlx::query_as(CROWN).bind(job.to_string()).bind(CHAMPION).bind(now()).fetch_optional(&mut **tx).await?;
    if let Some((model, version)) = crowned {
        // Nobody asked for it, so that the audit has no row of it.
        tracing::info!(%model, version, %job, "a model without a champion gets one");
    }
    Ok(())
}
