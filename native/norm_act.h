// The fused functions of norm_act.cpp, for the shim.
#pragma once
#include <ATen/ATen.h>

#include <utility>

namespace mixmatch {

// lrelu(batch_norm(x)); see shim.h for the arguments.
at::Tensor norm_act(const at::Tensor &x, const at::Tensor &gamma, const at::Tensor &beta,
                    const at::Tensor *running_mean, const at::Tensor *running_variance, bool batch, double momentum,
                    double eps, double slope);

// a + b, or a alone where b is null, and the same of that.
std::pair<at::Tensor, at::Tensor> add_norm_act(const at::Tensor &a, const at::Tensor *b, const at::Tensor &gamma,
                                               const at::Tensor &beta, const at::Tensor *running_mean,
                                               const at::Tensor *running_variance, bool batch, double momentum,
                                               double eps, double slope);

// lrelu(x·scale + shift) of x [B, C, H, W], for inference: not differentiable, on the CPU.
at::Tensor scale_act(const at::Tensor &x, const at::Tensor &scale, const at::Tensor &shift, double slope);

// The same + `zero`, rounded (halves up) and held to 0…255: uint8, channels_last.
at::Tensor quantise_act(const at::Tensor &x, const at::Tensor &scale, const at::Tensor &shift, double slope, double zero);

} // namespace mixmatch
