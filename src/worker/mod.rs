//! Jobs at work: slots, leases, one child process per attempt, and what the child says.
//!
//! Who runs what: the supervisor has one task a slot; a task that claimed a job starts the child, reads
//! its events, renews the lease and writes to the store. The child is this binary with `work`: it trains
//! and talks NDJSON on standard output, and it never opens the database. Nothing here knows HTTP.

mod changes;
pub mod child;
mod events;
mod lines;
mod places;
mod process;
mod run;
mod silence;
mod slots;
pub mod spec;
mod supervisor;

pub use changes::{Changes, Watch};
pub use process::ChildCommand;
pub use slots::{Device, DeviceChoice, Slot, slots};
pub use supervisor::Supervisor;
