// Convolutions of stride 2, where our kernels are faster than oneDNN's.
#pragma once
#include <ATen/ATen.h>

namespace mixmatch {

// Whether the functions below take these: on the CPU, x [B, in, H, W] channels_last, weight [out, in, 3, 3] with padding 1 or [out, in, 1, 1]
// with none, in the same number format, stride 2, in and out multiples of 16 up to 256, H even, W a multiple of 4. Both number formats
// need AVX-512, bf16 its products of bfloat16 and no AMX. MIXMATCH_STRIDED=0 switches them off.
bool strided_fits(const at::Tensor &x, const at::Tensor &weight, int64_t stride, int64_t padding);

// conv2d(x, weight), nothing is differentiated. The same bits whatever the threads.
at::Tensor strided_conv(const at::Tensor &x, const at::Tensor &weight);

// The gradient of x [B, in, H, W] by dy [B, out, H/2, W/2], channels_last. As above.
at::Tensor strided_input_gradient(const at::Tensor &dy, const at::Tensor &x, const at::Tensor &weight);

// The gradient of the weight; each thread sums over images of its own. The same number of threads gives the same bits.
at::Tensor strided_weight_gradient(const at::Tensor &x, const at::Tensor &dy, const at::Tensor &weight);

} // namespace mixmatch
