// Products of which Winograd's method needs sums alone. Part of winograd_kernels.cpp.
#pragma once
#include "products.h"

namespace mixmatch {
namespace {

// Aᵀ·m of four products.
inline Floats output_first(Floats m0, Floats m1, Floats m2) { return m0 + m1 + m2; }
inline Floats output_second(Floats m1, Floats m2, Floats m3) { return m1 - m2 - m3; }

// Four products beside each other, of the four positions of one column of a tile, of which only two sums are needed: p = 0 + 1 + 2
// and q = 1 − 2 − 3. Half as much goes through memory.
struct Column {
  const uint32_t *v, *u; // the first position's
  int64_t v_next, u_next; // from one position to the next
  int64_t steps, channels;
};

// `Steps`: their number, or 0 for one that is known at run time alone; known before, it leaves the compiler registers for addresses.
template <class T, int M, int N, int64_t Steps>
__attribute__((noinline)) void column_block(const Column &of, int64_t tile, int64_t channel, float *p, float *q) {
  const int64_t v_next = of.v_next, u_next = of.u_next, channels = of.channels;
  const int64_t steps = Steps > 0 ? Steps : of.steps;
  const uint32_t *v = of.v + tile * steps, *u = of.u + channel;
  Floats sum[4][M][N];
  for (int i = 0; i < 4; ++i) {
    for (int m = 0; m < M; ++m) {
      for (int n = 0; n < N; ++n) {
        sum[i][m][n] = Floats{};
      }
    }
  }
  for (int64_t s = 0; s < steps; ++s) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      Words right[N];
      for (int n = 0; n < N; ++n) {
        std::memcpy(&right[n], u + i * u_next + s * channels + n * kLanes, sizeof right[n]);
      }
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) {
        const uint32_t left = v[i * v_next + m * steps + s];
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) {
          sum[i][m][n] = dot<T>(sum[i][m][n], left, right[n]);
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      const int64_t at = (tile + m) * channels + channel + n * kLanes;
      store(p + at, output_first(sum[0][m][n], sum[1][m][n], sum[2][m][n]));
      store(q + at, output_second(sum[1][m][n], sum[2][m][n], sum[3][m][n]));
    }
  }
}

template <class T, int N, int64_t Steps> void column_blocks(const Column &of, int64_t tiles, int64_t channel, float *p, float *q) {
  int64_t tile = 0;
  for (; tiles - tile >= 3 && tiles - tile != 4; tile += 3) {
    column_block<T, 3, N, Steps>(of, tile, channel, p, q);
  }
  for (; tiles - tile >= 2; tile += 2) {
    column_block<T, 2, N, Steps>(of, tile, channel, p, q);
  }
  for (; tile < tiles; ++tile) {
    column_block<T, 1, N, Steps>(of, tile, channel, p, q);
  }
}

template <class T, int64_t Steps> void column_product_of(const Column &of, int64_t tiles, float *p, float *q) {
  int64_t channel = 0;
  for (; channel + 2 * kLanes <= of.channels; channel += 2 * kLanes) {
    column_blocks<T, 2, Steps>(of, tiles, channel, p, q);
  }
  for (; channel < of.channels; channel += kLanes) {
    column_blocks<T, 1, Steps>(of, tiles, channel, p, q);
  }
}

// p and q [tiles, channels].
template <class T> void column_product(const Column &of, int64_t tiles, float *p, float *q) {
  switch (of.steps) {
  case 8:
    return column_product_of<T, 8>(of, tiles, p, q);
  case 16:
    return column_product_of<T, 16>(of, tiles, p, q);
  case 32:
    return column_product_of<T, 32>(of, tiles, p, q);
  default:
    return column_product_of<T, 0>(of, tiles, p, q);
  }
}

} // namespace
} // namespace mixmatch
