// Matrix products that stay in registers, of small matrices in the cache.
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

// sum (M rows, N vectors of lanes) += a·b over `steps` words.
template <class T, int M, int N>
__attribute__((always_inline)) inline void add_product(Floats (&sum)[M][N], Words2d a, const uint32_t *b, int64_t b_step,
                                                       int64_t steps) {
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
}

// c (M rows, N vectors of lanes) = or += a·b over `steps` words.
template <class T, int M, int N>
void block(Words2d a, const uint32_t *b, int64_t b_step, int64_t steps, float *c, int64_t c_row, bool add) {
  Floats sum[M][N];
  for (int m = 0; m < M; ++m) {
    for (int n = 0; n < N; ++n) {
      sum[m][n] = add ? load<Floats>(c + m * c_row + n * kLanes) : Floats{};
    }
  }
  add_product<T>(sum, a, b, b_step, steps);
  for (int m = 0; m < M; ++m) {
    for (int n = 0; n < N; ++n) {
      store(c + m * c_row + n * kLanes, sum[m][n]);
    }
  }
}

// Vectors of a row that are met together: with AVX-512 twice as many registers hold the sums.
#ifdef __AVX512F__
constexpr int kVectors = 4;
#else
constexpr int kVectors = 2;
#endif

// `of(count, first)` for so many rows at a time: with N vectors, as many sums as there are registers for.
template <int N, class Of> void for_blocks(int64_t rows, Of of) {
  constexpr int M = N == kVectors ? 6 : N == 2 ? 8 : 12;
  int64_t row = 0;
  // Of even numbers none is left over: 8 are 4 and 4.
  for (; rows - row >= M && (M != 6 || rows - row != 8); row += M) {
    of(std::integral_constant<int, M>(), row);
  }
  for (; rows - row >= 4; row += 4) {
    of(std::integral_constant<int, 4>(), row);
  }
  for (; row < rows; ++row) {
    of(std::integral_constant<int, 1>(), row);
  }
}

// `of(vectors, first)` for so many vectors of the channels at a time, all of them.
template <class Of> void for_vectors(int64_t channels, Of of) {
  int64_t n = 0;
  if constexpr (kVectors > 2) {
    for (; n + kVectors * kLanes <= channels; n += kVectors * kLanes) {
      of(std::integral_constant<int, kVectors>(), n);
    }
  }
  for (; n + 2 * kLanes <= channels; n += 2 * kLanes) {
    of(std::integral_constant<int, 2>(), n);
  }
  for (; n < channels; n += kLanes) {
    of(std::integral_constant<int, 1>(), n);
  }
}

template <class T, int N>
void blocks(Words2d a, int64_t rows, const uint32_t *b, int64_t b_step, int64_t steps, float *c, int64_t c_row, bool add) {
  for_blocks<N>(rows, [&](auto count, int64_t row) {
    block<T, decltype(count)::value, N>({a.at + row * a.row, a.row, a.step}, b, b_step, steps, c + row * c_row, c_row, add);
  });
}

// Products whose sum is wanted: one for each number of a convolution's kernel.
struct Taps {
  const uint32_t *a[9], *b[9];
  int count = 0;
  void add(const uint32_t *left, const uint32_t *right) {
    a[count] = left;
    b[count++] = right;
  }
};

template <class T, int M, int N>
__attribute__((noinline)) void taps_block(const Taps &taps, int64_t row, int64_t n, int64_t steps, T *c, int64_t channels) {
  Floats sum[M][N];
  for (int m = 0; m < M; ++m) {
    for (int k = 0; k < N; ++k) {
      sum[m][k] = Floats{};
    }
  }
  for (int t = 0; t < taps.count; ++t) {
    add_product<T>(sum, {taps.a[t] + row * steps, steps, 1}, taps.b[t] + n, channels, steps);
  }
  for (int m = 0; m < M; ++m) {
    for (int k = 0; k < N; ++k) {
      store(c + (row + m) * channels + n + k * kLanes, sum[m][k]);
    }
  }
}

// c [rows, channels] = Σ a·b over the taps, a's rows [steps] beside each other, b's and c's `channels` apart, a multiple of 16; after each
// block `made` is called.
template <class T, class Made>
void sum_of_products(const Taps &taps, int64_t rows, int64_t steps, T *c, int64_t channels, Made &made) {
  for_vectors(channels, [&](auto vectors, int64_t n) {
    constexpr int N = decltype(vectors)::value;
    for_blocks<N>(rows, [&](auto count, int64_t row) {
      taps_block<T, decltype(count)::value, N>(taps, row, n, steps, c, channels);
      made(decltype(count)::value * N);
    });
  });
}

// c [rows, channels] = or += a·b, b's rows and c's `channels` apart, a multiple of 16.
template <class T>
void product(Words2d a, int64_t rows, const uint32_t *b, int64_t steps, float *c, int64_t channels, bool add) {
  for_vectors(channels, [&](auto vectors, int64_t n) {
    blocks<T, decltype(vectors)::value>(a, rows, b + n, channels, steps, c + n, channels, add);
  });
}

} // namespace
} // namespace mixmatch
