//! The bare inference engine, without HTTP, decoding or batching: what is compared with other engines on the same network
//! and batch.

use std::time::Instant;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use tch::{Device, Kind, Tensor};

use crate::allocator;
use crate::nn::device::{self, PrecisionWish};
use crate::nn::int8::{self, Ranges};
use crate::nn::{Architecture, Head, Weights};
use crate::serving::Loaded;
use crate::statistics::median;

/// What was measured at one batch size.
#[derive(Clone, Debug, Serialize)]
pub struct EngineTimes {
    /// Images in a batch.
    pub batch: usize,
    /// Images a second, by the median batch.
    pub images_per_second: f64,
    /// Median of the batches, milliseconds.
    pub batch_ms: f64,
    /// The very first batch of this size, milliseconds: oneDNN compiles its kernels for it.
    pub first_ms: f64,
}

/// The number format that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// What the device is fast at.
    Auto,
    /// float32.
    Float32,
    /// int8, on the CPU; beside it what the device is fast at.
    Int8,
}

/// The ranges of the activations that noise has.
fn ranges(architecture: &Architecture, weights: &Weights, size: u32) -> anyhow::Result<Ranges> {
    anyhow::ensure!(int8::is_fast(), "this processor has no VNNI: int8 would not be exact, nor fast");
    let network = architecture.network(Head::Linear, 2, Kind::Float)?;
    let side = i64::from(size);
    let noise = Tensor::f_rand([16, 3, side, side], (Kind::Float, Device::Cpu))?;
    let mut ranges = Ranges::default();
    ranges.widen(network.fold(weights, side)?.as_ref(), &noise.f_mul_scalar(2.0)?.f_sub_scalar(1.0)?)?;
    Ok(ranges)
}

/// Times `rounds` batches of each size through a randomly initialised network, from pixels to probabilities.
///
/// # Errors
/// An unknown network or device, int8 on a GPU or where it is not fast, or libtorch's.
pub fn measure(
    network: &str,
    size: u32,
    batches: &[usize],
    device: &str,
    format: Format,
    rounds: usize,
) -> anyhow::Result<Vec<EngineTimes>> {
    // As the server's inference thread does.
    allocator::keep_what_this_thread_frees();
    let device = device::parse(device)?;
    let wish = if format == Format::Float32 { PrecisionWish::Float32 } else { PrecisionWish::Auto };
    let precision = device::precision(wish, device);
    let architecture: Architecture = network.parse()?;
    architecture.check_size(size).map_err(anyhow::Error::msg)?;
    let network = architecture.network(Head::Linear, 2, precision.kind)?;
    anyhow::ensure!(format != Format::Int8 || device == Device::Cpu, "int8 is for the CPU: leave --device out");
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let weights = Weights::initialise(network.layout(), device, &mut rng)?;
    let engine = match format {
        Format::Int8 => {
            Loaded::in_int8(network.as_ref(), &weights, &ranges(&architecture, &weights, size)?, size, 1.0)?
        }
        Format::Auto | Format::Float32 => Loaded::new(network.as_ref(), &weights, device, size, 1.0)?,
    };
    let mut times = Vec::new();
    for &batch in batches {
        let mut pixels = vec![0; batch * (size * size * 3) as usize];
        rng.fill_bytes(&mut pixels);
        let run = || -> anyhow::Result<f64> {
            let at = Instant::now();
            engine.probabilities(&pixels, batch)?;
            Ok(at.elapsed().as_secs_f64() * 1e3)
        };
        let first_ms = run()?;
        for _ in 0..rounds.div_ceil(5) {
            run()?;
        }
        let measured = (0..rounds).map(|_| run()).collect::<anyhow::Result<Vec<_>>>()?;
        let batch_ms = median(&measured).unwrap_or(f64::NAN);
        times.push(EngineTimes { batch, images_per_second: batch as f64 * 1e3 / batch_ms, batch_ms, first_ms });
    }
    Ok(times)
}
