//! Hair: what hangs behind the head, and what falls over the face.

use rand_chacha::ChaCha8Rng;

use super::painter::Painter;
use super::person::{Hair, Hat, Person, between};
use super::raster::{Colour, Point, Shape, mix, noise, times};

impl Painter<'_> {
    /// Fills a shape with the person's hair.
    pub(super) fn hair(&mut self, shape: &Shape) {
        let person = self.person;
        self.paint(shape, 1.6, |p| (strands(person, p), 1.0));
    }

    /// Everything behind the face.
    pub fn behind(&mut self) {
        let Person { width: w, hair, hat, .. } = *self.person;
        if !matches!(hat, Some((Hat::Headscarf, _))) {
            match hair {
                Hair::Long => self.hair(&Shape::smooth(&[
                    [0.0, -1.22],
                    [w + 0.05, -0.95],
                    [w + 0.2, -0.2],
                    [w + 0.24, 0.8],
                    [w + 0.16, 1.6],
                    [0.0, 1.7],
                    [-w - 0.16, 1.6],
                    [-w - 0.24, 0.8],
                    [-w - 0.2, -0.2],
                    [-w - 0.05, -0.95],
                ])),
                Hair::Bob => self.hair(&Shape::smooth(&[
                    [0.0, -1.24],
                    [w + 0.08, -0.9],
                    [w + 0.22, 0.0],
                    [w + 0.16, 0.78],
                    [w - 0.2, 0.86],
                    [-w + 0.2, 0.86],
                    [-w - 0.16, 0.78],
                    [-w - 0.22, 0.0],
                    [-w - 0.08, -0.9],
                ])),
                Hair::Bun if hat.is_none() => self.hair(&Shape::ellipse([0.0, -1.3], [0.36, 0.3])),
                Hair::Curls => {
                    for step in 0..16 {
                        let angle = std::f32::consts::PI * (step as f32 / 15.0 * 1.5 - 0.25);
                        let centre = [(w + 0.08) * angle.cos(), -0.35 - 0.85 * angle.sin()];
                        self.hair(&Shape::ellipse(centre, [0.25, 0.25]));
                    }
                }
                _ => {}
            }
        }
        self.body();
        if !matches!(hat, Some((Hat::Headscarf, _))) && !matches!(hair, Hair::Bob) {
            self.ears();
        }
    }

    /// Hair that falls over the face, and hats.
    pub fn top(&mut self, rng: &mut ChaCha8Rng) {
        let person = self.person;
        let w = person.width;
        if let Some((hat, colour)) = person.hat {
            if hat != Hat::Headscarf && person.hair != Hair::Bald {
                for side in [-1.0, 1.0] {
                    self.hair(&Shape::smooth(&[
                        [side * (w + 0.04), -0.6],
                        [side * (w + 0.06), 0.0],
                        [side * (w - 0.05), 0.12],
                        [side * (w - 0.13), -0.6],
                    ]));
                }
            }
            self.hat(hat, colour);
            return;
        }
        let shift = person.yaw * 0.35;
        match person.hair {
            Hair::Bald => {
                let shine = Shape::ellipse([shift + person.light[0] * 0.3, -0.78], [0.22, 0.1]);
                self.flat(&shine, mix(person.skin, [1.0; 3], 0.6), 0.4, 4.0);
            }
            Hair::Cropped => {
                let line = -0.62;
                let cap = crown(
                    w,
                    0.03,
                    &[[0.93 * w, -0.12], [0.8 * w, -0.55], [shift, line], [-0.8 * w, -0.55], [-0.93 * w, -0.12]],
                );
                self.hair(&cap);
            }
            Hair::Short | Hair::Bun => {
                let line = between(rng, -0.66, -0.5);
                let cap = crown(
                    w,
                    0.1,
                    &[
                        [0.94 * w, -0.02],
                        [0.84 * w, -0.42],
                        [0.4 * w + shift, line],
                        [-0.4 * w + shift, line],
                        [-0.84 * w, -0.42],
                        [-0.94 * w, -0.02],
                    ],
                );
                self.hair(&cap);
            }
            Hair::Parted | Hair::Long => {
                let side = if person.grain.is_multiple_of(2) { 1.0 } else { -1.0 };
                let part = side * 0.3 * w + shift;
                let fall = if person.hair == Hair::Long { 0.55 } else { 0.05 };
                let mut inner = vec![
                    [0.97 * w, fall],
                    [0.86 * w, -0.25],
                    [(part + 0.5 * w).min(0.75 * w), -0.55],
                    [part, -0.82],
                    [(part - 0.5 * w).max(-0.75 * w), -0.5],
                    [-0.86 * w, -0.2],
                    [-0.97 * w, fall],
                ];
                if side < 0.0 {
                    inner[2][1] = -0.47;
                }
                self.hair(&crown(w, 0.13, &inner));
            }
            Hair::Fringe | Hair::Bob => {
                let line = between(rng, -0.5, -0.34);
                let cap = crown(
                    w,
                    0.13,
                    &[
                        [0.99 * w, 0.3],
                        [0.86 * w, -0.15],
                        [0.8 * w, line + 0.05],
                        [0.3 * w + shift, line],
                        [-0.3 * w + shift, line + 0.03],
                        [-0.8 * w, line + 0.05],
                        [-0.86 * w, -0.15],
                        [-0.99 * w, 0.3],
                    ],
                );
                self.hair(&cap);
            }
            Hair::Curls => {
                for step in 0..11 {
                    let angle = std::f32::consts::PI * (step as f32 / 10.0 * 1.1 - 0.05);
                    let wobble = between(rng, -0.04, 0.04);
                    let centre = [(w - 0.06) * angle.cos(), -0.38 - (0.5 + wobble) * angle.sin()];
                    self.hair(&Shape::ellipse(centre, [0.2, 0.19]));
                }
                self.hair(&crown(w, 0.1, &[[0.8 * w, -0.6], [0.0, -0.85], [-0.8 * w, -0.6]]));
            }
        }
    }
}

/// The colour of hair at a place: streaks along it, and a sheen on top.
fn strands(person: &Person, p: Point) -> Colour {
    let streak = match person.hair {
        Hair::Curls => noise([p[0] * 9.0, p[1] * 9.0], person.grain),
        _ => noise([p[0] * 14.0 + p[1] * 3.0, p[1] * 2.2], person.grain),
    };
    let shine = (1.0 - ((p[1] + 0.85) * 3.0).abs()).max(0.0) * 0.22;
    let colour = times(person.hair_colour, 0.72 + 0.5 * streak);
    person.lit(mix(colour, [1.0, 0.95, 0.85], shine * streak), p)
}

/// The crown of the head, from its outer rim (`lift` above the skull) to an inner line, right to left.
pub(super) fn crown(w: f32, lift: f32, inner: &[Point]) -> Shape {
    let mut points: Vec<Point> = Vec::new();
    let (first, last) = (inner[0], inner[inner.len() - 1]);
    points.extend(inner);
    points.extend([
        [-w - lift * 0.6, last[1].min(-0.3) - 0.05],
        [-0.86 * w - lift * 0.6, -0.78],
        [-0.45 * w, -1.03 - lift],
        [0.0, -1.1 - lift],
        [0.45 * w, -1.03 - lift],
        [0.86 * w + lift * 0.6, -0.78],
        [w + lift * 0.6, first[1].min(-0.3) - 0.05],
    ]);
    Shape::smooth(&points)
}
