//! JPEG at ½, ¼ or ⅛ of its size, straight from the coefficients: a phone's photo for a network of 64 pixels need not
//! become 36 MB of pixels first.

use image::RgbImage;
use jpeg_decoder::{ColorTransform, Decoder, PixelFormat};

use super::jpeg::{END, SCAN, markers};

/// Pixels that are left to the resizer for each that it makes, across and down: its antialiasing then still has the last word, and the
/// brightness is that of the whole picture to within a few levels. Colours that are stored at half the size (4:2:0, as phones do) have one
/// value for each that it makes, and are off by more where they change quickly: 4 to 11 levels on average against Pillow's resizing of the
/// whole picture, of patterns made to show it.
const SPARE: u32 = 2;

/// Scans of a picture; a camera's has one, a progressive one about ten. Each costs a pass over the whole picture for a few bytes of the
/// file, and this decoder would make any number of them.
const MOST_SCANS: usize = 100;

/// By how much a picture is made smaller on each side: the largest of 8, 4 and 2 that leaves both sides `SPARE` pixels for each
/// of a square of `size`. None where it is not large enough for that.
pub fn divisor(width: u32, height: u32, size: u32) -> Option<u32> {
    let least = size.checked_mul(SPARE)?;
    [8, 4, 2].into_iter().find(|divisor| width.min(height) / divisor >= least)
}

/// Whether a JPEG has more scans than [`MOST_SCANS`].
fn has_many_scans(bytes: &[u8]) -> bool {
    markers(bytes).take_while(|marker| *marker != END).filter(|marker| *marker == SCAN).nth(MOST_SCANS).is_some()
}

/// A grey or YCbCr picture made smaller by `divisor` (2, 4 or 8) on each side: its pixels are whole blocks of so many, so that the last ones
/// of a side that does not divide by that show less than others. None where it is of a kind that the whole decoder knows better (lossless,
/// damaged, of very many scans): that one then decides.
pub fn decode(bytes: &[u8], (width, height): (u32, u32), divisor: u32, max_bytes: usize) -> Option<RgbImage> {
    if has_many_scans(bytes) {
        return None;
    }
    let (across, down) = (width.div_ceil(divisor), height.div_ceil(divisor));
    let mut decoder = Decoder::new(bytes);
    // It would guess by the components' names, and differently from the whole decoder. Of a grey one nothing is transformed.
    decoder.set_color_transform(ColorTransform::YCbCr);
    decoder.set_max_decoding_buffer_size(max_bytes);
    // It takes the smallest of its scales at which one side is as large as asked for.
    let scaled = decoder.scale(u16::try_from(across).ok()?, u16::try_from(down).ok()?).ok()?;
    if (u32::from(scaled.0), u32::from(scaled.1)) != (across, down) {
        return None;
    }
    let pixels = decoder.decode().ok()?;
    let rgb = match decoder.info()?.pixel_format {
        PixelFormat::RGB24 => pixels,
        PixelFormat::L8 => pixels.into_iter().flat_map(|grey| [grey; 3]).collect(),
        PixelFormat::L16 | PixelFormat::CMYK32 => return None,
    };
    RgbImage::from_raw(across, down, rgb)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::imaging::{self, DecodeLimits, Fit, Preprocess, resize};
    use image::codecs::jpeg::JpegEncoder;
    use image::{GrayImage, ImageBuffer, Luma, Pixel, PixelWithColorType, Rgb};

    /// Edges, ramps and fine texture.
    fn picture(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let (u, v) = (f64::from(x) / f64::from(width), f64::from(y) / f64::from(height));
            let disc = ((u - 0.4).powi(2) + (v - 0.55).powi(2)) < 0.06;
            let texture = f64::from((x * 7 + y * 13) % 16);
            let red = 60.0 + 120.0 * u + texture;
            Rgb([red as u8, if disc { 210 } else { (90.0 * v) as u8 }, (40.0 + 150.0 * (9.0 * v).sin().abs()) as u8])
        })
    }

    fn jpeg<P>(image: &ImageBuffer<P, Vec<u8>>) -> Vec<u8>
    where
        P: Pixel<Subpixel = u8> + PixelWithColorType,
    {
        let mut bytes = Vec::new();
        image.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, 92)).unwrap();
        bytes
    }

    #[test]
    fn a_large_photo_is_decoded_small_and_becomes_the_same_square() {
        let bytes = jpeg(&picture(1600, 1200));
        let limits = DecodeLimits::default();
        for size in [32, 64, 96] {
            let divisor = divisor(1600, 1200, size).unwrap();
            let small = decode(&bytes, (1600, 1200), divisor, 1 << 30).unwrap();
            let expected = if size == 96 { (400, 300) } else { (200, 150) };
            assert_eq!((small.dimensions(), divisor), (expected, 1600 / expected.0), "for {size}");
            for fit in [Fit::Stretch, Fit::Crop] {
                let preprocess = Preprocess { size, fit };
                let whole = resize(&imaging::decode(&bytes, &limits).unwrap(), &preprocess).unwrap();
                let ours = imaging::prepare(&bytes, &limits, &preprocess).unwrap().pixels;
                let off: Vec<u8> = whole.iter().zip(&ours).map(|(a, b)| a.abs_diff(*b)).collect();
                let mean = off.iter().map(|&d| f64::from(d)).sum::<f64>() / off.len() as f64;
                assert!(mean < 1.5, "{size} {fit}: {mean} levels off on average");
                assert!(*off.iter().max().unwrap() < 40, "{size} {fit}: an edge moved");
                assert!(mean > 0.0, "{size} {fit}: the whole picture was decoded");
            }
        }
    }

    /// Waves across, down and between: a picture that is squeezed by a hundredth shows it everywhere.
    fn waves(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let (u, v) = (f64::from(x) / f64::from(width), f64::from(y) / f64::from(height));
            let wave = |phase: f64| (128.0 + 100.0 * phase.sin()) as u8;
            Rgb([wave(50.0 * u), wave(50.0 * v), wave(30.0 * (u + v))])
        })
    }

    /// The JPEG with an EXIF block of this one entry.
    fn oriented(image: &RgbImage, orientation: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 92);
        let mut exif = b"II*\0\x08\0\0\0\x01\0".to_vec();
        exif.extend([0x12, 0x01, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0, 0, 0, 0, 0]);
        image::ImageEncoder::set_exif_metadata(&mut encoder, exif).unwrap();
        encoder.encode_image(image).unwrap();
        bytes
    }

    #[test]
    fn sides_that_do_not_divide_are_not_stretched_whichever_way_the_picture_is_turned() {
        let limits = DecodeLimits::default();
        for (width, height, size) in [(513, 700, 32), (700, 513, 32), (513, 700, 64), (259, 389, 32), (259, 389, 64)] {
            let picture = waves(width, height);
            for orientation in 1..=8 {
                let bytes = oriented(&picture, orientation);
                let upright = imaging::decode(&bytes, &limits).unwrap();
                for fit in [Fit::Stretch, Fit::Crop] {
                    let preprocess = Preprocess { size, fit };
                    let whole = resize(&upright, &preprocess).unwrap();
                    let ours = imaging::prepare(&bytes, &limits, &preprocess).unwrap();
                    assert_eq!(ours.size, upright.dimensions());
                    let off: Vec<u8> = whole.iter().zip(&ours.pixels).map(|(a, b)| a.abs_diff(*b)).collect();
                    let mean = off.iter().map(|&d| f64::from(d)).sum::<f64>() / off.len() as f64;
                    let most = *off.iter().max().unwrap();
                    // With the padding for a part of the picture it is 5 to 14 levels, and up to 47.
                    let told =
                        format!("{width}×{height} for {size}, orientation {orientation}, {fit}: {mean} and {most} off");
                    assert!(mean < 3.0 && most < 16, "{told}");
                    assert!(mean > 0.0, "{told}: the whole picture was decoded");
                }
            }
        }
    }

    #[test]
    fn the_shorter_side_decides_how_small_a_panorama_is_decoded() {
        for (width, height) in [(4000, 400), (400, 4000)] {
            assert_eq!(divisor(width, height, 32), Some(4), "{width}×{height}: 100 pixels are left, 64 are needed");
        }
        assert_eq!([divisor(20_000, 127, 32), divisor(20_000, 128, 32)], [None, Some(2)]);
    }

    #[test]
    fn small_pictures_and_kinds_it_does_not_know_are_left_to_the_whole_decoder() {
        assert_eq!(divisor(120, 90, 32), None, "half of 90 is less than 64");
        assert!(decode(b"no picture", (4000, 3000), 8, 1 << 30).is_none());
        assert!(decode(&jpeg(&picture(800, 800)), (800, 800), 8, 100).is_none(), "no memory for it");
    }

    /// A grey progressive JPEG of 640×640 whose coefficients are all 0: one scan for the means, and `more` that say nothing.
    pub fn progressive(more: usize) -> Vec<u8> {
        let segment = |marker: u8, content: &[u8]| {
            [&[0xff, marker][..], &(content.len() as u16 + 2).to_be_bytes(), content].concat()
        };
        // One code of one bit in each Huffman table: means that do not change, and the end of 2¹⁴ blocks.
        let code = |table: u8, symbol: u8| [&[table, 1][..], &[0; 15], &[symbol]].concat();
        let mut bytes = [&[0xff, 0xd8][..], &segment(0xdb, &[&[0][..], &[1; 64]].concat())].concat();
        bytes.extend(segment(0xc2, &[8, 2, 128, 2, 128, 1, 1, 0x11, 0]));
        bytes.extend(segment(0xc4, &code(0x00, 0)));
        bytes.extend(segment(0xc4, &code(0x10, 0xe0)));
        bytes.extend(segment(0xda, &[1, 1, 0, 0, 0, 0]));
        bytes.extend([0; 80 * 80 / 8]);
        for _ in 0..more {
            bytes.extend(segment(0xda, &[1, 1, 0, 1, 63, 0]));
            bytes.extend([0, 1]);
        }
        bytes.extend([0xff, 0xd9]);
        bytes
    }

    #[test]
    fn a_picture_of_very_many_scans_is_none_of_its_pictures() {
        assert_eq!(decode(&progressive(9), (640, 640), 8, 1 << 30).unwrap().dimensions(), (80, 80));
        assert!(decode(&progressive(MOST_SCANS - 1), (640, 640), 8, 1 << 30).is_some());
        assert!(decode(&progressive(MOST_SCANS), (640, 640), 8, 1 << 30).is_none());
        // Nor does the whole decoder make that many passes.
        let preprocess = Preprocess { size: 32, fit: Fit::Stretch };
        assert!(imaging::prepare(&progressive(9), &DecodeLimits::default(), &preprocess).is_ok());
        let refused = imaging::prepare(&progressive(5000), &DecodeLimits::default(), &preprocess);
        assert!(matches!(refused, Err(imaging::ImagingError::Corrupt(_))), "{refused:?}");
    }

    #[test]
    fn colours_are_those_of_the_whole_decoder_whatever_the_file_calls_them() {
        // What it encodes is YCbCr; said to be RGB by Adobe's marker, its channels are taken for red, green and blue.
        let bytes = jpeg(&RgbImage::from_pixel(640, 640, Rgb([210, 40, 40])));
        let adobe = [&[0xff, 0xee, 0, 14][..], b"Adobe", &[0, 100, 0, 0, 0, 0, 0]].concat();
        let rgb = [&bytes[..2], &adobe, &bytes[2..]].concat();
        let preprocess = Preprocess { size: 32, fit: Fit::Stretch };
        for bytes in [bytes, rgb] {
            let whole = imaging::decode(&bytes, &DecodeLimits::default()).unwrap();
            let small = imaging::prepare(&bytes, &DecodeLimits::default(), &preprocess).unwrap().pixels;
            let Rgb(expected) = *whole.get_pixel(320, 320);
            assert!(small[..3].iter().zip(expected).all(|(a, b)| a.abs_diff(b) < 4), "{:?} {expected:?}", &small[..3]);
        }
    }

    #[test]
    fn grey_becomes_rgb() {
        let grey: GrayImage = ImageBuffer::from_fn(640, 640, |x, _| Luma([(x / 4) as u8]));
        let small = decode(&jpeg(&grey), (640, 640), 8, 1 << 30).unwrap();
        let Rgb([r, g, b]) = *small.get_pixel(small.width() / 2, 5);
        assert!(r == g && g == b && r.abs_diff(80) < 4, "{r} {g} {b}");
    }
}
