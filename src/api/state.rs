//! What handlers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

use super::admission::Admission;
use crate::config::ServeConfig;
use crate::serving::Predictor;
use crate::store::Store;
use crate::worker::Supervisor;

/// The rooms behind the API, wired once at start.
pub struct App {
    /// Every setting.
    pub config: ServeConfig,
    /// Rows.
    pub store: Store,
    /// Jobs at work.
    pub supervisor: Supervisor,
    /// How many predictions are taken on at once.
    pub admission: Admission,
    /// Models in memory.
    pub predictor: Predictor,
    /// What was found about CUDA at start, in words.
    pub cuda: String,
    /// Where the server stands between start and stop.
    pub lifecycle: Lifecycle,
}

/// What every handler gets.
pub type AppState = Arc<App>;

/// Start, readiness, and the order to close.
#[derive(Debug, Default)]
pub struct Lifecycle {
    stopping: AtomicBool,
    closing: CancellationToken,
}

impl Lifecycle {
    /// Takes readiness away: load balancers are to send nothing more. Repeating is harmless.
    pub fn announce_stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// The same, and ends open event streams. Repeating is harmless.
    pub fn stop(&self) {
        self.announce_stop();
        self.closing.cancel();
    }

    /// True once the server has been asked to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// True once open streams must end, and what takes long.
    pub fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Resolves when open streams must end.
    pub async fn closed(&self) {
        self.closing.cancelled().await;
    }
}
