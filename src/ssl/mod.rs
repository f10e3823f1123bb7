//! The algorithms, and the pure functions on tensors that they are made of.
//!
//! [`mixmatch`] reads like §3 of the paper; each of its steps is a function of its own, held by a test
//! against values that Python's torch computed (`tests/golden`). Nothing here knows files, epochs or events.

pub mod algorithm;
pub mod contrastive;
pub mod guess;
pub mod loss;
pub mod mixmatch;
pub mod mixup;
pub mod phase;
pub mod ramp;
pub mod supervised;

pub use algorithm::{Algorithm, Batch, DrawContext, StepContext, StepInputs, StepLosses, build};
