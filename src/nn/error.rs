//! What can go wrong with networks and their weights.

use std::path::PathBuf;

/// A failure in the room of networks.
#[derive(Debug, thiserror::Error)]
pub enum NnError {
    /// libtorch refused an operation.
    #[error("libtorch: {}", first_line(.0))]
    Torch(#[from] tch::TchError),
    /// The shim refused an operation.
    #[error("libtorch: {0}")]
    Shim(String),
    /// No network goes by this name.
    #[error(
        "no network {0:?}; networks are wrn-<depth>-<width> with depth 6n + 4, for example wrn-28-2, wrn4-<depth>-<width> with \
         depth 8n + 4, for example wrn4-20-1, and wide_resnet50_2"
    )]
    UnknownNetwork(String),
    /// The network cannot have this head.
    #[error("{network} has no {head} head, only wide_resnet50_2 has; set head to linear")]
    Head {
        /// The network.
        network: String,
        /// The head.
        head: &'static str,
    },
    /// The device is unknown or not there.
    #[error("device {wanted:?} cannot be used: {reason}")]
    Device {
        /// As it was asked for.
        wanted: String,
        /// Why not.
        reason: String,
    },
    /// The file system refuses a weights file.
    #[error("weights file {}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: std::io::Error,
    },
    /// What stands in a weights file cannot be used.
    #[error("weights file {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A weights file does not fit the network.
    #[error("the weights do not fit {network}: {reason}")]
    Mismatch {
        /// The network.
        network: String,
        /// The first tensor that does not fit, and how.
        reason: String,
    },
    /// The ranges of activations cannot be used for int8.
    #[error("the ranges of activations for int8 cannot be used: {0}")]
    Ranges(String),
}

/// libtorch's messages carry kilobytes of C++ backtrace behind their first line.
fn first_line(error: &tch::TchError) -> String {
    error.to_string().lines().next().unwrap_or("unknown error").to_owned()
}
