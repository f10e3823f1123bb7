//! Training: from a data set's directory and a configuration to a model's files.
//!
//! Runs in a child process of its own (see `worker::child`), on that process's main thread. The loop tells
//! what happens through [`event::Event`] and knows nobody behind it: no HTTP, no SQL, no terminal.

mod augmentation;
mod baseline;
pub mod bench;
mod calibration;
pub mod checkpoint;
pub mod config;
mod course;
#[cfg(test)]
mod course_tests;
mod data;
mod epochs;
pub mod error;
mod evaluate;
pub mod event;
mod export;
mod figures;
#[cfg(test)]
mod fine_tuning_tests;
mod groups;
pub mod hyper_parameters;
mod int8;
mod learner;
#[cfg(test)]
mod learner_tests;
mod left_out;
mod limits;
mod metrics;
pub mod optimizer;
mod predictions;
pub mod preset;
mod pretrain;
mod progress;
mod replay;
mod resolve;
#[cfg(test)]
mod resume_tests;
pub mod retest;
mod room;
mod run;
mod setting;
#[cfg(test)]
mod settings_tests;
mod start;
pub mod sweep;
#[cfg(test)]
mod told_tests;
mod watch;

pub use checkpoint::CheckpointPlan;
pub use error::TrainError;
pub use run::{RunInput, run};
