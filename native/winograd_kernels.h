// 3×3 convolutions by Winograd's F(2×2, 3×3) and F(4×4, 3×3) (Lavin & Gray, arXiv 1509.09308), and both gradients, for one thread and one
// part of the rows. No libtorch here: this part is compiled once for each tile and number format (build.rs).
#pragma once
#include <cstdint>

namespace mixmatch {

// Of x [B, height, width, in] and y [B, height, width, out], stride 1, zeros around. Channels are multiples of 16, the height
// is a multiple of the tile's and the width of 4.
//
// y is made in tiles of 2×2 or 4×4 pixels, each of the 4×4 or 6×6 of x around it: those are transformed, multiplied by the transformed weight
// at each of the 16 or 36 positions, which is what sums over channels, and transformed back: 4 or 2¼ products for a pixel where nine were
// needed. A row of tiles, of which there are B·height/tile, is what work is counted in.
struct WinogradShape {
  int64_t height, width, in, out;
};

// What is convolved instead of x: lrelu(x·scale + shift), in float32 until it is transformed, with zeros around.
struct WinogradBefore {
  const float *scale, *shift; // [in]
  float slope; // of the leaky ReLU, at most 1
};

// What else is done to y before it is written: y = lrelu(y + bias + add). Without a bias y + add alone.
struct WinogradAfter {
  const void *bias; // [out], or null
  const void *add; // as y is, and y itself for what its memory holds; null only where there is a bias
  float slope; // of the leaky ReLU: 1 is none, 0 is ReLU
};

// Who is told of y's pixels as soon as they are written, while they are in the nearest cache.
struct WinogradSeen {
  // Of the `count` pixels from `first` on, which begin at `y`.
  void (*pixels)(void *context, const void *y, int64_t first, int64_t count);
  void *context;
  const void *beside; // as y is: what is read then at the same places, or null
};

// What is done along the way; each may be null.
struct WinogradAlong {
  const WinogradBefore *before;
  const WinogradAfter *after;
  const WinogradSeen *seen;
};

struct WinogradKernels {
  int64_t tile; // pixels each way that a tile makes, 2 or 4
  // Positions of a tile.
  int64_t positions() const { return (tile + 2) * (tile + 2); }
  // Of the weight [out, 3, 3, in], those outs in begin … end (multiples of 16), into the transformed weight u, positions·in·out numbers.
  void (*weight)(const void *weight, int64_t in, int64_t out, int64_t begin, int64_t end, void *u);
  // The same for the gradient of x: `convolve` with it makes dx of dy, with in and out exchanged.
  void (*turned_weight)(const void *weight, int64_t in, int64_t out, int64_t begin, int64_t end, void *u);
  // y's rows of tiles begin … end; `room`: the 4-byte words that `scratch` must hold, aligned to 64 bytes.
  void (*convolve)(const void *x, const void *u, void *y, const WinogradAlong &along, const WinogradShape &shape, int64_t begin,
                   int64_t end, void *scratch);
  int64_t (*room)(const WinogradShape &shape);
  // du (positions·in·out float32, which is overwritten), the gradient of u by the rows of tiles begin … end; `before` may be null. As above.
  void (*gradient)(const void *x, const WinogradBefore *before, const void *dy, float *du, const WinogradShape &shape,
                   int64_t begin, int64_t end, void *scratch);
  int64_t (*gradient_room)(const WinogradShape &shape);
  // dw [out, 3, 3, in] of the sum of `parts` du, one after the other, those outs in begin … end.
  void (*weight_gradient)(const float *du, int64_t parts, int64_t in, int64_t out, int64_t begin, int64_t end, void *dw);
};

extern const WinogradKernels winograd2_v3, winograd4_v3; // float32 with AVX2
extern const WinogradKernels winograd2_v4, winograd4_v4; // … with AVX-512
extern const WinogradKernels winograd2_v4_bf16; // bfloat16 with its products

} // namespace mixmatch
