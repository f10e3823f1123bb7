//! The face in a photo: where it is, how it is turned, and the square that is cut for a network.
//!
//! Finding a face is not knowing whose it is: what comes out is a place. The detector is `BlazeFace`
//! (arXiv 1907.05047) with `MediaPipe`'s short-range weights; `README.md` beside this file says where they come from. Its
//! arithmetic is plain `f32` in a fixed order, so that the same bytes give the same square on any machine, at import as at predict.

mod anchors;
mod cut;
mod network;
mod search;

pub use cut::cut;
pub use search::find;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A face in a picture: a square box from the brows to the chin, about its middle turned with the head. In pixels of the
/// upright picture, from its upper left corner; it may reach beyond an edge.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Face {
    /// Left edge of the box.
    pub left: f32,
    /// Upper edge of the box.
    pub top: f32,
    /// Width and height of the box.
    pub side: f32,
    /// By how many degrees the line through the eyes is turned, clockwise; the square that is classified is turned back.
    pub roll: f32,
    /// How sure the detector is, ½ to 1.
    pub score: f32,
}

impl Face {
    /// The same face in the picture at `factor` times its size.
    #[must_use]
    pub fn scaled(self, factor: f32) -> Self {
        Self { left: self.left * factor, top: self.top * factor, side: self.side * factor, ..self }
    }

    /// The middle of the box.
    fn centre(&self) -> (f32, f32) {
        (self.left + self.side / 2.0, self.top + self.side / 2.0)
    }
}
