// The fused functions of norm_act.cpp, for the shim.
#pragma once
#include <utility>

#include "norm_passes.h"

namespace mixmatch {

// lrelu(batch_norm(x)).
at::Tensor norm_act(const at::Tensor &x, const NormBy &by);

// a + b, or a alone where b is null, and the same of that. `sums`: as norm_conv made them of a, or null.
std::pair<at::Tensor, at::Tensor> add_norm_act(const at::Tensor &a, const at::Tensor *b, const at::Tensor *sums,
                                               const NormBy &by);

// lrelu(x·scale + shift) of x [B, C, H, W], for inference: not differentiable, on the CPU.
at::Tensor scale_act(const at::Tensor &x, const at::Tensor &scale, const at::Tensor &shift, double slope);

// The same + `zero`, rounded (halves up) and held to 0…255: uint8, channels_last.
at::Tensor quantise_act(const at::Tensor &x, const at::Tensor &scale, const at::Tensor &shift, double slope, double zero);

} // namespace mixmatch
