//! The face in a photo: where it is, how it is turned, and the square that is cut for a network.
//!
//! Finding a face is not knowing whose it is: what comes out is a place. The detector is `BlazeFace`
//! (arXiv 1907.05047) with `MediaPipe`'s short-range weights; `README.md` beside this file says where they come from.
//!
//! Models learned from what is cut here, and their files say no more than `face`: another detector, or other constants, would
//! show them other pictures, and so must be another [`super::Fit`]. A test holds the squares of some drawings.

mod anchors;
mod cut;
mod kernels;
mod network;
mod search;

pub use cut::cut;
pub use search::find;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Side of the square, of the detector's box, which reaches from the brows to the chin.
const MARGIN: f32 = 1.35;

/// How far the middle of the square is above that of the box, of the box's side.
const UP: f32 = 0.08;

/// A face in a picture: the square that is cut out and classified, with the forehead and the chin in it. In pixels of the upright
/// picture, from its upper left corner; it may reach beyond an edge. About its middle it is turned with the head.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Face {
    /// Left edge of the square before it is turned.
    pub left: f32,
    /// Upper edge of the square before it is turned.
    pub top: f32,
    /// Width and height of the square.
    pub side: f32,
    /// By how many degrees the head, and so the square, is turned clockwise: by the line through the eyes.
    pub roll: f32,
    /// How sure the detector is, ½ to 1.
    pub score: f32,
}

impl Face {
    /// The square about a detector's box with this middle and side.
    fn about((x, y): (f32, f32), side: f32, roll: f32, score: f32) -> Self {
        let (sine, cosine) = roll.to_radians().sin_cos();
        let (x, y) = (x + UP * side * sine, y - UP * side * cosine);
        let side = MARGIN * side;
        Self { left: x - side / 2.0, top: y - side / 2.0, side, roll, score }
    }

    /// The same face in the picture at `factor` times its size.
    #[must_use]
    pub fn scaled(self, factor: f32) -> Self {
        Self { left: self.left * factor, top: self.top * factor, side: self.side * factor, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::{DecodeLimits, decode};
    use image::RgbImage;
    use image::imageops::{FilterType, resize};

    /// The square of a drawing, as whole tenths of a pixel, and the mean of what is cut out.
    fn told(image: &RgbImage) -> ([i32; 4], u32) {
        let face = find(image).unwrap();
        let tenths = [face.left, face.top, face.side, face.roll].map(|value| (10.0 * value).round() as i32);
        let pixels = cut(image, &face, 32);
        (tenths, pixels.iter().map(|&value| u32::from(value)).sum::<u32>() / pixels.len() as u32)
    }

    /// Published models depend on these: where they change, what was learned no longer holds, and the change must be another `Fit`.
    #[test]
    fn the_squares_are_those_that_models_learned_from() {
        let drawings = crate::demo::dataset::draw(4, 21, "face").unwrap();
        let drawings = drawings.iter().map(|drawn| decode(&drawn.bytes, &DecodeLimits::default()).unwrap());
        let found: Vec<([i32; 4], u32)> =
            drawings.map(|image| told(&resize(&image, 200, 200, FilterType::Triangle))).collect();
        let expected = [
            ([175, 272, 1436, -127], 83),
            ([236, 250, 1522, -191], 129),
            ([192, 221, 1586, -32], 93),
            ([200, 334, 1652, -134], 106),
        ];
        for ((square, mean), (wanted, wanted_mean)) in found.iter().zip(&expected) {
            let apart = square.iter().zip(wanted).map(|(a, b)| (a - b).abs()).max();
            // Resizing and decoding may differ by a level between processors.
            assert!(apart <= Some(5) && mean.abs_diff(*wanted_mean) <= 1, "{found:?}");
        }
    }
}
