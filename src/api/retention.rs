//! What would pile up for ever: rows of the audit that are older than they are kept. At the start, and once a day.

use std::time::Duration;

use jiff::Timestamp;

use super::state::AppState;

/// Between two prunings.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Prunes the audit until the server stops; what a stop cuts off is done at the next start.
pub async fn prune_daily(app: AppState) {
    let Some(kept) = app.config.audit_kept else { return };
    loop {
        tokio::select! {
            () = async { prune(&app, kept).await; tokio::time::sleep(DAY).await } => {}
            () = app.lifecycle.closed() => return,
        }
    }
}

async fn prune(app: &AppState, kept: Duration) {
    match app.store.prune_audit(Timestamp::now(), kept).await {
        Ok(0) => {}
        Ok(rows) => tracing::info!(rows, "old rows of the audit were forgotten"),
        Err(error) => tracing::error!(%error, "the audit could not be pruned; tomorrow again"),
    }
}
