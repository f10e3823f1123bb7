//! Where the time of a step goes: each part of it runs in a span of this target, which nobody hears unless a
//! subscriber asks for it (`mixmatch bench train` does).

use tracing::Span;

/// The target of the spans.
pub const TARGET: &str = "mixmatch::phase";

macro_rules! phases {
    ($($(#[$doc:meta])* $name:ident $word:literal),+ $(,)?) => {
        /// The spans' names, in the order of a step.
        pub const NAMES: &[&str] = &[$($word),+];
        $($(#[$doc])* pub fn $name() -> Span { tracing::trace_span!(target: TARGET, $word) })+
    };
}

phases! {
    /// Rows of the packed images to batches on the device.
    gather "gather",
    /// Batches to augmented network input.
    augment "augment",
    /// The forward pass that guesses labels, and sharpening.
    guess "guess",
    /// Mixing images and targets.
    mix "mix",
    /// The forward pass that is differentiated, and the losses.
    forward "forward",
    /// Gradients.
    backward "backward",
    /// Adam, decay and moving average.
    optimise "optimise",
    /// On a GPU all from guess to optimise, handed over as one: the four are then heard of in the first steps alone.
    compute "compute",
}
