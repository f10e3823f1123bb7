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

// Below, a chunk is N vectors of channels, whose constants and sums stay in registers over all rows.

template <class T, class V, int N>
void statistics_chunk(const T *x, int64_t rows, int64_t stride, double *sum, double *square) {
  for (int64_t from = 0; from < rows; from += kRows) {
    const int64_t to = from + kRows < rows ? from + kRows : rows;
    V s[N] = {}, q[N] = {};
    for (int64_t row = from; row < to; ++row) {
      for (int n = 0; n < N; ++n) {
        const V value = load<V>(x + row * stride + n * kWidth<V>);
        s[n] += value;
        q[n] += value * value;
      }
    }
    for (int n = 0; n < N; ++n) {
      add_to(sum + n * kWidth<V>, s[n]);
      add_to(square + n * kWidth<V>, q[n]);
    }
  }
}

template <class T, class V, int N>
void add_statistics_chunk(const T *a, const T *b, T *s, int64_t rows, int64_t stride, double *sum, double *square) {
  for (int64_t from = 0; from < rows; from += kRows) {
    const int64_t to = from + kRows < rows ? from + kRows : rows;
    V u[N] = {}, q[N] = {};
    for (int64_t row = from; row < to; ++row) {
      for (int n = 0; n < N; ++n) {
        const int64_t at = row * stride + n * kWidth<V>;
        store(s + at, load<V>(a + at) + load<V>(b + at));
        const V value = load<V>(s + at); // as it was rounded
        u[n] += value;
        q[n] += value * value;
      }
    }
    for (int n = 0; n < N; ++n) {
      add_to(sum + n * kWidth<V>, u[n]);
      add_to(square + n * kWidth<V>, q[n]);
    }
  }
}

// `put` writes where it is told what was activated.
template <class T, class U, class V, int N, class Put>
void apply_chunk(const T *x, U *y, int64_t rows, int64_t stride, const float *scale, const float *shift, float slope,
                 Put put) {
  V a[N], b[N];
  for (int n = 0; n < N; ++n) {
    a[n] = load<V>(scale + n * kWidth<V>);
    b[n] = load<V>(shift + n * kWidth<V>);
  }
  for (int64_t row = 0; row < rows; ++row) {
    for (int n = 0; n < N; ++n) {
      const int64_t at = row * stride + n * kWidth<V>;
      const V z = load<V>(x + at) * a[n] + b[n];
      put(y + at, z * slope_at(z, slope));
    }
  }
}

template <class T, class V, int N>
void backward_statistics_chunk(const T *x, const T *dy, int64_t rows, int64_t stride, const float *scale,
                               const float *shift, float slope, double *sum_g, double *sum_gx) {
  V a[N], b[N];
  for (int n = 0; n < N; ++n) {
    a[n] = load<V>(scale + n * kWidth<V>);
    b[n] = load<V>(shift + n * kWidth<V>);
  }
  for (int64_t from = 0; from < rows; from += kRows) {
    const int64_t to = from + kRows < rows ? from + kRows : rows;
    V s[N] = {}, q[N] = {};
    for (int64_t row = from; row < to; ++row) {
      for (int n = 0; n < N; ++n) {
        const int64_t at = row * stride + n * kWidth<V>;
        const V value = load<V>(x + at);
        const V g = load<V>(dy + at) * slope_at<V>(value * a[n] + b[n], slope);
        s[n] += g;
        q[n] += g * value;
      }
    }
    for (int n = 0; n < N; ++n) {
      add_to(sum_g + n * kWidth<V>, s[n]);
      add_to(sum_gx + n * kWidth<V>, q[n]);
    }
  }
}

template <class T, class V, int N, bool More>
void backward_apply_chunk(const T *x, const T *dy, const T *more, T *dx, int64_t rows, int64_t stride,
                          const float *scale, const float *shift, float slope, const float *p, const float *q) {
  V a[N], b[N], u[N], v[N];
  for (int n = 0; n < N; ++n) {
    const int64_t c = n * kWidth<V>;
    a[n] = load<V>(scale + c);
    b[n] = load<V>(shift + c);
    u[n] = load<V>(p + c);
    v[n] = load<V>(q + c);
  }
  for (int64_t row = 0; row < rows; ++row) {
    for (int n = 0; n < N; ++n) {
      const int64_t at = row * stride + n * kWidth<V>;
      const V value = load<V>(x + at);
      const V g = load<V>(dy + at) * slope_at<V>(value * a[n] + b[n], slope);
      V own = g * a[n] + value * u[n] + v[n];
      if constexpr (More) {
        own += load<V>(more + at);
      }
      store(dx + at, own);
    }
  }
}

// What a chunk is made of, as types.
template <class V, int N> struct Chunk {
  using Lane = V;
  static constexpr int count = N;
};

// Calls `step` with the largest chunk of channels that fits.
template <class Step> void for_chunks(int64_t channels, Step step) {
  int64_t c = 0;
  for (; c + 2 * kLanes <= channels; c += 2 * kLanes) {
    step(c, Chunk<Floats, 2>());
  }
  for (; c + kLanes <= channels; c += kLanes) {
    step(c, Chunk<Floats, 1>());
  }
  for (; c < channels; ++c) {
    step(c, Chunk<float, 1>());
  }
}

// Parts of rows small enough for the cache, so that the chunks of a row's channels are read from memory once.
template <class Step> void for_blocks(int64_t rows, int64_t channels, Step step) {
  const int64_t block = 16384 / channels > 16 ? 16384 / channels : 16;
  for (int64_t row = 0; row < rows; row += block) {
    step(row, block < rows - row ? block : rows - row);
  }
}

template <class T> void statistics(const T *x, int64_t rows, int64_t channels, double *sum, double *square) {
  for_blocks(rows, channels, [&](int64_t row, int64_t count) {
    for_chunks(channels, [&](int64_t c, auto chunk) {
      statistics_chunk<T, typename decltype(chunk)::Lane, chunk.count>(x + row * channels + c, count, channels, sum + c, square + c);
    });
  });
}

template <class T>
void add_statistics(const T *a, const T *b, T *s, int64_t rows, int64_t channels, double *sum, double *square) {
  for_blocks(rows, channels, [&](int64_t row, int64_t count) {
    for_chunks(channels, [&](int64_t c, auto chunk) {
      const int64_t at = row * channels + c;
      add_statistics_chunk<T, typename decltype(chunk)::Lane, chunk.count>(a + at, b + at, s + at, count, channels, sum + c, square + c);
    });
  });
}

template <class T, class U, class Put>
void apply(const T *x, U *y, int64_t rows, int64_t channels, const float *scale, const float *shift, float slope,
           Put put) {
  for_blocks(rows, channels, [&](int64_t row, int64_t count) {
    for_chunks(channels, [&](int64_t c, auto chunk) {
      const int64_t at = row * channels + c;
      apply_chunk<T, U, typename decltype(chunk)::Lane, chunk.count>(x + at, y + at, count, channels, scale + c, shift + c, slope, put);
    });
  });
}

template <class T>
void backward_statistics(const T *x, const T *dy, int64_t rows, int64_t channels, const float *scale,
                         const float *shift, float slope, double *sum_g, double *sum_gx) {
  for_blocks(rows, channels, [&](int64_t row, int64_t count) {
    for_chunks(channels, [&](int64_t c, auto chunk) {
      const int64_t at = row * channels + c;
      backward_statistics_chunk<T, typename decltype(chunk)::Lane, chunk.count>(x + at, dy + at, count, channels, scale + c, shift + c, slope,
                                                sum_g + c, sum_gx + c);
    });
  });
}

template <class T>
void backward_apply(const T *x, const T *dy, const T *more, T *dx, int64_t rows, int64_t channels, const float *scale,
                    const float *shift, float slope, const float *p, const float *q) {
  for_blocks(rows, channels, [&](int64_t row, int64_t count) {
    for_chunks(channels, [&](int64_t c, auto chunk) {
      const int64_t at = row * channels + c;
      if (more) {
        backward_apply_chunk<T, typename decltype(chunk)::Lane, chunk.count, true>(x + at, dy + at, more + at, dx + at, count, channels, scale + c,
                                                   shift + c, slope, p + c, q + c);
      } else {
        backward_apply_chunk<T, typename decltype(chunk)::Lane, chunk.count, false>(x + at, dy + at, nullptr, dx + at, count, channels, scale + c,
                                                    shift + c, slope, p + c, q + c);
      }
    });
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
