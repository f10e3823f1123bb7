//! Hats and headscarves.

use super::hair::crown;
use super::painter::{CRISP, Painter};
use super::person::Hat;
use super::raster::{Colour, Point, Shape, noise, times};

impl Painter<'_> {
    pub(super) fn hat(&mut self, hat: Hat, colour: Colour) {
        let person = self.person;
        let w = person.width;
        let shift = person.yaw * 0.3;
        let paint = |p: Point| {
            let weave = noise([p[0] * 6.0, p[1] * 6.0], person.grain ^ 21);
            (person.lit(times(colour, 0.82 + 0.26 * weave), p), 1.0)
        };
        match hat {
            Hat::Cap => {
                self.paint(&crown(w, 0.14, &[[w, -0.5], [shift, -0.6], [-w, -0.5]]), CRISP, paint);
                let brim = Shape::smooth(&[
                    [-w * 0.95 + shift, -0.52],
                    [shift, -0.68],
                    [w * 0.95 + shift, -0.52],
                    [w * 0.8 + shift * 2.0, -0.36],
                    [shift * 2.0, -0.3],
                    [-w * 0.8 + shift * 2.0, -0.36],
                ]);
                self.paint(&brim, CRISP, |p| (times(paint(p).0, 0.7), 1.0));
            }
            Hat::Beanie => {
                self.paint(&crown(w, 0.2, &[[w + 0.04, -0.4], [shift, -0.48], [-w - 0.04, -0.4]]), 1.6, |p| {
                    let rib = 0.85 + 0.15 * (p[0] * 28.0).sin();
                    (times(paint(p).0, rib), 1.0)
                });
                let band = Shape::curve(&[[-w - 0.05, -0.42], [shift, -0.53], [w + 0.05, -0.42]], 0.2);
                self.paint(&band, CRISP, |p| (times(paint(p).0, 0.88 + 0.12 * (p[0] * 24.0).sin()), 1.0));
            }
            Hat::Brim => {
                self.paint(&crown(w, 0.16, &[[w, -0.55], [0.0, -0.6], [-w, -0.55]]), CRISP, paint);
                let brim = Shape::ellipse([0.0, -0.55], [w + 0.5, 0.14]);
                self.paint(&brim, CRISP, |p| (times(paint(p).0, 0.85), 1.0));
                let ribbon = Shape::curve(&[[-w - 0.08, -0.66], [0.0, -0.72], [w + 0.08, -0.66]], 0.12);
                self.paint(&ribbon, CRISP, |p| (times(paint(p).0, 0.45), 1.0));
            }
            Hat::Headscarf => {
                // A ring of cloth around the face, open where the face is.
                let around = [
                    [0.0, -1.22],
                    [0.7 * w, -1.08],
                    [w + 0.12, -0.5],
                    [w + 0.14, 0.3],
                    [w + 0.05, 1.0],
                    [w + 0.4, 1.75],
                    [0.0, 1.9],
                    [-w - 0.4, 1.75],
                    [-w - 0.05, 1.0],
                    [-w - 0.14, 0.3],
                    [-w - 0.12, -0.5],
                    [-0.7 * w, -1.08],
                ];
                let opening = Shape::ellipse([shift * 0.6, 0.16], [w * 0.86, 0.82]);
                let (pose, scale) = (self.pose, 24.0);
                let canvas = &mut *self.canvas;
                canvas.fill(pose, &Shape::smooth(&around), CRISP, |p| {
                    let edge = opening.distance(p);
                    let fold = 0.85 + 0.2 * ((p[0] * 3.0).abs() + p[1] * 5.0 + person.grain as f32 % 6.0).sin();
                    let hem = 1.0 - 0.3 * (1.0 - edge / 0.1).clamp(0.0, 1.0);
                    (times(paint(p).0, fold * hem), (edge * scale + 0.5).clamp(0.0, 1.0))
                });
            }
        }
    }
}
