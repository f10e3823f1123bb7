//! Hair on the lower face.

use super::painter::Painter;
use super::person::Beard;
use super::raster::{Point, Shape, mix, noise, times};

impl Painter<'_> {
    pub(super) fn beard(&mut self, beard: Beard, outline: &Shape) {
        let person = self.person;
        let at = |x: f32, y: f32| person.turn(x, y);
        let w = person.width;
        let moustache = Shape::smooth(&[
            at(-0.3, 0.56),
            at(-0.16, 0.42),
            at(0.0, 0.4),
            at(0.16, 0.42),
            at(0.3, 0.56),
            at(0.0, 0.53),
        ]);
        let hair = |p: Point| {
            let strand = noise([p[0] * 16.0, p[1] * 6.0], person.grain ^ 9);
            person.lit(times(mix(person.hair_colour, person.skin, 0.08), 0.65 + 0.5 * strand), p)
        };
        match beard {
            Beard::Moustache => self.paint(&moustache, 1.6, |p| (hair(p), 0.95)),
            Beard::Goatee => {
                self.paint(&moustache, 1.6, |p| (hair(p), 0.9));
                let chin = Shape::smooth(&[
                    at(-0.3, 0.52),
                    at(-0.2, 0.66),
                    at(0.0, 0.7),
                    at(0.2, 0.66),
                    at(0.3, 0.52),
                    at(0.3, 0.9),
                    at(0.0, 1.1),
                    at(-0.3, 0.9),
                ]);
                self.paint(&chin, 2.0, |p| (hair(p), 0.92));
            }
            Beard::Full | Beard::Stubble => {
                let opacity = if beard == Beard::Full { 0.96 } else { 0.4 };
                let length =
                    if beard == Beard::Full { 0.06 + 0.3 * (person.grain % 100) as f32 / 100.0 } else { -0.02 };
                let cheek = 0.2 + 0.15 * ((person.grain >> 8) % 100) as f32 / 100.0;
                let side = [at(w * 0.99, -0.05), at(w * 0.86, cheek), at(0.36, 0.42), at(0.14, 0.38)];
                let drift = person.yaw * 0.16;
                let jaw = [[0.96 * w, 0.45], [0.78 * w, 0.82 + length * 0.5], [0.36 * w, 1.0 + length]];
                let mut points: Vec<Point> = side.into();
                points.extend([at(-0.14, 0.38), at(-0.36, 0.42), at(-w * 0.86, cheek), at(-w * 0.99, -0.05)]);
                points.extend(jaw.map(|p| [drift - p[0], p[1]]));
                points.extend(jaw.iter().rev().map(|p| [p[0] + drift, p[1]]));
                let whole = Shape::smooth(&points);
                if beard == Beard::Full {
                    self.paint(&whole, 2.2, |p| (hair(p), opacity));
                } else {
                    self.within(&whole, outline, 5.0, |p| (hair(p), opacity));
                }
            }
        }
    }
}
