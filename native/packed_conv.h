// Convolutions for inference: on the CPU with weights in the layout that oneDNN wants for them, what follows the convolution
// done on the way out; elsewhere, and in bf16 where oneDNN has none, libtorch's own operations.
#pragma once
#include <ATen/ATen.h>

namespace mixmatch {

// Whether oneDNN computes in bf16 on this processor, be it by emulation: it needs AVX-512 or AVX-NE-CONVERT.
bool onednn_has_bf16();

// A copy of the weight [out, in, k, k], where oneDNN computes with it in its layout for inputs of that shape; only conv_run can
// read it.
at::Tensor conv_pack(const at::Tensor &weight, at::IntArrayRef input, int64_t stride, int64_t padding);

// The same for other inputs, where the weight is `packed` for some already: `packed` itself where its layout is right for those too.
at::Tensor conv_pack_also(const at::Tensor &weight, const at::Tensor &packed, at::IntArrayRef input, int64_t stride,
                          int64_t padding);

// The weight for Winograd's method (winograd.h) and inputs as high and wide as that; undefined where that does not take it.
at::Tensor conv_pack_winograd(const at::Tensor &weight, at::IntArrayRef input, int64_t stride, int64_t padding);

// lrelu(conv(x) + bias + onto), in the number format of x, by `winograd`, where it is defined and takes x, or by `packed`; `onto`, where it is given, is overwritten with the answer. A
// slope of 1 leaves the sum as it is, 0 is ReLU; with `onto` it is one of these on the CPU.
at::Tensor conv_run(const at::Tensor &x, const at::Tensor &packed, const at::Tensor &winograd, const at::Tensor &bias,
                    at::Tensor *onto, int64_t stride, int64_t padding, double slope);

} // namespace mixmatch
