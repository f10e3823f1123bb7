//! Where a network's numbers lie: one flat float32 buffer for the parameters, one for BatchNorm's statistics.
//!
//! Flat, because Adam, decay and the moving average are then a handful of operations over one tensor
//! instead of hundreds over small ones, and a checkpoint is two tensors. Kernels stand first, so that
//! weight decay is one multiplication of a prefix. Convolution kernels are stored `[out, kh, kw, in]` and
//! seen as `[out, in, kh, kw]`: that is channels_last, the layout the convolutions want, without a copy.

use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use tch::{Device, Kind, Tensor};

use super::NnError;

/// A parameter of a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParamId(usize);

/// A buffer (running statistic) of a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferId(usize);

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
    /// One value.
    Constant(f64),
}

/// One named tensor of a layout.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The name in files, for example `groups.0.1.conv2.weight`.
    pub name: String,
    /// The shape as PyTorch knows it.
    pub shape: Vec<i64>,
    /// How it starts.
    pub init: Init,
    /// Convolution or linear kernel: weight decay applies.
    pub decayed: bool,
}

impl Entry {
    /// Numbers in it.
    pub fn numel(&self) -> i64 {
        self.shape.iter().product()
    }
}

/// The names, shapes and starting values of a network's parameters and buffers.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    params: Vec<Entry>,
    buffers: Vec<Entry>,
}

impl Layout {
    /// Adds a convolution or linear kernel (weight decay applies).
    pub fn kernel(&mut self, name: &str, shape: &[i64], init: Init) -> ParamId {
        self.param(name, shape, init, true)
    }

    /// Adds a vector: a bias or one of BatchNorm's parameters (no weight decay).
    pub fn vector(&mut self, name: &str, length: i64, init: Init) -> ParamId {
        self.param(name, &[length], init, false)
    }

    fn param(&mut self, name: &str, shape: &[i64], init: Init, decayed: bool) -> ParamId {
        self.params.push(Entry { name: name.to_owned(), shape: shape.to_vec(), init, decayed });
        ParamId(self.params.len() - 1)
    }

    /// Adds a running statistic of `length` channels that starts at `value`.
    pub fn buffer(&mut self, name: &str, length: i64, value: f64) -> BufferId {
        let init = Init::Constant(value);
        self.buffers.push(Entry { name: name.to_owned(), shape: vec![length], init, decayed: false });
        BufferId(self.buffers.len() - 1)
    }

    /// The parameters, in the order of their ids.
    pub fn params(&self) -> &[Entry] {
        &self.params
    }

    /// The buffers, in the order of their ids.
    pub fn buffers(&self) -> &[Entry] {
        &self.buffers
    }

    /// Numbers that the optimiser moves.
    pub fn parameter_count(&self) -> i64 {
        self.params.iter().map(Entry::numel).sum()
    }

    fn decayed_count(&self) -> i64 {
        self.params.iter().filter(|entry| entry.decayed).map(Entry::numel).sum()
    }
}

/// A network's numbers on a device.
#[derive(Debug)]
pub struct Weights {
    flat: Tensor,
    statistics: Tensor,
    params: Vec<Tensor>,
    buffers: Vec<Tensor>,
    decayed: i64,
    bn_momentum: f64,
}

impl Weights {
    /// Starting values drawn from `rng`: the same on every device.
    ///
    /// # Errors
    /// libtorch's, for example when the device's memory is full.
    pub fn initialise(layout: &Layout, device: Device, rng: &mut ChaCha8Rng) -> Result<Self, NnError> {
        let mut weights = Self::zeros(layout, device)?;
        for (index, entry) in layout.params.iter().enumerate() {
            let numel = entry.numel() as usize;
            let values: Vec<f32> = match entry.init {
                Init::Constant(value) => vec![value as f32; numel],
                Init::Normal(sigma) => {
                    // A standard deviation that is finite and not negative is what `Normal` asks for.
                    let normal = Normal::new(0.0, sigma.abs()).map_err(|e| NnError::Shim(e.to_string()))?;
                    (0..numel).map(|_| normal.sample(rng) as f32).collect()
                }
            };
            let values = Tensor::from_slice(&values).f_view(entry.shape.as_slice())?;
            let _no_grad = tch::no_grad_guard();
            weights.params[index].f_copy_(&values)?;
        }
        for (index, entry) in layout.buffers.iter().enumerate() {
            if let Init::Constant(value) = entry.init {
                let _ = weights.buffers[index].f_fill_(value)?;
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
        let statistics: i64 = layout.buffers.iter().map(Entry::numel).sum();
        let statistics = Tensor::f_zeros([statistics], (Kind::Float, device))?;
        let decayed = layout.decayed_count();
        let (mut kernel_at, mut vector_at) = (0, decayed);
        let mut params = Vec::with_capacity(layout.params.len());
        for entry in &layout.params {
            let at = if entry.decayed { &mut kernel_at } else { &mut vector_at };
            let view = seen_as(&flat.f_narrow(0, *at, entry.numel())?, &entry.shape)?;
            *at += entry.numel();
            params.push(view.f_detach()?.f_set_requires_grad(true)?);
        }
        let mut buffers = Vec::with_capacity(layout.buffers.len());
        let mut at = 0;
        for entry in &layout.buffers {
            buffers.push(statistics.f_narrow(0, at, entry.numel())?);
            at += entry.numel();
        }
        Ok(Self { flat, statistics, params, buffers, decayed, bn_momentum: 0.001 })
    }

    /// Sets the share of a new batch in BatchNorm's running statistics.
    pub fn set_bn_momentum(&mut self, momentum: f64) {
        self.bn_momentum = momentum;
    }

    pub(super) fn bn_momentum(&self) -> f64 {
        self.bn_momentum
    }

    /// A parameter as PyTorch sees it, a leaf of the autograd graph.
    pub fn param(&self, id: ParamId) -> &Tensor {
        &self.params[id.0]
    }

    /// A running statistic.
    pub fn buffer(&self, id: BufferId) -> &Tensor {
        &self.buffers[id.0]
    }

    pub(super) fn param_at(&self, index: usize) -> &Tensor {
        &self.params[index]
    }

    pub(super) fn buffer_at(&self, index: usize) -> &Tensor {
        &self.buffers[index]
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

    /// The convolution and linear kernels, a prefix of [`Self::flat`].
    ///
    /// # Errors
    /// libtorch's.
    pub fn decayed(&self) -> Result<Tensor, NnError> {
        Ok(self.flat.f_narrow(0, 0, self.decayed)?)
    }

    /// All running statistics, `[M]` float32.
    pub fn statistics(&self) -> &Tensor {
        &self.statistics
    }

    /// d`loss`/d[`Self::flat`], `[N]` float32.
    ///
    /// # Errors
    /// libtorch's, for example when a parameter has no part in the loss.
    pub fn gradient(&self, loss: &Tensor) -> Result<Tensor, NnError> {
        let gradients = Tensor::f_run_backward(&[loss], &self.params, false, false)?;
        let (mut kernels, mut vectors) = (Vec::new(), Vec::new());
        for (gradient, param) in gradients.iter().zip(&self.params) {
            if param.dim() > 1 {
                kernels.push(as_stored(gradient)?);
            } else {
                vectors.push(as_stored(gradient)?);
            }
        }
        kernels.append(&mut vectors);
        Ok(Tensor::f_cat(&kernels, 0)?)
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
