use super::*;
use crate::imaging::jpeg::Jpeg;
use crate::imaging::{self, DecodeLimits, Fit, Preprocess, resize};
use image::codecs::jpeg::JpegEncoder;
use image::{GrayImage, ImageBuffer, Luma, Pixel, PixelWithColorType, Rgb};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

mod whole;

fn by_zune(bytes: &[u8]) -> Option<RgbImage> {
    Jpeg::read_headers(bytes).ok()?.pixels().ok()
}

fn decoded(bytes: &[u8], divisor: u32) -> Option<RgbImage> {
    BaselineJpeg::read_headers(bytes)?.pixels(divisor)
}

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
        let divisor = divisor(1600, 1200, 2 * size);
        let small = decoded(&bytes, divisor).unwrap();
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
    image::ImageEncoder::set_exif_metadata(&mut encoder, imaging::orientation::exif(orientation)).unwrap();
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
        assert_eq!(divisor(width, height, 64), 4, "{width}×{height}: 100 pixels are left, 64 are needed");
    }
    assert_eq!([divisor(20_000, 127, 64), divisor(20_000, 128, 64)], [1, 2]);
}

#[test]
fn small_pictures_are_decoded_whole_and_what_it_does_not_know_is_left_to_zune_jpeg() {
    assert_eq!(divisor(120, 90, 64), 1, "half of 90 is less than 64");
    assert!(decoded(b"no picture", 8).is_none());
    let bytes = jpeg(&picture(800, 800));
    assert!(decoded(&bytes, 8).is_some());
    assert!(decoded(&bytes, 3).is_none());
}

/// A grey progressive JPEG of 640×640 whose coefficients are all 0: one scan for the means, and `more` that say nothing.
fn progressive(more: usize) -> Vec<u8> {
    let segment =
        |marker: u8, content: &[u8]| [&[0xff, marker][..], &(content.len() as u16 + 2).to_be_bytes(), content].concat();
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
fn a_progressive_picture_is_left_to_zune_jpeg_which_does_not_make_any_number_of_passes() {
    assert!(decoded(&progressive(9), 8).is_none());
    let preprocess = Preprocess { size: 32, fit: Fit::Stretch };
    assert!(imaging::prepare(&progressive(9), &DecodeLimits::default(), &preprocess).is_ok());
    let refused = imaging::prepare(&progressive(5000), &DecodeLimits::default(), &preprocess);
    assert!(matches!(refused, Err(imaging::ImagingError::Corrupt(_))), "{refused:?}");
}

#[test]
fn colours_are_those_of_the_whole_picture_whatever_the_file_calls_them() {
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
    let small = decoded(&jpeg(&grey), 8).unwrap();
    let Rgb([r, g, b]) = *small.get_pixel(small.width() / 2, 5);
    assert!(r == g && g == b && r.abs_diff(80) < 4, "{r} {g} {b}");
}

/// How a picture is written. With optimised codes each component has a scan of its own.
#[derive(Clone, Copy, Debug)]
struct Written {
    sampling: SamplingFactor,
    quality: u8,
    restart_after: u16,
    optimised: bool,
}

impl Written {
    const USUAL: Self = Self { sampling: SamplingFactor::F_2_2, quality: 90, restart_after: 0, optimised: false };

    fn jpeg(self, pixels: &[u8], (width, height): (u32, u32), colours: ColorType) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, self.quality);
        encoder.set_sampling_factor(self.sampling);
        encoder.set_restart_interval(self.restart_after);
        encoder.set_optimized_huffman_tables(self.optimised);
        encoder.encode(pixels, width as u16, height as u16, colours).unwrap();
        bytes
    }

    fn colour(self, image: &RgbImage) -> Vec<u8> {
        self.jpeg(image.as_raw(), image.dimensions(), ColorType::Rgb)
    }

    /// Its red alone, as grey.
    fn grey(self, image: &RgbImage) -> Vec<u8> {
        let red: Vec<u8> = image.pixels().map(|pixel| pixel.0[0]).collect();
        self.jpeg(&red, image.dimensions(), ColorType::Luma)
    }
}

/// cos((2·place + 1)·frequency·π / 2·number), so that the transform of `number` is orthonormal.
fn wave(place: usize, frequency: usize, number: usize) -> f64 {
    let angle = (2 * place + 1) as f64 * frequency as f64 * std::f64::consts::PI / (2 * number) as f64;
    angle.cos() * ((if frequency == 0 { 1.0 } else { 2.0 }) / number as f64).sqrt()
}

/// What a block of the whole picture becomes, by the transforms' own sums: its cosine transform, the lowest frequencies of it, and the inverse
/// transform of their number. `side` pixels across and down.
fn expected(whole: &RgbImage, (left, top): (u32, u32), channel: usize, side: usize) -> Vec<f64> {
    let coefficient = |v: usize, u: usize| -> f64 {
        let pixels = (0..64).map(|at| (at / 8, at % 8));
        pixels
            .map(|(y, x)| {
                let level = f64::from(whole.get_pixel(left + x as u32, top + y as u32).0[channel]);
                level * wave(y, v, 8) * wave(x, u, 8)
            })
            .sum()
    };
    let coefficients: Vec<f64> = (0..side * side).map(|at| coefficient(at / side, at % side)).collect();
    let pixel = |y: usize, x: usize| -> f64 {
        let waves = (0..side * side).map(|at| coefficients[at] * wave(y, at / side, side) * wave(x, at % side, side));
        waves.sum::<f64>() * side as f64 / 8.0
    };
    (0..side * side).map(|at| pixel(at / side, at % side)).collect()
}

/// Differences, on average and at most, from what the whole picture's blocks become.
fn off(whole: &RgbImage, small: &RgbImage, side: usize) -> (f64, f64) {
    let (mut sum, mut most, mut count) = (0.0, 0.0_f64, 0);
    for (row, column) in (0..whole.height() / 8).flat_map(|row| (0..whole.width() / 8).map(move |column| (row, column)))
    {
        for channel in 0..3 {
            for (at, level) in expected(whole, (8 * column, 8 * row), channel, side).into_iter().enumerate() {
                let (x, y) = (column as usize * side + at % side, row as usize * side + at / side);
                let ours = f64::from(small.get_pixel(x as u32, y as u32).0[channel]);
                let difference = (ours - level.clamp(0.0, 255.0)).abs();
                (sum, most, count) = (sum + difference, most.max(difference), count + 1);
            }
        }
    }
    (sum / f64::from(count), most)
}

/// Levels of 60 to 200, so that no pixel of the whole picture is cut off, with noise of this many.
fn noisy(width: u32, height: u32, noise: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let roll = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503_001)).wrapping_mul(2_246_822_519) >> 16;
        let level = |of: f64| (130.0 + 40.0 * of.sin()) as u32;
        let (u, v) = (f64::from(x) / 9.0, f64::from(y) / 11.0);
        Rgb([level(u), level(v + 1.0), level(u + v)].map(|level| (level + roll % (noise + 1)) as u8))
    })
}

/// That a picture's blocks become what they should at each size, to so many levels on average and at most.
fn assert_close(bytes: &[u8], allowed: (f64, f64), told: &dyn std::fmt::Debug) {
    let whole = by_zune(bytes).unwrap();
    for (divisor, side) in [(2, 4), (4, 2), (8, 1)] {
        let small = decoded(bytes, divisor).unwrap();
        assert_eq!(small.dimensions(), (whole.width().div_ceil(divisor), whole.height().div_ceil(divisor)));
        let (mean, most) = off(&whole, &small, side);
        assert!(mean < allowed.0 && most < allowed.1, "{told:?} at 1/{divisor}: {mean} and {most} levels off");
    }
}

#[test]
fn blocks_become_what_their_lowest_frequencies_are_however_the_picture_is_written() {
    use SamplingFactor::{F_1_1, F_1_2, F_2_1, F_2_2};
    // Of colours at half the size the whole decoder makes pixels in between in a way of its own.
    for (sampling, allowed) in [(F_1_1, (0.7, 4.0)), (F_2_1, (3.0, 30.0)), (F_1_2, (3.0, 30.0)), (F_2_2, (4.0, 30.0))] {
        for (quality, restart_after) in [(30, 0), (90, 2), (100, 3)] {
            let written = Written { sampling, quality, restart_after, ..Written::USUAL };
            assert_close(&written.colour(&noisy(72, 56, 30)), allowed, &written);
        }
    }
}

/// Whose codes are its own and whose blocks are full: codes longer than a look-up, and last coefficients without an end behind them.
#[test]
fn grey_blocks_are_exact_whatever_codes_they_have() {
    for (noise, quality, restart_after, optimised) in [
        (0, 90, 0, true),
        (8, 95, 1, false),
        (30, 100, 0, true),
        (55, 100, 0, false),
        (30, 60, 0, true),
        (2, 10, 0, false),
    ] {
        let written = Written { quality, restart_after, optimised, ..Written::USUAL };
        assert_close(&written.grey(&noisy(136, 72, noise)), (0.5, 2.1), &(noise, written));
    }
}

#[test]
fn sides_that_are_no_whole_units_are_padded_and_cut() {
    for (width, height) in [(65, 47), (72, 49), (79, 63), (64, 48)] {
        let image = noisy(width, height, 20);
        assert_close(&Written::USUAL.colour(&image), (4.0, 30.0), &(width, height));
        assert_close(&Written::USUAL.grey(&image), (0.5, 2.1), &(width, height));
    }
}

#[test]
fn scans_of_their_own_and_colours_at_a_fourth_are_left_to_zune_jpeg() {
    let image = noisy(64, 64, 10);
    let usual = Written::USUAL;
    assert!(decoded(&usual.colour(&image), 8).is_some());
    for other in [Written { optimised: true, ..usual }, Written { sampling: SamplingFactor::F_4_1, ..usual }] {
        let bytes = other.colour(&image);
        assert!(decoded(&bytes, 8).is_none(), "{other:?}");
        assert!(imaging::decode(&bytes, &DecodeLimits::default()).is_ok(), "{other:?}");
    }
}

/// Where a marker stands for the first time.
fn find(bytes: &[u8], marker: u8) -> usize {
    bytes.windows(2).position(|pair| pair == [0xff, marker]).unwrap()
}

#[test]
fn a_scan_that_ends_early_or_restarts_where_it_should_not_is_none_of_its_pictures() {
    let bytes = Written { restart_after: 2, ..Written::USUAL }.grey(&noisy(128, 64, 30));
    let is_decoded = |bytes: &[u8]| [1, 2, 4, 8].map(|divisor| decoded(bytes, divisor).is_some());
    assert_eq!(is_decoded(&bytes), [true; 4]);
    let (first, second) = (find(&bytes, 0xd0), find(&bytes, 0xd1));
    // A restart is passed over, has another's number, comes too early or too late, or the picture ends there.
    let without = [&bytes[..first], &bytes[first + 2..]].concat();
    let (mut other, mut end) = (bytes.clone(), bytes.clone());
    other[first + 1] = 0xd3;
    end[second + 1] = 0xd9;
    let early = [&bytes[..first - 2], &bytes[first..]].concat();
    let late = [&bytes[..first], &[0x55; 2], &bytes[first..]].concat();
    for (damaged, what) in [(without, "without"), (other, "other"), (end, "end"), (early, "early"), (late, "late")] {
        assert_eq!(is_decoded(&damaged), [false; 4], "{what}");
    }
    // Any number of fill bytes before it mean nothing.
    let filled = [&bytes[..first], &[0xff; 5], &bytes[first..]].concat();
    assert_eq!(is_decoded(&filled), [true; 4]);
    assert_eq!(decoded(&filled, 2), decoded(&bytes, 2));
    // Cut anywhere behind its headers; of the last byte some bits are padding.
    let scan = find(&bytes, 0xda);
    for length in (scan..bytes.len() - 4).step_by(7) {
        assert_eq!(is_decoded(&bytes[..length]), [false; 4], "{length} bytes");
    }
}

#[test]
fn headers_that_make_no_sense_are_left_to_zune_jpeg() {
    let bytes = Written { restart_after: 4, ..Written::USUAL }.colour(&noisy(64, 64, 10));
    assert!(decoded(&bytes, 4).is_some());
    let changed = |marker: u8, offset: usize, to: u8| {
        let mut changed = bytes.clone();
        let at = find(&bytes, marker) + offset;
        assert_ne!(changed[at], to, "{marker:x} {offset}");
        changed[at] = to;
        changed
    };
    for (damaged, what) in [
        (changed(0xc0, 1, 0xc9), "arithmetic codes"),
        (changed(0xc0, 1, 0xc2), "progressive"),
        (changed(0xc0, 4, 12), "12 bits"),
        (changed(0xc0, 9, 4), "four components in three's room"),
        (changed(0xc0, 11, 0x33), "three blocks of brightness"),
        (changed(0xc0, 14, 0x21), "colours that are not halved alike"),
        (changed(0xc0, 12, 3), "divisors that are not told"),
        (changed(0xdb, 4, 0x21), "divisors of no size"),
        (changed(0xc4, 4, 0x20), "codes of no kind"),
        (changed(0xc4, 5, 3), "three codes of one bit"),
        (changed(0xda, 4, 2), "a scan of two components"),
        (changed(0xda, 6, 0x32), "codes that are not told"),
        (changed(0xda, 11, 1), "a scan without means"),
        (changed(0xda, 12, 5), "a scan of some coefficients"),
        (changed(0xda, 13, 0x10), "a scan of some bits"),
        (changed(0xdd, 3, 3), "a restart's length"),
    ] {
        assert!(decoded(&damaged, 4).is_none(), "{what}");
    }
    for length in 0..find(&bytes, 0xda) + 14 {
        assert!(decoded(&bytes[..length], 4).is_none(), "{length} bytes");
    }
    // Divisors of sixteen bits are the same numbers.
    let at = find(&bytes, 0xdb);
    let wide: Vec<u8> = bytes[at + 5..at + 69].iter().flat_map(|divisor| [0, *divisor]).collect();
    let wide = [&bytes[..at + 2], &[0, 131, 0x10 | bytes[at + 4]], &wide, &bytes[at + 69..]].concat();
    assert_eq!(decoded(&wide, 4), decoded(&bytes, 4));
}
