//! JPEG of any kind by zune-jpeg, its headers read once: `image`'s own decoder of the same crate reads them, Huffman tables and all,
//! anew for the size, for the orientation and for the pixels.

use image::RgbImage;
use image::metadata::Orientation;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::ImagingError;

/// The marker at a picture's beginning.
pub const START: u8 = 0xd8;

/// The marker at a picture's end.
const END: u8 = 0xd9;

/// The marker at a scan's beginning.
pub const SCAN: u8 = 0xda;

/// The markers of a JPEG's segments behind its beginning, in order, of its end, and of what begins another picture.
///
/// They are looked for from segment to segment: a thumbnail in EXIF has some of its own, and phones hang films behind the picture, in
/// which any bytes may stand.
fn markers(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let mut at = 2;
    std::iter::from_fn(move || {
        // Inside a scan 0xff is escaped by a 0, or restarts it; what is neither is the next segment's marker.
        loop {
            at += memchr::memchr(0xff, bytes.get(at..)?)? + 1;
            match *bytes.get(at)? {
                // Fill bytes stand before a marker.
                0xff => {}
                0x00 | 0x01 | 0xd0..=0xd7 => at += 1,
                START => {
                    at += 1;
                    return Some(START);
                }
                marker => {
                    let length = bytes.get(at + 1..at + 3);
                    let length = length.map_or(2, |length| u16::from_be_bytes([length[0], length[1]]));
                    at += 1 + usize::from(length.max(2));
                    return Some(marker);
                }
            }
        }
    })
}

/// A JPEG without its end marker, or with another picture's beginning before it: that marker is the other's. The decoder would fill the
/// rest with grey and say nothing.
pub fn is_truncated(bytes: &[u8]) -> bool {
    let mut scanned = false;
    for marker in markers(bytes) {
        match marker {
            END => return false,
            SCAN => scanned = true,
            START if scanned => return true,
            _ => {}
        }
    }
    // Behind a segment of which the length is wrong.
    !bytes.ends_with(&[0xff, END])
}

/// A JPEG whose headers have been read.
pub struct Jpeg<'a> {
    decoder: JpegDecoder<ZCursor<&'a [u8]>>,
    width: u32,
    height: u32,
}

impl<'a> Jpeg<'a> {
    /// Reads the headers. Nothing that grows with the picture's declared size is allocated.
    ///
    /// # Errors
    /// When they are damaged, or of a kind that the decoder does not know (lossless, arithmetic coding, 12 bits).
    pub fn read_headers(bytes: &'a [u8]) -> Result<Self, ImagingError> {
        // Not strict: pictures that other programs show are taken. The size is judged by whoever asked for it.
        let options = DecoderOptions::default()
            .set_strict_mode(false)
            .set_max_width(usize::MAX)
            .set_max_height(usize::MAX)
            .jpeg_set_out_colorspace(ColorSpace::RGB);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
        decoder.decode_headers().map_err(ImagingError::corrupt)?;
        let (width, height) = decoder.dimensions().unwrap_or_default();
        let side = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
        Ok(Self { decoder, width: side(width), height: side(height) })
    }

    /// Width and height in pixels, before it is turned upright.
    pub fn dimensions(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// How its EXIF block says that it is to be turned; not at all where there is none or it makes no sense.
    pub fn orientation(&self) -> Orientation {
        let exif = self.decoder.exif();
        exif.and_then(|exif| Orientation::from_exif_chunk(exif)).unwrap_or(Orientation::NoTransforms)
    }

    /// The pixels, grey and CMYK as RGB, not turned.
    ///
    /// # Errors
    /// When the picture is damaged.
    pub fn pixels(mut self) -> Result<RgbImage, ImagingError> {
        let size = self.decoder.output_buffer_size().unwrap_or_default();
        let mut pixels = vec![0; size];
        self.decoder.decode_into(&mut pixels).map_err(ImagingError::corrupt)?;
        RgbImage::from_raw(self.width, self.height, pixels)
            .ok_or_else(|| ImagingError::Corrupt("the decoder gave fewer pixels than it declared".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use image::codecs::jpeg::{JpegDecoder, JpegEncoder};
    use image::{DynamicImage, GrayImage, Luma, Rgb};

    fn encoded(image: &DynamicImage) -> Vec<u8> {
        let mut bytes = Vec::new();
        image.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, 85)).unwrap();
        bytes
    }

    #[test]
    fn pixels_and_size_are_those_that_image_gives() {
        for (width, height) in [(1, 1), (7, 33), (96, 80), (130, 64)] {
            let colour = RgbImage::from_fn(width, height, |x, y| Rgb([(x * 3) as u8, (y * 7) as u8, (x * y) as u8]));
            let grey = GrayImage::from_fn(width, height, |x, y| Luma([(x * 5 + y * 3) as u8]));
            for image in [DynamicImage::from(colour), DynamicImage::from(grey)] {
                let bytes = encoded(&image);
                let jpeg = Jpeg::read_headers(&bytes).unwrap();
                assert_eq!(jpeg.dimensions(), (width, height));
                assert_eq!(jpeg.orientation(), Orientation::NoTransforms);
                let theirs = DynamicImage::from_decoder(JpegDecoder::new(Cursor::new(&bytes)).unwrap()).unwrap();
                assert_eq!(jpeg.pixels().unwrap(), theirs.into_rgb8(), "{width}×{height}, {:?}", image.color());
            }
        }
    }

    #[test]
    fn what_restarts_a_scan_or_is_escaped_in_it_is_no_segment() {
        // Read as a length, what follows a restart leads beyond the picture's end.
        let scan = [&[0x11_u8, 0xff, 0xd0, 0x7f, 0x7f, 0x22][..], &[0xff, 0x00, 0x7f, 0x7f], &[0xff, 0xd7, 0x7f, 0x7f]];
        let picture = [&[0xff_u8, 0xd8, 0xff, 0xda, 0, 3, 1][..], &scan.concat(), &[0xff, 0xff, 0xd9]].concat();
        assert_eq!(markers(&picture).collect::<Vec<_>>(), [SCAN, END]);
        assert!(!is_truncated(&[&picture[..], b"a film"].concat()));
        assert!(is_truncated(&[&picture[..picture.len() - 2], b"a film"].concat()));
    }

    #[test]
    fn bytes_between_segments_that_other_programs_pass_over_are_passed_over() {
        let bytes = encoded(&RgbImage::from_fn(16, 16, |x, y| Rgb([(x * 9) as u8, (y * 9) as u8, 99])).into());
        let whole = Jpeg::read_headers(&bytes).unwrap().pixels().unwrap();
        // Behind the first segment.
        let end = 4 + usize::from(u16::from_be_bytes([bytes[4], bytes[5]]));
        let padded = [&bytes[..end], &[0x20; 9], &bytes[end..]].concat();
        assert_eq!(Jpeg::read_headers(&padded).unwrap().pixels().unwrap(), whole);
    }

    #[test]
    fn damage_is_named_on_one_line() {
        let bytes = encoded(&RgbImage::from_pixel(16, 16, Rgb([9, 99, 199])).into());
        let Err(error) = Jpeg::read_headers(&bytes[..40]) else { panic!("half a header was taken") };
        assert_eq!(error.code(), "corrupt_image");
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
    }
}
