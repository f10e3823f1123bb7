//! Measurements that anybody can repeat: what `mixmatch bench …` runs. docs/benchmarks.md says what was seen, and
//! `benches/` holds what it is compared with.

pub mod data;
pub mod engine;
pub mod load;
pub mod machine;
