//! Serving: models in memory, decoding and batching of requests, answers.
//!
//! Threads: callers are async; images are decoded on a rayon pool of the room's own; one compute thread,
//! the `engine`, owns every loaded model and is the only one that runs them (each thread that enters
//! libtorch gets an OpenMP pool of its own, and those would fight). Loading happens on a thread that lives
//! only as long. Nothing here blocks the async executor, reads the database or knows HTTP.

mod ending;
mod engine;
mod error;
mod health;
mod loaded;
mod memory;
mod predictor;
mod queue;
mod result;
mod sizes;
mod together;

pub use error::ServingError;
pub use health::Trouble;
pub use loaded::{Loaded, ModelFiles};
pub use memory::Held;
pub use predictor::{Predictor, PredictorOptions, PredictorStatus};
pub use result::{Classified, PredictOptions, Prediction, Timings};
