//! Why a run can fail.

use super::checkpoint::CheckpointError;
use crate::dataset::DatasetError;
use crate::full_disk::lacks_room;
use crate::nn::NnError;

/// A failed run; [`TrainError::code`] is the stable word for it.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The data set cannot be read or split as asked.
    #[error("data set: {0}")]
    Dataset(#[from] DatasetError),
    /// A network, device or libtorch failure.
    #[error(transparent)]
    Network(#[from] NnError),
    /// Files of the run could not be written.
    #[error("run directory {path}: {source}")]
    RunDirectory {
        /// The path.
        path: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The weights to start from are not there or not what they were.
    #[error("pretrained weights {name:?}: {reason}")]
    Pretrained {
        /// Their name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The run's checkpoint could not be taken up, for a reason that is not the checkpoint's.
    #[error("the run could not go on from its checkpoint, which stays for a retry: {0}")]
    Resume(CheckpointError),
    /// The loss is no number any more.
    #[error("the loss is {loss} after step {step} of {stage}; {advice}")]
    Diverged {
        /// Optimiser steps done in that stage.
        step: u64,
        /// `training`, or `pretraining`, which counts its own steps.
        stage: &'static str,
        /// The loss.
        loss: f64,
        /// What may mend it.
        advice: &'static str,
    },
    /// The model hardly ever answers one of the classes.
    #[error("the model collapsed: it answers {forgotten}, and {most:?} for {most_answered:.0} %; {advice}")]
    Collapsed {
        /// What the others swallowed, and what would have been due to it.
        forgotten: String,
        /// The class that is answered most.
        most: String,
        /// Percent of answers.
        most_answered: f64,
        /// What may mend it.
        advice: &'static str,
    },
    /// The parent asked the run to stop.
    #[error("stopped on request")]
    Stopped,
}

impl TrainError {
    /// A stable snake_case word.
    pub fn code(&self) -> &'static str {
        match self {
            error if error.is_full() => "no_room",
            Self::Dataset(_) => "dataset",
            Self::Network(NnError::Device { .. }) => "device",
            Self::Network(NnError::Torch(_) | NnError::Shim(_)) if of_memory(&self.to_string()) => "out_of_memory",
            Self::Network(NnError::Torch(_) | NnError::Shim(_)) if of_the_gpu(&self.to_string()) => "gpu",
            Self::Network(NnError::Io { .. } | NnError::File { .. }) => "storage",
            Self::Network(_) => "network",
            Self::Pretrained { .. } => "pretrained",
            Self::Resume(_) => "resume",
            Self::RunDirectory { .. } => "storage",
            Self::Diverged { .. } => "diverged",
            Self::Collapsed { .. } => "collapsed",
            Self::Stopped => "stopped",
        }
    }

    /// Whether there is no room on the disk, which passes.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::Dataset(error) => error.is_full(),
            Self::Network(NnError::Io { error: source, .. }) | Self::RunDirectory { source, .. } => {
                of_a_full_disk(source)
            }
            _ => false,
        }
    }
}

/// Whether guesses weigh anything, by λ_U at an epoch's last step: before the first guess, and where the ramp stands at 0, what is set
/// of them mends nothing. A supervised run has none.
pub(super) fn guesses_count(lambda_u: Option<f64>) -> bool {
    lambda_u.is_some_and(|weight| weight > 0.0)
}

/// What may mend answers that collapsed at an epoch, by its λ_U.
pub(super) fn against_collapse(lambda_u: Option<f64>) -> &'static str {
    if guesses_count(lambda_u) {
        "lower lambda_u, raise ramp or warmup, or label more images"
    } else {
        "train for more steps, lower learning_rate or label more images"
    }
}

/// Whether the system's reason is a full disk; what writes tables hides it behind its own.
fn of_a_full_disk(error: &std::io::Error) -> bool {
    let table = error.get_ref().and_then(|reason| reason.downcast_ref::<csv::Error>());
    match table.map(csv::Error::kind) {
        Some(csv::ErrorKind::Io(reason)) => of_a_full_disk(reason),
        _ => lacks_room(error),
    }
}

/// Whether a message of libtorch's is of too little memory, be it a GPU's or the machine's: that stays too little.
fn of_memory(message: &str) -> bool {
    ["out of memory", "can't allocate memory"].iter().any(|lacks| message.contains(lacks))
}

/// Whether a message of libtorch's is of a GPU that failed, rather than of what it was asked for: it may work again, or another may.
fn of_the_gpu(message: &str) -> bool {
    let failed = ["CUDA error:", "CUDNN_STATUS_EXECUTION_FAILED", "CUBLAS_STATUS_EXECUTION_FAILED"];
    failed.iter().any(|failed| message.contains(failed))
}

impl From<tch::TchError> for TrainError {
    fn from(error: tch::TchError) -> Self {
        Self::Network(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::predictions::{self, Prediction, Used};

    #[test]
    fn a_gpu_that_failed_is_told_from_one_that_was_asked_for_too_much() {
        let code = |message: &str| TrainError::Network(NnError::Shim(message.to_owned())).code();
        assert_eq!(code("CUDA error: an illegal memory access was encountered"), "gpu");
        assert_eq!(code("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "gpu");
        assert_eq!(code("CUDA out of memory. Tried to allocate 2.00 GiB"), "out_of_memory");
        assert_eq!(code("CUDA error: out of memory"), "out_of_memory");
        assert_eq!(
            code("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried"),
            "out_of_memory"
        );
        assert_eq!(code("The size of tensor a (3) must match the size of tensor b (4)"), "network");
        let gone = NnError::Device { wanted: "cuda:0".into(), reason: "0 CUDA device(s) can be seen".into() };
        assert_eq!(TrainError::Network(gone).code(), "device");
    }

    #[test]
    fn a_full_disk_is_seen_behind_the_table_that_it_did_not_take() {
        /// A disk without room.
        struct Full;

        impl std::io::Write for Full {
            fn write(&mut self, _bytes: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::StorageFull.into())
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }

        // More than a writer of tables keeps back before it writes.
        let row = Prediction {
            image: "x".repeat(100_000),
            used: Used::Unlabelled,
            label: None,
            prediction: "cat".to_owned(),
            probability: 0.5,
            margin: 0.0,
            group: None,
        };
        let source = predictions::write(&[row], Full).unwrap_err();
        assert_eq!(TrainError::RunDirectory { path: "predictions.csv".to_owned(), source }.code(), "no_room");
        let source = std::io::ErrorKind::ReadOnlyFilesystem.into();
        assert_eq!(TrainError::RunDirectory { path: "predictions.csv".to_owned(), source }.code(), "storage");
    }
}
