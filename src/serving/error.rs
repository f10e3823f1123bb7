//! What can go wrong while serving.

use std::path::PathBuf;

/// Why a model could not be loaded or a request not be answered.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ServingError {
    /// The queue in front of the model is full; the caller should come again.
    #[error("the model's queue is full ({queued} images wait{})", for_about(*seconds))]
    Overloaded {
        /// Images waiting.
        queued: usize,
        /// Seconds that they take, as far as that is known.
        seconds: f64,
    },
    /// Models that answer somebody take all memory that models may have; the caller should come again.
    #[error(
        "{models} models are in use at once, which is all that the memory for models takes: come again, or have the server started with a \
         larger --models-in-memory"
    )]
    Crowded {
        /// Models in memory.
        models: usize,
    },
    /// The request's deadline passed before its answer was there.
    #[error("no answer within {seconds} s")]
    Deadline {
        /// The deadline.
        seconds: f64,
    },
    /// The model is not in memory yet, and will be; the caller should come again.
    #[error("model {0} is being loaded: come again")]
    Loading(String),
    /// The service is stopping and takes no more requests.
    #[error("the service is shutting down")]
    ShuttingDown,
    /// Nobody loaded this model, or it made room for others meanwhile.
    #[error("model {0} is not loaded")]
    NotLoaded(String),
    /// A model's files could not be read.
    #[error("failed to read model file {}: {reason}", path.display())]
    ModelFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A model loaded, but does not answer as it did when it was exported.
    #[error("model {name} fails its golden check: logits differ by up to {difference:e}, allowed is {allowed:e}")]
    GoldenCheck {
        /// The model.
        name: String,
        /// Largest absolute difference over all logits.
        difference: f64,
        /// The bound for this number format.
        allowed: f64,
    },
    /// libtorch refused.
    #[error("inference failed: {0}")]
    Inference(String),
}

/// Less than a second is not worth telling.
fn for_about(seconds: f64) -> String {
    if seconds < 1.0 { String::new() } else { format!(", for about {seconds:.0} s") }
}
