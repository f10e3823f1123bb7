// The passes over memory that BatchNorm and leaky ReLU are made of, for all threads; what is differentiated by them is in norm_act.cpp and
// norm_conv.cpp.
#pragma once
#include <functional>
#include <vector>

#include <ATen/ATen.h>

#include "norm_act_kernels.h"

namespace mixmatch {

// Whether x [B, C, H, W] is for these passes: on the CPU, in float32 or bfloat16.
bool fused_kind(const at::Tensor &x);

// Throws unless each that is not null is a float32 vector [C], which is read as a plain array.
void check_vectors(const at::Tensor &x, std::initializer_list<const at::Tensor *> vectors);

// `gradient` in x's number format and channels_last; an undefined one stays so.
at::Tensor as_it_lies(const at::Tensor &gradient, const at::Tensor &x);

// The loops for this processor.
const NormActKernels &norm_act_kernels();

// x as rows of channels, one a pixel.
struct NormShape {
  int64_t rows, channels;
  bool bf16;
  explicit NormShape(const at::Tensor &x);
  size_t bytes() const { return bf16 ? 2 : 4; }
  // Rows that one thread should have at least.
  int64_t grain() const;
  const char *at(const at::Tensor &tensor, int64_t row) const {
    return static_cast<const char *>(tensor.const_data_ptr()) + row * channels * bytes();
  }
  char *at_mut(const at::Tensor &tensor, int64_t row) const {
    return static_cast<char *>(tensor.mutable_data_ptr()) + row * channels * bytes();
  }
};

// Two sums for each channel over all rows: every part of the rows has its own, and they are added in the order of the parts, so that the same
// thread count gives the same bits.
class TwoSums {
  int64_t channels;
  std::vector<double> sums;

public:
  TwoSums(int64_t parts, int64_t channels) : channels(channels), sums(parts * 2 * channels, 0.0) {}
  double *first(int64_t part) { return sums.data() + part * 2 * channels; }
  double *second(int64_t part) { return first(part) + channels; }
  // Float64 [2, C].
  at::Tensor total() const;
};

// x·scale + shift is the normalised x; float32 [C].
struct Affine {
  at::Tensor scale, shift;
};

// Running statistics, float32 [C] or null, and by how much a batch moves them.
struct Running {
  const at::Tensor *mean, *variance;
  double momentum, eps;
};

// What y = lrelu(bn(x)) is computed by: with `batch` by the batch's statistics, which move the running ones, else by the running ones.
struct NormBy {
  const at::Tensor &gamma, &beta;
  Running running;
  bool batch;
  double slope; // of the leaky ReLU; 1 is BatchNorm alone
};

// Throws unless these are for x.
void check(const at::Tensor &x, const NormBy &by);

// Float32 [C]: the mean and 1/√(variance + ε).
struct Statistics {
  at::Tensor mean, inverse;
};

// lrelu(x·scale + shift).
at::Tensor activate(const at::Tensor &x, const Affine &to, double slope);

// Σx and Σx² over all pixels of a batch, float64 [2, C].
at::Tensor sums_of(const at::Tensor &x);

// … of a + b, which is made in the same pass.
std::pair<at::Tensor, at::Tensor> add_and_sums(const at::Tensor &a, const at::Tensor &b);

// `sums` where somebody has made them, else these.
at::Tensor sums_or_made(const at::Tensor &x, const at::Tensor *sums);

// What y = lrelu(bn(x)) is made of and by.
struct Normed {
  at::Tensor x;
  Statistics by;
  Affine to;
  double slope;
  std::vector<at::Tensor> kept() const { return {x, by.mean, by.inverse, to.scale, to.shift}; }
  static Normed of(const std::vector<at::Tensor> &kept, double slope) {
    return {kept[0], {kept[1], kept[2]}, {kept[3], kept[4]}, slope};
  }
};

// By the batch's statistics from x's sums, where there are such, else by the running ones.
Normed norm_by(const at::Tensor &x, const at::Tensor &sums, const NormBy &by);

// With g = dy·lrelu'(…): Σg and Σg·x, float64 [2, C]. `dy` has x's number format and lies as x does.
at::Tensor gradient_sums(const Normed &of, const at::Tensor &dy);

// The same of `count` pixels from `first` on, of which dy begins at `dy`, added to those of C channels.
void add_gradient_sums(const Normed &of, const void *dy, int64_t first, int64_t count, double *sum_g, double *sum_gx);

struct Gradients {
  at::Tensor x, gamma, beta;
};

// By those sums; `more` is added to x's gradient where it is defined.
Gradients norm_gradients(const Normed &of, const at::Tensor &sums, const at::Tensor &dy, const at::Tensor &more);

} // namespace mixmatch
