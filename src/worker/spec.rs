//! What a child process is told: one JSON object on its standard input.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::train::config::TrainConfig;

/// Everything a training run needs to know. The child opens no database and reads no other configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSpec {
    /// The job that this run serves.
    pub job_id: Uuid,
    /// Which attempt at the job this is, from 1.
    pub attempt: u32,
    /// The imported data set's directory.
    pub dataset_dir: PathBuf,
    /// A directory of the run's own; the model is written to `model/` in it.
    pub run_dir: PathBuf,
    /// The fully resolved configuration.
    pub config: TrainConfig,
    /// `cpu` or `cuda:<index>`, the index among the devices that the child can see.
    pub device: String,
    /// The file of `config.pretrained`.
    #[serde(default)]
    pub pretrained: Option<PathBuf>,
    /// Where the run's state is kept, beyond this attempt.
    #[serde(default)]
    pub checkpoint_dir: Option<PathBuf>,
    /// At most so many seconds between two checkpoints.
    #[serde(default)]
    pub checkpoint_seconds: f64,
    /// Compute threads on a CPU.
    pub threads: u32,
}
