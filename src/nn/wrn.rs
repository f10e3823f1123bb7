//! WRN-d-k: wide residual networks (Zagoruyko & Komodakis, arXiv 1605.07146) as the MixMatch authors build
//! them: pre-activation, leaky ReLU 0.1, three groups at strides 1/2/2, 16·k/32·k/64·k channels.
//!
//! WRN4-d-k: the same for images of 64 pixels and more, with a fourth group at stride 2 of 128·k channels. The authors' code adds
//! one for each doubling of the image, too (FixMatch's WRN-37-2 on STL-10); the last group then sees as much of the picture as
//! that of WRN does at 32 pixels. What is ours: the stem has stride 2, so that a picture of 64 pixels costs little more than one of
//! 32 does in a WRN.

mod int8;

use std::fmt;
use std::str::FromStr;

use tch::{Kind, Tensor};

use super::folded::{Folded, FoldedLinear, PackedConv, ScaleAct, See, Shape};
use super::int8::Next;
use super::layers::{Conv, Linear, NormRelu, Stream};
use super::weights::{Layout, Weights};
use super::{Mode, Network, NnError};

/// Depth and width of a WRN, and how many groups it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrnShape {
    /// 2·n·groups + 4: n blocks in each group.
    pub depth: u32,
    /// The factor on the channels 16, 32, 64, 128.
    pub width: u32,
    /// Three (WRN), or four behind a stem of stride 2 (WRN4).
    pub groups: u32,
}

impl WrnShape {
    /// Stride of the stem.
    fn stem_stride(self) -> u32 {
        if self.groups == 4 { 2 } else { 1 }
    }

    /// By how much the last group's activations are smaller than the image, on each side.
    pub fn reduction(self) -> u32 {
        self.stem_stride() << (self.groups - 1)
    }
}

impl fmt::Display for WrnShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.groups == 4 { "wrn4" } else { "wrn" };
        write!(f, "{family}-{}-{}", self.depth, self.width)
    }
}

impl FromStr for WrnShape {
    type Err = NnError;

    fn from_str(name: &str) -> Result<Self, NnError> {
        let unknown = || NnError::UnknownNetwork(name.to_owned());
        let (family, rest) = name.split_once('-').ok_or_else(unknown)?;
        let groups = match family {
            "wrn" => 3,
            "wrn4" => 4,
            _ => return Err(unknown()),
        };
        let (depth, width) = rest.split_once('-').ok_or_else(unknown)?;
        let depth = depth.parse::<u32>().map_err(|_| unknown())?;
        let width = width.parse::<u32>().map_err(|_| unknown())?;
        let blocks = (5..=100).contains(&depth) && (depth - 4).is_multiple_of(2 * groups);
        let shape = Self { depth, width, groups };
        // In one spelling alone: networks are compared by their names, and `parse` takes +10 and 010 as well.
        let known = blocks && (1..=16).contains(&width) && shape.to_string() == name;
        known.then_some(shape).ok_or_else(unknown)
    }
}

/// x → BN, leaky ReLU → 3×3 → BN, leaky ReLU → 3×3 → + shortcut.
#[derive(Debug)]
struct Block {
    norm1: NormRelu,
    conv1: Conv,
    norm2: NormRelu,
    conv2: Conv,
    /// 1×1, where the shape changes.
    shortcut: Option<Conv>,
    /// The very first block's shortcut takes the activated input; all others take the raw one.
    activate_before_residual: bool,
}

impl Block {
    fn new(layout: &mut Layout, name: &str, input: i64, output: i64, stride: i64, first: bool) -> Self {
        let shortcut = (input != output || stride != 1)
            .then(|| Conv::new(layout, &format!("{name}.shortcut"), input, output, 1, stride));
        Self {
            norm1: NormRelu::new(layout, &format!("{name}.bn1"), input),
            conv1: Conv::new(layout, &format!("{name}.conv1"), input, output, 3, stride),
            norm2: NormRelu::new(layout, &format!("{name}.bn2"), output),
            conv2: Conv::new(layout, &format!("{name}.conv2"), output, output, 3, 1),
            shortcut,
            activate_before_residual: first,
        }
    }

    fn forward(&self, weights: &Weights, stream: Stream, mode: Mode) -> Result<Stream, NnError> {
        let (residual, y) = if self.activate_before_residual {
            let (_, activated) = self.norm1.join(weights, stream, mode)?;
            let y = self.conv1.forward(weights, &activated)?.into();
            (activated, y)
        } else {
            self.norm1.join_conv(weights, stream, &self.conv1, mode)?
        };
        let residual = match &self.shortcut {
            Some(conv) => conv.forward(weights, &residual)?,
            None => residual,
        };
        self.norm2.conv_onto(weights, y, &self.conv2, residual, mode)
    }
}

/// A wide residual network.
#[derive(Debug)]
pub struct Wrn {
    shape: WrnShape,
    layout: Layout,
    stem: Conv,
    blocks: Vec<Block>,
    norm: NormRelu,
    head: Linear,
    compute: Kind,
}

impl Wrn {
    /// A network for `classes` classes; activations and convolutions in the number format `compute`.
    pub fn new(shape: WrnShape, classes: i64, compute: Kind) -> Self {
        let mut layout = Layout::default();
        let stem = Conv::new(&mut layout, "stem", 3, 16, 3, i64::from(shape.stem_stride()));
        let mut blocks = Vec::new();
        let mut channels = 16;
        for group in 0..shape.groups {
            let output = (16 << group) * i64::from(shape.width);
            for block in 0..(shape.depth - 4) / (2 * shape.groups) {
                let stride = if group > 0 && block == 0 { 2 } else { 1 };
                let name = format!("groups.{group}.{block}");
                let first = group == 0 && block == 0;
                blocks.push(Block::new(&mut layout, &name, channels, output, stride, first));
                channels = output;
            }
        }
        let norm = NormRelu::new(&mut layout, "bn", channels);
        layout.begin_head();
        let head = Linear::new(&mut layout, "head", channels, classes);
        Self { shape, layout, stem, blocks, norm, head, compute }
    }
}

impl Network for Wrn {
    fn name(&self) -> String {
        self.shape.to_string()
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn forward(&self, weights: &Weights, images: &Tensor, mode: Mode) -> Result<Tensor, NnError> {
        let mut stream = Stream::from(self.stem.forward(weights, &images.f_to_kind(self.compute)?)?);
        for block in &self.blocks {
            stream = block.forward(weights, stream, mode)?;
        }
        let (_, x) = self.norm.join(weights, stream, mode)?;
        let pooled = x.f_mean_dim([2i64, 3].as_slice(), false, Kind::Float)?;
        self.head.forward(weights, &pooled)
    }

    fn fold(&self, weights: &Weights, side: i64) -> Result<Box<dyn Folded>, NnError> {
        let images = Shape::of_images(side, self.compute);
        let stem = PackedConv::new(weights, &self.stem, None, images, 1.0)?;
        let mut shape = images.behind(&self.stem);
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let inner = shape.behind(&block.conv1);
            let shortcut = block.shortcut.as_ref();
            blocks.push(FoldedBlock {
                norm1: block.norm1.fold(weights)?,
                conv1: block.norm2.fold_behind(weights, &block.conv1, shape)?,
                conv2: PackedConv::new(weights, &block.conv2, None, inner, 1.0)?,
                shortcut: shortcut.map(|conv| PackedConv::new(weights, conv, None, shape, 1.0)).transpose()?,
                activate_before_residual: block.activate_before_residual,
            });
            shape = inner;
        }
        let (norm, head) = (self.norm.fold(weights)?, FoldedLinear::new(weights, &self.head)?);
        Ok(Box::new(FoldedWrn { stem, blocks, norm, head, compute: self.compute }))
    }

    fn quantise(&self, weights: &Weights, side: i64, ranges: &mut Next<'_>) -> Result<Box<dyn Folded>, NnError> {
        Ok(Box::new(int8::Int8Wrn::new(self, weights, side, ranges)?))
    }
}

/// A block for inference alone.
#[derive(Debug)]
struct FoldedBlock {
    norm1: ScaleAct,
    conv1: PackedConv,
    conv2: PackedConv,
    shortcut: Option<PackedConv>,
    activate_before_residual: bool,
}

impl FoldedBlock {
    fn forward(&self, x: Tensor, see: &mut See<'_>) -> Result<Tensor, NnError> {
        let activated = self.norm1.forward(&x)?;
        see(&activated)?;
        let y = self.conv1.forward(&activated)?;
        see(&y)?;
        let residual = if self.activate_before_residual { activated } else { x };
        let residual = match &self.shortcut {
            Some(conv) => conv.forward(&residual)?,
            None => residual,
        };
        self.conv2.forward_onto(&y, residual)
    }
}

/// A WRN for inference alone.
#[derive(Debug)]
struct FoldedWrn {
    stem: PackedConv,
    blocks: Vec<FoldedBlock>,
    norm: ScaleAct,
    head: FoldedLinear,
    compute: Kind,
}

impl Folded for FoldedWrn {
    fn forward_seen(&self, images: &Tensor, see: &mut See<'_>) -> Result<Tensor, NnError> {
        let _no_grad = tch::no_grad_guard();
        let mut x = self.stem.forward(&images.f_to_kind(self.compute)?)?;
        for block in &self.blocks {
            x = block.forward(x, see)?;
        }
        let x = self.norm.forward(&x)?;
        self.head.forward(&x.f_mean_dim([2i64, 3].as_slice(), false, Kind::Float)?)
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::super::shim::own_conv_tests::is_used;
    use super::*;

    fn parameters(name: &str, classes: i64) -> i64 {
        Wrn::new(name.parse().unwrap(), classes, Kind::Float).layout().parameter_count()
    }

    #[test]
    fn parameter_counts_are_the_papers() {
        assert_eq!(parameters("wrn-28-2", 10), 1_467_610);
        assert_eq!(parameters("wrn-28-2", 2), 1_466_578);
    }

    /// Where our convolutions are for this processor a block computes each norm with the convolution behind it, and its sums come with its output.
    #[test]
    fn a_block_is_two_functions_where_the_convolutions_are_ours() {
        for kind in [Kind::Float, Kind::BFloat16] {
            let network = Wrn::new("wrn-16-1".parse().unwrap(), 2, kind);
            let weights = Weights::zeros(network.layout(), Device::Cpu).unwrap();
            let channels_last = |side: i64, channels: i64| {
                Tensor::rand([2, side, side, channels], (Kind::Float, Device::Cpu)).to_kind(kind).permute([0, 3, 1, 2])
            };
            // The second block of each group.
            for (block, side, channels) in [(1, 32, 16), (3, 16, 32), (5, 8, 64)] {
                let x = Stream::from(channels_last(side, channels));
                let y = network.blocks[block].forward(&weights, x, Mode::Train).unwrap();
                let fused = matches!(y, Stream::Whole(_, Some(_)));
                assert_eq!(fused, is_used(kind, "MIXMATCH_WINOGRAD", "v3"), "block {block}, {kind:?}");
            }
        }
    }

    #[test]
    fn a_fourth_group_makes_a_picture_of_64_pixels_as_small_as_three_make_one_of_32() {
        let shape: WrnShape = "wrn4-20-1".parse().unwrap();
        let network = Wrn::new(shape, 2, Kind::Float);
        assert_eq!((network.blocks.len(), shape.reduction()), (8, 16));
        let convolution = |from: i64, to: i64| 9 * from * to;
        let block = |from: i64, to: i64| {
            let shortcut = if from == to { 0 } else { from * to };
            convolution(from, to) + convolution(to, to) + shortcut + 2 * from + 2 * to
        };
        let group = |from: i64, to: i64| block(from, to) + block(to, to);
        let groups = group(16, 16) + group(16, 32) + group(32, 64) + group(64, 128);
        assert_eq!(network.layout().parameter_count(), convolution(3, 16) + groups + 2 * 128 + 128 * 2 + 2);
    }

    #[test]
    fn names_that_are_no_wrn_are_refused() {
        let wrong = [
            "wrn-28",
            "wrn-27-2",
            "wrn-4-1",
            "wrn-28-0",
            "resnet-50",
            "wrn-28-2-1",
            "",
            "wrn4-16-1",
            "wrn5-14-1",
            "wrn4-4-1",
            "wrn-+10-1",
            "wrn-+10-01",
            "wrn-010-1",
            "wrn4-12-+1",
        ];
        for name in wrong {
            assert!(name.parse::<WrnShape>().is_err(), "{name}");
        }
        for name in ["wrn-16-4", "wrn-10-1", "wrn4-12-1", "wrn4-28-2"] {
            assert_eq!(name.parse::<WrnShape>().unwrap().to_string(), name);
        }
    }
}
