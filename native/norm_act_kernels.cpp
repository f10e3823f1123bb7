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

template <class V> void add_to(double *sums, V values) {
  float each[kWidth<V>];
  std::memcpy(each, &values, sizeof each);
  for (int lane = 0; lane < kWidth<V>; ++lane) {
    sums[lane] += each[lane];
  }
}

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
    V s[N] = {}, q[N] = {};
    for (int64_t row = from; row < to; ++row) {
      for (int n = 0; n < N; ++n) {
        const V value = load<V>(x.at + row * block.channels + n * kWidth<V>);
        s[n] += value;
        q[n] += value * value;
      }
      x.template next<V, N>();
    }
    for (int n = 0; n < N; ++n) {
      add_to(sum + n * kWidth<V>, s[n]);
      add_to(square + n * kWidth<V>, q[n]);
    }
  }
}

template <class T, class V, int N>
void add_statistics_chunk(const Block &block, Part<const T> a, Part<const T> b, Part<T> s, double *sum, double *square) {
  for (int64_t from = 0; from < block.rows; from += kRows) {
    const int64_t to = from + kRows < block.rows ? from + kRows : block.rows;
    V u[N] = {}, q[N] = {};
    for (int64_t row = from; row < to; ++row) {
      for (int n = 0; n < N; ++n) {
        const int64_t at = row * block.channels + n * kWidth<V>;
        store(s.at + at, load<V>(a.at + at) + load<V>(b.at + at));
        const V value = load<V>(s.at + at); // as it was rounded
        u[n] += value;
        q[n] += value * value;
      }
      a.template next<V, N>();
      b.template next<V, N>();
      s.template next<V, N>();
    }
    for (int n = 0; n < N; ++n) {
      add_to(sum + n * kWidth<V>, u[n]);
      add_to(square + n * kWidth<V>, q[n]);
    }
  }
}

// `put` writes where it is told what was activated.
template <class T, class U, class V, int N, class Put>
void apply_chunk(const Block &block, Part<const T> x, Part<U> y, const float *scale, const float *shift, float slope, Put put) {
  V a[N], b[N];
  for (int n = 0; n < N; ++n) {
    a[n] = load<V>(scale + n * kWidth<V>);
    b[n] = load<V>(shift + n * kWidth<V>);
  }
  for (int64_t row = 0; row < block.rows; ++row) {
    for (int n = 0; n < N; ++n) {
      const int64_t at = row * block.channels + n * kWidth<V>;
      const V z = load<V>(x.at + at) * a[n] + b[n];
      put(y.at + at, z * slope_at(z, slope));
    }
    x.template next<V, N>();
    y.template next<V, N>();
  }
}

template <class T, class V, int N>
void backward_statistics_chunk(const Block &block, Part<const T> x, Part<const T> dy, const float *scale, const float *shift,
                               float slope, double *sum_g, double *sum_gx) {
  V a[N], b[N];
  for (int n = 0; n < N; ++n) {
    a[n] = load<V>(scale + n * kWidth<V>);
    b[n] = load<V>(shift + n * kWidth<V>);
  }
  for (int64_t from = 0; from < block.rows; from += kRows) {
    const int64_t to = from + kRows < block.rows ? from + kRows : block.rows;
    V s[N] = {}, q[N] = {};
    for (int64_t row = from; row < to; ++row) {
      for (int n = 0; n < N; ++n) {
        const int64_t at = row * block.channels + n * kWidth<V>;
        const V value = load<V>(x.at + at);
        const V g = load<V>(dy.at + at) * slope_at<V>(value * a[n] + b[n], slope);
        s[n] += g;
        q[n] += g * value;
      }
      x.template next<V, N>();
      dy.template next<V, N>();
    }
    for (int n = 0; n < N; ++n) {
      add_to(sum_g + n * kWidth<V>, s[n]);
      add_to(sum_gx + n * kWidth<V>, q[n]);
    }
  }
}

template <class T, class V, int N, bool More>
void backward_apply_chunk(const Block &block, Part<const T> x, Part<const T> dy, Part<const T> more, Part<T> dx,
                          const float *scale, const float *shift, float slope, const float *p, const float *q) {
  V a[N], b[N], u[N], v[N];
  for (int n = 0; n < N; ++n) {
    const int64_t c = n * kWidth<V>;
    a[n] = load<V>(scale + c);
    b[n] = load<V>(shift + c);
    u[n] = load<V>(p + c);
    v[n] = load<V>(q + c);
  }
  for (int64_t row = 0; row < block.rows; ++row) {
    for (int n = 0; n < N; ++n) {
      const int64_t at = row * block.channels + n * kWidth<V>;
      const V value = load<V>(x.at + at);
      const V g = load<V>(dy.at + at) * slope_at<V>(value * a[n] + b[n], slope);
      V own = g * a[n] + value * u[n] + v[n];
      if constexpr (More) {
        own += load<V>(more.at + at);
      }
      store(dx.at + at, own);
    }
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
      const auto put = [](auto *at, auto value) { store(at, value); };
      if (bf16) {
        apply(static_cast<const Bf16 *>(x), static_cast<Bf16 *>(y), rows, channels, scale, shift, slope, put);
      } else {
        apply(static_cast<const float *>(x), static_cast<float *>(y), rows, channels, scale, shift, slope, put);
      }
    },
    [](bool bf16, const void *x, uint8_t *y, int64_t rows, int64_t channels, const float *scale, const float *shift,
       float slope, float zero) {
      const auto put = [zero](uint8_t *at, auto value) { store_byte(at, value + zero); };
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
