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
    prepare_and_measure(bytes, limits, preprocess).map(|(pixels, _)| pixels)
}

/// The same, and beside it the picture's own width and height, upright.
///
/// # Errors
/// Those of [`prepare`].
pub fn prepare_and_measure(
    bytes: &[u8],
    limits: &DecodeLimits,
    preprocess: &Preprocess,
) -> Result<(Vec<u8>, (u32, u32)), ImagingError> {
    let (image, size) = decode::decode_for(bytes, limits, Some(preprocess.size))?;
    Ok((resize(&image, preprocess)?, size))
}
