//! Encoded bytes to RGB pixels, within limits.
//!
//! The format is told by the first bytes, never by a name or a header of somebody else's. The size is read
//! and judged before a single pixel is decoded; a decoder's panic is an error like any other.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, RgbImage};

use super::baseline_jpeg::{self, BaselineJpeg};
use super::budget::{Budget, DECODING, Share};
use super::fit::Area;
use super::jpeg::{self, Jpeg};
use super::limits::DecodeLimits;
use super::rgb::rgb;
use super::{Face, ImagingError, format, orientation, size};

/// Bytes that a PNG takes for each of its pixels: as many as the decoder's own has, and those of two RGB ones while it is turned.
const UPRIGHT: u64 = 6;

/// The same of a WebP, with the planes or the transparent copy that its decoder makes on the way.
const WEBP: u64 = 12;

/// The same of a JPEG: three, and the coefficients, 16 bits each, of up to four colours, which the decoder keeps of a progressive one. (Of others
/// less: planes and pixels, then pixels and turned ones.)
const JPEG: u64 = 11;

/// The same of a JPEG that is decoded at half its size or less: its planes, its pixels and the turned ones have a quarter of the numbers.
const SMALL_JPEG: u64 = 3;

/// A picture as it was decoded.
#[derive(Debug)]
pub(super) struct Decoded {
    /// Its pixels, upright.
    pub image: RgbImage,
    /// Its own width and height, upright.
    pub size: (u32, u32),
    /// By how much it was decoded smaller than it is, on each side.
    divisor: u32,
    /// The part of `image` that is the picture: of one that was decoded smaller a last row or column may be padding for the most part.
    pub area: Area,
    /// What it takes of the memory for all pictures; the last field, as the pixels go before it.
    _share: Share<'static>,
}

impl Decoded {
    fn whole(image: RgbImage, share: Share<'static>) -> Self {
        Self { size: image.dimensions(), divisor: 1, area: Area::whole(&image), image, _share: share }
    }

    /// A picture of `stored` pixels across and down that was decoded at one `divisor`-th of them, turned upright.
    fn smaller(
        (image, divisor): (RgbImage, u32),
        stored: (u32, u32),
        orientation: Orientation,
        share: Share<'static>,
    ) -> Self {
        let mut image = DynamicImage::from(image);
        image.apply_orientation(orientation);
        let (image, size) = (image.into_rgb8(), orientation::turned(stored, orientation));
        let exact = |side: u32| f64::from(side) / f64::from(divisor);
        let (width, height) = (exact(size.0), exact(size.1));
        let (left, top) = orientation::padded_first(orientation);
        let before = |padded: bool, all: u32, exact: f64| if padded { f64::from(all) - exact } else { 0.0 };
        let (left, top) = (before(left, image.width(), width), before(top, image.height(), height));
        Self { image, size, divisor, area: Area { left, top, width, height }, _share: share }
    }

    /// A face that was found in the pixels, in the picture's own measure.
    pub fn in_picture(&self, face: Face) -> Face {
        let (left, top) = (face.left - self.area.left as f32, face.top - self.area.top as f32);
        Face { left, top, ..face }.scaled(self.divisor as f32)
    }
}

/// Decodes a JPEG, PNG or WebP image, turned upright by its EXIF orientation; grey becomes RGB, 16 bits
/// become 8, transparency is laid on white. Waits while the pictures that other threads decode take what all may take together.
///
/// # Errors
/// When the bytes are too many, of another format, animated, damaged, or declare too large a picture.
pub fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<RgbImage, ImagingError> {
    decode_for(bytes, limits, None).map(|decoded| decoded.image)
}

/// The same where `least` pixels of the shorter side are enough: a far larger JPEG may come out smaller than it is.
pub(super) fn decode_for(bytes: &[u8], limits: &DecodeLimits, least: Option<u32>) -> Result<Decoded, ImagingError> {
    if bytes.is_empty() {
        return Err(ImagingError::Empty);
    }
    if bytes.len() > limits.max_bytes {
        return Err(ImagingError::TooManyBytes { bytes: bytes.len(), allowed: limits.max_bytes });
    }
    catch_unwind(AssertUnwindSafe(|| by_format(bytes, limits, least, &DECODING)))
        .unwrap_or_else(|_| Err(ImagingError::Corrupt("the decoder panicked".to_owned())))
}

fn by_format(
    bytes: &[u8],
    limits: &DecodeLimits,
    least: Option<u32>,
    budget: &'static Budget,
) -> Result<Decoded, ImagingError> {
    let input = || Cursor::new(bytes);
    if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
        of_jpeg(bytes, limits, least, budget)
    } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        // Before the decoder is made: it inflates profiles and keeps texts on its way to the first pixel.
        let (width, height) = size::png(bytes).ok_or_else(|| match bytes.len() {
            ..24 => ImagingError::Truncated,
            _ => ImagingError::Corrupt("it does not begin with its header".to_owned()),
        })?;
        limits.check(width, height)?;
        let decoder =
            PngDecoder::with_limits(input(), limits.allocation(width, height)).map_err(ImagingError::corrupt)?;
        if decoder.is_apng().map_err(ImagingError::corrupt)? {
            return Err(ImagingError::Animated);
        }
        let for_each = u64::from(decoder.color_type().bytes_per_pixel()).max(UPRIGHT);
        pixels(decoder, limits, budget, for_each)
    } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        let decoder = WebPDecoder::new(input()).map_err(ImagingError::corrupt)?;
        if decoder.has_animation() {
            return Err(ImagingError::Animated);
        }
        // The decoder looks at the frame's own size only when it has decoded it.
        if size::webp_frames(bytes).any(|frame| frame != decoder.dimensions()) {
            return Err(ImagingError::Corrupt("its header and its picture are of different sizes".to_owned()));
        }
        if !size::webp_exif_is_whole(bytes) {
            return Err(ImagingError::Corrupt("its EXIF block is longer than the file".to_owned()));
        }
        pixels(decoder, limits, budget, WEBP)
    } else {
        Err(ImagingError::UnsupportedFormat { found: format::looks_like(bytes).to_owned() })
    }
}

fn of_jpeg(
    bytes: &[u8],
    limits: &DecodeLimits,
    least: Option<u32>,
    budget: &'static Budget,
) -> Result<Decoded, ImagingError> {
    if jpeg::is_truncated(bytes) {
        return Err(ImagingError::Truncated);
    }
    if let Some(jpeg) = BaselineJpeg::read_headers(bytes) {
        let (width, height) = jpeg.dimensions();
        limits.check(width, height)?;
        let divisor = least.map_or(1, |least| baseline_jpeg::divisor(width, height, least));
        let share = budget.take(memory(width, height, if divisor == 1 { JPEG } else { SMALL_JPEG }));
        if let Some(pixels) = jpeg.pixels(divisor) {
            return Ok(Decoded::smaller((pixels, divisor), (width, height), jpeg.orientation(), share));
        }
    }
    let jpeg = Jpeg::read_headers(bytes)?;
    let (width, height) = jpeg.dimensions();
    limits.check(width, height)?;
    let orientation = jpeg.orientation();
    let share = budget.take(memory(width, height, JPEG));
    Ok(Decoded::smaller((jpeg.pixels()?, 1), (width, height), orientation, share))
}

/// The memory that so many pixels take, at so many bytes for each.
fn memory(width: u32, height: u32, for_each: u64) -> u64 {
    (u64::from(width) * u64::from(height)).saturating_mul(for_each)
}

fn pixels(
    mut decoder: impl ImageDecoder,
    limits: &DecodeLimits,
    budget: &'static Budget,
    for_each: u64,
) -> Result<Decoded, ImagingError> {
    let (width, height) = decoder.dimensions();
    limits.check(width, height)?;
    let exif = decoder.exif_metadata().map_err(ImagingError::corrupt)?;
    let orientation = orientation::in_exif(exif.as_deref());
    // Nobody asks the limits before the pixels are allocated, or turned: what that needs is taken off here, and the decoder gets
    // the rest.
    let mut room = limits.allocation(width, height);
    room.reserve(decoder.total_bytes()).map_err(ImagingError::corrupt)?;
    if !matches!(orientation, Orientation::NoTransforms) {
        room.reserve(decoder.total_bytes()).map_err(ImagingError::corrupt)?;
    }
    decoder.set_limits(room).map_err(ImagingError::corrupt)?;
    let share = budget.take(memory(width, height, for_each));
    let colour = decoder.color_type();
    let mut bytes = vec![0_u8; usize::try_from(decoder.total_bytes()).map_err(ImagingError::corrupt)?];
    decoder.read_image(&mut bytes).map_err(ImagingError::corrupt)?;
    let image = RgbImage::from_raw(width, height, rgb(bytes, colour))
        .ok_or_else(|| ImagingError::Corrupt("the decoder gave fewer pixels than it declared".to_owned()))?;
    // Turned last, when a pixel is three bytes and no more.
    let mut image = DynamicImage::from(image);
    image.apply_orientation(orientation);
    Ok(Decoded::whole(image.into_rgb8(), share))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ExtendedColorType, ImageBuffer, ImageEncoder, ImageFormat, Luma, LumaA, Rgb};

    fn gradient(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([(x * 5) as u8, (y * 5) as u8, 90]))
    }

    fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Vec::new();
        image.write_to(&mut Cursor::new(&mut bytes), format).unwrap();
        bytes
    }

    fn default(bytes: &[u8]) -> Result<RgbImage, ImagingError> {
        decode(bytes, &DecodeLimits::default())
    }

    #[test]
    fn lossless_formats_give_the_pixels_back() {
        let image = gradient(12, 7);
        for format in [ImageFormat::Png, ImageFormat::WebP] {
            assert_eq!(default(&encoded(&image.clone().into(), format)).unwrap(), image);
        }
    }

    #[test]
    fn grey_sixteen_bit_and_transparent_images_become_rgb() {
        let grey = DynamicImage::ImageLuma8(image::GrayImage::from_pixel(3, 2, Luma([77])));
        assert_eq!(default(&encoded(&grey, ImageFormat::Png)).unwrap().get_pixel(0, 0).0, [77; 3]);
        let deep = DynamicImage::ImageLuma16(image::ImageBuffer::from_pixel(3, 2, Luma([0x8000])));
        assert_eq!(default(&encoded(&deep, ImageFormat::Png)).unwrap().get_pixel(0, 0).0, [128; 3]);
        let clear = DynamicImage::ImageLumaA8(image::ImageBuffer::from_pixel(3, 2, LumaA([0, 0])));
        assert_eq!(default(&encoded(&clear, ImageFormat::Png)).unwrap().get_pixel(0, 0).0, [255; 3]);
    }

    #[test]
    fn a_picture_holds_its_share_of_the_memory_for_all_until_it_is_dropped() {
        static BUDGET: Budget = Budget::new(1 << 20);
        let limits = DecodeLimits::default();
        let deep = DynamicImage::ImageRgba16(ImageBuffer::new(100, 10));
        let (grey, flat) = (DynamicImage::new_luma8(100, 10), DynamicImage::from(gradient(100, 10)));
        let small = DynamicImage::from(gradient(80, 40));
        for (image, format, least, for_each) in [
            (&deep, ImageFormat::Png, None, 8),
            (&flat, ImageFormat::Png, None, 6),
            (&grey, ImageFormat::Png, None, 6),
            (&flat, ImageFormat::WebP, None, 12),
            (&flat, ImageFormat::Jpeg, None, 11),
            // Too small to be decoded at half of it.
            (&flat, ImageFormat::Jpeg, Some(16), 11),
            (&small, ImageFormat::Jpeg, Some(16), 3),
        ] {
            let decoded = by_format(&encoded(image, format), &limits, least, &BUDGET).unwrap();
            let pixels = u64::from(image.width()) * u64::from(image.height());
            assert_eq!(BUDGET.taken(), for_each * pixels, "{:?}, {format:?}, {least:?}", image.color());
            drop(decoded);
            assert_eq!(BUDGET.taken(), 0);
        }
        // Nor does a picture that cannot be decoded keep it.
        let mut damaged = encoded(&flat, ImageFormat::Png);
        damaged.truncate(damaged.len() / 2);
        assert!(by_format(&damaged, &limits, None, &BUDGET).is_err());
        assert_eq!(BUDGET.taken(), 0);
    }

    /// One that our own reader leaves to zune-jpeg.
    #[test]
    fn a_progressive_jpeg_is_judged_and_counted_and_turned_like_another() {
        static BUDGET: Budget = Budget::new(1 << 20);
        let bytes = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/image/progressive.jpg")).unwrap();
        assert!(BaselineJpeg::read_headers(&bytes).is_none());
        let exif = orientation::exif(6);
        let block = [&[0xff, 0xe1, 0, exif.len() as u8 + 8][..], b"Exif\0\0", &exif].concat();
        let turned = [&bytes[..2], &block, &bytes[2..]].concat();
        for (bytes, size) in [(&bytes, (24, 16)), (&turned, (16, 24))] {
            let of_pixels = |max_pixels| DecodeLimits { max_pixels, ..DecodeLimits::default() };
            let decoded = by_format(bytes, &of_pixels(24 * 16), Some(4), &BUDGET).unwrap();
            assert_eq!((decoded.image.dimensions(), decoded.size, decoded.divisor), (size, size, 1));
            assert_eq!(BUDGET.taken(), 11 * 24 * 16);
            let refused = by_format(bytes, &of_pixels(24 * 16 - 1), None, &BUDGET);
            assert!(matches!(refused, Err(ImagingError::TooLarge { width: 24, height: 16, .. })), "{refused:?}");
        }
    }

    #[test]
    fn a_webp_whose_exif_block_says_that_it_is_longer_than_the_file_is_refused_before_there_is_room_for_it() {
        let bytes =
            std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/image/orientation-6.webp")).unwrap();
        assert!(default(&bytes).is_ok());
        let at = bytes.windows(4).position(|name| name == b"EXIF").unwrap() + 4;
        let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        for (more, is_taken) in [(0, true), (2, false), (u32::MAX - length, false)] {
            let mut bytes = bytes.clone();
            bytes[at..at + 4].copy_from_slice(&(length + more).to_le_bytes());
            match default(&bytes) {
                Ok(_) => assert!(is_taken, "{more}"),
                Err(error) => assert!(!is_taken && error.to_string().contains("EXIF block"), "{more}: {error}"),
            }
        }
    }

    #[test]
    fn a_face_in_a_picture_that_was_decoded_small_and_turned_is_told_without_the_padding_before_it() {
        static BUDGET: Budget = Budget::new(1 << 20);
        // An eighth of 513×257 pixels is 64⅛×32⅛; turned upside down, most of the first column and row is padding.
        let image = RgbImage::new(65, 33);
        let decoded = Decoded::smaller((image, 8), (513, 257), Orientation::Rotate180, BUDGET.take(1));
        assert_eq!(decoded.area, Area { left: 0.875, top: 0.875, width: 64.125, height: 32.125 });
        let face = decoded.in_picture(Face { left: 10.875, top: 4.875, side: 5.0, roll: 3.0, score: 0.9 });
        assert_eq!(face, Face { left: 80.0, top: 32.0, side: 40.0, roll: 3.0, score: 0.9 });
    }

    #[test]
    fn exif_orientation_turns_the_image_upright() {
        let mut bytes = Vec::new();
        let image = RgbImage::from_fn(16, 8, |x, _| if x < 8 { Rgb([250, 0, 0]) } else { Rgb([0, 0, 250]) });
        let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 100);
        encoder.set_exif_metadata(orientation::exif(6)).unwrap();
        encoder.write_image(image.as_raw(), 16, 8, ExtendedColorType::Rgb8).unwrap();
        let upright = default(&bytes).unwrap();
        assert_eq!(upright.dimensions(), (8, 16));
        assert!(upright.get_pixel(4, 1).0[0] > 200 && upright.get_pixel(4, 14).0[2] > 200);
        // Decoded at half its size: what is told is the picture's own size, upright too.
        let small = decode_for(&bytes, &DecodeLimits::default(), Some(4)).unwrap();
        assert_eq!((small.image.dimensions(), small.size, small.divisor), ((4, 8), (8, 16), 2));
        assert_eq!(small.area, Area::whole(&small.image), "both sides divide by two");
    }

    #[test]
    fn a_truncated_image_is_an_error_in_every_format() {
        let image: DynamicImage = gradient(64, 64).into();
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
            let bytes = encoded(&image, format);
            let half = &bytes[..bytes.len() / 2];
            assert!(default(half).is_err(), "{format:?} cut in half was taken");
        }
        let jpeg = encoded(&image, ImageFormat::Jpeg);
        assert_eq!(default(&jpeg[..jpeg.len() - 2]), Err(ImagingError::Truncated));
    }

    #[test]
    fn a_film_behind_a_photo_does_not_make_it_a_truncated_one() {
        let mut photo = encoded(&gradient(64, 64).into(), ImageFormat::Jpeg);
        let whole = default(&photo).unwrap();
        let end = photo.len();
        // What would be the beginning of a scan, with no end behind it.
        photo.extend(b"\0\0\0\x18ftypmp42\xff\xd9....\xff\xda....");
        assert_eq!(default(&photo).unwrap(), whole);
        photo.drain(end - 2..end);
        photo.truncate(end + 10);
        assert_eq!(default(&photo), Err(ImagingError::Truncated), "the film's bytes are no end of the photo");
        // A thumbnail has an end of its own, before the picture's.
        let mut thumbnail = vec![0xff, 0xd8, 0xff, 0xe1, 0, 8, 1, 2, 0xff, 0xd9, 3, 4];
        thumbnail.extend(&encoded(&gradient(16, 16).into(), ImageFormat::Jpeg)[2..]);
        assert!(default(&thumbnail).is_ok());
        thumbnail.truncate(thumbnail.len() - 2);
        assert_eq!(default(&thumbnail), Err(ImagingError::Truncated));
    }

    #[test]
    fn another_picture_behind_a_photo_that_was_cut_off_is_not_its_end() {
        let photo = encoded(&gradient(64, 64).into(), ImageFormat::Jpeg);
        let whole = default(&photo).unwrap();
        // As phones write several pictures into one file.
        assert_eq!(default(&[&photo[..], &photo].concat()).unwrap(), whole);
        let cut = &photo[..photo.len() - 20];
        assert_eq!(default(&[cut, &photo].concat()), Err(ImagingError::Truncated));
        assert_eq!(default(&[cut, &photo, b"and more"].concat()), Err(ImagingError::Truncated));
    }

    #[test]
    fn a_declared_size_is_judged_before_decoding() {
        let mut bytes = encoded(&gradient(4, 4).into(), ImageFormat::Png);
        bytes[16..24].copy_from_slice(&[0, 0, 0x75, 0x30, 0, 0, 0x75, 0x30]);
        // The header's checksum must fit, or it is refused for that.
        let crc = crc32(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&crc.to_be_bytes());
        let error = default(&bytes).unwrap_err();
        assert!(matches!(error, ImagingError::TooLarge { width: 30_000, height: 30_000, .. }), "{error}");
        let small = DecodeLimits { max_pixels: 15, ..DecodeLimits::default() };
        let error = decode(&encoded(&gradient(4, 4).into(), ImageFormat::Png), &small).unwrap_err();
        assert_eq!(error.code(), "image_too_large");
        assert!(error.to_string().contains("--max-pixels"), "{error}");
    }

    #[test]
    fn the_limit_on_pixels_holds_in_every_format() {
        let picture = DynamicImage::from(gradient(4, 4));
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
            let bytes = encoded(&picture, format);
            let of_pixels = |max_pixels| decode(&bytes, &DecodeLimits { max_pixels, ..DecodeLimits::default() });
            assert_eq!(of_pixels(16).unwrap().dimensions(), (4, 4), "{format:?}");
            let refused = of_pixels(15);
            assert!(
                matches!(refused, Err(ImagingError::TooLarge { width: 4, height: 4, max_pixels: 15, .. })),
                "{format:?}: {refused:?}"
            );
        }
    }

    #[test]
    fn a_png_that_ends_within_its_header_is_truncated() {
        let png = encoded(&gradient(4, 4).into(), ImageFormat::Png);
        for length in [8, 16, 23] {
            assert_eq!(default(&png[..length]), Err(ImagingError::Truncated), "{length} bytes");
        }
        let headless = [&png[..8], &png[33..]].concat();
        let refused = default(&headless).unwrap_err().to_string();
        assert!(refused.contains("it does not begin with its header"), "{refused}");
    }

    /// Figures by hand: a share a/255 of the colour, and the rest white.
    #[test]
    fn what_can_be_half_seen_through_is_laid_on_white() {
        let seen = |image: DynamicImage| {
            let pixels = |format| default(&encoded(&image, format)).unwrap().get_pixel(0, 0).0;
            // 16 bits are PNG's alone.
            if image.color().bytes_per_pixel() == image.color().channel_count() {
                assert_eq!(pixels(ImageFormat::Png), pixels(ImageFormat::WebP));
            }
            pixels(ImageFormat::Png)
        };
        let colour = |alpha: u8| ImageBuffer::from_pixel(2, 2, image::Rgba([0, 100, 255, alpha]));
        for (alpha, expected) in
            [(0, [255; 3]), (1, [254, 254, 255]), (64, [191, 216, 255]), (128, [127, 177, 255]), (255, [0, 100, 255])]
        {
            assert_eq!(seen(DynamicImage::ImageRgba8(colour(alpha))), expected, "{alpha}");
        }
        let deep = ImageBuffer::from_pixel(2, 2, image::Rgba([0_u16, 100 * 257, 65_535, 128 * 257]));
        assert_eq!(seen(DynamicImage::ImageRgba16(deep)), [127, 177, 255]);
        let grey = ImageBuffer::from_pixel(2, 2, LumaA([100, 128]));
        assert_eq!(seen(DynamicImage::ImageLumaA8(grey)), [177; 3]);
        let deep_grey = ImageBuffer::from_pixel(2, 2, LumaA([100 * 257_u16, 128 * 257]));
        assert_eq!(seen(DynamicImage::ImageLumaA16(deep_grey)), [177; 3]);
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
        })
    }

    #[test]
    fn a_file_without_bytes_or_with_too_many_is_refused() {
        assert_eq!(default(b""), Err(ImagingError::Empty));
        let tiny = DecodeLimits { max_bytes: 3, ..DecodeLimits::default() };
        assert_eq!(decode(b"1234", &tiny).unwrap_err().code(), "image_too_many_bytes");
    }

    #[test]
    fn garbage_behind_a_right_beginning_never_panics() {
        for seed in 0u32..200 {
            let noise = (0..400u32).map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed * 7919) >> 13) as u8);
            for magic in [&b"\xff\xd8\xff\xe0"[..], b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBPVP8 "] {
                let bytes: Vec<u8> = magic.iter().copied().chain(noise.clone()).collect();
                let _either_is_fine = default(&bytes);
            }
        }
    }
}
