//! What people hold before their faces: hands, mugs, sheets of paper, phones.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::painter::{CRISP, Painter};
use super::person::{between, cloth, hex, pick};
use super::raster::{Colour, Point, Shape, mix, noise, times};

impl Painter<'_> {
    /// A hand laid over the mouth, from below on one side.
    pub(super) fn hand(&mut self, rng: &mut ChaCha8Rng) {
        let side = pick(rng, &[-1.0, 1.0]);
        let rise = between(rng, -0.06, 0.1);
        let tilt = between(rng, -0.12, 0.3);
        let lengths = finger_lengths(rng);
        self.forearm([side * 0.42, 0.95 + rise], [side * between(rng, 0.7, 1.3), 2.3]);
        let palm = Shape::smooth(&[
            [side * 0.02, 0.36 + rise],
            [side * 0.4, 0.42 + rise],
            [side * 0.62, 0.78 + rise],
            [side * 0.5, 1.12 + rise],
            [side * 0.16, 1.04 + rise],
            [side * -0.02, 0.8 + rise],
        ]);
        self.limb(&palm);
        for (place, length) in lengths.into_iter().enumerate().rev() {
            let root = [side * 0.12, 0.42 + rise + 0.145 * place as f32];
            let reach = 0.62 * length;
            let end = [root[0] - side * reach, root[1] - reach * tilt];
            let knuckle = [root[0] - side * reach * 0.5, root[1] - reach * tilt * 0.5 - 0.03];
            self.finger(&[root, knuckle, end]);
        }
    }

    /// A fist under the chin, or fingers at a cheek: near the mouth, but not before it.
    pub(super) fn hand_nearby(&mut self, rng: &mut ChaCha8Rng) {
        let side = pick(rng, &[-1.0, 1.0]);
        if rng.random_bool(0.5) {
            let x = side * between(rng, 0.0, 0.3);
            self.forearm([x, 1.25], [x + side * 0.5, 2.4]);
            self.limb(&Shape::ellipse([x, 1.14], [0.36, 0.26]));
            for place in 0..4 {
                let knuckle = x + (place as f32 - 1.5) * 0.165;
                self.finger(&[[knuckle, 1.2], [knuckle, 1.0]]);
            }
            return;
        }
        let w = self.person.width;
        self.forearm([side * (w + 0.05), 0.95], [side * (w + 0.4), 2.3]);
        self.limb(&Shape::ellipse([side * (w - 0.02), 0.78], [0.24, 0.3]));
        for place in 0..3 {
            let root = [side * (w - 0.06), 0.6 + 0.14 * place as f32];
            self.finger(&[root, [root[0] - side * 0.2, root[1] - 0.16], [root[0] - side * 0.3, root[1] - 0.34]]);
        }
    }

    /// A mug at the lips.
    pub(super) fn mug(&mut self, rng: &mut ChaCha8Rng) {
        let person = self.person;
        let side = pick(rng, &[-1.0, 1.0]);
        let (x, y) = (between(rng, -0.08, 0.08) + person.yaw * 0.3, between(rng, 0.5, 0.6));
        let (half, deep) = (between(rng, 0.3, 0.38), between(rng, 0.6, 0.75));
        let (colour, stripe) = (cloth(rng), rng.random_bool(0.4).then(|| cloth(rng)));
        self.forearm([x + side * 0.45, y + deep * 0.7], [side * 1.2, 2.4]);
        let handle: Vec<Point> = (0..7)
            .map(|step| {
                let (sin, cos) = (step as f32 / 6.0 * std::f32::consts::PI - 1.57).sin_cos();
                [x + side * (half + 0.2 * cos), y + deep * 0.5 + 0.2 * sin]
            })
            .collect();
        self.flat(&Shape::curve(&handle, 0.1), times(colour, 0.85), 1.0, CRISP);
        let body = Shape::Polygon(vec![
            [x - half, y],
            [x + half, y],
            [x + half * 0.92, y + deep],
            [x - half * 0.92, y + deep],
        ]);
        self.paint(&body, CRISP, |p| {
            let across = (p[0] - x) / half;
            let round = 1.05 - 0.45 * (across - 0.45 * person.light[0]).powi(2);
            let band = stripe.filter(|_| ((p[1] - y) / deep - 0.5).abs() < 0.18);
            (times(band.unwrap_or(colour), round * 0.95), 1.0)
        });
        self.flat(&Shape::ellipse([x, y], [half, 0.075]), mix(colour, [1.0; 3], 0.25), 1.0, CRISP);
        self.flat(&Shape::ellipse([x, y], [half - 0.045, 0.045]), hex(0x3A2418), 1.0, CRISP);
        for place in 0..3 {
            let finger = y + deep * 0.3 + 0.145 * place as f32;
            self.finger(&[[x + side * (half + 0.22), finger + 0.05], [x + side * half * 0.45, finger]]);
        }
    }

    /// A sheet of paper, a card or a book, held up to the nose.
    pub(super) fn sheet(&mut self, rng: &mut ChaCha8Rng) {
        let top = between(rng, 0.3, 0.46);
        let (half, deep) = (between(rng, 0.62, 1.15), between(rng, 0.75, 1.3));
        let lean = between(rng, -0.14, 0.14);
        let x = between(rng, -0.15, 0.15);
        let colour = if rng.random_bool(0.6) { hex(0xEFEDE6) } else { cloth(rng) };
        let written = rng.random_bool(0.6);
        let turn = |p: Point| [x + p[0] - p[1] * lean, top + p[1] + p[0] * lean];
        let corners = [[-half, 0.0], [half, 0.0], [half, deep], [-half, deep]].map(turn);
        let ink = mix(colour, times(colour, 0.3), 0.55);
        let grain = self.person.grain;
        self.paint(&Shape::Polygon(corners.into()), CRISP, |p| {
            let (dx, dy) = (p[0] - x, p[1] - top);
            let (along, down) = (dx + dy * lean, dy - dx * lean);
            let line = written
                && down > 0.12
                && along.abs() < half - 0.1
                && down.rem_euclid(0.17) < 0.07
                && noise([along * 9.0, (down / 0.17).floor()], grain) > 0.3;
            (times(if line { ink } else { colour }, 0.98 - 0.12 * down / deep), 1.0)
        });
        for side in [-1.0, 1.0] {
            let grip = turn([side * half, deep * 0.55]);
            self.limb(&Shape::ellipse([grip[0] + side * 0.08, grip[1] + 0.1], [0.16, 0.22]));
            self.finger(&[[grip[0] + side * 0.05, grip[1]], [grip[0] - side * 0.22, grip[1] - 0.05]]);
        }
    }

    /// A phone before the mouth, as one dictates.
    pub(super) fn phone(&mut self, rng: &mut ChaCha8Rng) {
        let side = pick(rng, &[-1.0, 1.0]);
        let (x, y) = (between(rng, -0.15, 0.15), between(rng, 0.32, 0.48));
        let (half, deep, lean) = (between(rng, 0.24, 0.32), between(rng, 0.85, 1.05), between(rng, -0.3, 0.3));
        let colour = mix(hex(0x1D1E22), cloth(rng), between(rng, 0.0, 0.6));
        let turn = |p: Point| [x + p[0] - p[1] * lean, y + p[1] + p[0] * lean];
        self.forearm(turn([side * 0.25, deep]), [side * 0.9, 2.5]);
        self.limb(&Shape::ellipse(turn([side * 0.16, deep * 0.85]), [0.32, 0.3]));
        let corners = [[-half, 0.0], [half, 0.0], [half, deep], [-half, deep]].map(turn);
        self.paint(&Shape::Polygon(corners.into()), CRISP, |p| (times(colour, 0.9 + 0.15 * (p[0] - x)), 1.0));
        let lens = turn([-half * 0.5, 0.12]);
        self.paint(&Shape::ellipse(lens, [0.08, 0.08]), 1.0, |_| (hex(0x0A0B0D), 1.0));
        self.paint(&Shape::ellipse(lens, [0.03, 0.03]), 1.0, |_| (hex(0x9FB4C8), 0.9));
        for place in 0..4 {
            let down = deep * 0.42 + 0.145 * place as f32;
            self.finger(&[turn([-side * (half + 0.04), down]), turn([-side * half * 0.3, down + 0.02])]);
        }
        self.finger(&[turn([side * (half + 0.06), deep * 0.8]), turn([side * (half + 0.02), deep * 0.35])]);
    }

    fn forearm(&mut self, wrist: Point, elbow: Point) {
        let person = self.person;
        let half = [(wrist[0] + elbow[0]) / 2.0, (wrist[1] + elbow[1]) / 2.0];
        self.flat(&Shape::stroke(wrist, half, 0.36), times(person.skin, 0.86), 1.0, CRISP);
        self.paint(&Shape::stroke(half, elbow, 0.52), CRISP, |p| {
            let fold = noise([p[0] * 4.0, p[1] * 3.0], person.grain ^ 6);
            (times(person.clothes, 0.7 + 0.34 * fold), 1.0)
        });
    }

    /// Skin that stands before the face: its edge throws a shadow.
    fn limb(&mut self, shape: &Shape) {
        let person = self.person;
        self.paint(shape, CRISP, |p| {
            let depth = (1.0 + shape.distance(p) / 0.1).clamp(0.0, 1.0);
            (self_lit(person.skin, person.light[0], p, 1.0 - 0.3 * depth), 1.0)
        });
    }

    fn finger(&mut self, points: &[Point]) {
        let person = self.person;
        self.flat(&Shape::curve(points, 0.185), times(person.skin, 0.5), 0.8, CRISP);
        let finger = Shape::curve(points, 0.13);
        self.paint(&finger, 1.4, |p| {
            let depth = (1.0 + finger.distance(p) / 0.05).clamp(0.0, 1.0);
            (self_lit(person.skin, person.light[0], p, 1.02 - 0.14 * depth), 1.0)
        });
    }
}

/// Hands stand free of the head's round; light falls on them evenly, a little more from its side.
fn self_lit(skin: Colour, light: f32, p: Point, shade: f32) -> Colour {
    times(skin, shade * (0.97 + 0.08 * light * p[0]))
}

/// A knuckle's worth of variety: no two hands are alike.
fn finger_lengths(rng: &mut ChaCha8Rng) -> [f32; 4] {
    let base = between(rng, 0.85, 1.12);
    [0.9, 1.0, 0.96, 0.78].map(|length| length * base)
}
