//! From chosen weights to a model's files.

use std::path::Path;

use tch::{Device, Kind, TchError, Tensor};

use super::config::TrainConfig;
use super::error::TrainError;
use super::learner::build_network;
use crate::augment::network_input;
use crate::model::{self, Golden, ModelManifest};
use crate::nn::{Mode, Weights, file};

/// Writes `weights.safetensors` and `model.json` into `directory`, which is made.
///
/// The golden answers are computed from the file just written, in float32 on the CPU: what is checked later
/// is the file, not this process's memory.
///
/// # Errors
/// When a file cannot be written or read back.
pub fn export(
    directory: &Path,
    config: &TrainConfig,
    weights: &Weights,
    describe: impl FnOnce(Golden) -> ModelManifest,
    classes: usize,
) -> Result<(), TrainError> {
    let refused = |path: &Path, source| TrainError::RunDirectory { path: path.display().to_string(), source };
    std::fs::create_dir_all(directory).map_err(|error| refused(directory, error))?;
    let network = build_network(config, classes, Kind::Float)?;
    let path = directory.join(model::WEIGHTS_FILE);
    file::save(network.as_ref(), weights, &path)?;

    let loaded = file::load(network.as_ref(), &path, Device::Cpu)?;
    let _no_grad = tch::no_grad_guard();
    let logits = network.forward(&loaded, &golden_input(config)?, Mode::Eval)?;
    let logits = Vec::<Vec<f32>>::try_from(logits)?;
    let path = directory.join(model::MANIFEST_FILE);
    describe(Golden { seed: config.seed, logits }).write(&path).map_err(|error| refused(&path, error))
}

/// The golden images of a run's model, as the network takes them.
pub(super) fn golden_input(config: &TrainConfig) -> Result<Tensor, TchError> {
    let (pixels, count) = Golden::images(config.seed, config.size);
    let side = i64::from(config.size);
    network_input(&Tensor::f_from_slice(&pixels)?.f_view([count as i64, side, side, 3])?)
}
