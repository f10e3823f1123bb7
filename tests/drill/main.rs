//! The drill: a real server process and real children, killed at moments that a seed decides, over and over on one data
//! directory; and the faults that only a whole process can show. After every death the files are looked at, and in the
//! end nothing that was promised may be missing.
//!
//! `MIXMATCH_DRILL_ROUNDS=300 MIXMATCH_DRILL_SEED=7 cargo nextest run -E 'test(drill)'` runs a longer one.

#[path = "../api/pictures.rs"]
mod pictures;

mod checks;
mod drill;
mod faults;
mod ledger;
mod process;
