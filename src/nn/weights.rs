//! Where a network's numbers lie: one flat float32 buffer for the parameters, one for BatchNorm's statistics.
//!
//! Flat, because Adam, decay and the moving average are then a handful of operations over one tensor
//! instead of hundreds over small ones, and a checkpoint is two tensors. It holds the backbone's kernels, the
//! head's kernels, the head's vectors, the backbone's vectors, in this order: weight decay is one multiplication
//! of a prefix, and the head, which fine-tuning treats otherwise, is one piece. Convolution kernels are stored
//! `[out, kh, kw, in]` and seen as `[out, in, kh, kw]`: that is channels_last, the layout the convolutions want,
//! without a copy.

use std::collections::HashMap;

use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use tch::{Device, Kind, Tensor};

use super::NnError;
pub use super::layout::{BufferId, Entry, Init, Layout, ParamId, Span};
use super::layout::{Part, Sections};

/// A network's numbers on a device.
#[derive(Debug)]
pub struct Weights {
    flat: Tensor,
    statistics: Tensor,
    params: Vec<Tensor>,
    parts: Vec<Part>,
    buffers: Vec<Tensor>,
    sections: Sections,
    bn_momentum: f64,
    frozen: bool,
}

impl Weights {
    /// Starting values drawn from `rng`: the same on every device.
    ///
    /// # Errors
    /// libtorch's, for example when the device's memory is full.
    pub fn initialise(layout: &Layout, device: Device, rng: &mut ChaCha8Rng) -> Result<Self, NnError> {
        let weights = Self::zeros(layout, device)?;
        let _no_grad = tch::no_grad_guard();
        for (entry, tensor) in weights.tensors(layout) {
            match entry.init {
                Init::Constant(value) => drop(tensor.shallow_clone().f_fill_(value)?),
                Init::Normal(sigma) => {
                    // A standard deviation that is finite and not negative is what `Normal` asks for.
                    let normal = Normal::new(0.0, sigma.abs()).map_err(|e| NnError::Shim(e.to_string()))?;
                    let values: Vec<f32> = (0..entry.numel()).map(|_| normal.sample(rng) as f32).collect();
                    tensor.shallow_clone().f_copy_(&Tensor::from_slice(&values).f_view(entry.shape.as_slice())?)?;
                }
            }
        }
        Ok(weights)
    }

    /// All zeros: to be filled from a file or another set.
    ///
    /// # Errors
    /// libtorch's.
    pub fn zeros(layout: &Layout, device: Device) -> Result<Self, NnError> {
        let flat = Tensor::f_zeros([layout.parameter_count()], (Kind::Float, device))?;
        let statistics: i64 = layout.buffers().iter().map(Entry::numel).sum();
        let statistics = Tensor::f_zeros([statistics], (Kind::Float, device))?;
        let sections = layout.sections();
        let mut next = Part::ALL.map(|part| sections.start(part));
        let (mut params, mut parts) = (Vec::new(), Vec::new());
        for entry in layout.params() {
            let part = Part::of(entry);
            let at = &mut next[part as usize];
            let view = seen_as(&flat.f_narrow(0, *at, entry.numel())?, &entry.shape)?;
            *at += entry.numel();
            params.push(view.f_detach()?.f_set_requires_grad(true)?);
            parts.push(part);
        }
        let mut buffers = Vec::with_capacity(layout.buffers().len());
        let mut at = 0;
        for entry in layout.buffers() {
            buffers.push(statistics.f_narrow(0, at, entry.numel())?);
            at += entry.numel();
        }
        Ok(Self { flat, statistics, params, parts, buffers, sections, bn_momentum: 0.001, frozen: false })
    }

    /// The same numbers on `device`; `layout` must be the one that these weights were made for.
    ///
    /// # Errors
    /// libtorch's.
    pub fn copied_to(&self, layout: &Layout, device: Device) -> Result<Self, NnError> {
        let copy = Self::zeros(layout, device)?;
        let _no_grad = tch::no_grad_guard();
        copy.flat.shallow_clone().f_copy_(&self.flat)?;
        copy.statistics.shallow_clone().f_copy_(&self.statistics)?;
        Ok(copy)
    }

    /// Every parameter, then every running statistic, with its description: views that write through.
    /// `layout` must be the one that these weights were made for.
    pub fn tensors<'a>(&'a self, layout: &'a Layout) -> impl Iterator<Item = (&'a Entry, &'a Tensor)> {
        layout.params().iter().zip(&self.params).chain(layout.buffers().iter().zip(&self.buffers))
    }

    /// Sets the share of a new batch in BatchNorm's running statistics.
    pub fn set_bn_momentum(&mut self, momentum: f64) {
        self.bn_momentum = momentum;
    }

    pub(super) fn bn_momentum(&self) -> f64 {
        self.bn_momentum
    }

    /// Leaves the backbone as it is from now on: it has no gradients, and its BatchNorms normalise by their
    /// running statistics in every mode and never move them. The head would otherwise learn on features (by
    /// the batch's statistics) that it never meets again in evaluation (by the statistics it was trained with
    /// elsewhere).
    pub fn freeze_backbone(&mut self) {
        self.frozen = true;
        for (param, part) in self.params.iter_mut().zip(&self.parts) {
            if !matches!(part, Part::HeadKernel | Part::HeadVector) {
                *param = param.detach();
            }
        }
    }

    /// Whether the backbone is left as it is.
    pub fn backbone_frozen(&self) -> bool {
        self.frozen
    }

    /// A parameter as PyTorch sees it, a leaf of the autograd graph.
    pub fn param(&self, id: ParamId) -> &Tensor {
        &self.params[id.0]
    }

    /// A running statistic.
    pub fn buffer(&self, id: BufferId) -> &Tensor {
        &self.buffers[id.0]
    }

    /// A parameter in the number format of the activations (the cast is part of the graph).
    pub(super) fn compute(&self, id: ParamId, kind: Kind) -> Result<Tensor, NnError> {
        let param = self.param(id);
        Ok(if kind == Kind::Float { param.shallow_clone() } else { param.f_to_kind(kind)? })
    }

    /// All parameters, `[N]` float32: writing to it moves the network.
    pub fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// Where the numbers lie that training moves: everything, or the head alone.
    pub fn trained(&self) -> Span {
        if self.frozen { self.head() } else { self.sections.span(Part::BackboneKernel, Part::BackboneVector) }
    }

    /// Where the head lies.
    pub fn head(&self) -> Span {
        self.sections.span(Part::HeadKernel, Part::HeadVector)
    }

    /// Where the backbone's convolution and linear kernels lie.
    pub fn backbone_kernels(&self) -> Span {
        self.sections.span(Part::BackboneKernel, Part::BackboneKernel)
    }

    /// Where the head's kernels lie.
    pub fn head_kernels(&self) -> Span {
        self.sections.span(Part::HeadKernel, Part::HeadKernel)
    }

    /// Where the backbone's biases and BatchNorm parameters lie.
    pub fn backbone_vectors(&self) -> Span {
        self.sections.span(Part::BackboneVector, Part::BackboneVector)
    }

    /// All running statistics, `[M]` float32.
    pub fn statistics(&self) -> &Tensor {
        &self.statistics
    }

    /// d`loss`/d(what is [trained](Self::trained)), `[trained]` float32, in the order of the flat buffer.
    ///
    /// # Errors
    /// libtorch's, for example when a parameter has no part in the loss.
    pub fn gradient(&self, loss: &Tensor) -> Result<Tensor, NnError> {
        let (trained, parts): (Vec<&Tensor>, Vec<Part>) =
            self.params.iter().zip(&self.parts).filter(|(param, _)| param.requires_grad()).unzip();
        let gradients = Tensor::f_run_backward(&[loss], &trained, false, false)?;
        let mut ordered = Vec::with_capacity(gradients.len());
        for part in Part::ALL {
            for (gradient, _) in gradients.iter().zip(&parts).filter(|(_, own)| **own == part) {
                ordered.push(as_stored(gradient)?);
            }
        }
        Ok(Tensor::f_cat(&ordered, 0)?)
    }

    /// Takes over another set's numbers.
    ///
    /// # Errors
    /// libtorch's, for example when the two are of different networks.
    pub fn copy_from(&mut self, other: &Weights) -> Result<(), NnError> {
        let _no_grad = tch::no_grad_guard();
        self.flat.f_copy_(&other.flat)?;
        self.statistics.f_copy_(&other.statistics)?;
        Ok(())
    }
}

/// Copies what two networks' backbones have in common, parameters and running statistics, from one set of weights to the other.
///
/// # Errors
/// [`NnError::Shim`] where one of that name has another shape, or libtorch's.
pub fn copy_backbone((from, theirs): (&Weights, &Layout), (to, ours): (&Weights, &Layout)) -> Result<(), NnError> {
    let _no_grad = tch::no_grad_guard();
    let backbone = |(entry, _): &(&Entry, &Tensor)| !entry.head;
    let sources: HashMap<&str, (&Entry, &Tensor)> =
        from.tensors(theirs).filter(backbone).map(|found| (found.0.name.as_str(), found)).collect();
    for (entry, target) in to.tensors(ours).filter(backbone) {
        match sources.get(entry.name.as_str()) {
            Some((source, values)) if source.shape == entry.shape => drop(target.shallow_clone().f_copy_(values)?),
            Some(_) => return Err(NnError::Shim(format!("{} has another shape in the other network", entry.name))),
            // Of torchvision's networks the fc is backbone under one head and head under the other.
            None => {}
        }
    }
    Ok(())
}

/// `[numel]` as stored, seen in PyTorch's shape.
fn seen_as(stored: &Tensor, shape: &[i64]) -> Result<Tensor, NnError> {
    Ok(match *shape {
        [out, input, height, width] => stored.f_view([out, height, width, input])?.f_permute([0, 3, 1, 2])?,
        _ => stored.f_view(shape)?,
    })
}

/// The inverse of [`seen_as`].
fn as_stored(tensor: &Tensor) -> Result<Tensor, NnError> {
    let ordered = if tensor.dim() == 4 { tensor.f_permute([0, 2, 3, 1])? } else { tensor.shallow_clone() };
    Ok(ordered.f_reshape([-1])?)
}
