//! What is looked after at the start and once a day: rows of the audit that are older than they are kept, which would pile up for ever,
//! and keys that soon end, of which nobody else tells.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::state::AppState;
use crate::store::KeyRow;

/// Between two looks.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// So long before its end a key is told of: long enough to hand over another one.
const NOTICE: SignedDuration = SignedDuration::from_hours(14 * 24);

/// Looks after it until the server stops; what a stop cuts off is done at the next start.
pub async fn look_daily(app: AppState) {
    loop {
        tokio::select! {
            () = async { look(&app).await; tokio::time::sleep(DAY).await } => {}
            () = app.lifecycle.closed() => return,
        }
    }
}

async fn look(app: &AppState) {
    tell_of_ending_keys(app).await;
    if let Some(kept) = app.config.audit_kept {
        prune(app, kept).await;
    }
}

async fn prune(app: &AppState, kept: Duration) {
    match app.store.prune_audit(Timestamp::now(), kept).await {
        Ok(0) => {}
        Ok(rows) => tracing::info!(rows, "old rows of the audit were forgotten"),
        Err(error) => tracing::error!(%error, "the audit could not be pruned; tomorrow again"),
    }
}

async fn tell_of_ending_keys(app: &AppState) {
    let keys = match app.store.keys().await {
        Ok(keys) => keys,
        Err(error) => return tracing::error!(%error, "the keys could not be looked at; tomorrow again"),
    };
    for (key, end) in ending(&keys, Timestamp::now()) {
        tracing::warn!(
            "the API key {} ({}) ends {end:.0}: make another one under another name (`mixmatch keys create`), and hand it over",
            key.name,
            key.prefix
        );
    }
}

/// The keys that open something now and soon will not, with their ends.
fn ending(keys: &[KeyRow], now: Timestamp) -> impl Iterator<Item = (&KeyRow, Timestamp)> {
    let ends = keys.iter().filter(|key| key.is_live()).filter_map(|key| Some((key, key.expires_at?)));
    ends.filter(move |(_, end)| end.duration_since(now) <= NOTICE)
}
