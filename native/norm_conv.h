// BatchNorm, leaky ReLU and the convolution behind them as one function of a training step.
#pragma once
#include <ATen/ATen.h>

#include "norm_passes.h"

namespace mixmatch {

// x for whoever else takes it; y; and Σy and Σy² over its pixels for the norm that comes next, float64 [2, out].
struct NormConv {
  at::Tensor x, y, sums;
};

// y = conv2d(lrelu(bn(x)), weight) + plus, differentiable, once, in x, γ, β, the weight and `plus`, which may be null.
//
// The activated x is made where the convolution transforms x, forward and once more for the weight's gradient: it is never in memory. What the
// norms need sums of is met where the convolutions write it, in the nearest cache: of y forward, of the gradient of the activated x backward.
// `sums`: as this function made them of x, or null.
//
// All three are undefined where Winograd's method is not for these (winograd_fits, winograd_adds), for slopes beyond 1, and for running statistics with
// a gradient.
NormConv norm_conv(const at::Tensor &x, const at::Tensor *sums, const NormBy &by, const at::Tensor &weight,
                   const at::Tensor *plus, int64_t stride, int64_t padding);

} // namespace mixmatch
