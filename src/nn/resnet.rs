//! torchvision's bottleneck ResNets under torchvision's own names, so that its weights load unchanged and ours
//! load back into it.

mod int8;

use tch::{Kind, TchError, Tensor};

use super::bottleneck::{Bottleneck, Channels, ConvNorm, FoldedBottleneck};
use super::folded::{Folded, FoldedLinear, PackedConv, See, Shape};
use super::int8::Next;
use super::layers::Linear;
use super::layout::Layout;
use super::{Head, Mode, Network, NnError, Weights};

/// Mean and standard deviation of ImageNet's red, green and blue in 0…1: what torchvision's weights were
/// trained with.
const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Classes of ImageNet: what torchvision's `fc` answers.
pub const IMAGENET_CLASSES: i64 = 1000;

/// Factor from a stage's planes to its blocks' output.
const EXPANSION: i64 = 4;

/// One network of the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResNetShape {
    /// torchvision's name for it.
    pub name: &'static str,
    /// Blocks in each of the four stages.
    pub blocks: [u32; 4],
    /// Channels behind the stem; stage i has 2^i times as many planes.
    pub planes: i64,
    /// Factor from a stage's planes to the channels of its 3×3 convolutions.
    pub widening: i64,
}

/// The networks there are.
pub(super) const SHAPES: &[ResNetShape] = &[
    // Zagoruyko & Komodakis, arXiv 1605.07146 §4: ResNet-50 with twice the channels inside its blocks.
    ResNetShape { name: "wide_resnet50_2", blocks: [3, 4, 6, 3], planes: 64, widening: 2 },
    // The same code over few numbers, for tests that train.
    #[cfg(test)]
    ResNetShape { name: "tiny_resnet", blocks: [1, 1, 1, 1], planes: 4, widening: 2 },
];

/// From features to logits.
#[derive(Debug)]
enum Classifier {
    /// features → C.
    Linear(Linear),
    /// features → 1000 → 100 → 10 → C without anything between them, as the reference project stacks them: the
    /// first is torchvision's own `fc` and belongs to the backbone.
    Reference([Linear; 4]),
}

impl Classifier {
    fn new(layout: &mut Layout, head: Head, features: i64, classes: i64) -> Self {
        match head {
            Head::Linear => {
                layout.begin_head();
                Self::Linear(Linear::new(layout, "fc", features, classes))
            }
            Head::Reference => {
                let fc = Linear::new(layout, "fc", features, IMAGENET_CLASSES);
                layout.begin_head();
                Self::Reference([
                    fc,
                    Linear::new(layout, "head.fc1", IMAGENET_CLASSES, 100),
                    Linear::new(layout, "head.fc2", 100, 10),
                    Linear::new(layout, "head.fc3", 10, classes),
                ])
            }
        }
    }

    fn forward(&self, weights: &Weights, features: &Tensor) -> Result<Tensor, NnError> {
        match self {
            Self::Linear(linear) => linear.forward(weights, features),
            Self::Reference([first, rest @ ..]) => {
                rest.iter().try_fold(first.forward(weights, features)?, |x, linear| linear.forward(weights, &x))
            }
        }
    }
}

/// A bottleneck ResNet.
#[derive(Debug)]
pub struct ResNet {
    shape: ResNetShape,
    layout: Layout,
    stem: ConvNorm,
    blocks: Vec<Bottleneck>,
    classifier: Classifier,
    compute: Kind,
}

impl ResNet {
    /// A network for `classes` classes; activations and convolutions in the number format `compute`.
    pub fn new(shape: ResNetShape, head: Head, classes: i64, compute: Kind) -> Self {
        let mut layout = Layout::default();
        let stem = ConvNorm::new(&mut layout, ["conv1", "bn1"], [3, shape.planes], 7, 2);
        let mut blocks = Vec::new();
        let mut input = shape.planes;
        for (stage, &count) in shape.blocks.iter().enumerate() {
            let planes = shape.planes << stage;
            for block in 0..count {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let channels = Channels { input, inner: planes * shape.widening, output: planes * EXPANSION, stride };
                blocks.push(Bottleneck::new(&mut layout, &format!("layer{}.{block}", stage + 1), channels));
                input = channels.output;
            }
        }
        let classifier = Classifier::new(&mut layout, head, input, classes);
        Self { shape, layout, stem, blocks, classifier, compute }
    }
}

impl ResNet {
    /// What stands before the blocks, and the shape behind it.
    fn fold_stem(&self, weights: &Weights, side: i64) -> Result<(FoldedStem, Shape), NnError> {
        let (conv, mut shape) = self.stem.fold(weights, Shape::of_images(side, self.compute), 0.0)?;
        shape.side = (shape.side + 1) / 2; // the pooling's stride
        Ok((FoldedStem { conv, compute: self.compute }, shape))
    }

    fn fold_classifier(&self, weights: &Weights) -> Result<FoldedClassifier, NnError> {
        let layers = match &self.classifier {
            Classifier::Linear(linear) => std::slice::from_ref(linear),
            Classifier::Reference(layers) => layers,
        };
        let folded = layers.iter().map(|linear| FoldedLinear::new(weights, linear)).collect::<Result<_, _>>()?;
        Ok(FoldedClassifier(folded))
    }
}

impl Network for ResNet {
    fn name(&self) -> String {
        self.shape.name.to_owned()
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn forward(&self, weights: &Weights, images: &Tensor, mode: Mode) -> Result<Tensor, NnError> {
        let x = imagenet_input(images)?.f_to_kind(self.compute)?;
        let x = self.stem.forward(weights, &x, mode)?.f_relu()?;
        let mut x = x.f_max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false)?;
        for block in &self.blocks {
            x = block.forward(weights, &x, mode)?;
        }
        let pooled = x.f_mean_dim([2i64, 3].as_slice(), false, Kind::Float)?;
        self.classifier.forward(weights, &pooled)
    }

    fn fold(&self, weights: &Weights, side: i64) -> Result<Box<dyn Folded>, NnError> {
        let (stem, mut shape) = self.fold_stem(weights, side)?;
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            let (block, behind) = block.fold(weights, shape)?;
            blocks.push(block);
            shape = behind;
        }
        let classifier = self.fold_classifier(weights)?;
        Ok(Box::new(FoldedResNet { stem, blocks, classifier }))
    }

    fn quantise(&self, weights: &Weights, side: i64, ranges: &mut Next<'_>) -> Result<Box<dyn Folded>, NnError> {
        Ok(Box::new(int8::Int8ResNet::new(self, weights, side, ranges)?))
    }
}

/// A bottleneck ResNet for inference alone.
#[derive(Debug)]
struct FoldedResNet {
    stem: FoldedStem,
    blocks: Vec<FoldedBottleneck>,
    classifier: FoldedClassifier,
}

/// What stands before the blocks, for inference alone.
#[derive(Debug)]
struct FoldedStem {
    conv: PackedConv,
    compute: Kind,
}

impl FoldedStem {
    /// Images in −1…1 → `[B, planes, H/4, W/4]`, in the number format that is computed in.
    fn forward(&self, images: &Tensor) -> Result<Tensor, NnError> {
        let x = self.conv.forward(&imagenet_input(images)?.f_to_kind(self.compute)?)?;
        Ok(x.f_max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false)?)
    }
}

/// What stands behind the blocks, for inference alone.
#[derive(Debug)]
struct FoldedClassifier(Vec<FoldedLinear>);

impl FoldedClassifier {
    /// `[B, features, H, W]` → logits in float32.
    fn forward(&self, x: &Tensor) -> Result<Tensor, NnError> {
        let pooled = x.f_mean_dim([2i64, 3].as_slice(), false, Kind::Float)?;
        self.0.iter().try_fold(pooled, |x, linear| linear.forward(&x))
    }
}

impl Folded for FoldedResNet {
    fn forward_seen(&self, images: &Tensor, see: &mut See<'_>) -> Result<Tensor, NnError> {
        let _no_grad = tch::no_grad_guard();
        let mut x = self.stem.forward(images)?;
        for block in &self.blocks {
            x = block.forward(x, see)?;
        }
        self.classifier.forward(&x)
    }
}

/// Images in −1…1, as every network here takes them, to ImageNet's normalisation.
///
/// It is the network's first operation and not part of the preprocessing, so that training, evaluation, golden
/// answers and serving cannot disagree about it, and augmentation and mixup need not know it (both are affine
/// in the pixels, and so the order does not matter).
fn imagenet_input(images: &Tensor) -> Result<Tensor, TchError> {
    // ((x + 1) / 2 − mean) / std = x · scale + shift
    let scale = IMAGENET_STD.map(|std| 0.5 / std);
    let shift = std::array::from_fn(|channel| (0.5 - IMAGENET_MEAN[channel]) / IMAGENET_STD[channel]);
    // Filled on the device: a copy from the host cannot be part of a recorded step.
    let per_channel = |values: [f32; 3]| -> Result<Tensor, TchError> {
        let tensor = Tensor::f_empty([1, 3, 1, 1], (Kind::Float, images.device()))?;
        for (channel, value) in (0..).zip(values) {
            let _ = tensor.f_select(1, channel)?.f_fill_(f64::from(value))?;
        }
        Ok(tensor)
    };
    images.f_mul(&per_channel(scale)?)?.f_add(&per_channel(shift)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::weights::Init;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use tch::Device;

    fn tiny(head: Head) -> (ResNet, Weights) {
        let network = ResNet::new(SHAPES[1], head, 2, Kind::Float);
        let weights = Weights::initialise(network.layout(), Device::Cpu, &mut ChaCha8Rng::seed_from_u64(4)).unwrap();
        (network, weights)
    }

    #[test]
    fn parameter_counts_are_torchvisions() {
        let count = |head, classes| ResNet::new(SHAPES[0], head, classes, Kind::Float).layout().parameter_count();
        assert_eq!(count(Head::Linear, 1000), 68_883_240);
        // fc 1000 with 100, 10 and 2 behind it: 1000·100 + 100, 100·10 + 10, 10·2 + 2.
        assert_eq!(count(Head::Reference, 2), 68_883_240 + 100_100 + 1010 + 22);
    }

    #[test]
    fn the_first_operation_is_imagenets_normalisation() {
        // One pixel: red 0, green ½, blue 1 in 0…1.
        let x = imagenet_input(&Tensor::from_slice(&[-1.0f32, 0.0, 1.0]).view([1, 3, 1, 1])).unwrap();
        let values: Vec<f32> = x.view([-1]).try_into().unwrap();
        let expected = [(0.0 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (1.0 - 0.406) / 0.225];
        for (value, expected) in values.iter().zip(expected) {
            assert!((value - expected).abs() < 1e-5, "{values:?}");
        }
    }

    #[test]
    fn a_frozen_backbone_has_no_gradient_and_keeps_its_statistics() {
        for head in [Head::Linear, Head::Reference] {
            let (network, mut weights) = tiny(head);
            let images = Tensor::rand([2, 3, 32, 32], (Kind::Float, Device::Cpu)) * 2.0 - 1.0;
            weights.freeze_backbone();
            let before = weights.statistics().copy();
            let train = network.forward(&weights, &images, Mode::Train).unwrap();
            assert_eq!(weights.statistics(), &before);
            assert_eq!(train.detach(), network.forward(&weights, &images, Mode::Eval).unwrap().detach());
            let gradient = weights.gradient(&train.square().sum(Kind::Float)).unwrap();
            assert_eq!(gradient.size(), [weights.head().length]);
            assert!(gradient.abs().max().double_value(&[]) > 0.0);
        }
    }

    #[test]
    fn a_folded_network_answers_as_the_network_does_with_either_head() {
        for head in [Head::Linear, Head::Reference] {
            let (network, weights) = tiny(head);
            let images = Tensor::rand([4, 3, 32, 32], (Kind::Float, Device::Cpu)) * 2.0 - 1.0;
            let plain = network.forward(&weights, &images, Mode::Eval).unwrap().detach();
            let folded = network.fold(&weights, 32).unwrap().forward(&images).unwrap();
            let largest = |tensor: &Tensor| tensor.abs().max().double_value(&[]);
            let (off, scale) = (largest(&(&folded - &plain)), largest(&plain));
            assert!(scale > 1e-3 && off < 1e-3 * scale, "{head:?}: off by {off:e} where answers reach {scale}");
        }
    }

    /// He et al. (arXiv 1502.01852) by the numbers that leave a convolution, as the authors of MixMatch have it, and Glorot & Bengio for
    /// what is linear.
    #[test]
    fn kernels_start_with_the_deviations_of_the_papers() {
        let network = ResNet::new(SHAPES[0], Head::Reference, 2, Kind::Float);
        let (mut convolutions, mut linear) = (0, 0);
        for entry in network.layout().params() {
            let variance = match entry.shape[..] {
                [output, _, height, width] => 2.0 / (output * height * width) as f64,
                [output, input] => 2.0 / (output + input) as f64,
                _ => continue,
            };
            let Init::Normal(sigma) = entry.init else { panic!("{} starts as {:?}", entry.name, entry.init) };
            assert!((sigma * sigma / variance - 1.0).abs() < 1e-9, "{}: {sigma}", entry.name);
            *(if entry.shape.len() == 4 { &mut convolutions } else { &mut linear }) += 1;
        }
        assert_eq!((convolutions, linear), (53, 4));
    }

    #[test]
    fn the_reference_head_is_the_part_behind_fc() {
        let (network, weights) = tiny(Head::Reference);
        let head: Vec<&str> =
            network.layout().params().iter().filter(|entry| entry.head).map(|entry| entry.name.as_str()).collect();
        assert_eq!(head.first(), Some(&"head.fc1.weight"));
        assert_eq!(weights.head().length, 100_100 + 1010 + 22);
    }
}
