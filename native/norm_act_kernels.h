// BatchNorm and leaky ReLU over rows of channels, for one thread and one part of the rows. No libtorch here: this part
// is compiled once for each instruction set (build.rs), and inline functions of shared headers must not be.
#pragma once
#include <cstdint>

namespace mixmatch {

// Rows of `channels` numbers, one row a pixel (channels_last). `bf16` says what `x`, `dy` and the outputs hold.
struct NormActKernels {
  // sum[c] += Σ x, square[c] += Σ x².
  void (*statistics)(bool bf16, const void *x, int64_t rows, int64_t channels, double *sum, double *square);
  // s = a + b, rounded to the format it is stored in; sum[c] += Σ s, square[c] += Σ s².
  void (*add_statistics)(bool bf16, const void *a, const void *b, void *s, int64_t rows, int64_t channels, double *sum,
                         double *square);
  // y = lrelu(x·scale + shift).
  void (*apply)(bool bf16, const void *x, void *y, int64_t rows, int64_t channels, const float *scale,
                const float *shift, float slope);
  // y = lrelu(x·scale + shift) + zero, rounded (halves up) and held to 0…255.
  void (*quantise)(bool bf16, const void *x, uint8_t *y, int64_t rows, int64_t channels, const float *scale,
                   const float *shift, float slope, float zero);
  // With g = dy·lrelu'(x·scale + shift): sum_g[c] += Σ g, sum_gx[c] += Σ g·x.
  void (*backward_statistics)(bool bf16, const void *x, const void *dy, int64_t rows, int64_t channels,
                              const float *scale, const float *shift, float slope, double *sum_g, double *sum_gx);
  // dx = g·scale + x·p + q, and + more where that is given.
  void (*backward_apply)(bool bf16, const void *x, const void *dy, const void *more, void *dx, int64_t rows,
                         int64_t channels, const float *scale, const float *shift, float slope, const float *p,
                         const float *q);
};

extern const NormActKernels norm_act_v1; // any x86-64
extern const NormActKernels norm_act_v3; // AVX2, FMA
extern const NormActKernels norm_act_v4; // AVX-512
extern const NormActKernels norm_act_v4_bf16; // … and its conversion to bfloat16

} // namespace mixmatch
