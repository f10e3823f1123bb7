//! From an encoded image to the pixels a network sees: one code path for import and for predict.
//!
//! Everything here is pure and runs on whatever thread calls it; decoding is costly and belongs on a pool,
//! never on the async executor.

mod decode;
mod error;
mod fit;
mod jpeg;
mod scaled_jpeg;
mod size;

pub use decode::{DecodeLimits, decode};
pub use error::ImagingError;
pub use fit::{Fit, Preprocess, resize};
pub use size::declared_pixels;

/// Decodes and resizes: `size·size·3` bytes, rows of RGB.
///
/// # Errors
/// When the bytes are no image that we take, see [`decode`].
pub fn prepare(bytes: &[u8], limits: &DecodeLimits, preprocess: &Preprocess) -> Result<Vec<u8>, ImagingError> {
    resize(&decode::decode_for(bytes, limits, Some(preprocess.size))?, preprocess)
}
