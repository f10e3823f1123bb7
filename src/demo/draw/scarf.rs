//! Scarves round the neck.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::painter::Painter;
use super::person::{between, cloth};
use super::raster::{Shape, mix, noise, times};

impl Painter<'_> {
    /// A scarf whose upper edge lies at `height` before the chin (the mouth is at 0.58, the chin at 1).
    pub(super) fn scarf(&mut self, rng: &mut ChaCha8Rng, height: f32) {
        let person = self.person;
        let (colour, second) = (cloth(rng), cloth(rng));
        let striped = rng.random_bool(0.4);
        let slope = between(rng, -0.08, 0.08);
        // A loose scarf lies flat, a high one climbs at the sides.
        let climb = (0.22 - 0.4 * (height - 0.7)).max(0.06);
        let out = between(rng, 0.12, 0.3);
        let w = person.width;
        let drift = person.yaw * 0.1;
        let wrap = Shape::smooth(&[
            [drift, height],
            [0.4 * w + drift, height - 0.02 + slope * 0.5],
            [w + out * 0.6, height - climb + slope],
            [w + out, height + 0.2],
            [w + out, 1.5],
            [1.05, 1.95],
            [0.0, 2.05],
            [-1.05, 1.95],
            [-w - out, 1.5],
            [-w - out, height + 0.2],
            [-w - out * 0.6, height - climb - slope],
            [-0.4 * w + drift, height - 0.02 - slope * 0.5],
        ]);
        self.paint(&wrap, 1.5, |p| {
            // Layers hang in arcs, each a little shaded at its lower hem.
            let arc =
                p[1] - 0.25 * p[0] * p[0] + slope * p[0] + 0.1 * noise([p[0] * 2.0, p[1] * 2.0], person.grain ^ 41);
            let layer = (arc / 0.3).rem_euclid(1.0);
            let yarn = 0.9 + 0.2 * noise([p[0] * 14.0, arc * 20.0], person.grain ^ 42);
            let dyed = if striped && (arc / 0.15).rem_euclid(2.0) < 0.8 { second } else { colour };
            let hem = 1.0 - 0.25 * (1.0 + wrap.distance(p) / 0.08).clamp(0.0, 1.0);
            let lit = person.lit(dyed, [p[0] * 0.8, 0.4]);
            (times(mix(lit, times(lit, 0.6), layer * layer), yarn * hem), 1.0)
        });
    }
}
