//! mixmatch trains image classifiers from few labels and many unlabelled images, and serves them.
//!
//! The way of the data is the way through the rooms: [`dataset`] imports and packs images, [`worker`] runs
//! [`train`] in child processes, which learns with the algorithms of [`ssl`] on the networks of [`nn`];
//! [`store`] keeps what happened, [`serving`] answers with what was learned, [`api`] is the door.
//! ARCHITECTURE.md says who may call whom.

pub mod allocator;
pub mod api;
pub mod augment;
pub mod backup;
pub mod bench;
pub mod cli;
pub mod config;
pub mod data_dir;
pub mod dataset;
pub mod demo;
pub mod failpoint;
mod full_disk;
#[doc(hidden)]
pub mod fuzz_targets;
pub mod imaging;
pub mod keys;
pub mod model;
pub mod nn;
pub mod openmp;
#[cfg(test)]
mod own_process;
pub mod report;
pub mod serving;
pub mod sha256;
pub mod ssl;
pub mod statistics;
pub mod store;
pub mod train;
pub mod web;
pub mod worker;
