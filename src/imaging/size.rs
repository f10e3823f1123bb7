//! How large a picture says it is, without decoding it: for limits that look at many pictures at once.
//!
//! The decoders themselves are asked. A walk over JPEG's segments of our own was tried, and seeded mutations found files at
//! once that it could not read and the decoder could: they would have passed under the limit.

use std::io::Cursor;

use image::ImageDecoder;
use image::codecs::jpeg::JpegDecoder;
use image::codecs::webp::WebPDecoder;

/// Pixels that the picture declares; 0 where it says nothing that can be read. Only a claim: [`super::decode`] judges
/// each picture by itself.
pub fn declared_pixels(bytes: &[u8]) -> u64 {
    let (width, height) = declared_size(bytes).unwrap_or_default();
    u64::from(width) * u64::from(height)
}

fn declared_size(bytes: &[u8]) -> Option<(u32, u32)> {
    if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
        Some(JpegDecoder::new(Cursor::new(bytes)).ok()?.dimensions())
    } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        png(bytes)
    } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        Some(WebPDecoder::new(Cursor::new(bytes)).ok()?.dimensions())
    } else {
        None
    }
}

/// Width and height of the header chunk, which is always the first.
pub(super) fn png(bytes: &[u8]) -> Option<(u32, u32)> {
    let &[b'I', b'H', b'D', b'R', a, b, c, d, e, f, g, h] = bytes.get(12..24)? else { return None };
    Some((u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{DynamicImage, ImageFormat};

    #[test]
    fn every_format_says_its_size() {
        let image = DynamicImage::new_rgb8(37, 21);
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
            let mut bytes = Vec::new();
            image.write_to(&mut Cursor::new(&mut bytes), format).unwrap();
            assert_eq!(declared_size(&bytes), Some((37, 21)), "{format:?}");
            for end in 0..bytes.len() {
                let _either_is_fine = declared_pixels(&bytes[..end]);
            }
        }
        assert_eq!(declared_pixels(b"GIF89a"), 0);
    }
}
