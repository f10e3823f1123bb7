//! Glasses.

use super::painter::{CRISP, Painter};
use super::raster::{Point, Shape, mix, noise, times};

impl Painter<'_> {
    /// Frames in front of the eyes, and what they are held by.
    pub fn glasses(&mut self) {
        let person = self.person;
        let Some(glasses) = person.glasses else { return };
        let mut inner = [[0.0; 2]; 2];
        for (place, side) in [-1.0, 1.0].into_iter().enumerate() {
            let centre = person.turn(side * 0.35, -0.07);
            let narrow = person.narrowing(side * 0.35);
            let (rx, ry) = if glasses.round { (0.24 * narrow, 0.225) } else { (0.27 * narrow, 0.18) };
            let ring: Vec<Point> = (0..12)
                .map(|step| {
                    let (sin, cos) = (step as f32 / 12.0 * std::f32::consts::TAU).sin_cos();
                    let square = if glasses.round { 1.0 } else { 0.55 };
                    let bulge = |v: f32| v.signum() * v.abs().powf(square);
                    [centre[0] + rx * bulge(cos), centre[1] + ry * bulge(sin)]
                })
                .collect();
            let lens = Shape::smooth(&ring);
            let (tint, opacity) = if glasses.dark { ([0.06, 0.06, 0.08], 0.93) } else { ([0.75, 0.85, 0.95], 0.12) };
            self.paint(&lens, CRISP, |p| {
                let glare = noise([p[0] * 2.0 + p[1] * 3.0, 1.0], person.grain ^ 3) * 0.25;
                (mix(tint, [1.0; 3], glare), opacity)
            });
            let mut frame = ring;
            frame.push(frame[0]);
            self.paint(&Shape::curve(&frame, 0.05), 1.0, |p| (person.lit(glasses.frame, p), 1.0));
            inner[place] = [centre[0] - side * rx, centre[1] - 0.03];
            let arm =
                Shape::stroke([centre[0] + side * rx, centre[1] - 0.05], [side * (person.width + 0.02), -0.06], 0.045);
            self.paint(&arm, 1.0, |p| (person.lit(times(glasses.frame, 0.8), p), 1.0));
        }
        self.paint(&Shape::stroke(inner[0], inner[1], 0.05), 1.0, |p| (person.lit(glasses.frame, p), 1.0));
    }
}
