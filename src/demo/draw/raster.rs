//! A small anti-aliased rasteriser: shapes are signed distances, edges as soft as asked.

use image::RgbImage;

/// A place in the face's own units: the middle of the face is `[0, 0]`, the chin is at `y = 1`.
pub type Point = [f32; 2];

/// Red, green and blue, 0 to 1.
pub type Colour = [f32; 3];

/// Where the face's units lie on the canvas.
#[derive(Clone, Copy, Debug)]
pub struct Pose {
    origin: Point,
    sin: f32,
    cos: f32,
    scale: f32,
}

impl Pose {
    /// The face's middle at pixel `origin`, `scale` pixels a unit, turned clockwise by `tilt` radians.
    pub fn new(origin: Point, scale: f32, tilt: f32) -> Self {
        let (sin, cos) = tilt.sin_cos();
        Self { origin, sin, cos, scale }
    }

    fn to_face(self, pixel: Point) -> Point {
        let (x, y) = (pixel[0] - self.origin[0], pixel[1] - self.origin[1]);
        [(x * self.cos + y * self.sin) / self.scale, (y * self.cos - x * self.sin) / self.scale]
    }

    fn to_canvas(self, point: Point) -> Point {
        let (x, y) = (point[0] * self.scale, point[1] * self.scale);
        [self.origin[0] + x * self.cos - y * self.sin, self.origin[1] + x * self.sin + y * self.cos]
    }
}

/// Something with an inside.
#[derive(Clone, Debug)]
pub enum Shape {
    /// An ellipse, turned by `tilt` radians.
    Ellipse { centre: Point, radii: Point, tilt: f32 },
    /// A closed polygon.
    Polygon(Vec<Point>),
    /// A line of this width with round ends.
    Line { points: Vec<Point>, width: f32 },
}

impl Shape {
    /// An upright ellipse.
    pub fn ellipse(centre: Point, radii: Point) -> Self {
        Self::Ellipse { centre, radii, tilt: 0.0 }
    }

    /// A closed curve through the points.
    pub fn smooth(points: &[Point]) -> Self {
        let count = points.len();
        let at = |index: usize| points[index % count];
        let outline = (0..count)
            .flat_map(|index| {
                let corners = [at(index + count - 1), at(index), at(index + 1), at(index + 2)];
                (0..4).map(move |step| spline(corners, step as f32 / 4.0))
            })
            .collect();
        Self::Polygon(outline)
    }

    /// A line through two points.
    pub fn stroke(from: Point, to: Point, width: f32) -> Self {
        Self::Line { points: vec![from, to], width }
    }

    /// An open curve through the points.
    pub fn curve(points: &[Point], width: f32) -> Self {
        let last = points.len() - 1;
        let mut line: Vec<Point> = (0..last)
            .flat_map(|index| {
                let corners =
                    [points[index.saturating_sub(1)], points[index], points[index + 1], points[(index + 2).min(last)]];
                (0..4).map(move |step| spline(corners, step as f32 / 4.0))
            })
            .collect();
        line.push(points[last]);
        Self::Line { points: line, width }
    }

    /// Below 0 inside, above 0 outside; close to the true distance near the edge.
    pub fn distance(&self, p: Point) -> f32 {
        match self {
            Self::Ellipse { centre, radii, tilt } => {
                let (sin, cos) = tilt.sin_cos();
                let (dx, dy) = (p[0] - centre[0], p[1] - centre[1]);
                let (x, y) = ((dx * cos + dy * sin) / radii[0], (dy * cos - dx * sin) / radii[1]);
                let reach = x.hypot(y);
                let slope = (x / radii[0]).hypot(y / radii[1]);
                if slope < 1e-4 {
                    return -radii[0].min(radii[1]);
                }
                reach * (reach - 1.0) / slope
            }
            Self::Polygon(points) => {
                let mut nearest = f32::INFINITY;
                let mut inside = false;
                for (a, b) in edges(points) {
                    nearest = nearest.min(segment(p, a, b));
                    let crosses = (a[1] > p[1]) != (b[1] > p[1]);
                    if crosses && p[0] < (b[0] - a[0]) * (p[1] - a[1]) / (b[1] - a[1]) + a[0] {
                        inside = !inside;
                    }
                }
                if inside { -nearest.sqrt() } else { nearest.sqrt() }
            }
            Self::Line { points, width } => {
                let nearest = points.windows(2).map(|pair| segment(p, pair[0], pair[1])).fold(f32::INFINITY, f32::min);
                nearest.sqrt() - width / 2.0
            }
        }
    }

    fn bounds(&self) -> (Point, Point) {
        let around = |points: &[Point], margin: f32| {
            points.iter().fold(([f32::INFINITY; 2], [f32::NEG_INFINITY; 2]), |(low, high), p| {
                (
                    [low[0].min(p[0] - margin), low[1].min(p[1] - margin)],
                    [high[0].max(p[0] + margin), high[1].max(p[1] + margin)],
                )
            })
        };
        match self {
            Self::Ellipse { centre, radii, tilt } => {
                if *tilt == 0.0 {
                    ([centre[0] - radii[0], centre[1] - radii[1]], [centre[0] + radii[0], centre[1] + radii[1]])
                } else {
                    around(&[*centre], radii[0].max(radii[1]))
                }
            }
            Self::Polygon(points) => around(points, 0.0),
            Self::Line { points, width } => around(points, width / 2.0),
        }
    }
}

fn edges(points: &[Point]) -> impl Iterator<Item = (Point, Point)> + '_ {
    points.iter().copied().zip(points.iter().copied().cycle().skip(1).take(points.len()))
}

/// Catmull and Rom's spline between the two middle corners.
fn spline(c: [Point; 4], t: f32) -> Point {
    std::array::from_fn(|axis| {
        let [a, b, d, e] = [c[0][axis], c[1][axis], c[2][axis], c[3][axis]];
        0.5 * (2.0 * b
            + (d - a) * t
            + (2.0 * a - 5.0 * b + 4.0 * d - e) * t * t
            + (3.0 * b - a - 3.0 * d + e) * t * t * t)
    })
}

/// Squared distance to a segment.
fn segment(p: Point, a: Point, b: Point) -> f32 {
    let (px, py) = (p[0] - a[0], p[1] - a[1]);
    let (bx, by) = (b[0] - a[0], b[1] - a[1]);
    let along = ((px * bx + py * by) / (bx * bx + by * by).max(1e-9)).clamp(0.0, 1.0);
    let (dx, dy) = (px - bx * along, py - by * along);
    dx * dx + dy * dy
}

/// A picture in the making.
pub struct Canvas {
    side: usize,
    pixels: Vec<Colour>,
}

impl Canvas {
    /// A square canvas with a colour for every pixel.
    pub fn new(side: usize, paint: impl Fn(Point) -> Colour) -> Self {
        let pixels =
            (0..side * side).map(|index| paint([(index % side) as f32 + 0.5, (index / side) as f32 + 0.5])).collect();
        Self { side, pixels }
    }

    /// Fills a shape; `paint` gives colour and opacity at a place, the edge is `soft` pixels wide.
    pub fn fill(&mut self, pose: Pose, shape: &Shape, soft: f32, paint: impl Fn(Point) -> (Colour, f32)) {
        self.fill_within(pose, shape, soft, None, paint);
    }

    /// The same, but only inside `clip`.
    pub fn fill_within(
        &mut self,
        pose: Pose,
        shape: &Shape,
        soft: f32,
        clip: Option<&Shape>,
        paint: impl Fn(Point) -> (Colour, f32),
    ) {
        let (low, high) = shape.bounds();
        let corners = [low, [high[0], low[1]], high, [low[0], high[1]]].map(|p| pose.to_canvas(p));
        let limit = |axis: usize| {
            let values = corners.map(|corner| corner[axis]);
            let low = values.iter().copied().fold(f32::INFINITY, f32::min) - soft - 1.0;
            let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max) + soft + 1.0;
            let top = self.side as f32;
            (low.clamp(0.0, top) as usize)..(high.ceil().clamp(0.0, top) as usize)
        };
        let (columns, rows) = (limit(0), limit(1));
        for y in rows {
            for x in columns.clone() {
                let p = pose.to_face([x as f32 + 0.5, y as f32 + 0.5]);
                let mut cover = coverage(shape, p, pose.scale, soft);
                if cover <= 0.0 {
                    continue;
                }
                if let Some(clip) = clip {
                    cover *= coverage(clip, p, pose.scale, 1.0);
                }
                let (colour, opacity) = paint(p);
                let pixel = &mut self.pixels[y * self.side + x];
                *pixel = mix(*pixel, colour, cover * opacity);
            }
        }
    }

    /// Changes every pixel; `change` sees its place, 0 to 1 in both directions.
    pub fn map(&mut self, mut change: impl FnMut(Point, Colour) -> Colour) {
        let side = self.side;
        for (index, pixel) in self.pixels.iter_mut().enumerate() {
            let place = [((index % side) as f32 + 0.5) / side as f32, ((index / side) as f32 + 0.5) / side as f32];
            *pixel = change(place, *pixel);
        }
    }

    /// Blurs along a direction with a Gaussian of `sigma` pixels; twice, crosswise, is a round blur.
    pub fn blur(&mut self, sigma: f32, direction: [i32; 2]) {
        let reach = (sigma * 2.5).ceil().max(1.0) as i32;
        let weights: Vec<f32> =
            (-reach..=reach).map(|offset| (-(offset * offset) as f32 / (2.0 * sigma * sigma)).exp()).collect();
        let total: f32 = weights.iter().sum();
        let top = self.side as i32 - 1;
        let source = self.pixels.clone();
        for y in 0..=top {
            for x in 0..=top {
                let mut sum = [0.0; 3];
                for (offset, weight) in (-reach..=reach).zip(&weights) {
                    let from_x = (x + offset * direction[0]).clamp(0, top);
                    let from_y = (y + offset * direction[1]).clamp(0, top);
                    let pixel = source[(from_y * (top + 1) + from_x) as usize];
                    for (sum, value) in sum.iter_mut().zip(pixel) {
                        *sum += value * weight / total;
                    }
                }
                self.pixels[(y * (top + 1) + x) as usize] = sum;
            }
        }
    }

    /// Eight bits a channel.
    pub fn to_image(&self) -> RgbImage {
        RgbImage::from_fn(self.side as u32, self.side as u32, |x, y| {
            let pixel = self.pixels[y as usize * self.side + x as usize];
            image::Rgb(pixel.map(|value| (value.clamp(0.0, 1.0) * 255.0).round() as u8))
        })
    }
}

fn coverage(shape: &Shape, p: Point, scale: f32, soft: f32) -> f32 {
    (0.5 - shape.distance(p) * scale / soft).clamp(0.0, 1.0)
}

/// `share` of the way from `a` to `b`.
pub fn mix(a: Colour, b: Colour, share: f32) -> Colour {
    std::array::from_fn(|channel| a[channel] + (b[channel] - a[channel]) * share)
}

/// A colour, lighter or darker.
pub fn times(colour: Colour, factor: f32) -> Colour {
    colour.map(|value| value * factor)
}

/// Smooth noise between 0 and 1, about one bump a unit.
pub fn noise(p: Point, seed: u32) -> f32 {
    let (x, y) = (p[0].floor(), p[1].floor());
    let ease = |t: f32| t * t * (3.0 - 2.0 * t);
    let (u, v) = (ease(p[0] - x), ease(p[1] - y));
    let (x, y) = (x as i32, y as i32);
    let along = |row: i32| {
        let (left, right) = (hash(x, row, seed), hash(x + 1, row, seed));
        left + (right - left) * u
    };
    let (upper, lower) = (along(y), along(y + 1));
    upper + (lower - upper) * v
}

fn hash(x: i32, y: i32, seed: u32) -> f32 {
    let mut h =
        (x as u32).wrapping_mul(0x9E37_79B1) ^ (y as u32).wrapping_mul(0x85EB_CA77) ^ seed.wrapping_mul(0xC2B2_AE3D);
    h = (h ^ (h >> 15)).wrapping_mul(0x2C1B_3C6D);
    h = (h ^ (h >> 12)).wrapping_mul(0x297A_2D39);
    ((h ^ (h >> 15)) >> 8) as f32 / (1 << 24) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLACK: Colour = [0.0; 3];
    const WHITE: Colour = [1.0; 3];

    fn area(shape: &Shape, soft: f32) -> f32 {
        let mut canvas = Canvas::new(64, |_| BLACK);
        canvas.fill(Pose::new([32.0, 32.0], 10.0, 0.4), shape, soft, |_| (WHITE, 1.0));
        canvas.pixels.iter().map(|pixel| pixel[0]).sum::<f32>() / 100.0
    }

    #[test]
    fn areas_are_right_whatever_the_softness() {
        let square = Shape::Polygon(vec![[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]);
        let ellipse = Shape::ellipse([0.1, -0.2], [2.0, 1.0]);
        let line = Shape::stroke([-1.0, 0.0], [1.0, 0.0], 0.5);
        let round = std::f32::consts::PI;
        for soft in [1.0, 3.0] {
            assert!((area(&square, soft) - 4.0).abs() < 0.1);
            assert!((area(&ellipse, soft) - 2.0 * round).abs() < 0.15);
            assert!((area(&line, soft) - (1.0 + round / 16.0)).abs() < 0.15);
        }
    }

    #[test]
    fn a_clip_cuts() {
        let mut canvas = Canvas::new(40, |_| BLACK);
        let pose = Pose::new([20.0, 20.0], 10.0, 0.0);
        let left = Shape::Polygon(vec![[-2.0, -2.0], [0.0, -2.0], [0.0, 2.0], [-2.0, 2.0]]);
        let disc = Shape::ellipse([0.0, 0.0], [1.0, 1.0]);
        canvas.fill_within(pose, &disc, 1.0, Some(&left), |_| (WHITE, 1.0));
        assert_eq!(canvas.pixels[20 * 40 + 15], WHITE);
        assert_eq!(canvas.pixels[20 * 40 + 25], BLACK);
    }

    #[test]
    fn blurring_keeps_the_light() {
        let mut canvas = Canvas::new(21, |p| if (p[0] - 10.5).hypot(p[1] - 10.5) < 3.0 { WHITE } else { BLACK });
        let sum = |canvas: &Canvas| canvas.pixels.iter().map(|pixel| pixel[0]).sum::<f32>();
        let before = sum(&canvas);
        canvas.blur(1.0, [1, 0]);
        canvas.blur(1.0, [0, 1]);
        assert!((sum(&canvas) - before).abs() < 0.01);
        assert!(canvas.pixels[10 * 21 + 10][0] < 1.0);
    }

    #[test]
    fn noise_is_smooth_and_within_bounds() {
        for step in 0..200 {
            let p = [step as f32 * 0.13 - 9.0, step as f32 * 0.07];
            let here = noise(p, 7);
            assert!((0.0..=1.0).contains(&here));
            assert!((noise([p[0] + 0.01, p[1]], 7) - here).abs() < 0.05);
        }
    }
}
