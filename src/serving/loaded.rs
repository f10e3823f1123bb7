//! A model in memory, checked and warm.

use std::path::{Path, PathBuf};
use std::time::Instant;

use tch::{Device, Kind, Tensor};

use super::ServingError;
use super::sizes;
use crate::augment::network_input;
use crate::model::{Golden, ModelManifest, Rounding};
use crate::nn::device::{self, PrecisionWish};
use crate::nn::int8::{self, Ranges};
use crate::nn::{self, Folded, Network, NnError, Weights, file};
use crate::sha256;

/// Where a published model's files lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFiles {
    /// `weights.safetensors`; the file's name is the SHA-256 of its content.
    pub weights: PathBuf,
    /// `model.json`, named in the same way.
    pub manifest: PathBuf,
}

/// A file that rotted on the disk must not serve, even where the golden check would not feel it.
fn check_content(path: &Path) -> Result<(), ServingError> {
    let fail = |reason: String| ServingError::ModelFile { path: path.to_owned(), reason };
    let sha256 = sha256::of_file(path).map_err(|error| fail(error.to_string()))?;
    if path.file_name().is_some_and(|name| name == sha256.as_str()) {
        return Ok(());
    }
    Err(fail("its content has changed since it was published; restore it from a backup".to_owned()))
}

/// A run that was to compute in float32 was judged in it, and is served in it; any other in what this device is fast at.
fn wish(manifest: &ModelManifest) -> PrecisionWish {
    match serde_json::from_value(manifest.config["precision"].clone()) {
        Ok(PrecisionWish::Float32) => PrecisionWish::Float32,
        _ => PrecisionWish::Auto,
    }
}

/// A network with its weights on a device, ready to answer.
pub struct Loaded {
    network: Box<dyn Folded>,
    device: Device,
    size: i64,
    temperature: f64,
    /// Whether it computes in int8.
    int8: bool,
}

impl Loaded {
    /// `network` with `weights`, which lie on `device`, for images of `size` pixels a side; logits are divided by
    /// `temperature`.
    ///
    /// # Errors
    /// libtorch's.
    pub fn new(
        network: &dyn Network,
        weights: &Weights,
        device: Device,
        size: u32,
        temperature: f64,
    ) -> Result<Self, NnError> {
        let size = i64::from(size);
        Ok(Self { network: network.fold(weights, size)?, device, size, temperature, int8: false })
    }

    /// The same in int8, on the CPU, with the `ranges` of its activations.
    ///
    /// # Errors
    /// Ranges that do not fit; libtorch's.
    pub fn in_int8(
        network: &dyn Network,
        weights: &Weights,
        ranges: &Ranges,
        size: u32,
        temperature: f64,
    ) -> Result<Self, NnError> {
        let size = i64::from(size);
        let network = ranges.quantise(network, weights, size)?;
        Ok(Self { network, device: Device::Cpu, size, temperature, int8: true })
    }

    /// A stand-in for `network` on the CPU.
    #[cfg(test)]
    pub(super) fn stand_in(network: Box<dyn Folded>, size: u32) -> Self {
        Self { network, device: Device::Cpu, size: i64::from(size), temperature: 1.0, int8: false }
    }

    /// Whether it runs on a GPU: warm only for the thread that warmed it, and nearly as fast with a full batch as with one image.
    pub fn is_on_gpu(&self) -> bool {
        self.device.is_cuda()
    }

    /// Whether it computes in int8.
    pub fn is_in_int8(&self) -> bool {
        self.int8
    }

    /// Reads, checks and warms a model; `name` is for messages. In int8 where that is wished and the model was measured to answer nearly
    /// the same in it; otherwise the log says why not.
    ///
    /// # Errors
    /// When a file cannot be read, does not fit, or the golden check fails.
    pub fn open(
        name: &str,
        files: &ModelFiles,
        device: Device,
        wish_int8: bool,
    ) -> Result<(Self, ModelManifest), ServingError> {
        check_content(&files.manifest)?;
        check_content(&files.weights)?;
        let manifest = ModelManifest::read(&files.manifest)
            .map_err(|error| ServingError::ModelFile { path: error.path, reason: error.reason })?;
        let unusable =
            |error: NnError| ServingError::ModelFile { path: files.weights.clone(), reason: error.to_string() };
        let precision = device::precision(wish(&manifest), device);
        let network =
            nn::build(&manifest.network, manifest.head, manifest.classes.len(), precision.kind).map_err(unusable)?;
        let weights = file::load(network.as_ref(), &files.weights, device).map_err(unusable)?;
        let loaded = Self::new(network.as_ref(), &weights, device, manifest.preprocess.size, manifest.temperature)
            .map_err(unusable)?;
        let rounding = match (precision.kind, device) {
            (Kind::BFloat16, _) => Rounding::Bf16,
            (_, Device::Cuda(_)) => Rounding::Tf32,
            _ => Rounding::Float32,
        };
        // By the exact weights first, whatever it is served in: what they answer is known to the last digits.
        loaded.check(name, &manifest, rounding)?;
        if wish_int8 && device == Device::Cpu {
            match Self::open_int8(network.as_ref(), &weights, &manifest) {
                Ok(int8) => return Ok((int8, manifest)),
                Err(reason) => {
                    let served = precision.name();
                    tracing::warn!(model = name, reason, "a model is served in {served} although int8 was asked for");
                }
            }
        }
        Ok((loaded, manifest))
    }

    /// In int8, or why not.
    fn open_int8(network: &dyn Network, weights: &Weights, manifest: &ModelManifest) -> Result<Self, String> {
        if !int8::is_fast() {
            return Err("this processor is not fast at int8".to_owned());
        }
        let prepared =
            manifest.int8.as_ref().ok_or("it was trained in float32 on purpose, or by a version without int8")?;
        let measured = prepared.trusted()?;
        let ranges = &prepared.ranges;
        let loaded = Self::in_int8(network, weights, ranges, manifest.preprocess.size, manifest.temperature);
        let loaded = loaded.map_err(|error| error.to_string())?;
        let golden = Golden { seed: manifest.golden.seed, logits: measured.golden.clone() };
        loaded.compare(&golden, Rounding::Bf16, manifest.preprocess.size).map_err(|error| error.to_string())?.map_err(
            |(difference, allowed)| {
                format!("its answers differ by {difference:.3} from those at export, {allowed:.3} is allowed")
            },
        )?;
        Ok(loaded)
    }

    /// The golden images must be answered as at export. It warms the model too.
    fn check(&self, name: &str, manifest: &ModelManifest, rounding: Rounding) -> Result<(), ServingError> {
        let compared = self.compare(&manifest.golden, rounding, manifest.preprocess.size)?;
        compared.map_err(|(difference, allowed)| ServingError::GoldenCheck {
            name: name.to_owned(),
            difference,
            allowed,
        })
    }

    /// How far the answers to the golden images are off, and how far they may be, where they are further.
    fn compare(&self, golden: &Golden, rounding: Rounding, size: u32) -> Result<Result<(), (f64, f64)>, ServingError> {
        let (pixels, count) = Golden::images(golden.seed, size);
        let logits = self.logits(&pixels, count)?;
        let (difference, allowed) = (golden.difference(&logits), golden.allowed(rounding));
        Ok(if difference > allowed { Err((difference, allowed)) } else { Ok(()) })
    }

    /// Runs every batch size that it will be run at, up to `most`, so that no caller waits for kernels to be compiled; as long as it
    /// shall `go_on`, which is asked before each. How many seconds an image takes in the largest.
    ///
    /// # Errors
    /// libtorch's; [`ServingError::ShuttingDown`] where it shall not go on.
    pub fn warm(&self, most: usize, go_on: impl Fn() -> bool) -> Result<f64, ServingError> {
        let mut seconds = 0.0;
        for images in sizes::up_to(most) {
            if !go_on() {
                return Err(ServingError::ShuttingDown);
            }
            let pixels = vec![0; images * (self.size * self.size * 3) as usize];
            let began = Instant::now();
            self.probabilities(&pixels, images)?;
            seconds = began.elapsed().as_secs_f64() / images as f64;
        }
        Ok(seconds)
    }

    fn forward(&self, pixels: &[u8], count: usize) -> Result<Tensor, NnError> {
        let images = Tensor::f_from_data_size(pixels, &[count as i64, self.size, self.size, 3], Kind::Uint8)?;
        let input = network_input(&images.f_to_device(self.device)?)?;
        self.network.forward(&input)
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
            let logits = self.forward(pixels, count)?.f_div_scalar(self.temperature)?;
            let probabilities = logits.f_softmax(-1, Kind::Float)?;
            Ok(Vec::<Vec<f32>>::try_from(probabilities)?)
        };
        run().map_err(|e| ServingError::Inference(e.to_string()))
    }
}

/// A network for tests that takes so long for each image, and says the same of all of them.
#[cfg(test)]
pub(super) struct Slow {
    each: std::time::Duration,
    images: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

#[cfg(test)]
impl Slow {
    /// The network, and how many images it has computed.
    pub fn boxed(each: std::time::Duration) -> (Box<dyn Folded>, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
        let images = std::sync::Arc::<std::sync::atomic::AtomicUsize>::default();
        (Box::new(Self { each, images: std::sync::Arc::clone(&images) }), images)
    }
}

#[cfg(test)]
impl Folded for Slow {
    fn forward_seen(&self, images: &Tensor, _see: &mut nn::folded::See<'_>) -> Result<Tensor, NnError> {
        let count = images.size()[0];
        std::thread::sleep(self.each * count as u32);
        self.images.fetch_add(count as usize, std::sync::atomic::Ordering::Relaxed);
        Ok(Tensor::f_zeros([count, 2], (Kind::Float, Device::Cpu))?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use super::*;
    use crate::model::{Int8, Int8Agreement, Int8Figures, Int8Measured};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn what_was_judged_in_float32_is_served_in_it() {
        let of = |config: serde_json::Value| wish(&ModelManifest { config, ..crate::model::example_manifest() });
        assert_eq!(of(serde_json::json!({"precision": "float32"})), PrecisionWish::Float32);
        assert_eq!(
            of(serde_json::json!({"precision": "bf16"})),
            PrecisionWish::Auto,
            "this device may not be fast at it"
        );
        assert_eq!(of(serde_json::json!({})), PrecisionWish::Auto);
    }

    #[test]
    fn a_model_is_warmed_size_by_size_until_the_server_stops() {
        let (slow, images) = Slow::boxed(Duration::from_millis(2));
        let model = Loaded::stand_in(slow, 8);
        let seconds = model.warm(4, || true).unwrap();
        assert_eq!(images.load(Ordering::Relaxed), 1 + 2 + 3 + 4);
        assert!(seconds >= 0.002, "{seconds}");
        let go_on = || images.load(Ordering::Relaxed) < 12;
        assert!(matches!(model.warm(4, go_on), Err(ServingError::ShuttingDown)));
        assert_eq!(images.load(Ordering::Relaxed), 10 + 1 + 2);
    }

    /// A model's files under their hashes, its golden answers computed; `change` has the last word on what it says of int8.
    fn published(directory: &Path, change: impl FnOnce(Int8) -> Option<Int8>) -> ModelFiles {
        let _no_grad = tch::no_grad_guard();
        let network = nn::build("wrn-10-1", nn::Head::Linear, 2, Kind::Float).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let weights = Weights::initialise(network.layout(), Device::Cpu, &mut rng).unwrap();
        let (pixels, count) = Golden::images(1, 32);
        let mut ranges = Ranges::default();
        let images = Tensor::from_slice(&pixels).view([count as i64, 32, 32, 3]);
        ranges.widen(network.fold(&weights, 32).unwrap().as_ref(), &network_input(&images).unwrap()).unwrap();
        let answers = |loaded: Loaded| loaded.logits(&pixels, count).unwrap();
        let logits = answers(Loaded::new(network.as_ref(), &weights, Device::Cpu, 32, 1.0).unwrap());
        let int8 = int8::is_fast().then(|| {
            let loaded = Loaded::in_int8(network.as_ref(), &weights, &ranges, 32, 1.0).unwrap();
            let validation = Int8Agreement { images: 50, same: 50, ..Int8Agreement::default() };
            let figures = Int8Figures { validation, test: None };
            Int8 { ranges, images: 4, measured: Some(Int8Measured { golden: answers(loaded), figures }) }
        });
        let manifest = ModelManifest {
            golden: Golden { seed: 1, logits },
            int8: int8.and_then(change),
            ..crate::model::example_manifest()
        };
        let hashed = |write: &dyn Fn(&Path)| {
            let path = directory.join("new");
            write(&path);
            let named = directory.join(sha256::of_file(&path).unwrap());
            std::fs::rename(path, &named).unwrap();
            named
        };
        ModelFiles {
            weights: hashed(&|path| file::save(network.as_ref(), &weights, path).unwrap()),
            manifest: hashed(&|path| manifest.write(path).unwrap()),
        }
    }

    #[test]
    fn a_model_is_served_in_int8_where_that_is_wished_and_was_measured_to_be_near() {
        type Change = fn(Int8) -> Option<Int8>;
        let golden: Change = |mut int8| {
            int8.measured.as_mut().unwrap().golden[0][0] += 9.0;
            Some(int8)
        };
        let apart: Change = |mut int8| {
            int8.measured.as_mut().unwrap().figures.validation.same = 48;
            Some(int8)
        };
        let changes: [(&str, Change, bool); 5] = [
            ("as it was exported", Some, true),
            ("nothing of int8", |_| None, false),
            ("not measured", |int8| Some(Int8 { measured: None, ..int8 }), false),
            ("answers apart", apart, false),
            ("other answers than at export", golden, false),
        ];
        for (what, change, int8) in changes {
            let directory = tempfile::tempdir().unwrap();
            let files = published(directory.path(), change);
            let open = |wish| Loaded::open("gender:1", &files, Device::Cpu, wish).unwrap().0;
            assert!(!open(false).is_in_int8(), "{what}");
            assert_eq!(open(true).is_in_int8(), int8 && int8::is_fast(), "{what}");
            // Whichever it is: the temperature is the manifest's, and the answers are near each other.
            let (pixels, count) = Golden::images(7, 32);
            let rows = |loaded: Loaded| loaded.probabilities(&pixels, count).unwrap();
            for (exact, served) in rows(open(false)).iter().zip(rows(open(true))) {
                assert!((exact[0] - served[0]).abs() < 0.03, "{what}: {exact:?}, {served:?}");
            }
        }
    }

    #[test]
    fn the_temperature_divides_the_logits() {
        let with = |temperature: f64| {
            let network = nn::build("wrn-10-1", nn::Head::Linear, 2, Kind::Float).unwrap();
            let mut rng = ChaCha8Rng::seed_from_u64(5);
            let weights = Weights::initialise(network.layout(), Device::Cpu, &mut rng).unwrap();
            let loaded = Loaded::new(network.as_ref(), &weights, Device::Cpu, 16, temperature).unwrap();
            let (pixels, count) = Golden::images(1, 16);
            let rows = loaded.probabilities(&pixels, count).unwrap();
            rows.iter().map(|row| (row[0] / row[1]).ln()).collect::<Vec<_>>()
        };
        let (plain, halved) = (with(1.0), with(2.0));
        assert!(plain.iter().any(|odds| odds.abs() > 1e-3), "the network says nothing: {plain:?}");
        for (plain, halved) in plain.iter().zip(&halved) {
            assert!((plain - 2.0 * halved).abs() < 1e-3 * plain.abs().max(0.1), "{plain} {halved}");
        }
    }
}
