// Products of which Winograd's method needs sums alone. Part of winograd_kernels.cpp.
#pragma once
#include "winograd_transforms.h"

namespace mixmatch {
namespace {

// The products of all positions of one column of a tile beside each other, of which only Aᵀ·m is needed, one sum for each row of pixels:
// half as much goes through memory.
struct Column {
  const uint32_t *v, *u; // the first position's
  int64_t v_next, u_next; // from one position to the next
  int64_t steps, channels;
  float *to; // [rows of pixels][tiles, channels]
  int64_t to_next;
};

// `Steps`: their number, or 0 for one that is known at run time alone; known before, it leaves the compiler registers for addresses.
template <class T, int M, int N, int64_t Steps>
__attribute__((noinline)) void column_block(const Column &of, int64_t tile, int64_t channel) {
  const int64_t v_next = of.v_next, u_next = of.u_next, channels = of.channels;
  const int64_t steps = Steps > 0 ? Steps : of.steps;
  const uint32_t *v = of.v + tile * steps, *u = of.u + channel;
  Floats sum[kMet][M][N];
  for (int i = 0; i < kMet; ++i) {
    for (int m = 0; m < M; ++m) {
      for (int n = 0; n < N; ++n) {
        sum[i][m][n] = Floats{};
      }
    }
  }
  for (int64_t s = 0; s < steps; ++s) {
#pragma GCC unroll 6
    for (int i = 0; i < kMet; ++i) {
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
      Floats met[kMet], made[kMade];
#pragma GCC unroll 6
      for (int i = 0; i < kMet; ++i) {
        met[i] = sum[i][m][n];
      }
      output_transform(met, made);
      float *to = of.to + (tile + m) * channels + channel + n * kLanes;
#pragma GCC unroll 4
      for (int row = 0; row < kMade; ++row) {
        store(to + row * of.to_next, made[row]);
      }
    }
  }
}

template <class T, int N, int64_t Steps> void column_blocks(const Column &of, int64_t tiles, int64_t channel) {
  int64_t tile = 0;
  for (; tiles - tile >= 3 && tiles - tile != 4; tile += 3) {
    column_block<T, 3, N, Steps>(of, tile, channel);
  }
  for (; tiles - tile >= 2; tile += 2) {
    column_block<T, 2, N, Steps>(of, tile, channel);
  }
  for (; tile < tiles; ++tile) {
    column_block<T, 1, N, Steps>(of, tile, channel);
  }
}

template <class T, int64_t Steps> void column_product_of(const Column &of, int64_t tiles) {
  int64_t channel = 0;
  for (; channel + 2 * kLanes <= of.channels; channel += 2 * kLanes) {
    column_blocks<T, 2, Steps>(of, tiles, channel);
  }
  for (; channel < of.channels; channel += kLanes) {
    column_blocks<T, 1, Steps>(of, tiles, channel);
  }
}

template <class T> void column_product(const Column &of, int64_t tiles) {
  switch (of.steps) {
  case 8:
    return column_product_of<T, 8>(of, tiles);
  case 16:
    return column_product_of<T, 16>(of, tiles);
  case 32:
    return column_product_of<T, 32>(of, tiles);
  default:
    return column_product_of<T, 0>(of, tiles);
  }
}

} // namespace
} // namespace mixmatch
