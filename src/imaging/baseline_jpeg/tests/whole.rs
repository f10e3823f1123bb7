//! Pictures at their whole size, held to zune-jpeg's and to the transform's own sums.

use super::*;
use crate::imaging::baseline_jpeg::{colour, scan, whole};

#[test]
fn a_whole_picture_has_zune_jpegs_pixels_however_it_is_written() {
    use SamplingFactor::{F_1_1, F_1_2, F_2_1, F_2_2};
    for sampling in [F_1_1, F_1_2, F_2_1, F_2_2] {
        for (quality, restart_after, noise) in [(10, 0, 4), (60, 3, 20), (90, 1, 55), (100, 0, 125)] {
            let written = Written { sampling, quality, restart_after, ..Written::USUAL };
            for (width, height) in [(1, 1), (2, 17), (17, 2), (31, 33), (96, 80), (130, 64), (72, 15)] {
                let image = noisy(width, height, noise);
                for bytes in [written.colour(&image), written.grey(&image)] {
                    let told = format!("{written:?} {width}×{height}");
                    assert_eq!(decoded(&bytes, 1).expect(&told), by_zune(&bytes).expect(&told), "{told}");
                }
            }
        }
    }
}

#[test]
fn codes_of_a_pictures_own_are_read() {
    let image = noisy(120, 88, 60);
    let written = Written { optimised: true, quality: 97, ..Written::USUAL };
    let bytes = written.grey(&image);
    assert_eq!(decoded(&bytes, 1).unwrap(), by_zune(&bytes).unwrap());
}

#[test]
fn every_processor_makes_the_same_pixels() {
    let image = noisy(99, 70, 60);
    for bytes in [Written::USUAL.colour(&image), Written::USUAL.grey(&image)] {
        let jpeg = BaselineJpeg::read_headers(&bytes).unwrap();
        for (divisor, side) in [(1, Side::Eight), (2, Side::Four), (4, Side::Two), (8, Side::One)] {
            let size = (99_usize.div_ceil(divisor), 70_usize.div_ceil(divisor));
            let anywhere = scan::anywhere(&jpeg.frame, jpeg.scan, side, size).unwrap();
            assert!(anywhere == jpeg.pixels(divisor as u32).unwrap().into_raw(), "at 1/{divisor}");
        }
    }
}

/// A number that looks drawn, in [0, below).
fn roll(seed: &mut u64, below: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % below
}

#[test]
fn pixels_of_a_block_are_the_cosine_transforms() {
    let mut seed = 7;
    for round in 0..300 {
        // Few coefficients or many, small or large.
        let (of, most) = (1 + roll(&mut seed, 63), 1 << (2 + round % 9));
        let mut block = [[0; 8]; 8];
        for _ in 0..of {
            let at = roll(&mut seed, 64) as usize;
            block[at / 8][at % 8] = roll(&mut seed, 2 * most) as i32 - most as i32;
        }
        let pixels = whole::pixels(&block);
        for (at, pixel) in pixels.into_iter().enumerate() {
            let waves =
                (0..64).map(|of| f64::from(block[of / 8][of % 8]) * wave(at / 8, of / 8, 8) * wave(at % 8, of % 8, 8));
            let level = (waves.sum::<f64>() + 128.0).clamp(0.0, 255.0);
            // A half is the last rounding; there is one between the directions, and the factors have twelve bits, which matter where waves are large.
            let off = (f64::from(pixel) - level).abs();
            assert!(off < 0.6 + 0.0002 * most as f64, "{off} levels, {of} coefficients up to {most}");
        }
    }
    for mean in [-2000, -1029, -1028, -5, -4, 0, 3, 4, 11, 12, 1015, 1016, 2000] {
        let mut block = [[0; 8]; 8];
        block[0][0] = mean;
        assert_eq!(whole::flat(mean), whole::pixels(&block), "{mean}");
    }
}

#[test]
fn colours_at_half_the_size_are_three_parts_of_the_nearest_and_one_of_the_next() {
    let plane = |width: usize, pixels: &[u8]| colour::Plane { width, pixels: pixels.to_vec() };
    let brightness = plane(4, &[128; 16]);
    // Red's difference, (value − 128) · 1.402 brighter than grey.
    let rgb = |red: colour::Plane| {
        let blue = plane(red.width, &vec![128; red.pixels.len()]);
        let rgb = colour::rgb(&[plane(4, &brightness.pixels), blue, red], (4, 4));
        rgb.chunks(3).map(|pixel| (f64::from(pixel[0]) - 128.0) / 1.402 + 128.0).collect::<Vec<_>>()
    };
    let assert_levels = |levels: Vec<f64>, expected: [f64; 16]| {
        let close = levels.iter().zip(expected).all(|(level, expected)| (level - expected).abs() < 0.8);
        assert!(close, "{levels:?} and not {expected:?}");
    };
    let (a, b) = (108.0, 148.0);
    let across = [a, (3.0 * a + b) / 4.0, (a + 3.0 * b) / 4.0, b];
    assert_levels(rgb(plane(2, &[108, 148, 108, 148, 108, 148, 108, 148])), std::array::from_fn(|at| across[at % 4]));
    assert_levels(rgb(plane(4, &[[108; 4], [148; 4]].concat())), std::array::from_fn(|at| across[at / 4]));
    let both = |at: usize| (across[at % 4] - a) * (across[at / 4] - a) / (b - a) + a;
    assert_levels(rgb(plane(2, &[108, 108, 108, 148])), std::array::from_fn(both));
}

#[test]
fn what_stands_in_an_exif_block_and_adobes_is_read_as_zune_jpeg_reads_it() {
    let bytes = oriented(&noisy(40, 24, 9), 6);
    let at = find(&bytes, 0xe1);
    let length = usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]])) + 2;
    let (before, exif, behind) = (&bytes[..at], &bytes[at..at + length], &bytes[at + length..]);
    let mut other = exif.to_vec();
    *other.iter_mut().rfind(|byte| **byte == 6).unwrap() = 3;
    let xmp = [&[0xff, 0xe1, 0, 31][..], b"http://ns.adobe.com/xap/1.0/\0"].concat();
    let senseless = [&[0xff, 0xe1, 0, 12][..], b"Exif\0\0", &[9; 4]].concat();
    let empty = [&[0xff, 0xe1, 0, 8][..], b"Exif\0\0"].concat();
    for (blocks, what) in [
        (vec![], "none"),
        (vec![exif], "one"),
        (vec![exif, &other], "the last counts"),
        (vec![&other, exif], "the last counts"),
        (vec![exif, &xmp], "another application's"),
        (vec![&senseless], "one that makes no sense"),
        (vec![exif, &senseless], "one that makes no sense behind it"),
        (vec![exif, &empty], "one without content behind it"),
    ] {
        let bytes = [before, &blocks.concat(), behind].concat();
        let (ours, theirs) = (BaselineJpeg::read_headers(&bytes).unwrap(), Jpeg::read_headers(&bytes).unwrap());
        assert_eq!((ours.orientation(), ours.dimensions()), (theirs.orientation(), theirs.dimensions()), "{what}");
    }
    let adobe = |kind: u8| [&[0xff, 0xee, 0, 14][..], b"Adobe", &[0, 100, 0, 0, 0, 0, kind]].concat();
    let with = |block: &[u8]| decoded(&[before, block, behind].concat(), 1);
    assert_eq!(with(&adobe(1)), with(&[]));
    assert_eq!((with(&adobe(0)), with(&adobe(2)), with(&adobe(1)[..11])), (None, None, None));
    let not_adobes = [&[0xff, 0xee, 0, 14][..], b"Ducky", &[0; 7]].concat();
    assert_eq!(with(&not_adobes), with(&[]));
}

/// Where ours gives pixels, damaged as the file may be, they are zune-jpeg's.
#[test]
fn a_damaged_picture_has_no_pixels_of_ours_that_are_not_zune_jpegs() {
    let (mut seed, mut both) = (11, 0);
    for written in [
        Written { sampling: SamplingFactor::F_1_1, restart_after: 2, ..Written::USUAL },
        Written { quality: 75, ..Written::USUAL },
    ] {
        let bytes = written.colour(&noisy(48, 40, 30));
        for _ in 0..4_000 {
            let mut damaged = bytes.clone();
            let bits = (0..1 + roll(&mut seed, 3))
                .map(|_| 8 * 2 + roll(&mut seed, 8 * (bytes.len() as u64 - 4)))
                .collect::<Vec<_>>();
            for &bit in &bits {
                damaged[bit as usize / 8] ^= 1 << (bit % 8);
            }
            if let (Some(ours), Some(theirs)) = (decoded(&damaged, 1), by_zune(&damaged)) {
                assert!(ours == theirs, "{written:?} with the bits {bits:?} turned");
                both += 1;
            }
        }
    }
    assert!(both > 2_000, "{both} pictures were decoded by both");
}
