// Convolutions by Winograd's method, where it is faster than oneDNN's.
#pragma once
#include <functional>

#include <ATen/ATen.h>

#include "winograd_kernels.h"

namespace mixmatch {

// Whether the functions below take these: on the CPU, x [B, in, H, W] channels_last, weight [out, in, 3, 3] in the same number format,
// stride 1 and padding 1, in and out multiples of 16 up to 256, H even, W a multiple of 4. Float32 needs AVX2, bf16 AVX-512 with its
// products of bfloat16, and no AMX, whose products are so fast that to need fewer wins nothing. MIXMATCH_WINOGRAD=0 switches it off.
bool winograd_fits(const at::Tensor &x, const at::Tensor &weight, int64_t stride, int64_t padding);

// What is asked of the weight alone.
bool winograd_fits_weight(const at::Tensor &weight, int64_t stride, int64_t padding);

// The weight transformed for winograd_run, for images so high and wide that are answered one by one or many at a time.
at::Tensor winograd_weight(const at::Tensor &weight, int64_t height, int64_t width);

// Whether winograd_run takes this x with that weight [out, …].
bool winograd_takes(const at::Tensor &x, const at::Tensor &transformed, int64_t out);

// lrelu(conv2d(x) + bias + onto), where winograd_takes says so of x and `transformed`; `bias` [out] in their
// number format. `onto`, where it is given, is [B, out, H, W] channels_last and overwritten with the answer. A slope of 1 leaves the sum as it
// is, 0 is ReLU.
at::Tensor winograd_run(const at::Tensor &x, const at::Tensor &transformed, const at::Tensor &bias, at::Tensor *onto,
                        double slope);

// What is done along the way by each thread, to what is in its cache then.
struct WinogradWith {
  // What is made of x before it is convolved; null where it is convolved as it is.
  const WinogradBefore *before = nullptr;
  // What is added to the answer before it is rounded, as `winograd_adds` wants it, or null.
  const at::Tensor *plus = nullptr;
  // Reads `count` pixels of the answer from `first` on, which begin at `y` and have just been written; `part` is the thread's, one of
  // `winograd_parts`. May be missing.
  std::function<void(int64_t part, const void *y, int64_t first, int64_t count)> read;
  // As the answer is: what `read` reads beside it at the same places, or null.
  const at::Tensor *beside = nullptr;
};
int64_t winograd_parts(const at::Tensor &x);

// conv2d(x, weight); nothing is differentiated. In bf16 the transformed input and weight are rounded once more: the error is 2.5 times that of
// rounding the output alone. In float32, where heights that are multiples of 4 have tiles of 4×4, it is 1e-6. The same bits whatever the threads.
at::Tensor winograd_conv(const at::Tensor &x, const at::Tensor &weight, const WinogradWith &with = {});

// Whether `plus` is as the answer will be: in shape, number format and layout.
bool winograd_adds(const at::Tensor &x, const at::Tensor &weight, const at::Tensor &plus);

// The gradient of x by dy [B, out, H, W], channels_last. As above.
at::Tensor winograd_input_gradient(const at::Tensor &dy, const at::Tensor &weight, const WinogradWith &with = {});

// The gradient of the weight; each thread sums over images of its own. The same number of threads gives the same bits.
at::Tensor winograd_weight_gradient(const at::Tensor &x, const at::Tensor &dy, const at::Tensor &weight,
                                    const WinogradBefore *before = nullptr);

} // namespace mixmatch
