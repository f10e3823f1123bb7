//! Eyes, nose and mouth.

use rand_chacha::ChaCha8Rng;

use super::painter::{CRISP, Painter};
use super::person::{Mouth, between, hex};
use super::raster::{Shape, mix, times};

impl Painter<'_> {
    pub(super) fn eyes(&mut self) {
        let person = self.person;
        for side in [-1.0, 1.0] {
            let centre = person.turn(side * 0.34, -0.1);
            let narrow = person.narrowing(side * 0.34);
            let (rx, ry) = (0.155 * person.eye_size * narrow, 0.085 * person.eye_size * person.eye_open);
            let socket = Shape::ellipse([centre[0], centre[1] - 0.02], [rx * 1.35, 0.15]);
            self.flat(&socket, times(person.skin, 0.72), 0.4, 4.0);
            let ball = Shape::ellipse(centre, [rx, ry]);
            if person.eye_open > 0.3 {
                let white = [0.93, 0.91, 0.88];
                self.flat(&ball, white, 1.0, CRISP);
                let iris = [centre[0] + person.gaze + person.yaw * 0.05, centre[1] - 0.005];
                let iris_shape = Shape::ellipse(iris, [0.078 * narrow.max(0.7), 0.082]);
                self.within(&iris_shape, &ball, CRISP, |_| (person.iris, 1.0));
                let pupil = Shape::ellipse(iris, [0.036, 0.04]);
                self.within(&pupil, &ball, CRISP, |_| ([0.04, 0.03, 0.03], 1.0));
                let spark = Shape::ellipse([iris[0] + 0.03 * person.light[0], iris[1] - 0.035], [0.02, 0.02]);
                self.paint(&spark, 1.0, |_| ([1.0; 3], 0.9));
            }
            let lid = Shape::curve(
                &[
                    [centre[0] - rx * 1.08, centre[1] + ry * 0.15],
                    [centre[0] - rx * 0.4, centre[1] - ry * 0.9],
                    [centre[0] + rx * 0.4, centre[1] - ry * 0.9],
                    [centre[0] + rx * 1.08, centre[1] + ry * 0.15],
                ],
                0.035,
            );
            self.flat(&lid, times(mix(person.skin, [0.1, 0.06, 0.05], 0.8), 0.8), 0.95, 1.0);
            let bag = Shape::curve(
                &[
                    [centre[0] - rx * 0.8, centre[1] + ry * 1.1],
                    [centre[0], centre[1] + ry * 1.5],
                    [centre[0] + rx * 0.8, centre[1] + ry * 1.1],
                ],
                0.03,
            );
            self.flat(&bag, times(person.skin, 0.7), 0.4, 1.8);
            let brow = Shape::curve(
                &[person.turn(side * 0.16, -0.27), person.turn(side * 0.34, -0.34), person.turn(side * 0.52, -0.27)],
                person.brow,
            );
            let colour = mix(person.hair_colour, person.skin, 0.15);
            self.flat(&brow, times(colour, 0.8), 0.85, 1.6);
        }
    }

    pub(super) fn nose(&mut self) {
        let person = self.person;
        let size = person.nose;
        let lean = person.yaw * 0.35;
        let tip = person.turn(0.0, 0.27);
        let tip = [tip[0] + lean * 0.2, tip[1]];
        let dark = if person.light[0] > 0.0 { -1.0 } else { 1.0 };
        let root = person.turn(0.0, -0.15);
        let flank = Shape::smooth(&[
            [root[0], root[1]],
            [tip[0] + dark * 0.05 * size, tip[1] - 0.12],
            [tip[0] + dark * 0.14 * size, tip[1] + 0.03],
            [tip[0], tip[1] + 0.05],
        ]);
        self.flat(&flank, times(person.skin, 0.72), 0.5, 3.0);
        let bridge = Shape::curve(&[root, [tip[0] - dark * 0.02, tip[1] - 0.04]], 0.06 * size);
        self.flat(&bridge, mix(person.skin, [1.0, 0.97, 0.93], 0.4), 0.3, 3.0);
        let ball = Shape::ellipse([tip[0] - dark * 0.02, tip[1] - 0.03], [0.07 * size, 0.06]);
        self.flat(&ball, mix(person.skin, [1.0, 0.97, 0.93], 0.5), 0.35, 2.5);
        let under = Shape::curve(
            &[
                [tip[0] - 0.13 * size, tip[1] + 0.02],
                [tip[0] - 0.05 * size, tip[1] + 0.06],
                [tip[0] + 0.05 * size, tip[1] + 0.06],
                [tip[0] + 0.13 * size, tip[1] + 0.02],
            ],
            0.045,
        );
        self.flat(&under, times(person.skin, 0.52), 0.7, 1.6);
    }

    pub(super) fn mouth(&mut self, rng: &mut ChaCha8Rng) {
        let person = self.person;
        let (w, y) = (person.mouth_width, 0.58);
        let lift = match person.mouth {
            Mouth::Smile => 0.05,
            Mouth::Laugh => 0.07,
            _ => between(rng, -0.02, 0.02),
        };
        let at = |x: f32, dy: f32| person.turn(x, y + dy);
        let corners = [at(-w, -lift), at(w, -lift)];
        let open = match person.mouth {
            Mouth::Laugh => 0.13,
            Mouth::Open => 0.1,
            _ => 0.0,
        };
        let lips = Shape::smooth(&[
            corners[0],
            at(-w * 0.4, -0.06),
            at(0.0, -0.04),
            at(w * 0.4, -0.06),
            corners[1],
            at(w * 0.5, 0.06 + open),
            at(0.0, 0.09 + open),
            at(-w * 0.5, 0.06 + open),
        ]);
        self.flat(&lips, person.lips, 0.9, 1.6);
        if open > 0.0 {
            let inside = Shape::smooth(&[
                at(-w * 0.8, -lift * 0.6),
                at(0.0, -0.01),
                at(w * 0.8, -lift * 0.6),
                at(w * 0.45, 0.02 + open),
                at(0.0, 0.04 + open),
                at(-w * 0.45, 0.02 + open),
            ]);
            self.flat(&inside, hex(0x4A1614), 1.0, CRISP);
            if person.mouth == Mouth::Laugh {
                let teeth = Shape::smooth(&[
                    at(-w * 0.7, -lift * 0.4),
                    at(0.0, 0.0),
                    at(w * 0.7, -lift * 0.4),
                    at(w * 0.45, 0.055),
                    at(0.0, 0.07),
                    at(-w * 0.45, 0.055),
                ]);
                self.flat(&teeth, [0.95, 0.93, 0.9], 1.0, CRISP);
            }
        } else {
            let line = Shape::curve(&[corners[0], at(-w * 0.4, 0.005), at(w * 0.4, 0.005), corners[1]], 0.03);
            self.flat(&line, times(person.lips, 0.45), 0.9, 1.2);
        }
        let shadow = Shape::ellipse(at(0.0, 0.18 + open), [w * 0.5, 0.03]);
        self.flat(&shadow, times(person.skin, 0.6), 0.35, 3.0);
    }
}
