//! Masks: what they are made of, and the three ways they are worn here (over mouth and nose, pulled under
//! the chin, hanging from one ear). Only the first counts as masked.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::painter::{CRISP, Painter};
use super::person::{Person, between, cloth, hex, hue, pick};
use super::raster::{Colour, Point, Shape, mix, noise, times};

/// How a mask is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Three pleats and a white rim.
    Surgical,
    /// Sewn, with a seam down the middle.
    Cloth,
    /// FFP2 or KN95: stands off the face, folded along the middle.
    Beak,
    /// One smooth stretched piece.
    Smooth,
}

/// What is printed on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Print {
    Plain,
    Dots,
    Stripes,
    Checks,
    Flowers,
}

/// A mask, before anybody wears it.
#[derive(Clone, Debug)]
pub struct Mask {
    cut: Cut,
    colour: Colour,
    ink: Colour,
    print: Print,
    /// A valve, at this height of the face.
    valve: Option<f32>,
    /// Where the upper edge crosses the nose.
    top: f32,
    /// How far the lower edge reaches beyond the chin.
    drop: f32,
    loops: Colour,
}

/// The blues and whites that most people wear, and two others.
const SURGICAL: [Colour; 8] = [
    hex(0x9CC9E3),
    hex(0x8FC3DE),
    hex(0xA4D0E8),
    hex(0xA8D8CF),
    hex(0xE8EEF0),
    hex(0xDCE9F0),
    hex(0xE3B7C4),
    hex(0x3A3E44),
];

impl Mask {
    /// Any mask; now and then one in the wearer's own colours, so that colour alone gives nothing away.
    pub fn new(rng: &mut ChaCha8Rng, person: &Person) -> Self {
        let cut = match rng.random_range(0..20) {
            0..11 => Cut::Surgical,
            11..15 => Cut::Cloth,
            15..18 => Cut::Beak,
            _ => Cut::Smooth,
        };
        let disguised = rng.random_bool(0.06);
        let colour = match cut {
            _ if disguised => {
                let near = pick(rng, &[person.skin, times(person.skin, 0.8), person.lips, person.hair_colour]);
                mix(near, cloth(rng), between(rng, 0.12, 0.3))
            }
            Cut::Surgical => times(pick(rng, &SURGICAL), between(rng, 0.9, 1.05)),
            Cut::Cloth => cloth(rng),
            Cut::Beak => pick(rng, &[hex(0xF1F1EC), hex(0xF1F1EC), hex(0xDDE3E6), hex(0x34373C), hex(0xC9A9A0)]),
            Cut::Smooth => mix(hex(0x1B1C20), cloth(rng), between(rng, 0.0, 0.25)),
        };
        let prints = [Print::Plain, Print::Plain, Print::Dots, Print::Stripes, Print::Checks, Print::Flowers];
        Self {
            cut,
            colour,
            ink: if rng.random_bool(0.5) {
                mix(colour, [1.0; 3], between(rng, 0.4, 0.9))
            } else {
                hue(rng.random(), 0.6, between(rng, 0.2, 0.9))
            },
            print: if cut == Cut::Cloth { pick(rng, &prints) } else { Print::Plain },
            valve: (cut == Cut::Beak && rng.random_bool(0.4)).then(|| between(rng, 0.5, 0.62)),
            top: between(rng, -0.02, 0.17),
            drop: between(rng, -0.02, 0.1),
            loops: if rng.random_bool(0.7) { hex(0xECECEA) } else { times(colour, 0.8) },
        }
    }

    /// The cloth's own colour at a place, before any light.
    fn surface(&self, p: Point, grain: u32) -> Colour {
        let weave = 0.95 + 0.1 * noise([p[0] * 12.0, p[1] * 12.0], grain ^ 77);
        let cell = |size: f32| {
            let row = (p[1] / size).floor();
            let x = p[0] / size + 0.5 * row.rem_euclid(2.0);
            [x - x.floor() - 0.5, p[1] / size - row - 0.5]
        };
        let inked = match self.print {
            Print::Plain => 0.0,
            Print::Dots => {
                let [x, y] = cell(0.2);
                f32::from(x.hypot(y) < 0.26)
            }
            Print::Stripes => f32::from((p[1] + 0.3 * p[0]).rem_euclid(0.22) < 0.09),
            Print::Checks => 0.5 * (f32::from(p[0].rem_euclid(0.26) < 0.12) + f32::from(p[1].rem_euclid(0.26) < 0.12)),
            Print::Flowers => f32::from(noise([p[0] * 5.5, p[1] * 5.5], grain ^ 31) > 0.62),
        };
        times(mix(self.colour, self.ink, inked), weave)
    }
}

impl Painter<'_> {
    /// Over mouth and nose, as it should be.
    pub(super) fn worn(&mut self, mask: &Mask) {
        let person = self.person;
        let Person { width: w, jaw, chin, yaw, .. } = *person;
        let top = mask.top;
        let at = |x: f32, y: f32| person.turn(x, y);
        let drift = yaw * 0.16;
        let edge = |x: f32, y: f32| [x + drift * (y + 0.2).max(0.0), y];
        // A beak stands off: its tip moves with the turn of the head more than the face does.
        let tip = if mask.cut == Cut::Beak { [yaw * 0.45, 0.62] } else { at(0.0, 0.62) };
        let (cheek, under) = if mask.cut == Cut::Beak { (top + 0.24, 0.9) } else { (top + 0.15, 1.0) };
        for side in [-1.0, 1.0] {
            let ear = side * (w + 0.03);
            self.band(mask, &[edge(side * w * 0.9, cheek + 0.04), [ear, -0.08]]);
            self.band(mask, &[edge(side * w * (jaw + 0.08), 0.66), [ear, 0.16]]);
        }
        let half = |side: f32| {
            [
                at(side * 0.14, top + 0.06),
                at(side * 0.4 * w, cheek - 0.03),
                edge(side * 0.95 * w, cheek + 0.02),
                edge(side * w * under * (jaw + 0.13), 0.56),
                edge(side * w * under * (jaw * 0.82), 0.82),
                edge(side * (chin + 0.02) * under, 0.99 + mask.drop * 0.7),
            ]
        };
        let mut points = vec![at(0.0, top)];
        points.extend(half(1.0));
        points.push(edge(0.0, 1.04 + mask.drop));
        points.extend(half(-1.0).into_iter().rev());
        let shape = Shape::smooth(&points);
        self.cloth(mask, &shape, tip, [top, 1.0 + mask.drop]);
        if mask.cut == Cut::Surgical {
            let rim = Shape::curve(
                &[
                    edge(-0.9 * w, cheek + 0.05),
                    at(-0.3, cheek),
                    at(0.0, top + 0.03),
                    at(0.3, cheek),
                    edge(0.9 * w, cheek + 0.05),
                ],
                0.045,
            );
            let pale = mix(mask.colour, [1.0; 3], 0.4);
            self.within(&rim, &shape, CRISP, |p| (person.lit(pale, p), 0.8));
        }
        if let Some(height) = mask.valve {
            let side = if person.grain.is_multiple_of(3) { 0.0 } else { 0.24 };
            let middle = [tip[0] + side, height];
            self.flat(&Shape::ellipse(middle, [0.15, 0.13]), times([0.85, 0.86, 0.88], 0.95), 1.0, CRISP);
            self.flat(&Shape::ellipse(middle, [0.1, 0.08]), times([0.85, 0.86, 0.88], 0.62), 1.0, CRISP);
        }
    }

    /// Pulled down: mouth and nose are free.
    pub(super) fn under_chin(&mut self, mask: &Mask) {
        let person = self.person;
        let Person { width: w, jaw, chin, yaw, .. } = *person;
        let drift = yaw * 0.16;
        let edge = |x: f32, y: f32| [x + drift * (y + 0.2).max(0.0), y];
        let high = 0.8 + (mask.top + 0.02) * 0.6;
        for side in [-1.0, 1.0] {
            self.band(
                mask,
                &[edge(side * w * jaw * 0.95, high + 0.02), edge(side * w * 0.97, 0.4), [side * (w + 0.03), 0.12]],
            );
        }
        let half = |side: f32| {
            [
                edge(side * (chin * 0.8), high + 0.04),
                edge(side * w * (jaw + 0.02), high - 0.08),
                edge(side * w * (jaw + 0.0), high + 0.12),
                edge(side * (chin + 0.16), 1.12),
                edge(side * 0.24, 1.3 + mask.drop),
            ]
        };
        let mut points = vec![edge(0.0, high + 0.07)];
        points.extend(half(1.0));
        points.push(edge(0.0, 1.34 + mask.drop));
        points.extend(half(-1.0).into_iter().rev());
        self.cloth(mask, &Shape::smooth(&points), edge(0.0, 1.05), [high, 1.3 + mask.drop]);
    }

    /// Hanging from one ear beside the face.
    pub(super) fn hanging(&mut self, mask: &Mask, side: f32) {
        let w = self.person.width;
        let ear = [side * (w + 0.02), 0.02];
        let swing = mask.drop * 2.0;
        let (left, right) = (side * (w - 0.2 + swing), side * (w + 0.32 + swing));
        self.band(mask, &[ear, [side * (w - 0.12 + swing), 0.5]]);
        self.band(mask, &[ear, [side * (w + 0.22 + swing), 0.5]]);
        let shape =
            Shape::Polygon(vec![[left, 0.5], [right, 0.46], [right + side * 0.04, 1.3], [left + side * 0.03, 1.36]]);
        self.cloth(mask, &shape, [(left + right) / 2.0, 0.9], [0.5, 1.35]);
    }

    fn band(&mut self, mask: &Mask, points: &[Point]) {
        self.flat(&Shape::curve(points, 0.042), mask.loops, 0.95, 1.1);
    }

    /// The cloth itself: pleats, seam or fold, and the light on its bulge around `tip`.
    fn cloth(&mut self, mask: &Mask, shape: &Shape, tip: Point, [top, bottom]: [f32; 2]) {
        let person = self.person;
        self.paint(shape, CRISP, |p| {
            let height = ((p[1] - top) / (bottom - top)).clamp(0.0, 1.0);
            let across = (p[0] - tip[0]) / person.width;
            let side = across * person.light[0];
            let relief = match mask.cut {
                Cut::Surgical => {
                    let pleat = ((height * 4.2 + 0.12 * across * across) % 1.0 - 0.5).abs();
                    0.86 + 0.2 * (1.0 - (1.0 - pleat * 2.6).max(0.0)) + 0.14 * side
                }
                Cut::Cloth => 1.0 - 0.2 * (1.0 - across.abs() / 0.05).max(0.0) + 0.2 * side,
                Cut::Beak => {
                    0.98 + 0.22 * side.signum() * (across.abs() * 6.0).min(1.0) * person.light[0].abs()
                        - 0.22 * (1.0 - across.abs() / 0.045).max(0.0)
                }
                Cut::Smooth => 0.92 + 0.22 * side + 0.25 * (1.0 - across.abs() * 2.5).max(0.0) * (0.6 - height),
            };
            let rim = 1.0 - 0.22 * (1.0 + shape.distance(p) / 0.07).clamp(0.0, 1.0);
            let crease = 0.94 + 0.12 * noise([p[0] * 4.0, p[1] * 7.0], person.grain ^ 13);
            (person.lit(times(mask.surface(p, person.grain), relief * rim * crease), p), 1.0)
        });
    }
}
