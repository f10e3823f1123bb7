//! A network with a projection head (SimCLR, arXiv 2002.05709 §2.1: z = W₂·relu(W₁·h)): what contrastive learning compares.
//! The head is thrown away; the backbone is what is learned.

use tch::{Kind, Tensor};

use super::weights::{Init, Layout, ParamId};
use super::{Architecture, Folded, Head, Mode, Network, NnError, Weights};

/// Outputs of W₁.
const HIDDEN: i64 = 128;

/// Outputs of W₂: the numbers that views are compared by.
const PROJECTED: i64 = 64;

/// A network whose outputs are projections instead of logits.
pub struct Projecting {
    /// Its linear head is W₁.
    inner: Box<dyn Network>,
    layout: Layout,
    second: ParamId,
}

impl Projecting {
    /// The network of that name with a projection head; activations and convolutions in the number format `compute`.
    ///
    /// # Errors
    /// [`NnError::UnknownNetwork`].
    pub fn new(name: &str, compute: Kind) -> Result<Self, NnError> {
        let inner = name.parse::<Architecture>()?.network(Head::Linear, HIDDEN as usize, compute)?;
        let mut layout = inner.layout().clone();
        // As PyTorch's own linear layers spread: variance 1 / (3 · inputs).
        let init = Init::Normal((1.0 / (3.0 * HIDDEN as f64)).sqrt());
        let second = layout.kernel("projection.weight", &[PROJECTED, HIDDEN], init);
        Ok(Self { inner, layout, second })
    }
}

impl Network for Projecting {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Projections `[B, 64]` in float32.
    fn forward(&self, weights: &Weights, images: &Tensor, mode: Mode) -> Result<Tensor, NnError> {
        let hidden = self.inner.forward(weights, images, mode)?.f_relu()?;
        Ok(hidden.f_linear(weights.param(self.second), None::<&Tensor>)?)
    }

    fn fold(&self, _weights: &Weights, _side: i64) -> Result<Box<dyn Folded>, NnError> {
        Err(NnError::Shim("a projection head answers nobody: it is for pretraining".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::weights::copy_backbone;
    use super::*;
    use std::collections::HashMap;

    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use tch::Device;

    fn random(network: &dyn Network, seed: u64) -> Weights {
        Weights::initialise(network.layout(), Device::Cpu, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap()
    }

    #[test]
    fn backbones_are_handed_over_and_heads_stay() {
        for (name, head) in [("wrn-10-1", Head::Linear), ("wide_resnet50_2", Head::Reference)] {
            let network = super::super::build(name, head, 3, Kind::Float).unwrap();
            let projecting = Projecting::new(name, Kind::Float).unwrap();
            let (weights, pretrained) = (random(network.as_ref(), 1), random(&projecting, 2));
            let before = random(network.as_ref(), 1);
            copy_backbone((&pretrained, projecting.layout()), (&weights, network.layout())).unwrap();
            let theirs: HashMap<&str, &Tensor> =
                pretrained.tensors(projecting.layout()).map(|(entry, values)| (entry.name.as_str(), values)).collect();
            let mut taken = 0;
            for ((entry, values), (_, old)) in weights.tensors(network.layout()).zip(before.tensors(network.layout())) {
                let new = !entry.head && entry.name != "fc.weight" && entry.name != "fc.bias";
                assert!(values == if new { theirs[entry.name.as_str()] } else { old }, "{name}: {}", entry.name);
                taken += usize::from(new);
            }
            assert!(taken > 20, "{name}: {taken}");
        }
    }

    /// SimCLR's g(h) = W₂·relu(W₁·h), from the network's own outputs W₁·h.
    #[test]
    fn what_is_below_zero_is_not_projected() {
        let projecting = Projecting::new("wrn-10-1", Kind::Float).unwrap();
        let weights = random(&projecting, 4);
        let images = Tensor::rand([4, 3, 16, 16], (Kind::Float, Device::Cpu));
        let hidden = projecting.inner.forward(&weights, &images, Mode::Eval).unwrap();
        assert_eq!(hidden.size(), [4, HIDDEN]);
        assert!(hidden.min().double_value(&[]) < 0.0 && hidden.max().double_value(&[]) > 0.0);
        let expected = hidden.clamp_min(0.0).matmul(&weights.param(projecting.second).tr());
        let projections = projecting.forward(&weights, &images, Mode::Eval).unwrap();
        let off = (&projections - &expected).abs().max().double_value(&[]);
        assert!(off < 1e-6 * expected.abs().max().double_value(&[]), "{off}");
    }

    #[test]
    fn views_become_projections_with_a_gradient_for_every_parameter() {
        let projecting = Projecting::new("wrn-10-1", Kind::Float).unwrap();
        let weights = random(&projecting, 3);
        let images = Tensor::rand([4, 3, 16, 16], (Kind::Float, Device::Cpu));
        let projections = projecting.forward(&weights, &images, Mode::Train).unwrap();
        assert_eq!(projections.size(), [4, PROJECTED]);
        let gradient = weights.gradient(&projections.square().sum(Kind::Float)).unwrap();
        assert_eq!(gradient.size(), [projecting.layout().parameter_count()]);
        assert!(gradient.abs().max().double_value(&[]) > 0.0);
    }
}
