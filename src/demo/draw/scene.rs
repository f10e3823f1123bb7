//! What is behind a face, and the camera before it.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::person::{between, cloth, hex, hue, pick};
use super::raster::{Canvas, Colour, Point, Pose, Shape, mix, noise, times};

/// A canvas of `side` pixels with something out of focus on it.
pub fn background(rng: &mut ChaCha8Rng, side: u32) -> Canvas {
    let unit = side as f32;
    let (first, second) = (cloth(rng), cloth(rng));
    let grain: u32 = rng.random();
    let angle = between(rng, 0.0, std::f32::consts::TAU);
    let slope =
        |p: Point| ((p[0] / unit - 0.5) * angle.cos() + (p[1] / unit - 0.5) * angle.sin() + 0.5).clamp(0.0, 1.0);
    let mut canvas = match rng.random_range(0..6) {
        // A wall, evenly lit from one side.
        0 => Canvas::new(side as usize, |p| mix(first, times(first, 0.55), slope(p))),
        // Two colours that run into each other.
        1 => Canvas::new(side as usize, |p| mix(first, second, slope(p))),
        // Clouds, leaves, a crowd: blotches.
        2 => {
            let size = between(rng, 3.0, 9.0) / unit;
            Canvas::new(side as usize, |p| mix(first, second, noise([p[0] * size, p[1] * size], grain)))
        }
        // Tiles, bricks, shelves.
        3 => {
            let (wide, high) = (unit * between(rng, 0.1, 0.3), unit * between(rng, 0.08, 0.25));
            let joint = mix(first, [0.8; 3], 0.5);
            Canvas::new(side as usize, |p| {
                let row = (p[1] / high).floor();
                let (x, y) = (p[0] / wide + 0.5 * row.rem_euclid(2.0), p[1] / high - row);
                let shade = 0.8 + 0.4 * noise([x.floor() * 7.3, row * 5.1], grain);
                if x - x.floor() < 0.1 || y < 0.12 { joint } else { times(first, shade) }
            })
        }
        // Sky over land.
        4 => {
            let line = unit * between(rng, 0.3, 0.7);
            let sky = mix(hex(0x9CC3EA), hex(0xF3E9DC), rng.random());
            let land = mix(hue(between(rng, 0.2, 0.4), 0.5, 0.5), second, 0.3);
            Canvas::new(side as usize, |p| {
                let hill = line + unit * 0.15 * (noise([p[0] / unit * 4.0, 0.0], grain) - 0.5);
                let leaf = 0.7 + 0.6 * noise([p[0] / unit * 16.0, p[1] / unit * 16.0], grain ^ 1);
                if p[1] < hill { times(sky, 0.85 + 0.15 * p[1] / unit) } else { times(land, leaf) }
            })
        }
        _ => Canvas::new(side as usize, |_| times(first, 0.5)),
    };
    // Things and lights in the room.
    let pose = Pose::new([unit / 2.0, unit / 2.0], unit / 2.0, angle);
    for _ in 0..rng.random_range(0..5) {
        let middle = [between(rng, -1.2, 1.2), between(rng, -1.2, 1.2)];
        let (wide, high) = (between(rng, 0.08, 0.5), between(rng, 0.08, 0.5));
        let shape = if rng.random_bool(0.5) {
            Shape::ellipse(middle, [wide, wide])
        } else {
            let [x, y] = middle;
            Shape::Polygon(vec![[x - wide, y - high], [x + wide, y - high], [x + wide, y + high], [x - wide, y + high]])
        };
        let colour = cloth(rng);
        canvas.fill(pose, &shape, unit * 0.03, |_| (colour, 0.8));
    }
    if rng.random_bool(0.7) {
        round_blur(&mut canvas, unit / 64.0 * between(rng, 0.4, 1.6));
    }
    canvas
}

/// Everything that happens to a picture between the lens and the file. The exposure follows the `skin`, as
/// cameras that look for faces set it: halfway.
pub fn photograph(rng: &mut ChaCha8Rng, canvas: &mut Canvas, side: u32, skin: Colour) {
    let pixel = side as f32 / 64.0;
    // A shadow falls across some pictures.
    if rng.random_bool(0.1) {
        let (angle, place) = (between(rng, 0.0, std::f32::consts::TAU), between(rng, 0.3, 0.7));
        let (deep, width) = (between(rng, 0.45, 0.75), between(rng, 0.03, 0.2));
        canvas.map(|p, colour| {
            let along = (p[0] - 0.5) * angle.cos() + (p[1] - 0.5) * angle.sin() + 0.5;
            times(colour, 1.0 - (1.0 - deep) * ((along - place) / width + 0.5).clamp(0.0, 1.0))
        });
    }
    if rng.random_bool(0.35) {
        round_blur(canvas, pixel * between(rng, 0.35, 0.8));
    }
    if rng.random_bool(0.08) {
        let direction = pick(rng, &[[1, 0], [0, 1], [1, 1], [1, -1]]);
        canvas.blur(pixel * between(rng, 0.6, 1.0), direction);
    }
    let measured = 0.3 * skin[0] + 0.59 * skin[1] + 0.11 * skin[2];
    let exposure = between(rng, 0.85, 1.18) * (0.55 / measured.max(0.1)).sqrt();
    let gamma = between(rng, 0.8, 1.1);
    let contrast = between(rng, 0.75, 1.15);
    let warmth = between(rng, -0.08, 0.08);
    let tint = [1.0 + warmth, 1.0 + between(rng, -0.04, 0.04), 1.0 - warmth];
    let saturation = if rng.random_bool(0.03) { 0.0 } else { between(rng, 0.65, 1.15) };
    let vignette = between(rng, 0.0, 0.35);
    let grain = if rng.random_bool(0.5) { between(rng, 0.0, 0.035) } else { 0.0 };
    canvas.map(|p, colour| {
        let far = (p[0] - 0.5).powi(2) + (p[1] - 0.5).powi(2);
        let light = exposure * (1.0 - vignette * 2.0 * far);
        let seen: Colour =
            std::array::from_fn(|channel| (colour[channel] * tint[channel] * light).clamp(0.0, 1.0).powf(gamma));
        let grey = 0.3 * seen[0] + 0.59 * seen[1] + 0.11 * seen[2];
        let speck = grain * (rng.random::<f32>() + rng.random::<f32>() - 1.0) * 2.0;
        mix([grey; 3], seen, saturation).map(|value| 0.5 + (value - 0.5) * contrast + speck)
    });
}

fn round_blur(canvas: &mut Canvas, sigma: f32) {
    canvas.blur(sigma, [1, 0]);
    canvas.blur(sigma, [0, 1]);
}
