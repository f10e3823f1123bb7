//! Jobs: the queue, their progress, their history.
//!
//! [`state`] owns the state machine, [`queue`] the ways in and out of the queue, [`wishes`] what people ask of a job,
//! [`run`] what the worker writes while a job runs (every write fenced by the attempt), [`crash`] what becomes of a job
//! whose run or server died, [`history`] what happened, [`sweeps`] which jobs belong together, [`deletion`] how they go.

mod crash;
mod deletion;
mod history;
mod position;
mod queue;
mod row;
mod run;
mod state;
mod sweeps;
#[cfg(test)]
mod tests;
mod wishes;

pub use history::{EventRow, LogRow};
pub(in crate::store) use row::parse_id;
pub use row::{Idempotency, JobRow, NewJob, NewJobs, NewSweep};
pub use run::{NOTHING_TO_GO_ON_FROM, Wish};
pub use state::JobState;
pub use sweeps::{JobEntry, SweepRow};
