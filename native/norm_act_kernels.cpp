// Compiled four times with NORM_ACT_TABLE = norm_act_v1, _v3, _v4, _v4_bf16, KERNEL_LEVEL = 1, 3, 4, 5 and the matching -march.
#include "norm_act_kernels.h"

#include "lanes.h"

namespace mixmatch {
namespace {

// Rounded, halves up, and held to 0…255; a NaN is 0.
template <class V> void store_byte(uint8_t *at, V value) {
  value += 0.5f; // what is cut off next rounds
  if constexpr (kWidth<V> == 1) {
    *at = static_cast<uint8_t>(value > 0 ? (value < 255.0f ? value : 255.0f) : 0.0f);
  } else {
    value = value < 255.0f ? value : V{} + 255.0f;
    value = value > 0 ? value : V{};
    const auto bytes = __builtin_convertvector(__builtin_convertvector(value, Ints), Bytes);
    std::memcpy(at, &bytes, sizeof bytes);
  }
}

// The leaky ReLU's slope at z.
template <class V> V slope_at(V z, float slope) {
  if constexpr (kWidth<V> == 1) {
    return z > 0 ? 1.0f : slope;
  } else {
    return z > 0 ? V{} + 1.0f : V{} + slope;
  }
}

// How the loops below meet N vectors of channels.
template <class T, class V, int N> struct Met : InOrder<T, V, N> {};
#ifdef __AVX512BF16__
template <> struct Met<Bf16, Floats, 2> : EvenAndOdd {};
#endif

// Rows whose sums are kept in float before they go into a double: few enough that rounding stays below 1e-5. The variance that
// comes of the sums is a difference, E[x²] − mean², and less exact the further the mean is from 0: measured with these loops
// over 49,152 rows, its relative error is 1e-5 where |mean| is 10 standard deviations, .1 % at 100, 1 % at 300 and 10 % at 1000.
// Networks that are trained here have at most 5 (WRN) and 40 (wide_resnet50_2 from random weights).
constexpr int64_t kRows = 256;

// Numbers that are gone through by rows, a chunk of channels at a time, and those of the next block, which are asked for meanwhile in the order
// in which they lie: the chunks of a row lie beside each other and are met one block of rows after the other, which no processor foresees.
template <class T> struct Part {
  T *at, *ahead;

  // When N vectors were read or written.
  template <class V, int N> void next() {
    constexpr int count = N * kWidth<V>;
    if constexpr (kWidth<V> > 1) {
      ask_for(ahead, count * sizeof(T));
    }
    ahead += count;
  }
};

// The chunk from channel `c` on of a block of rows.
struct Block {
  int64_t row, rows, c, channels;
  template <class T> Part<T> of(T *all) const {
    return {all + row * channels + c, all + (row + rows) * channels + c * rows};
  }
};

// Below, a chunk is N vectors of channels, whose constants and sums stay in registers over all rows.

template <class T, class V, int N> void statistics_chunk(const Block &block, Part<const T> x, double *sum, double *square) {
  for (int64_t from = 0; from < block.rows; from += kRows) {
    const int64_t to = from + kRows < block.rows ? from + kRows : block.rows;
    V s[2][N] = {}, q[2][N] = {};
    int64_t row = from;
    const auto one = [&](int turn) {
      V value[N];
      Met<T, V, N>::load(x.at + row * block.channels, value);
      for (int n = 0; n < N; ++n) {
        s[turn][n] += value[n];
        q[turn][n] += value[n] * value[n];
      }
      x.template next<V, N>();
      ++row;
    };
    while (to - row >= 2) {
      one(0);
      one(1);
    }
    if (row < to) {
      one(0);
    }
    for (int n = 0; n < N; ++n) {
      s[0][n] += s[1][n];
      q[0][n] += q[1][n];
    }
    Met<T, V, N>::add_to(sum, s[0]);
    Met<T, V, N>::add_to(square, q[0]);
  }
}

template <class T, class V, int N>
void add_statistics_chunk(const Block &block, Part<const T> a, Part<const T> b, Part<T> s, double *sum, double *square) {
  using As = Met<T, V, N>;
  for (int64_t from = 0; from < block.rows; from += kRows) {
    const int64_t to = from + kRows < block.rows ? from + kRows : block.rows;
    V u[N] = {}, q[N] = {};
    for (int64_t row = from; row < to; ++row) {
      const int64_t at = row * block.channels;
      V value[N], plus[N];
      As::load(a.at + at, value);
      As::load(b.at + at, plus);
      for (int n = 0; n < N; ++n) {
        value[n] += plus[n];
      }
      As::store(s.at + at, value);
      As::load(s.at + at, value); // as it was rounded
      for (int n = 0; n < N; ++n) {
        u[n] += value[n];
        q[n] += value[n] * value[n];
      }
      a.template next<V, N>();
      b.template next<V, N>();
      s.template next<V, N>();
    }
    As::add_to(sum, u);
    As::add_to(square, q);
  }
}

// How what was activated is written: as x is, or rounded to bytes.
struct AsItIs {
  template <class As, class T, class V, int N> void put(T *at, const V (&values)[N]) const { As::store(at, values); }
};

struct InBytes {
  float zero;
  template <class As, class V, int N> void put(uint8_t *at, const V (&values)[N]) const {
    for (int n = 0; n < N; ++n) {
      store_byte(at + n * kWidth<V>, values[n] + zero);
    }
  }
};

template <class T, class U, class V, int N, class Put>
void apply_chunk(const Block &block, Part<const T> x, Part<U> y, const float *scale, const float *shift, float slope, Put put) {
  using As = std::conditional_t<std::is_same_v<T, U>, Met<T, V, N>, InOrder<T, V, N>>;
  V a[N], b[N];
  As::constants(scale, a);
  As::constants(shift, b);
  for (int64_t row = 0; row < block.rows; ++row) {
    V values[N];
    As::load(x.at + row * block.channels, values);
    for (int n = 0; n < N; ++n) {
      const V z = values[n] * a[n] + b[n];
      values[n] = z * slope_at(z, slope);
    }
    put.template put<As>(y.at + row * block.channels, values);
    x.template next<V, N>();
    y.template next<V, N>();
  }
}

template <class T, class V, int N>
void backward_statistics_chunk(const Block &block, Part<const T> x, Part<const T> dy, const float *scale, const float *shift,
                               float slope, double *sum_g, double *sum_gx) {
  V a[N], b[N];
  Met<T, V, N>::constants(scale, a);
  Met<T, V, N>::constants(shift, b);
  for (int64_t from = 0; from < block.rows; from += kRows) {
    const int64_t to = from + kRows < block.rows ? from + kRows : block.rows;
    V s[N] = {}, q[N] = {};
    for (int64_t row = from; row < to; ++row) {
      V value[N], g[N];
      Met<T, V, N>::load(x.at + row * block.channels, value);
      Met<T, V, N>::load(dy.at + row * block.channels, g);
      for (int n = 0; n < N; ++n) {
        g[n] *= slope_at<V>(value[n] * a[n] + b[n], slope);
        s[n] += g[n];
        q[n] += g[n] * value[n];
      }
      x.template next<V, N>();
      dy.template next<V, N>();
    }
    Met<T, V, N>::add_to(sum_g, s);
    Met<T, V, N>::add_to(sum_gx, q);
  }
}

template <class T, class V, int N, bool More>
void backward_apply_chunk(const Block &block, Part<const T> x, Part<const T> dy, Part<const T> more, Part<T> dx,
                          const float *scale, const float *shift, float slope, const float *p, const float *q) {
  using As = Met<T, V, N>;
  V a[N], b[N], u[N], v[N];
  As::constants(scale, a);
  As::constants(shift, b);
  As::constants(p, u);
  As::constants(q, v);
  for (int64_t row = 0; row < block.rows; ++row) {
    const int64_t at = row * block.channels;
    V value[N], g[N], own[N], plus[N];
    As::load(x.at + at, value);
    As::load(dy.at + at, g);
    if constexpr (More) {
      As::load(more.at + at, plus);
    }
    for (int n = 0; n < N; ++n) {
      g[n] *= slope_at<V>(value[n] * a[n] + b[n], slope);
      own[n] = g[n] * a[n] + value[n] * u[n] + v[n];
      if constexpr (More) {
        own[n] += plus[n];
      }
    }
    As::store(dx.at + at, own);
    x.template next<V, N>();
    dy.template next<V, N>();
    if constexpr (More) {
      more.template next<V, N>();
    }
    dx.template next<V, N>();
  }
}

// What a chunk is made of, as types.
template <class V, int N> struct Chunk {
  using Lane = V;
  static constexpr int count = N;
};

// Calls `step` with blocks of rows small enough for the cache, so that the chunks of a row's channels are read from memory once; of each
// with the largest chunks of channels that fit.
template <class Step> void for_blocks(int64_t rows, int64_t channels, Step step) {
  const int64_t most = 16384 / channels > 16 ? 16384 / channels : 16;
  for (int64_t row = 0; row < rows; row += most) {
    Block block{row, most < rows - row ? most : rows - row, 0, channels};
    for (; block.c + 2 * kLanes <= channels; block.c += 2 * kLanes) {
      step(block, Chunk<Floats, 2>());
    }
    for (; block.c + kLanes <= channels; block.c += kLanes) {
      step(block, Chunk<Floats, 1>());
    }
    for (; block.c < channels; ++block.c) {
      step(block, Chunk<float, 1>());
    }
  }
}

template <class T> void statistics(const T *x, int64_t rows, int64_t channels, double *sum, double *square) {
  for_blocks(rows, channels, [&](const Block &block, auto chunk) {
    statistics_chunk<T, typename decltype(chunk)::Lane, chunk.count>(block, block.of(x), sum + block.c, square + block.c);
  });
}

template <class T>
void add_statistics(const T *a, const T *b, T *s, int64_t rows, int64_t channels, double *sum, double *square) {
  for_blocks(rows, channels, [&](const Block &block, auto chunk) {
    add_statistics_chunk<T, typename decltype(chunk)::Lane, chunk.count>(block, block.of(a), block.of(b), block.of(s),
                                                                         sum + block.c, square + block.c);
  });
}

template <class T, class U, class Put>
void apply(const T *x, U *y, int64_t rows, int64_t channels, const float *scale, const float *shift, float slope,
           Put put) {
  for_blocks(rows, channels, [&](const Block &block, auto chunk) {
    apply_chunk<T, U, typename decltype(chunk)::Lane, chunk.count>(block, block.of(x), block.of(y), scale + block.c,
                                                                   shift + block.c, slope, put);
  });
}

template <class T>
void backward_statistics(const T *x, const T *dy, int64_t rows, int64_t channels, const float *scale,
                         const float *shift, float slope, double *sum_g, double *sum_gx) {
  for_blocks(rows, channels, [&](const Block &block, auto chunk) {
    backward_statistics_chunk<T, typename decltype(chunk)::Lane, chunk.count>(
        block, block.of(x), block.of(dy), scale + block.c, shift + block.c, slope, sum_g + block.c, sum_gx + block.c);
  });
}

template <class T>
void backward_apply(const T *x, const T *dy, const T *more, T *dx, int64_t rows, int64_t channels, const float *scale,
                    const float *shift, float slope, const float *p, const float *q) {
  for_blocks(rows, channels, [&](const Block &block, auto chunk) {
    using V = typename decltype(chunk)::Lane;
    const int64_t c = block.c;
    if (more) {
      backward_apply_chunk<T, V, chunk.count, true>(block, block.of(x), block.of(dy), block.of(more), block.of(dx), scale + c,
                                                    shift + c, slope, p + c, q + c);
    } else {
      backward_apply_chunk<T, V, chunk.count, false>(block, block.of(x), block.of(dy), {}, block.of(dx), scale + c, shift + c,
                                                     slope, p + c, q + c);
    }
  });
}

} // namespace

extern const NormActKernels NORM_ACT_TABLE = {
    [](bool bf16, const void *x, int64_t rows, int64_t channels, double *sum, double *square) {
      if (bf16) {
        statistics(static_cast<const Bf16 *>(x), rows, channels, sum, square);
      } else {
        statistics(static_cast<const float *>(x), rows, channels, sum, square);
      }
    },
    [](bool bf16, const void *a, const void *b, void *s, int64_t rows, int64_t channels, double *sum, double *square) {
      if (bf16) {
        add_statistics(static_cast<const Bf16 *>(a), static_cast<const Bf16 *>(b), static_cast<Bf16 *>(s), rows,
                       channels, sum, square);
      } else {
        add_statistics(static_cast<const float *>(a), static_cast<const float *>(b), static_cast<float *>(s), rows,
                       channels, sum, square);
      }
    },
    [](bool bf16, const void *x, void *y, int64_t rows, int64_t channels, const float *scale, const float *shift,
       float slope) {
      if (bf16) {
        apply(static_cast<const Bf16 *>(x), static_cast<Bf16 *>(y), rows, channels, scale, shift, slope, AsItIs());
      } else {
        apply(static_cast<const float *>(x), static_cast<float *>(y), rows, channels, scale, shift, slope, AsItIs());
      }
    },
    [](bool bf16, const void *x, uint8_t *y, int64_t rows, int64_t channels, const float *scale, const float *shift,
       float slope, float zero) {
      const InBytes put{zero};
      if (bf16) {
        apply(static_cast<const Bf16 *>(x), y, rows, channels, scale, shift, slope, put);
      } else {
        apply(static_cast<const float *>(x), y, rows, channels, scale, shift, slope, put);
      }
    },
    [](bool bf16, const void *x, const void *dy, int64_t rows, int64_t channels, const float *scale,
       const float *shift, float slope, double *sum_g, double *sum_gx) {
      if (bf16) {
        backward_statistics(static_cast<const Bf16 *>(x), static_cast<const Bf16 *>(dy), rows, channels, scale, shift,
                            slope, sum_g, sum_gx);
      } else {
        backward_statistics(static_cast<const float *>(x), static_cast<const float *>(dy), rows, channels, scale,
                            shift, slope, sum_g, sum_gx);
      }
    },
    [](bool bf16, const void *x, const void *dy, const void *more, void *dx, int64_t rows, int64_t channels,
       const float *scale, const float *shift, float slope, const float *p, const float *q) {
      if (bf16) {
        backward_apply(static_cast<const Bf16 *>(x), static_cast<const Bf16 *>(dy), static_cast<const Bf16 *>(more),
                       static_cast<Bf16 *>(dx), rows, channels, scale, shift, slope, p, q);
      } else {
        backward_apply(static_cast<const float *>(x), static_cast<const float *>(dy), static_cast<const float *>(more),
                       static_cast<float *>(dx), rows, channels, scale, shift, slope, p, q);
      }
    },
};

} // namespace mixmatch
