// Convolutions of bytes for inference on the CPU: uint8 activations by int8 weights, summed exactly in 32 bits.
#pragma once
#include <ATen/ATen.h>
#include <ATen/core/List.h>

namespace mixmatch {

// Whether oneDNN's sums of such products are exact on this processor. Without VNNI it adds two products in 16 bits, which hold
// no more than 32,767 where two may be 64,770.
bool int8_is_exact();

// What the numbers of a convolution mean: a byte b of its input is (b − input_zero)·input_scale; of its output, where that is
// bytes, b·output_scale.
struct Int8Meaning {
  double input_scale;
  int64_t input_zero;
  double output_scale;
  bool relu;
};

// relu(conv(x) + bias), its weight rounded to int8 by a scale for each output channel.
class Int8Conv {
  at::Tensor packed_, single_; // for a batch and for one image alone: oneDNN may want other layouts
  at::Tensor scales_, zeros_, bias_;
  Int8Meaning meaning_;
  c10::List<int64_t> strides_, paddings_, dilations_;

public:
  // `weight` [out, in, k, k] and `bias` [out] in float32, for inputs of the sizes `input`.
  Int8Conv(const at::Tensor &weight, const at::Tensor &bias, at::IntArrayRef input, int64_t stride, int64_t padding,
           const Int8Meaning &meaning);

  // Of `x`, uint8 and channels_last: bytes, float32 or bf16, as `kind` says. With `onto`, which has that kind (not bytes) and is
  // overwritten with the answer: relu(conv(x) + bias + onto).
  at::Tensor run(const at::Tensor &x, const at::Tensor *onto, at::ScalarType kind) const;
};

} // namespace mixmatch
