// The convolution of a training step.
#pragma once
#include <ATen/ATen.h>

namespace mixmatch {

// conv2d of x [B, in, H, W] by the weight [out, in, k, k], which have one number format, without bias; differentiable, once, in
// both. On the CPU its gradients are computed by every thread for images of its own, where the weight is small, and 3×3 with stride 1
// is computed by Winograd's method (winograd.h); elsewhere it is libtorch's own operation. The same number of threads gives the same bits.
at::Tensor conv(const at::Tensor &x, const at::Tensor &weight, int64_t stride, int64_t padding);

} // namespace mixmatch
