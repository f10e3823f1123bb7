//! The bare inference engine, without HTTP, decoding or batching: what is compared with other engines on the same network
//! and batch.

use std::time::Instant;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::allocator;
use crate::nn::device::{self, PrecisionWish};
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

/// Times `rounds` batches of each size through a randomly initialised network, from pixels to probabilities.
///
/// # Errors
/// An unknown network or device, or libtorch's.
pub fn measure(
    network: &str,
    size: u32,
    batches: &[usize],
    device: &str,
    precision: PrecisionWish,
    rounds: usize,
) -> anyhow::Result<Vec<EngineTimes>> {
    // As the server's inference thread does.
    allocator::keep_what_this_thread_frees();
    let device = device::parse(device)?;
    let precision = device::precision(precision, device);
    let architecture: Architecture = network.parse()?;
    architecture.check_size(size).map_err(anyhow::Error::msg)?;
    let network = architecture.network(Head::Linear, 2, precision.kind)?;
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let weights = Weights::initialise(network.layout(), device, &mut rng)?;
    let engine = Loaded::new(network.as_ref(), &weights, device, size, 1.0)?;
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
