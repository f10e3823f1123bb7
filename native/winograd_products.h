// Matrix products that stay in registers, of small matrices in the cache. Part of winograd_kernels.cpp.
//
// Numbers are met in words of four bytes: one float32, or a pair of bfloat16 that are neighbours in the dimension which is summed over,
// whose two products one instruction adds to a float32.
#pragma once
#include "lanes.h"

namespace mixmatch {
namespace {

template <class T> constexpr int64_t kPair = 4 / sizeof(T);

template <class T> Floats dot(Floats sum, uint32_t a, Words b) {
  if constexpr (kPair<T> == 1) {
    float x;
    Floats y;
    std::memcpy(&x, &a, sizeof x);
    std::memcpy(&y, &b, sizeof y);
    return sum + x * y;
  }
#ifdef __AVX512BF16__
  if constexpr (kPair<T> == 2) {
    const Words all = Words{} + a;
    return reinterpret_cast<Floats>(_mm512_dpbf16_ps(reinterpret_cast<__m512>(sum), reinterpret_cast<__m512bh>(all),
                                                     reinterpret_cast<__m512bh>(b)));
  }
#endif
}

// Where a matrix's words lie: those of a row `row` apart, those that are summed over `step`.
struct Words2d {
  const uint32_t *at;
  int64_t row, step;
};

// c (M rows, N vectors of lanes) = or += a·b over `steps` words.
template <class T, int M, int N>
void block(Words2d a, const uint32_t *b, int64_t b_step, int64_t steps, float *c, int64_t c_row, bool add) {
  Floats sum[M][N];
  for (int m = 0; m < M; ++m) {
    for (int n = 0; n < N; ++n) {
      sum[m][n] = add ? load<Floats>(c + m * c_row + n * kLanes) : Floats{};
    }
  }
  for (int64_t s = 0; s < steps; ++s) {
    Words right[N];
    for (int n = 0; n < N; ++n) {
      std::memcpy(&right[n], b + s * b_step + n * kLanes, sizeof right[n]);
    }
#pragma GCC unroll 12
    for (int m = 0; m < M; ++m) {
      const uint32_t left = a.at[m * a.row + s * a.step];
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) {
        sum[m][n] = dot<T>(sum[m][n], left, right[n]);
      }
    }
  }
  for (int m = 0; m < M; ++m) {
    for (int n = 0; n < N; ++n) {
      store(c + m * c_row + n * kLanes, sum[m][n]);
    }
  }
}

template <class T, int N>
void blocks(Words2d a, int64_t rows, const uint32_t *b, int64_t b_step, int64_t steps, float *c, int64_t c_row, bool add) {
  constexpr int M = N == 4 ? 6 : N == 2 ? 8 : 12; // with N, as many sums as there are registers for
  const auto of = [&](auto count) {
    constexpr int m = decltype(count)::value;
    block<T, m, N>(a, b, b_step, steps, c, c_row, add);
    a.at += m * a.row;
    c += m * c_row;
    rows -= m;
  };
  // Of even numbers none is left over: 8 are 4 and 4.
  while (rows >= M && (M != 6 || rows != 8)) {
    of(std::integral_constant<int, M>());
  }
  while (rows >= 4) {
    of(std::integral_constant<int, 4>());
  }
  while (rows > 0) {
    of(std::integral_constant<int, 1>());
  }
}

// c [rows, channels] = or += a·b, b's rows and c's `channels` apart, a multiple of 16.
template <class T>
void product(Words2d a, int64_t rows, const uint32_t *b, int64_t steps, float *c, int64_t channels, bool add) {
  int64_t n = 0;
  for (; n + 4 * kLanes <= channels; n += 4 * kLanes) {
    blocks<T, 4>(a, rows, b + n, channels, steps, c + n, channels, add);
  }
  for (; n + 2 * kLanes <= channels; n += 2 * kLanes) {
    blocks<T, 2>(a, rows, b + n, channels, steps, c + n, channels, add);
  }
  for (; n < channels; n += kLanes) {
    blocks<T, 1>(a, rows, b + n, channels, steps, c + n, channels, add);
  }
}

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
