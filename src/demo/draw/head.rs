//! Neck, clothes, ears and skin.

use rand_chacha::ChaCha8Rng;

use super::painter::{CRISP, Painter};
use super::person::{Person, hex};
use super::raster::{Shape, mix, noise, times};

impl Painter<'_> {
    /// The outline of the face.
    pub fn outline(&self) -> Shape {
        let Person { width: w, jaw, chin, yaw, .. } = *self.person;
        let drift = yaw * 0.16;
        let right = [
            [0.5 * w, -0.96],
            [0.88 * w, -0.62],
            [w, -0.15],
            [0.97 * w, 0.22],
            [jaw * w + 0.1 * w, 0.58],
            [jaw * w * 0.78, 0.8],
            [chin * w, 0.97],
        ];
        let bend = |p: [f32; 2]| [p[0] + drift * (p[1] + 0.2).max(0.0), p[1]];
        let mut points = vec![[0.0, -1.04]];
        points.extend(right.map(bend));
        points.push(bend([0.0, 1.01]));
        points.extend(right.iter().rev().map(|p| bend([-p[0], p[1]])));
        Shape::smooth(&points)
    }

    pub(super) fn body(&mut self) {
        let person = self.person;
        let drift = person.yaw * 0.12;
        let neck = Shape::smooth(&[
            [-0.44 + drift, 0.5],
            [0.44 + drift, 0.5],
            [0.46, 1.3],
            [0.75, 1.7],
            [-0.75, 1.7],
            [-0.46, 1.3],
        ]);
        self.paint(&neck, CRISP, |p| {
            // The chin throws a shadow.
            let shade = 0.62 + 0.3 * ((p[1] - 0.95) / 0.5).clamp(0.0, 1.0);
            (person.lit(times(person.skin, shade), [p[0], 0.5]), 1.0)
        });
        let depth = [1.62, 1.5, 1.85, 1.3][person.neckline as usize];
        let clothes = Shape::smooth(&[
            [-0.5, 1.22],
            [-0.3, depth - 0.08],
            [0.0, depth],
            [0.3, depth - 0.08],
            [0.5, 1.22],
            [1.1, 1.45],
            [1.7, 1.75],
            [2.0, 3.2],
            [-2.0, 3.2],
            [-1.7, 1.75],
            [-1.1, 1.45],
        ]);
        self.paint(&clothes, CRISP, |p| {
            let fold = noise([p[0] * 3.0, p[1] * 1.5], person.grain ^ 5);
            let side = 1.0 + 0.15 * p[0] * person.light[0];
            (times(person.clothes, (0.72 + 0.34 * fold) * side), 1.0)
        });
    }

    pub(super) fn ears(&mut self) {
        let Person { width: w, yaw, skin, .. } = *self.person;
        for side in [-1.0, 1.0] {
            // The ear that the head turns towards hides.
            let shown = (1.0 - side * yaw * 2.2).clamp(0.15, 1.35);
            let centre = [side * (w + 0.02 * shown), 0.03];
            self.flat(&Shape::ellipse(centre, [0.12 * shown, 0.21]), times(skin, 0.93), 1.0, CRISP);
            let inner = [centre[0] + side * 0.015, 0.03];
            self.flat(&Shape::ellipse(inner, [0.06 * shown, 0.12]), times(skin, 0.72), 0.8, 1.5);
        }
    }

    /// Skin, eyes, nose, mouth, beard.
    pub fn face(&mut self, rng: &mut ChaCha8Rng) {
        let person = self.person;
        let outline = self.outline();
        self.paint(&outline, CRISP, |p| {
            let pores = 0.97 + 0.06 * noise([p[0] * 7.0, p[1] * 7.0], person.grain);
            let mut colour = person.lit(times(person.skin, pores), p);
            let edge = outline.distance(p);
            colour = times(colour, 1.0 - 0.22 * (1.0 + edge / 0.16).clamp(0.0, 1.0).powi(2));
            (colour, 1.0)
        });
        for side in [-1.0, 1.0] {
            let cheek = Shape::ellipse(person.turn(side * 0.42, 0.25), [0.2, 0.15]);
            let blush = mix(person.skin, hex(0xC8504A), 0.5);
            self.within(&cheek, &outline, 6.0, |p| (person.lit(blush, p), 0.28));
        }
        self.eyes();
        self.nose();
        if let Some(beard) = person.beard {
            self.beard(beard, &outline);
        }
        self.mouth(rng);
    }
}
