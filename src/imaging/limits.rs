//! What a picture may be: how many bytes, how many pixels.

use image::Limits;

use super::ImagingError;

/// What an image may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Encoded bytes.
    pub max_bytes: usize,
    /// Pixels on each side.
    pub max_side: u32,
    /// Pixels in all.
    pub max_pixels: u64,
}

impl DecodeLimits {
    /// None, for pictures that were judged when they came in, by limits that may have been other than today's.
    pub const JUDGED: Self = Self { max_bytes: usize::MAX, max_side: u32::MAX, max_pixels: u64::MAX };

    /// The usual ones for pictures of so many pixels. A file grows with its pixels: it may have half as many bytes, and the usual
    /// number in any case.
    pub fn of_pixels(max_pixels: u64) -> Self {
        let usual = Self::default();
        // No picture has more than its sides allow.
        let pixels = max_pixels.min(u64::from(usual.max_side) * u64::from(usual.max_side));
        let max_bytes = usize::try_from(pixels / 2).unwrap_or(usize::MAX).max(usual.max_bytes);
        Self { max_bytes, max_pixels, ..usual }
    }

    /// Judges a picture by the size that it declares, before a pixel is decoded.
    ///
    /// # Errors
    /// Without pixels, or with too many.
    pub(super) fn check(&self, width: u32, height: u32) -> Result<(), ImagingError> {
        let Self { max_pixels, max_side, .. } = *self;
        if width == 0 || height == 0 {
            return Err(ImagingError::Corrupt(format!("it declares {width}×{height} pixels")));
        }
        let too_many = u64::from(width) * u64::from(height) > max_pixels;
        if too_many || width > max_side || height > max_side {
            return Err(ImagingError::TooLarge { width, height, max_pixels, max_side });
        }
        Ok(())
    }

    /// What this picture may cost: eight bytes a pixel (16-bit RGBA) decoded, as much again turned upright, as much again
    /// for the decoder itself, and a little for profiles and texts, which no number of pixels bounds.
    pub(super) fn allocation(&self, width: u32, height: u32) -> Limits {
        const METADATA: u64 = 16 << 20;
        let mut allocation = Limits::default();
        allocation.max_image_width = Some(self.max_side);
        allocation.max_image_height = Some(self.max_side);
        allocation.max_alloc = Some((u64::from(width) * u64::from(height)).saturating_mul(24).saturating_add(METADATA));
        allocation
    }
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self { max_bytes: 25 << 20, max_side: 16_384, max_pixels: 50_000_000 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_side_is_judged_and_so_are_all_pixels() {
        let limits = DecodeLimits { max_side: 100, max_pixels: 2000, ..DecodeLimits::default() };
        let is_taken = |(width, height)| match limits.check(width, height) {
            Ok(()) => true,
            Err(ImagingError::TooLarge { .. }) => false,
            Err(other) => panic!("{other}"),
        };
        assert_eq!([(100, 1), (1, 100), (100, 20)].map(is_taken), [true; 3]);
        assert_eq!([(101, 1), (1, 101), (100, 21), (21, 100)].map(is_taken), [false; 4]);
        assert_eq!(limits.check(0, 7).unwrap_err().code(), "corrupt_image");
    }

    #[test]
    fn a_file_may_have_half_as_many_bytes_as_pixels_and_the_usual_number_in_any_case() {
        let bytes = |pixels| DecodeLimits::of_pixels(pixels).max_bytes;
        assert_eq!(DecodeLimits::of_pixels(50_000_000), DecodeLimits::default());
        assert_eq!((bytes(1), bytes(60_000_000), bytes(100_000_000)), (25 << 20, 30_000_000, 50_000_000));
        assert_eq!(bytes(u64::MAX), 16_384 * 16_384 / 2);
    }
}
