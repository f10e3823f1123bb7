//! What commands change stands in the audit as what requests change does, with the user who ran them.

use super::output::tell;
use crate::store::{NewAudit, Store, StoreError};

/// Makes a change with a row in the audit, which is written before it and completed after it; `created` tells where a new thing is. What
/// cannot be written down is not done.
pub async fn audited<T, E: From<StoreError>>(
    store: &Store,
    action: &str,
    target: &str,
    created: impl FnOnce(&T) -> Option<String>,
    change: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    // SAFETY: `getuid` reads a number and cannot fail.
    let actor = format!("command line, user {}", unsafe { libc::getuid() });
    let id = store.begin_audit(NewAudit { actor: &actor, action, target, request_id: None }).await?;
    let changed = change.await;
    // A command has no status; these say whether it was done.
    let (status, created) = match &changed {
        Ok(done) => (200, created(done)),
        Err(_) => (422, None),
    };
    if let Err(error) = store.complete_audit(id, status, created.as_deref(), None).await {
        // What came of the change is told all the same: nobody else can tell it. That it began stands in the audit.
        tell(format_args!("warning: in the audit it cannot be written how this ended ({action} {target}): {error}"));
    }
    changed
}
