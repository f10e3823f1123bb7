//! The square that a network sees of a face, turned upright.

use image::{Rgb, RgbImage};

use super::Face;

/// Samples for a pixel of the square on each side, at most: a face may be large, and its square small.
const MOST_SAMPLES: u32 = 16;

/// `size·size·3` bytes, rows of RGB: the face turned upright. Beyond the picture its edge goes on.
pub fn cut(image: &RgbImage, face: &Face, size: u32) -> Vec<u8> {
    let (sine, cosine) = face.roll.to_radians().sin_cos();
    let side = face.side;
    let (x, y) = (face.left + side / 2.0, face.top + side / 2.0);
    let samples = ((side / size as f32).ceil() as u32).clamp(1, MOST_SAMPLES);
    let step = side / (size * samples) as f32;
    let at = |index: u32| (index as f32 + 0.5) * step - side / 2.0;
    let mut pixels = Vec::with_capacity((size * size * 3) as usize);
    for (row, column) in (0..size).flat_map(|row| (0..size).map(move |column| (row, column))) {
        let mut sum = [0.0; 3];
        for (v, u) in (0..samples).flat_map(|v| (0..samples).map(move |u| (v, u))) {
            let (right, down) = (at(column * samples + u), at(row * samples + v));
            let colour = between(image, x + right * cosine - down * sine, y + right * sine + down * cosine);
            sum.iter_mut().zip(colour).for_each(|(sum, value)| *sum += value);
        }
        let count = (samples * samples) as f32;
        // A mean of bytes is at most 255.
        pixels.extend(sum.map(|sum| (sum / count + 0.5) as u8));
    }
    pixels
}

/// The colour at a point between the middles of four pixels; those beyond the edge are the edge's.
fn between(image: &RgbImage, x: f32, y: f32) -> [f32; 3] {
    let near = |at: f32, length: u32| {
        let at = (at - 0.5).clamp(0.0, (length - 1) as f32);
        let first = at as u32;
        (first, (first + 1).min(length - 1), at - first as f32)
    };
    let ((left, right, across), (top, bottom, down)) = (near(x, image.width()), near(y, image.height()));
    let [a, b, c, d] = [(left, top), (right, top), (left, bottom), (right, bottom)].map(|(x, y)| {
        let Rgb(colour) = *image.get_pixel(x, y);
        colour.map(f32::from)
    });
    std::array::from_fn(|channel| {
        let (upper, lower) =
            (a[channel] + (b[channel] - a[channel]) * across, c[channel] + (d[channel] - c[channel]) * across);
        upper + (lower - upper) * down
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blue on the right, red on the left, 200 pixels wide and high; the upper half is brighter.
    fn quarters() -> RgbImage {
        RgbImage::from_fn(200, 200, |x, y| {
            let bright = if y < 100 { 250 } else { 120 };
            if x < 100 { Rgb([bright, 0, 0]) } else { Rgb([0, 0, bright]) }
        })
    }

    fn face(left: f32, top: f32, side: f32, roll: f32) -> Face {
        Face { left, top, side, roll, score: 0.9 }
    }

    /// The colour at a place of a cut of 8×8.
    fn at(pixels: &[u8], x: usize, y: usize) -> [u8; 3] {
        pixels[(y * 8 + x) * 3..][..3].try_into().unwrap()
    }

    #[test]
    fn an_upright_face_keeps_its_sides() {
        let pixels = cut(&quarters(), &face(60.0, 60.0, 80.0, 0.0), 8);
        assert_eq!((at(&pixels, 0, 0), at(&pixels, 7, 0)), ([250, 0, 0], [0, 0, 250]));
        assert_eq!((at(&pixels, 0, 7), at(&pixels, 7, 7)), ([120, 0, 0], [0, 0, 120]));
    }

    #[test]
    fn a_square_of_whole_pixels_is_cut_out_as_it_is() {
        let image = RgbImage::from_fn(9, 8, |x, y| Rgb([(20 * x) as u8, (30 * y) as u8, (x * y) as u8]));
        let expected = image::imageops::crop_imm(&image, 2, 3, 4, 4).to_image();
        assert_eq!(cut(&image, &face(2.0, 3.0, 4.0, 0.0), 4), expected.into_raw());
    }

    #[test]
    fn a_face_that_lies_is_turned_upright() {
        // The line through the eyes goes down: the head's top is on the right.
        let pixels = cut(&quarters(), &face(60.0, 60.0, 80.0, 90.0), 8);
        assert_eq!((at(&pixels, 0, 0), at(&pixels, 7, 0)), ([0, 0, 250], [0, 0, 120]));
        assert_eq!((at(&pixels, 0, 7), at(&pixels, 7, 7)), ([250, 0, 0], [120, 0, 0]));
        let upside_down = cut(&quarters(), &face(60.0, 60.0, 80.0, 180.0), 8);
        assert_eq!(at(&upside_down, 0, 0), [0, 0, 120]);
    }

    #[test]
    fn beyond_the_edge_it_goes_on() {
        let rows = RgbImage::from_fn(100, 300, |_, y| Rgb([(y / 2) as u8; 3]));
        let pixels = cut(&rows, &face(0.0, 100.0, 100.0, 0.0), 8);
        let high = f32::from(at(&pixels, 4, 7)[0] - at(&pixels, 4, 0)[0]) * 2.0 * 8.0 / 7.0;
        assert!((high - 100.0).abs() < 4.0, "{high}");
        let beyond = cut(&rows, &face(0.0, -200.0, 100.0, 0.0), 8);
        assert!(beyond.iter().all(|&value| value == 0), "above the picture is its first row");
    }

    #[test]
    fn the_square_reaches_above_the_brows_also_of_a_head_that_lies() {
        let upright = Face::about((50.0, 60.0), 20.0, 0.0, 1.0);
        assert_eq!((upright.left, upright.top, upright.side), (36.5, 60.0 - 1.6 - 13.5, 27.0));
        // Turned clockwise by a quarter, the head's top is on the right.
        let lying = Face::about((50.0, 60.0), 20.0, 90.0, 1.0);
        assert!((lying.left - (36.5 + 1.6)).abs() < 1e-4 && (lying.top - 46.5).abs() < 1e-4, "{lying:?}");
    }

    #[test]
    fn a_large_face_is_averaged() {
        let board = RgbImage::from_fn(512, 512, |x, y| Rgb([if (x + y) % 2 == 0 { 255 } else { 0 }; 3]));
        let pixels = cut(&board, &face(90.0, 90.0, 300.0, 30.0), 8);
        assert!(pixels.iter().all(|&value| (115..=140).contains(&value)), "{pixels:?}");
    }
}
