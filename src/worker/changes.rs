//! Tells whoever watches a job that something about it was written. Watchers read the store: a
//! notification carries no content, so a slow or late watcher misses nothing.

use tokio::sync::broadcast;
use uuid::Uuid;

/// Sends and receives "this job changed".
#[derive(Debug, Clone)]
pub struct Changes(broadcast::Sender<Uuid>);

impl Default for Changes {
    fn default() -> Self {
        Self(broadcast::channel(256).0)
    }
}

impl Changes {
    /// Something about `job` was written.
    pub fn announce(&self, job: Uuid) {
        // No watcher is no error.
        let _ = self.0.send(job);
    }

    /// Watches `job` from now on. Subscribe before reading, or a change in between is missed.
    pub fn watch(&self, job: Uuid) -> Watch {
        Watch { job, receiver: self.0.subscribe() }
    }
}

/// A watch on one job.
#[derive(Debug)]
pub struct Watch {
    job: Uuid,
    receiver: broadcast::Receiver<Uuid>,
}

impl Watch {
    /// Waits until the job has (or may have) changed.
    pub async fn changed(&mut self) {
        loop {
            match self.receiver.recv().await {
                Ok(job) if job == self.job => return,
                Ok(_) => {}
                // Too slow to hear everything: something of ours may be among it.
                Err(broadcast::error::RecvError::Lagged(_)) => return,
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_watch_hears_its_own_job_only() {
        let changes = Changes::default();
        let (mine, other) = (Uuid::now_v7(), Uuid::now_v7());
        let mut watch = changes.watch(mine);
        changes.announce(other);
        let waited = tokio::time::timeout(std::time::Duration::from_millis(20), watch.changed()).await;
        assert!(waited.is_err(), "another job's change is none of ours");
        changes.announce(mine);
        watch.changed().await;
    }
}
