//! A WRN in int8: the convolutions of its blocks, which are nearly all of it.

use tch::{Kind, Tensor};

use super::super::folded::{Folded, FoldedLinear, PackedConv, ScaleAct, See, Shape};
use super::super::int8::{Gives, Int8Conv, Next, Quantise};
use super::super::layers::LEAKY_SLOPE;
use super::super::{NnError, Weights};
use super::Wrn;

/// A block, whose convolutions take bytes and give numbers: oneDNN has no leaky ReLU behind a convolution of bytes.
#[derive(Debug)]
struct Int8Block {
    /// Where the residual is the activated input; it is activated before `activate1` then.
    first: Option<ScaleAct>,
    activate1: Quantise,
    conv1: Int8Conv,
    activate2: Quantise,
    conv2: Int8Conv,
    /// Of the raw input, which no bytes are made of.
    shortcut: Option<PackedConv>,
}

impl Int8Block {
    fn forward(&self, x: Tensor) -> Result<Tensor, NnError> {
        let x = match &self.first {
            Some(activate) => activate.forward(&x)?,
            None => x,
        };
        let y = self.conv1.numbers(&self.activate1.forward(&x)?, x.kind())?;
        let y = self.activate2.forward(&y)?;
        let residual = match &self.shortcut {
            Some(conv) => conv.forward(&x)?,
            None => x,
        };
        self.conv2.onto(&y, residual)
    }
}

/// A WRN for inference in int8.
#[derive(Debug)]
pub(super) struct Int8Wrn {
    stem: PackedConv,
    blocks: Vec<Int8Block>,
    norm: ScaleAct,
    head: FoldedLinear,
    compute: Kind,
}

impl Int8Wrn {
    /// `network` with the ranges of its activations.
    pub fn new(network: &Wrn, weights: &Weights, side: i64, ranges: &mut Next<'_>) -> Result<Self, NnError> {
        let images = Shape::of_images(side, network.compute);
        let stem = PackedConv::new(weights, &network.stem, None, images, 1.0)?;
        let mut shape = images.behind(&network.stem);
        let mut blocks = Vec::with_capacity(network.blocks.len());
        for block in &network.blocks {
            let inner = shape.behind(&block.conv1);
            let (activated, within) = (ranges.range()?, ranges.range()?);
            let channels = |at: usize| weights.param(block.conv1.weight).size()[at];
            let first = block.activate_before_residual.then(|| block.norm1.fold(weights)).transpose()?;
            let activate1 = match first {
                Some(_) => Quantise::plain(channels(1), 1.0, activated)?,
                None => block.norm1.quantise(weights, activated)?,
            };
            let shortcut = block.shortcut.as_ref();
            blocks.push(Int8Block {
                first,
                activate1,
                conv1: block.norm2.int8_behind(weights, &block.conv1, shape, activated)?,
                activate2: Quantise::plain(channels(0), LEAKY_SLOPE, within)?,
                conv2: Int8Conv::new(weights, &block.conv2, None, inner, (within, Gives::Sum))?,
                shortcut: shortcut.map(|conv| PackedConv::new(weights, conv, None, shape, 1.0)).transpose()?,
            });
            shape = inner;
        }
        let (norm, head) = (network.norm.fold(weights)?, FoldedLinear::new(weights, &network.head)?);
        Ok(Self { stem, blocks, norm, head, compute: network.compute })
    }
}

impl Folded for Int8Wrn {
    /// What is seen is bytes already: nothing is told.
    fn forward_seen(&self, images: &Tensor, _see: &mut See<'_>) -> Result<Tensor, NnError> {
        let _no_grad = tch::no_grad_guard();
        let mut x = self.stem.forward(&images.f_to_kind(self.compute)?)?;
        for block in &self.blocks {
            x = block.forward(x)?;
        }
        let x = self.norm.forward(&x)?;
        self.head.forward(&x.f_mean_dim([2i64, 3].as_slice(), false, Kind::Float)?)
    }
}
