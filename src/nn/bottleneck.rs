//! The bottleneck block of torchvision's ResNets (He et al., arXiv 1512.03385, with the stride in the 3×3
//! convolution): 1×1 → 3×3 → 1×1, each with BatchNorm, ReLU between them and after the sum.

mod int8;

pub(super) use int8::Int8Bottleneck;

use tch::Tensor;

use super::folded::{PackedConv, See, Shape};
use super::layers::{BatchNorm, Conv};
use super::layout::Layout;
use super::{Mode, NnError, Weights};

/// BatchNorm's ε in torchvision.
pub(super) const EPS: f64 = 1e-5;

/// A convolution and the BatchNorm behind it.
#[derive(Debug)]
pub(super) struct ConvNorm {
    conv: Conv,
    norm: BatchNorm,
}

impl ConvNorm {
    /// `names` are those of the convolution and of the BatchNorm.
    pub fn new(layout: &mut Layout, names: [&str; 2], channels: [i64; 2], kernel: i64, stride: i64) -> Self {
        let [input, output] = channels;
        Self {
            conv: Conv::new(layout, names[0], input, output, kernel, stride),
            norm: BatchNorm::new(layout, names[1], output, EPS),
        }
    }

    pub fn forward(&self, weights: &Weights, x: &Tensor, mode: Mode) -> Result<Tensor, NnError> {
        self.norm.forward(weights, &self.conv.forward(weights, x)?, mode)
    }
}

impl ConvNorm {
    /// For inference alone, then leaky ReLU with `slope`; and the shape behind it.
    pub fn fold(&self, weights: &Weights, shape: Shape, slope: f64) -> Result<(PackedConv, Shape), NnError> {
        Ok((PackedConv::new(weights, &self.conv, Some(&self.norm), shape, slope)?, shape.behind(&self.conv)))
    }
}

/// How many channels a block takes, narrows to and gives, and its stride.
#[derive(Clone, Copy, Debug)]
pub(super) struct Channels {
    pub input: i64,
    pub inner: i64,
    pub output: i64,
    pub stride: i64,
}

/// relu(bn(1×1) → relu(bn(3×3, stride)) → bn(1×1) + shortcut).
#[derive(Debug)]
pub(super) struct Bottleneck {
    layers: [ConvNorm; 3],
    /// 1×1, where the shape changes.
    downsample: Option<ConvNorm>,
}

impl Bottleneck {
    /// With torchvision's names under `name`.
    pub fn new(layout: &mut Layout, name: &str, channels: Channels) -> Self {
        let Channels { input, inner, output, stride } = channels;
        let mut layer = |at: u32, channels: [i64; 2], kernel, stride| {
            let (conv, norm) = (format!("{name}.conv{at}"), format!("{name}.bn{at}"));
            ConvNorm::new(layout, [&conv, &norm], channels, kernel, stride)
        };
        let layers =
            [layer(1, [input, inner], 1, 1), layer(2, [inner, inner], 3, stride), layer(3, [inner, output], 1, 1)];
        let downsample = (input != output || stride != 1).then(|| {
            let (conv, norm) = (format!("{name}.downsample.0"), format!("{name}.downsample.1"));
            ConvNorm::new(layout, [&conv, &norm], [input, output], 1, stride)
        });
        Self { layers, downsample }
    }

    /// `[B, input, H, W]` → `[B, output, H/stride, W/stride]`.
    pub fn forward(&self, weights: &Weights, x: &Tensor, mode: Mode) -> Result<Tensor, NnError> {
        let [first, second, third] = &self.layers;
        let y = first.forward(weights, x, mode)?.f_relu()?;
        let y = second.forward(weights, &y, mode)?.f_relu()?;
        let y = third.forward(weights, &y, mode)?;
        let sum = match &self.downsample {
            Some(downsample) => y.f_add(&downsample.forward(weights, x, mode)?)?,
            None => y.f_add(x)?,
        };
        Ok(sum.f_relu()?)
    }
}

/// A block for inference alone.
#[derive(Debug)]
pub(super) struct FoldedBottleneck {
    layers: [PackedConv; 3],
    downsample: Option<PackedConv>,
}

impl Bottleneck {
    /// For inference alone; and the shape behind it.
    pub fn fold(&self, weights: &Weights, shape: Shape) -> Result<(FoldedBottleneck, Shape), NnError> {
        let (first, inner) = self.layers[0].fold(weights, shape, 0.0)?;
        let (second, inner) = self.layers[1].fold(weights, inner, 0.0)?;
        let (third, output) = self.layers[2].fold(weights, inner, 0.0)?;
        let downsample = self.downsample.as_ref().map(|layer| layer.fold(weights, shape, 1.0)).transpose()?;
        Ok((FoldedBottleneck { layers: [first, second, third], downsample: downsample.map(|(conv, _)| conv) }, output))
    }
}

impl FoldedBottleneck {
    /// As [`Bottleneck::forward`]; without a downsampling the answer takes the memory of `x`.
    pub fn forward(&self, x: Tensor, see: &mut See<'_>) -> Result<Tensor, NnError> {
        let [first, second, third] = &self.layers;
        see(&x)?;
        let y = first.forward(&x)?;
        see(&y)?;
        let y = second.forward(&y)?;
        see(&y)?;
        let residual = match &self.downsample {
            Some(downsample) => downsample.forward(&x)?,
            None => x,
        };
        third.forward_onto(&y, residual)
    }
}
