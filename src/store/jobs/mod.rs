//! Jobs: the queue, their progress, their history.
//!
//! [`state`] owns the state machine, [`queue`] the ways in and out of the queue, [`run`] what the worker
//! writes while a job runs (every write fenced by the attempt), [`history`] what happened, [`sweeps`] which jobs
//! belong together.

mod history;
mod queue;
mod row;
mod run;
mod state;
mod sweeps;
#[cfg(test)]
mod tests;

pub use history::{EventRow, LogRow};
pub(in crate::store) use row::parse_id;
pub use row::{Idempotency, JobRow, NewJob, NewJobs, NewSweep};
pub use state::JobState;
pub use sweeps::{JobEntry, SweepRow};
