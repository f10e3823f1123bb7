//! Networks for inference alone: BatchNorm folded into the convolution before it and weights in the number format that is
//! computed in; on the CPU, where oneDNN has that format, also in its own layout, what follows a convolution done on its way
//! out. The answers are those of [`Network::forward`](super::Network::forward) in evaluation mode, up to rounding.

use tch::{Device, Kind, Tensor};

use super::NnError;
use super::layers::{BatchNorm, Conv, Linear};
use super::shim::{self, ConvNumbers, NormAct};
use super::weights::Weights;

/// A network with the weights it was folded from: it does not follow them when they move.
pub trait Folded: Send {
    /// Logits `[B, C]` in float32 of images `[B, 3, H, W]` in −1…1 on the weights' device, by the running statistics.
    ///
    /// # Errors
    /// libtorch's, for example for shapes that do not fit.
    fn forward(&self, images: &Tensor) -> Result<Tensor, NnError> {
        self.forward_seen(images, &mut |_activation| Ok(()))
    }

    /// The same; `see` gets each activation that the network in [int8](super::int8) has as bytes, in the order of the forward pass.
    ///
    /// # Errors
    /// libtorch's, and those of `see`.
    fn forward_seen(&self, images: &Tensor, see: &mut See<'_>) -> Result<Tensor, NnError>;
}

/// What [`Folded::forward_seen`] tells.
pub type See<'a> = dyn FnMut(&Tensor) -> Result<(), NnError> + 'a;

/// What an image batch is while it is folded for: layouts of weights depend on it, answers do not.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Images in a batch.
    pub images: i64,
    /// Side of the square activations, pixels.
    pub side: i64,
    /// Number format of activations and convolutions.
    pub kind: Kind,
}

impl Shape {
    /// At the network's door: 16 images, a usual batch of a busy server.
    pub fn of_images(side: i64, kind: Kind) -> Self {
        Self { images: 16, side, kind }
    }

    /// Behind a convolution of this stride.
    pub fn behind(self, conv: &Conv) -> Self {
        Self { side: (self.side + conv.stride - 1) / conv.stride, ..self }
    }
}

/// conv → · + bias (→ + something) → leaky ReLU, as one operation.
#[derive(Debug)]
pub struct PackedConv {
    packed: Tensor,
    /// For one image alone: another handle of `packed`, but where oneDNN has another layout for one. With the wrong one it takes thirty times as
    /// long for some 1×1 convolutions in float32.
    single: Tensor,
    /// For Winograd's method; undefined where that is not faster.
    winograd: Tensor,
    bias: Tensor,
    stride: i64,
    padding: i64,
    slope: f64,
}

impl PackedConv {
    /// `conv` and the `norm` behind it, where there is one, for inputs of `shape`; then leaky ReLU with `slope` (1 is
    /// none, 0 is ReLU).
    ///
    /// # Errors
    /// libtorch's.
    pub fn new(
        weights: &Weights,
        conv: &Conv,
        norm: Option<&BatchNorm>,
        shape: Shape,
        slope: f64,
    ) -> Result<Self, NnError> {
        let _no_grad = tch::no_grad_guard();
        let (weight, bias) = folded_weight(weights, conv, norm)?;
        let sizes = weight.size();
        let (weight, bias) = (weight.f_to_kind(shape.kind)?, bias.f_to_kind(shape.kind)?);
        let input = |images| [images, sizes[1], shape.side, shape.side];
        let packed = shim::conv_pack(&weight, input(shape.images), conv.stride, conv.padding)?;
        let single = shim::conv_pack_also(&weight, &packed, input(1), conv.stride, conv.padding)?;
        let winograd = shim::conv_pack_winograd(&weight, input(1), conv.stride, conv.padding)?;
        Ok(Self { packed, single, winograd, bias, stride: conv.stride, padding: conv.padding, slope })
    }

    fn numbers(&self, x: &Tensor) -> ConvNumbers<'_> {
        let packed = if x.size().first() == Some(&1) { &self.single } else { &self.packed };
        ConvNumbers { packed, winograd: &self.winograd, bias: &self.bias }
    }

    /// `[B, in, H, W]` → `[B, out, H/stride, W/stride]`.
    ///
    /// # Errors
    /// libtorch's.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, NnError> {
        shim::conv_run(x, self.numbers(x), None, self.stride, self.padding, self.slope)
    }

    /// The same with `onto` added before the leaky ReLU; the answer takes its memory.
    ///
    /// # Errors
    /// libtorch's.
    pub fn forward_onto(&self, x: &Tensor, onto: Tensor) -> Result<Tensor, NnError> {
        shim::conv_run(x, self.numbers(x), Some(&onto), self.stride, self.padding, self.slope)
    }
}

/// Weight and bias of `conv` with the `norm` behind it, where there is one; float32.
pub(super) fn folded_weight(
    weights: &Weights,
    conv: &Conv,
    norm: Option<&BatchNorm>,
) -> Result<(Tensor, Tensor), NnError> {
    let _no_grad = tch::no_grad_guard();
    let weight = weights.param(conv.weight);
    match norm {
        Some(norm) => {
            let (scale, shift) = norm.scale_and_shift(weights)?;
            Ok((weight.f_mul(&scale.f_view([-1, 1, 1, 1])?)?, shift))
        }
        None => Ok((weight.shallow_clone(), Tensor::f_zeros([weight.size()[0]], (Kind::Float, weight.device()))?)),
    }
}

/// BatchNorm by its running statistics with leaky ReLU, where no convolution stands before it.
#[derive(Debug)]
pub struct ScaleAct {
    scale: Tensor,
    shift: Tensor,
    slope: f64,
    /// Mean 0 and variance 1, for libtorch's BatchNorm, where there is no function of ours.
    unit: Option<(Tensor, Tensor)>,
}

impl ScaleAct {
    /// `norm`, then leaky ReLU with `slope`.
    ///
    /// # Errors
    /// libtorch's.
    pub fn new(weights: &Weights, norm: &BatchNorm, slope: f64) -> Result<Self, NnError> {
        let (scale, shift) = norm.scale_and_shift(weights)?;
        let unit = match scale.device() {
            Device::Cpu => None,
            _ => Some((scale.f_zeros_like()?, scale.f_ones_like()?)),
        };
        Ok(Self { scale, shift, slope, unit })
    }

    /// Same shape as `x`.
    ///
    /// # Errors
    /// libtorch's.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, NnError> {
        let Some((mean, variance)) = &self.unit else {
            return shim::scale_act(x, &self.scale, &self.shift, self.slope);
        };
        let _no_grad = tch::no_grad_guard();
        let by = NormAct {
            gamma: &self.scale,
            beta: &self.shift,
            running: Some((mean, variance)),
            batch: false,
            momentum: 0.0,
            eps: 0.0,
            slope: self.slope,
        };
        shim::norm_act(x, by)
    }
}

/// A linear layer with numbers of its own.
#[derive(Debug)]
pub struct FoldedLinear {
    weight: Tensor,
    bias: Tensor,
}

impl FoldedLinear {
    /// A copy of `linear`'s numbers.
    ///
    /// # Errors
    /// libtorch's.
    pub fn new(weights: &Weights, linear: &Linear) -> Result<Self, NnError> {
        let copy = |id| Ok::<Tensor, NnError>(weights.param(id).f_detach()?.copy());
        Ok(Self { weight: copy(linear.weight)?, bias: copy(linear.bias)? })
    }

    /// `[B, in]` → `[B, out]`, float32.
    ///
    /// # Errors
    /// libtorch's.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, NnError> {
        Ok(x.f_linear(&self.weight, Some(&self.bias))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{self, Head, Mode};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use tch::Device;

    /// A network whose BatchNorms have seen something.
    fn lived(name: &str, side: i64, kind: Kind) -> (Box<dyn nn::Network>, Weights) {
        tch::manual_seed(3);
        let network = nn::build(name, Head::Linear, 3, kind).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        let mut weights = Weights::initialise(network.layout(), Device::Cpu, &mut rng).unwrap();
        weights.set_bn_momentum(0.5);
        let _no_grad = tch::no_grad_guard();
        for (entry, tensor) in weights.tensors(network.layout()) {
            if entry.shape.len() == 1 {
                let _ = tensor.shallow_clone().f_add_(&(Tensor::rand_like(tensor) * 0.2)).unwrap();
            }
        }
        for _ in 0..2 {
            let images = Tensor::rand([8, 3, side, side], (Kind::Float, Device::Cpu)) * 2.0 - 1.0;
            let _ = network.forward(&weights, &images, Mode::Train).unwrap();
        }
        (network, weights)
    }

    #[test]
    fn a_folded_network_answers_as_the_network_does() {
        for (name, side) in [("wrn-10-1", 32), ("wrn-16-2", 32), ("wrn4-12-1", 64), ("tiny_resnet", 64)] {
            // Without oneDNN's bf16 a sum is rounded once more, before what is added comes onto it.
            let rounded = if shim::onednn_has_bf16() { 3e-2 } else { 6e-2 };
            for (kind, tolerance) in [(Kind::Float, 1e-4), (Kind::BFloat16, rounded)] {
                let (network, weights) = lived(name, side, kind);
                let folded = network.fold(&weights, side).unwrap();
                // Other batch sizes than the one that it was folded for, too.
                for count in [1, 5, 16] {
                    let images = Tensor::rand([count, 3, side, side], (Kind::Float, Device::Cpu)) * 2.0 - 1.0;
                    let plain = network.forward(&weights, &images, Mode::Eval).unwrap().detach();
                    let ours = folded.forward(&images).unwrap();
                    let off = (&ours - &plain).abs().max().double_value(&[]);
                    let scale = plain.abs().max().double_value(&[]).max(1.0);
                    assert!(off <= tolerance * scale, "{name}, {count} images, {kind:?}: off by {off:e} of {scale}");
                    assert!(plain.std(true).double_value(&[]) > 1e-3, "{name} says the same of everything");
                }
            }
        }
    }

    /// What oneDNN may use is settled once in a process: with AVX2 at most it has no bf16, as on a processor without AVX-512.
    #[test]
    fn without_avx_512_a_folded_network_answers_the_same() {
        let name = "nn::folded::tests::a_folded_network_answers_as_the_network_does";
        crate::own_process::run(name, &[("ONEDNN_MAX_CPU_ISA", "AVX2")]);
    }

    #[test]
    fn libtorchs_own_operations_answer_as_the_cpus_functions_do() {
        // What runs on a GPU: weights that are not packed, and a BatchNorm by mean 0 and variance 1 (here by our own function, as
        // these tensors are the CPU's).
        tch::manual_seed(11);
        let random = |shape: &[i64], kind| Tensor::randn(shape, (Kind::Float, Device::Cpu)).to_kind(kind);
        for (kind, tolerance) in [(Kind::Float, 1e-5), (Kind::BFloat16, 3e-2)] {
            let (weight, bias) = (random(&[6, 4, 3, 3], kind), random(&[6], kind));
            let channels_last = |images: Tensor| images.permute([0, 3, 1, 2]);
            let (x, onto) = (random(&[5, 8, 8, 4], kind), random(&[5, 4, 4, 6], kind));
            let (x, onto) = (channels_last(x), channels_last(onto));
            let near = |a: &Tensor, b: &Tensor, what: &str| {
                assert_eq!((a.size(), a.kind()), (b.size(), b.kind()));
                let (a, b) = (a.to_kind(Kind::Float), b.to_kind(Kind::Float));
                let (off, scale) = ((&a - &b).abs().max().double_value(&[]), b.abs().max().double_value(&[]));
                assert!(off <= tolerance * scale, "{what}, {kind:?}: off by {off:e} of {scale}");
            };
            let packed = shim::conv_pack(&weight, [16, 4, 8, 8], 2, 1).unwrap();
            for slope in [0.0, 0.1, 1.0] {
                let conv = |packed: &Tensor| PackedConv {
                    packed: packed.shallow_clone(),
                    single: packed.shallow_clone(),
                    winograd: Tensor::new(),
                    bias: bias.shallow_clone(),
                    stride: 2,
                    padding: 1,
                    slope,
                };
                let (ours, theirs) = (conv(&packed), conv(&weight));
                near(&theirs.forward(&x).unwrap(), &ours.forward(&x).unwrap(), "a convolution");
                // oneDNN has no leaky ReLU behind a sum.
                if [0.0, 1.0].contains(&slope) {
                    let added = |conv: &PackedConv| conv.forward_onto(&x, onto.copy()).unwrap();
                    near(&added(&theirs), &added(&ours), "a convolution onto something");
                }

                let (scale, shift) = (random(&[4], Kind::Float), random(&[4], Kind::Float));
                let unit = Some((scale.zeros_like(), scale.ones_like()));
                let norm = |unit| ScaleAct { scale: scale.copy(), shift: shift.copy(), slope, unit };
                near(&norm(unit).forward(&x).unwrap(), &norm(None).forward(&x).unwrap(), "a BatchNorm");
            }
        }
    }

    #[test]
    fn one_image_has_a_layout_of_its_own_where_the_processor_wants_one() {
        tch::manual_seed(12);
        for (outputs, inputs, side) in [(512, 256, 12), (8, 8, 4)] {
            let weight = Tensor::randn([outputs, inputs, 1, 1], (Kind::Float, Device::Cpu));
            let bias = Tensor::zeros([outputs], (Kind::Float, Device::Cpu));
            let packed = shim::conv_pack(&weight, [16, inputs, side, side], 1, 0).unwrap();
            let single = shim::conv_pack_also(&weight, &packed, [1, inputs, side, side], 1, 0).unwrap();
            let same = shim::conv_pack_also(&weight, &packed, [16, inputs, side, side], 1, 0).unwrap();
            let x = Tensor::randn([1, side, side, inputs], (Kind::Float, Device::Cpu)).permute([0, 3, 1, 2]);
            let none = Tensor::new();
            let numbers = |packed| ConvNumbers { packed, winograd: &none, bias: &bias };
            let run = |packed| shim::conv_run(&x, numbers(packed), None, 1, 0, 1.0).unwrap();
            let plain = x.conv2d(&weight, Some(&bias), [1, 1], [0, 0], [1, 1], 1);
            for (what, packed) in [("packed for 16", &packed), ("for one", &single), ("again", &same)] {
                let off = (run(packed) - &plain).abs().max().double_value(&[]);
                assert!(off < 1e-3, "{outputs}×{inputs}, {what}: off by {off}");
            }
        }
        // What is not packed, as on a GPU, stays as it is.
        let weight = Tensor::randn([2, 2, 1, 1], (Kind::Float, Device::Cpu));
        let also = shim::conv_pack_also(&weight, &weight, [1, 2, 4, 4], 1, 0).unwrap();
        assert_eq!(also.data_ptr(), weight.data_ptr());
    }

    #[test]
    fn a_folded_network_keeps_the_weights_it_was_folded_from() {
        let (network, weights) = lived("wrn-10-1", 16, Kind::Float);
        let folded = network.fold(&weights, 16).unwrap();
        let images = Tensor::rand([2, 3, 16, 16], (Kind::Float, Device::Cpu));
        let before = folded.forward(&images).unwrap();
        let _ = weights.flat().shallow_clone().fill_(0.0);
        assert_eq!(folded.forward(&images).unwrap(), before);
    }
}
