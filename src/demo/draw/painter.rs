//! The painter: a person, a canvas, and the ways to put colour on it.

use super::person::Person;
use super::raster::{Canvas, Colour, Point, Pose, Shape};

/// One pixel: the softness of an ordinary edge.
pub const CRISP: f32 = 1.2;

/// Draws one person.
pub struct Painter<'a> {
    pub canvas: &'a mut Canvas,
    pub pose: Pose,
    pub person: &'a Person,
}

impl Painter<'_> {
    /// Fills a shape with one colour, in the person's light.
    pub fn flat(&mut self, shape: &Shape, colour: Colour, opacity: f32, soft: f32) {
        let person = self.person;
        self.canvas.fill(self.pose, shape, soft, |p| (person.lit(colour, p), opacity));
    }

    /// Fills a shape with a painted surface.
    pub fn paint(&mut self, shape: &Shape, soft: f32, paint: impl Fn(Point) -> (Colour, f32)) {
        self.canvas.fill(self.pose, shape, soft, paint);
    }

    /// Fills the part of a shape that lies within another.
    pub fn within(&mut self, shape: &Shape, clip: &Shape, soft: f32, paint: impl Fn(Point) -> (Colour, f32)) {
        self.canvas.fill_within(self.pose, shape, soft, Some(clip), paint);
    }
}
