//! A model in memory, checked and warm.

use std::path::PathBuf;

use tch::{Device, Kind, Tensor};

use super::ServingError;
use crate::augment::network_input;
use crate::model::{Golden, ModelManifest};
use crate::nn::device::{self, PrecisionWish};
use crate::nn::wrn::{Wrn, WrnShape};
use crate::nn::{Mode, Network, NnError, Weights, file};

/// Where a published model's files lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFiles {
    /// `weights.safetensors`, under its content's name.
    pub weights: PathBuf,
    /// `model.json`, under its content's name.
    pub manifest: PathBuf,
}

/// A network with its weights on a device.
pub(super) struct Loaded {
    network: Box<dyn Network>,
    weights: Weights,
    device: Device,
    size: i64,
}

impl Loaded {
    /// Reads, checks and warms a model; `name` is for messages.
    ///
    /// # Errors
    /// When a file cannot be read, does not fit, or the golden check fails.
    pub fn open(name: &str, files: &ModelFiles, device: Device) -> Result<(Self, ModelManifest), ServingError> {
        let manifest = ModelManifest::read(&files.manifest)
            .map_err(|error| ServingError::ModelFile { path: error.path, reason: error.reason })?;
        let unusable = |error: NnError| ServingError::ModelFile { path: files.weights.clone(), reason: error.to_string() };
        let precision = device::precision(PrecisionWish::Auto, device);
        let shape = manifest.network.parse::<WrnShape>().map_err(unusable)?;
        let network = Box::new(Wrn::new(shape, manifest.classes.len() as i64, precision.kind));
        let weights = file::load(network.as_ref(), &files.weights, device).map_err(unusable)?;
        let loaded = Self { network, weights, device, size: i64::from(manifest.preprocess.size) };
        loaded.check(name, &manifest, precision.kind == Kind::BFloat16)?;
        Ok((loaded, manifest))
    }

    /// The golden images must be answered as at export. It warms the model too.
    fn check(&self, name: &str, manifest: &ModelManifest, bf16: bool) -> Result<(), ServingError> {
        let (pixels, count) = Golden::images(manifest.golden.seed, manifest.preprocess.size);
        let logits = self.logits(&pixels, count)?;
        let (difference, allowed) = (manifest.golden.difference(&logits), manifest.golden.allowed(bf16));
        if difference > allowed {
            return Err(ServingError::GoldenCheck { name: name.to_owned(), difference, allowed });
        }
        Ok(())
    }

    fn forward(&self, pixels: &[u8], count: usize) -> Result<Tensor, NnError> {
        let images = Tensor::f_from_data_size(pixels, &[count as i64, self.size, self.size, 3], Kind::Uint8)?;
        let input = network_input(&images.f_to_device(self.device)?)?;
        self.network.forward(&self.weights, &input, Mode::Eval)
    }

    fn logits(&self, pixels: &[u8], count: usize) -> Result<Vec<Vec<f32>>, ServingError> {
        let _no_grad = tch::no_grad_guard();
        let logits = self.forward(pixels, count).map_err(|e| ServingError::Inference(e.to_string()))?;
        Vec::<Vec<f32>>::try_from(logits).map_err(|e| ServingError::Inference(e.to_string()))
    }

    /// Probabilities per class of `count` images, uint8 `[count, size, size, 3]` row-major.
    ///
    /// # Errors
    /// libtorch's.
    pub fn probabilities(&self, pixels: &[u8], count: usize) -> Result<Vec<Vec<f32>>, ServingError> {
        let _no_grad = tch::no_grad_guard();
        let run = || -> Result<Vec<Vec<f32>>, NnError> {
            let probabilities = self.forward(pixels, count)?.f_softmax(-1, Kind::Float)?;
            Ok(Vec::<Vec<f32>>::try_from(probabilities)?)
        };
        run().map_err(|e| ServingError::Inference(e.to_string()))
    }
}
