// Convolutions of stride 2 and both gradients, directly, for one thread and one part of the rows. No libtorch here: this part is compiled
// once for each number format (build.rs).
#pragma once
#include <cstdint>

namespace mixmatch {

// Of x [B, height, width, in] and y [B, height/2, width/2, out], with a kernel of 3×3 and zeros around or of 1×1. Channels are multiples
// of 16, the height is even and the width a multiple of 4. A row of y is what work is counted in.
struct StridedShape {
  int64_t height, width, in, out, kernel; // 3 or 1
};

struct StridedKernels {
  // The weight [out, kernel, kernel, in] as the products read it, its outs begin … end (multiples of 16): for y of x, and for the
  // gradient of x by that of y.
  void (*weight)(const void *weight, const StridedShape &shape, int64_t begin, int64_t end, void *u);
  void (*turned_weight)(const void *weight, const StridedShape &shape, int64_t begin, int64_t end, void *u);
  // y's rows begin … end, or those of x around them. `room`: the 4-byte words that `scratch` must hold, aligned to 64 bytes, for any.
  void (*forward)(const void *x, const void *u, void *y, const StridedShape &shape, int64_t begin, int64_t end, void *scratch);
  void (*input_gradient)(const void *dy, const void *u, void *dx, const StridedShape &shape, int64_t begin, int64_t end,
                         void *scratch);
  // du [kernel, kernel, in, out] in float32, which is overwritten, by y's rows begin … end.
  void (*gradient)(const void *x, const void *dy, float *du, const StridedShape &shape, int64_t begin, int64_t end,
                   void *scratch);
  int64_t (*room)(const StridedShape &shape);
  // dw [out, kernel, kernel, in] of the sum of `parts` du, one after the other, those outs in begin … end.
  void (*weight_gradient)(const float *du, int64_t parts, const StridedShape &shape, int64_t begin, int64_t end, void *dw);
};

extern const StridedKernels strided_v4; // float32 with AVX-512
extern const StridedKernels strided_v4_bf16; // bfloat16 with its products

} // namespace mixmatch
