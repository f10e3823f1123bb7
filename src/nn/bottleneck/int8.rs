//! A bottleneck block in int8.

use tch::Tensor;

use super::super::folded::Shape;
use super::super::int8::{Gives, Int8Conv, Next, Quantise, Range};
use super::super::{NnError, Weights};
use super::{Bottleneck, ConvNorm};

impl ConvNorm {
    /// In int8; and the shape behind it.
    fn int8(&self, weights: &Weights, shape: Shape, of: (Range, Gives)) -> Result<(Int8Conv, Shape), NnError> {
        Ok((Int8Conv::new(weights, &self.conv, Some(&self.norm), shape, of)?, shape.behind(&self.conv)))
    }
}

/// A block for inference in int8: bytes inside, numbers from block to block.
#[derive(Debug)]
pub(in super::super) struct Int8Bottleneck {
    enter: Quantise,
    layers: [Int8Conv; 3],
    downsample: Option<Int8Conv>,
}

impl Int8Bottleneck {
    /// `block` with the ranges of its activations; and the shape behind it.
    pub fn new(
        block: &Bottleneck,
        weights: &Weights,
        shape: Shape,
        ranges: &mut Next<'_>,
    ) -> Result<(Self, Shape), NnError> {
        let [x, first, second] = [ranges.range()?, ranges.range()?, ranges.range()?];
        let channels = weights.param(block.layers[0].conv.weight).size()[1];
        let enter = Quantise::plain(channels, 1.0, x)?;
        let (one, inner) = block.layers[0].int8(weights, shape, (x, Gives::Bytes(first)))?;
        let (two, inner) = block.layers[1].int8(weights, inner, (first, Gives::Bytes(second)))?;
        let (three, output) = block.layers[2].int8(weights, inner, (second, Gives::Relu))?;
        let downsample =
            block.downsample.as_ref().map(|layer| layer.int8(weights, shape, (x, Gives::Sum))).transpose()?;
        let layers = [one, two, three];
        Ok((Self { enter, layers, downsample: downsample.map(|(conv, _)| conv) }, output))
    }

    /// As [`Bottleneck::forward`]; without a downsampling the answer takes the memory of `x`.
    pub fn forward(&self, x: Tensor) -> Result<Tensor, NnError> {
        let [first, second, third] = &self.layers;
        let bytes = self.enter.forward(&x)?;
        let y = second.bytes(&first.bytes(&bytes)?)?;
        let residual = match &self.downsample {
            Some(downsample) => downsample.numbers(&bytes, x.kind())?,
            None => x,
        };
        third.onto(&y, residual)
    }
}
