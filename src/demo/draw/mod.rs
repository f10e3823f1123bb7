//! Draws people: heads and shoulders of any colour, with and without masks, as a small camera sees them.
//!
//! Everything is decided by one random number generator, so a seed is a picture. The same generator with
//! `masked` on and off gives the same person in the same place.

mod beard;
mod cover;
mod features;
mod glasses;
mod hair;
mod hats;
mod head;
mod held;
mod mask;
mod painter;
mod person;
mod raster;
mod scarf;
mod scene;

use image::RgbImage;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use cover::Cover;
use painter::Painter;
use person::{Person, between};
use raster::Pose;

/// Draws somebody, `side` pixels square; `masked` wears a mask over mouth and nose, everybody else may
/// have anything else there.
pub fn face(rng: &mut ChaCha8Rng, masked: bool, side: u32) -> RgbImage {
    // A generator for each concern: what is worn does not change who wears it, or where.
    let [mut who, mut worn, mut scene, mut camera] = std::array::from_fn(|_| ChaCha8Rng::from_rng(rng));
    let cover = Cover::choose(&mut worn, masked);
    let mut person = Person::new(&mut who, cover == Cover::Beard);
    cover.prepare(&mut worn, &mut person);
    let mut canvas = scene::background(&mut scene, side);
    let unit = side as f32;
    let origin = [unit * between(&mut scene, 0.47, 0.53), unit * between(&mut scene, 0.47, 0.52)];
    let tilt = between(&mut scene, -0.09, 0.09) + between(&mut scene, -0.09, 0.09);
    let pose = Pose::new(origin, unit * between(&mut scene, 0.32, 0.38), tilt);
    let mut painter = Painter { canvas: &mut canvas, pose, person: &person };
    painter.behind();
    painter.face(&mut who);
    painter.cover_face(&mut worn, cover);
    painter.glasses();
    painter.top(&mut who);
    painter.cover_front(&mut worn, cover);
    scene::photograph(&mut camera, &mut canvas, side, person.skin);
    canvas.to_image()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: u32 = 48;

    fn drawn(seed: u64, masked: bool) -> RgbImage {
        face(&mut ChaCha8Rng::seed_from_u64(seed), masked, SIDE)
    }

    /// Mean difference of two pictures over some rows, 0 to 255.
    fn difference(a: &RgbImage, b: &RgbImage, rows: std::ops::Range<u32>) -> f64 {
        let pixels = rows.flat_map(|y| (0..SIDE).map(move |x| (x, y)));
        let values: Vec<f64> = pixels
            .flat_map(|(x, y)| {
                let (a, b) = (a.get_pixel(x, y).0, b.get_pixel(x, y).0);
                (0..3).map(move |channel| f64::from(a[channel].abs_diff(b[channel])))
            })
            .collect();
        values.iter().sum::<f64>() / values.len() as f64
    }

    #[test]
    fn a_seed_is_a_picture() {
        assert_eq!(drawn(3, true), drawn(3, true));
        assert_ne!(drawn(3, true), drawn(4, true));
        assert_ne!(drawn(3, true), drawn(3, false));
        assert_eq!(drawn(3, true).dimensions(), (SIDE, SIDE));
    }

    #[test]
    fn a_mask_changes_the_lower_face_and_little_else() {
        let (mut upper, mut lower) = (0.0, 0.0);
        for seed in 0..24 {
            let (masked, bare) = (drawn(seed, true), drawn(seed, false));
            upper += difference(&masked, &bare, 0..SIDE / 3) / 24.0;
            lower += difference(&masked, &bare, SIDE / 2..SIDE) / 24.0;
        }
        assert!(lower > 10.0 && lower > 3.0 * upper, "upper {upper:.1}, lower {lower:.1}");
    }

    #[test]
    fn no_picture_is_empty_or_blown_out() {
        for seed in 0..40 {
            let image = drawn(seed, seed % 2 == 0);
            let values = image.as_raw();
            let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len() as f64;
            let spread =
                values.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / values.len() as f64;
            assert!((20.0..235.0).contains(&mean) && spread.sqrt() > 12.0, "seed {seed}: mean {mean:.0}");
        }
    }
}
