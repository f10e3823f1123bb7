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

/// The chunks of a WebP file: name, the length that they declare, and what follows, of which that much is theirs.
fn webp_chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8], usize, &[u8])> {
    let mut at = 12_usize;
    std::iter::from_fn(move || {
        let head = bytes.get(at..at.checked_add(8)?)?;
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let content = bytes.get(at + 8..)?;
        // Chunks begin at even places.
        at = at.checked_add(8)?.checked_add(length)?.checked_add(length % 2)?;
        Some((&head[..4], length, content))
    })
}

/// Whether the EXIF block of a WebP file, where it has one, is as long as it says: the decoder makes room for that before it reads it, up to four
/// gigabytes for a file of a few hundred bytes.
pub(super) fn webp_exif_is_whole(bytes: &[u8]) -> bool {
    webp_chunks(bytes).all(|(name, length, content)| name != b"EXIF" || length <= content.len())
}

/// Widths and heights that the picture chunks of a WebP file declare themselves, whatever its header says.
pub(super) fn webp_frames(bytes: &[u8]) -> impl Iterator<Item = (u32, u32)> {
    webp_chunks(bytes).filter_map(|(name, _, content)| match (name, content) {
        // RFC 6386, §9.1: a tag of three bytes, a start code, 14 bits each and two of scaling.
        (b"VP8 ", [_, _, _, 0x9d, 0x01, 0x2a, a, b, c, d, ..]) => {
            let side = |low: u8, high: u8| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
            Some((side(*a, *b), side(*c, *d)))
        }
        // RFC 9649, §3.4: a signature, then both less one, 14 bits each.
        (b"VP8L", [0x2f, a, b, c, d, ..]) => {
            let bits = u32::from_le_bytes([*a, *b, *c, *d]);
            Some(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
        }
        _ => None,
    })
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

    /// A chunk of a WebP file.
    fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let padding = vec![0; content.len() % 2];
        [&name[..], &(content.len() as u32).to_le_bytes(), content, &padding].concat()
    }

    #[test]
    fn a_webp_picture_in_the_header_of_a_smaller_one_is_refused_before_it_is_decoded() {
        let image = DynamicImage::new_rgb8(300, 200);
        let mut bytes = Vec::new();
        image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::WebP).unwrap();
        assert_eq!(webp_frames(&bytes).collect::<Vec<_>>(), [(300, 200)], "lossless");
        // A lossy frame's head, for its size is all that is looked at; a chunk that means nothing before it.
        let lossy =
            [&[0, 0, 0, 0x9d, 0x01, 0x2a][..], &300u16.to_le_bytes(), &(200u16 | 0x4000).to_le_bytes(), &[0]].concat();
        let picture = chunk(b"VP8L", &bytes[20..]);
        for (canvas, frame, mismatch) in [
            ((300_u32, 200_u32), picture.clone(), false),
            ((16, 16), picture, true),
            ((16, 16), [chunk(b"abcd", b"odd"), chunk(b"VP8 ", &lossy)].concat(), true),
        ] {
            let side = |pixels: u32| (pixels - 1).to_le_bytes()[..3].to_vec();
            let header = chunk(b"VP8X", &[vec![0; 4], side(canvas.0), side(canvas.1)].concat());
            let content = [&b"WEBP"[..], &header, &frame].concat();
            let file = [&b"RIFF"[..], &(content.len() as u32).to_le_bytes(), &content].concat();
            assert_eq!(webp_frames(&file).collect::<Vec<_>>(), [(300, 200)]);
            let decoded = crate::imaging::decode(&file, &crate::imaging::DecodeLimits::default());
            match decoded {
                Err(error) if mismatch => assert!(error.to_string().contains("different sizes"), "{error}"),
                decoded => assert_eq!((decoded.unwrap().dimensions(), mismatch), ((300, 200), false)),
            }
        }
    }
}
