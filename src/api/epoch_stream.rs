//! A run's epochs as a body that is written while it is read: what is held in memory does not grow with the run.

use std::io;
use std::num::NonZeroU32;

use axum::body::{Body, Bytes};
use futures::stream::{self, StreamExt};
use uuid::Uuid;

use super::page::MOST;
use super::problem::Problem;
use crate::store::{Store, StoreError};
use crate::train::event::EpochMetrics;

/// Which epochs of which job.
#[derive(Debug, Clone, Copy)]
pub struct Epochs {
    /// The job.
    pub job: Uuid,
    /// Only those behind this one.
    pub after: u32,
    /// At most so many, up to [`MOST`]; all of them if absent.
    pub limit: Option<u32>,
    /// Only those whose number it divides, besides the first, the best and the last; all of them if absent.
    pub every: Option<NonZeroU32>,
}

impl Epochs {
    /// At most `limit` of them, in order.
    ///
    /// # Errors
    /// The store's.
    pub async fn rows(&self, store: &Store, limit: u32) -> Result<Vec<EpochMetrics>, StoreError> {
        match self.every {
            None => store.job_metrics(self.job, self.after, limit).await,
            Some(every) => store.job_metrics_every(self.job, every, self.after, limit).await,
        }
    }

    /// A batch, and where the next one begins, if there may be one.
    async fn read(self, store: &Store) -> Result<(Vec<EpochMetrics>, Option<Self>), StoreError> {
        let batch = self.limit.unwrap_or(MOST);
        let rows = self.rows(store, batch).await?;
        let more = self.limit.is_none() && rows.len() == batch as usize;
        let next = rows.last().filter(|_| more).map(|last| Self { after: last.epoch, ..self });
        Ok((rows, next))
    }
}

/// How epochs are put into bytes.
pub trait Write: Send + 'static {
    /// The next epochs, in order; before the first of them, whatever stands at the head.
    ///
    /// # Errors
    /// A value that cannot be written.
    fn epochs(&mut self, rows: &[EpochMetrics]) -> Result<Vec<u8>, Problem>;

    /// What follows the last epoch.
    fn end(&mut self) -> Vec<u8> {
        Vec::new()
    }
}

/// The epochs as `write` puts them.
///
/// # Errors
/// Those of the first batch. A later one ends the body early, so that the caller sees it broken off.
pub async fn body(store: Store, epochs: Epochs, mut write: impl Write) -> Result<Body, Problem> {
    let (rows, next) = epochs.read(&store).await?;
    let mut first = write.epochs(&rows)?;
    if next.is_none() {
        first.extend(write.end());
        return Ok(Body::from(first));
    }
    let rest = stream::try_unfold((store, next, write), |(store, next, mut write)| async move {
        let Some(epochs) = next else { return Ok(None) };
        let (rows, next) = epochs.read(&store).await.map_err(io::Error::other)?;
        let mut bytes = write.epochs(&rows).map_err(|problem| io::Error::other(problem.detail().to_owned()))?;
        if next.is_none() {
            bytes.extend(write.end());
        }
        Ok::<_, io::Error>(Some((Bytes::from(bytes), (store, next, write))))
    });
    Ok(Body::from_stream(stream::iter([Ok(Bytes::from(first))]).chain(rest)))
}
