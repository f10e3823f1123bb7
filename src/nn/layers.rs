//! The layers of our networks, as descriptions over a [`Layout`]: where their numbers lie and how they run.

use tch::{Kind, Tensor};

use super::folded::{PackedConv, ScaleAct, Shape};
use super::int8::{Gives, Int8Conv, Quantise, Range};
use super::shim::{self, ConvBy, NormAct, NormConv};
use super::weights::{BufferId, Init, Layout, ParamId, Weights};
use super::{Mode, NnError};

/// BatchNorm's ε in the MixMatch authors' WRN.
const WRN_EPS: f64 = 1e-3;

/// Slope of the leaky ReLU below zero, as in the authors' code.
pub(super) const LEAKY_SLOPE: f64 = 0.1;

/// A bias-free convolution with "same" padding at odd kernels.
#[derive(Debug)]
pub struct Conv {
    pub(super) weight: ParamId,
    pub(super) stride: i64,
    pub(super) padding: i64,
}

impl Conv {
    /// `[out, in, kernel, kernel]`, He initialisation: σ = √(2 / (k²·out)), as in the authors' code.
    pub fn new(layout: &mut Layout, name: &str, input: i64, output: i64, kernel: i64, stride: i64) -> Self {
        let sigma = (2.0 / (kernel * kernel * output) as f64).sqrt();
        let shape = [output, input, kernel, kernel];
        let weight = layout.kernel(&format!("{name}.weight"), &shape, Init::Normal(sigma));
        Self { weight, stride, padding: kernel / 2 }
    }

    /// `[B, in, H, W]` → `[B, out, H/stride, W/stride]`, in the number format of `x`.
    pub fn forward(&self, weights: &Weights, x: &Tensor) -> Result<Tensor, NnError> {
        shim::conv(x, self.by(&weights.compute(self.weight, x.kind())?))
    }

    fn by<'a>(&self, weight: &'a Tensor) -> ConvBy<'a> {
        ConvBy { weight, stride: self.stride, padding: self.padding }
    }
}

/// BatchNorm over `[B, C, H, W]`; parameters and statistics in float32 whatever the activations are.
#[derive(Debug)]
pub struct BatchNorm {
    weight: ParamId,
    bias: ParamId,
    mean: BufferId,
    variance: BufferId,
    eps: f64,
}

impl BatchNorm {
    /// `channels` channels, γ = 1, β = 0, running mean 0 and variance 1; `eps` is added to the variance.
    pub fn new(layout: &mut Layout, name: &str, channels: i64, eps: f64) -> Self {
        Self {
            weight: layout.vector(&format!("{name}.weight"), channels, Init::Constant(1.0)),
            bias: layout.vector(&format!("{name}.bias"), channels, Init::Constant(0.0)),
            mean: layout.buffer(&format!("{name}.running_mean"), channels, 0.0),
            variance: layout.buffer(&format!("{name}.running_var"), channels, 1.0),
            eps,
        }
    }

    /// Normalises; what becomes of the running statistics is `mode`'s, unless the backbone is frozen.
    pub fn forward(&self, weights: &Weights, x: &Tensor, mode: Mode) -> Result<Tensor, NnError> {
        self.activate(weights, x, mode, 1.0)
    }

    /// What it does by its running statistics, as x·scale + shift: two float32 vectors `[C]`.
    pub(super) fn scale_and_shift(&self, weights: &Weights) -> Result<(Tensor, Tensor), NnError> {
        let _no_grad = tch::no_grad_guard();
        let deviation = weights.buffer(self.variance).f_add_scalar(self.eps)?.f_sqrt()?;
        let scale = weights.param(self.weight).f_div(&deviation)?;
        let shift = weights.param(self.bias).f_sub(&weights.buffer(self.mean).f_mul(&scale)?)?;
        Ok((scale, shift))
    }

    /// Normalises, then max(x, slope·x).
    fn activate(&self, weights: &Weights, x: &Tensor, mode: Mode, slope: f64) -> Result<Tensor, NnError> {
        shim::norm_act(x, self.by(weights, mode, slope))
    }

    fn by<'a>(&self, weights: &'a Weights, mode: Mode, slope: f64) -> NormAct<'a> {
        let mode = if weights.backbone_frozen() { Mode::Eval } else { mode };
        // Without running statistics to write to, normalising by the batch's changes nothing.
        let running = match mode {
            Mode::Guess => None,
            Mode::Train | Mode::Eval => Some((weights.buffer(self.mean), weights.buffer(self.variance))),
        };
        let (gamma, beta) = (weights.param(self.weight), weights.param(self.bias));
        let (batch, momentum) = (mode != Mode::Eval, weights.bn_momentum());
        NormAct { gamma, beta, running, batch, momentum, eps: self.eps, slope }
    }
}

/// What flows from one block of a pre-activation network to the next.
#[derive(Debug)]
pub enum Stream {
    /// One tensor, and its sums over the batch where they were made with it.
    Whole(Tensor, Option<Tensor>),
    /// A block's branch and its shortcut, not yet added: the next norm adds them on its way.
    Parts(Tensor, Tensor),
}

impl Stream {
    fn kind(&self) -> Kind {
        let (Self::Whole(x, _) | Self::Parts(x, _)) = self;
        x.kind()
    }
}

impl From<Tensor> for Stream {
    fn from(x: Tensor) -> Self {
        Self::Whole(x, None)
    }
}

/// BatchNorm, then leaky ReLU: what stands before every convolution of a pre-activation network.
#[derive(Debug)]
pub struct NormRelu(BatchNorm);

impl NormRelu {
    /// Over `channels` channels.
    pub fn new(layout: &mut Layout, name: &str, channels: i64) -> Self {
        Self(BatchNorm::new(layout, name, channels, WRN_EPS))
    }

    /// Same shape as `x`.
    pub fn forward(&self, weights: &Weights, x: &Tensor, mode: Mode) -> Result<Tensor, NnError> {
        self.0.activate(weights, x, mode, LEAKY_SLOPE)
    }

    /// For inference alone.
    pub fn fold(&self, weights: &Weights) -> Result<ScaleAct, NnError> {
        ScaleAct::new(weights, &self.0, LEAKY_SLOPE)
    }

    /// `conv`, whose output this activates, for inference alone.
    pub fn fold_behind(&self, weights: &Weights, conv: &Conv, shape: Shape) -> Result<PackedConv, NnError> {
        PackedConv::new(weights, conv, Some(&self.0), shape, LEAKY_SLOPE)
    }

    /// For inference alone, then bytes of `range`.
    pub fn quantise(&self, weights: &Weights, range: Range) -> Result<Quantise, NnError> {
        Quantise::behind(weights, &self.0, LEAKY_SLOPE, range)
    }

    /// `conv`, whose output this activates, of bytes of `range`; without the activation.
    pub fn int8_behind(&self, weights: &Weights, conv: &Conv, shape: Shape, range: Range) -> Result<Int8Conv, NnError> {
        Int8Conv::new(weights, conv, Some(&self.0), shape, (range, Gives::Sum))
    }

    /// The stream as one tensor, and activated.
    pub fn join(&self, weights: &Weights, stream: Stream, mode: Mode) -> Result<(Tensor, Tensor), NnError> {
        let by = self.0.by(weights, mode, LEAKY_SLOPE);
        match stream {
            Stream::Whole(x, sums) => shim::add_norm_act(&x, None, sums.as_ref(), by),
            Stream::Parts(a, b) => shim::add_norm_act(&a, Some(&b), None, by),
        }
    }

    /// The stream as one tensor, and `conv` of what this makes of it.
    pub fn join_conv(
        &self,
        weights: &Weights,
        stream: Stream,
        conv: &Conv,
        mode: Mode,
    ) -> Result<(Tensor, Stream), NnError> {
        let weight = weights.compute(conv.weight, stream.kind())?;
        let conv = conv.by(&weight);
        if let Some(NormConv { x, y, sums }) = self.with_conv(weights, &stream, conv, None, mode)? {
            return Ok((x, Stream::Whole(y, Some(sums))));
        }
        let (x, activated) = self.join(weights, stream, mode)?;
        Ok((x, shim::conv(&activated, conv)?.into()))
    }

    /// `conv` of what this makes of the stream, and `residual` to be added to it: where that is one pass over memory it is added already.
    pub fn conv_onto(
        &self,
        weights: &Weights,
        stream: Stream,
        conv: &Conv,
        residual: Tensor,
        mode: Mode,
    ) -> Result<Stream, NnError> {
        let weight = weights.compute(conv.weight, stream.kind())?;
        let conv = conv.by(&weight);
        if let Some(NormConv { y, sums, .. }) = self.with_conv(weights, &stream, conv, Some(&residual), mode)? {
            return Ok(Stream::Whole(y, Some(sums)));
        }
        let (_, activated) = self.join(weights, stream, mode)?;
        Ok(Stream::Parts(shim::conv(&activated, conv)?, residual))
    }

    fn with_conv(
        &self,
        weights: &Weights,
        stream: &Stream,
        conv: ConvBy<'_>,
        plus: Option<&Tensor>,
        mode: Mode,
    ) -> Result<Option<NormConv>, NnError> {
        let Stream::Whole(x, sums) = stream else { return Ok(None) };
        shim::norm_conv(x, sums.as_ref(), self.0.by(weights, mode, LEAKY_SLOPE), conv, plus)
    }
}

/// A linear layer with bias.
#[derive(Debug)]
pub struct Linear {
    pub(super) weight: ParamId,
    pub(super) bias: ParamId,
}

impl Linear {
    /// `[out, in]`, Glorot initialisation: σ = √(2 / (in + out)), as TensorFlow's `glorot_normal`.
    pub fn new(layout: &mut Layout, name: &str, input: i64, output: i64) -> Self {
        let sigma = (2.0 / (input + output) as f64).sqrt();
        Self {
            weight: layout.kernel(&format!("{name}.weight"), &[output, input], Init::Normal(sigma)),
            bias: layout.vector(&format!("{name}.bias"), output, Init::Constant(0.0)),
        }
    }

    /// `[B, in]` → `[B, out]`.
    pub fn forward(&self, weights: &Weights, x: &Tensor) -> Result<Tensor, NnError> {
        Ok(x.f_linear(weights.param(self.weight), Some(weights.param(self.bias)))?)
    }
}
