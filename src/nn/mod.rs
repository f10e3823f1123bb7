//! Networks: their layers, their weights, the device they run on.
//!
//! A network is a pure description; the numbers live in [`Weights`]. The same network can so be run with
//! the raw weights, with their moving average or with a file's, and the optimiser sees one flat buffer.
//! Nothing here knows data sets, losses or training.

mod architecture;
mod bottleneck;
pub mod device;
pub mod error;
pub mod file;
pub mod folded;
pub mod graph;
pub mod int8;
pub mod layers;
mod layout;
pub mod pretrained;
pub mod projection;
pub mod pth;
pub mod resnet;
mod shim;
pub mod weights;
pub mod wrn;

pub use architecture::{Architecture, Head, build};
pub use error::NnError;
pub use folded::Folded;
pub use weights::Weights;

use tch::Tensor;

/// What a forward pass does with BatchNorm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics; the running ones move by this momentum (PyTorch's convention: the batch's share).
    Train,
    /// Batch statistics, running ones left untouched: how MixMatch guesses labels (the authors' code runs
    /// the guessing pass without its update operations).
    Guess,
    /// Running statistics.
    Eval,
}

/// A network: images to logits.
pub trait Network: Send + Sync {
    /// The network's name, as configurations spell it.
    fn name(&self) -> String;

    /// Where its parameters and buffers lie.
    fn layout(&self) -> &weights::Layout;

    /// Logits `[B, C]` in float32 of images `[B, 3, H, W]` in −1…1; a network that was made for another
    /// normalisation converts them itself.
    ///
    /// # Errors
    /// libtorch's, for example for shapes that do not fit.
    fn forward(&self, weights: &Weights, images: &Tensor, mode: Mode) -> Result<Tensor, NnError>;

    /// The network with these weights for inference alone on the CPU, for square images of `side` pixels.
    ///
    /// # Errors
    /// libtorch's.
    fn fold(&self, weights: &Weights, side: i64) -> Result<Box<dyn Folded>, NnError>;

    /// The same in int8 on the CPU, with the `ranges` of its activations in the order of the forward pass
    /// ([`int8::Ranges::quantise`] calls it).
    ///
    /// # Errors
    /// Too few ranges, or libtorch's; networks that are not served have no such form.
    fn quantise(
        &self,
        _weights: &Weights,
        _side: i64,
        _ranges: &mut int8::Next<'_>,
    ) -> Result<Box<dyn Folded>, NnError> {
        Err(NnError::Ranges(format!("{} has no form in int8", self.name())))
    }
}
