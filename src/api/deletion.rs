//! Deletions to their end: a caller who goes away, or whose time is up, drops the handler wherever it waits.

use axum::http::StatusCode;
use tracing::Instrument;

use super::problem::Problem;

/// Carries a deletion out in a task of its own, so that a row that is gone leaves neither files nor a place in memory behind.
pub(super) async fn to_its_end(
    deletion: impl Future<Output = Result<(), Problem>> + Send + 'static,
) -> Result<StatusCode, Problem> {
    tokio::spawn(deletion.in_current_span())
        .await
        .map_err(|error| Problem::bug("the deletion failed unexpectedly", &error))??;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_deletion_goes_on_though_nobody_waits_for_it() {
        let (go, wait) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let deletion = to_its_end(async move {
            let _ = wait.await;
            let _ = end.send(());
            Ok(())
        });
        tokio::time::timeout(Duration::from_millis(20), deletion).await.expect_err("it waits");
        go.send(()).expect("it is still there");
        ended.await.expect("it went to its end");
    }

    #[tokio::test]
    async fn what_went_wrong_is_the_answer() {
        let refused = to_its_end(async { Err(Problem::conflict("a job needs it")) }).await.unwrap_err();
        assert_eq!(refused.status(), StatusCode::CONFLICT);
        assert_eq!(to_its_end(async { Ok(()) }).await.unwrap(), StatusCode::NO_CONTENT);
    }
}
