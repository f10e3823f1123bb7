// Compiled three times with NORM_ACT_TABLE = norm_act_v1, _v3, _v4 and the matching -march. The loops are written so
// that the compiler turns a chunk of channels into vector registers that live over all rows; no intrinsics.
#include "norm_act_kernels.h"

#include <cstring>
#include <type_traits>

namespace mixmatch {
namespace {

// bfloat16 is the upper half of a float.
struct Bf16 {
  uint16_t bits;
};

inline float load(const float *at) { return *at; }

inline float load(const Bf16 *at) {
  const uint32_t bits = static_cast<uint32_t>(at->bits) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline void store(float *at, float value) { *at = value; }

// Round to nearest, ties to even. A NaN of the usual form stays one.
inline void store(Bf16 *at, float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  at->bits = static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// Rows whose sums are kept in float before they go into a double: few enough that rounding stays below 1e-5.
constexpr int64_t kRows = 256;

template <class T, int W>
void statistics_chunk(const T *x, int64_t rows, int64_t stride, double *sum, double *square) {
  for (int64_t from = 0; from < rows; from += kRows) {
    const int64_t to = from + kRows < rows ? from + kRows : rows;
    float s[W] = {}, q[W] = {};
    for (int64_t row = from; row < to; ++row) {
      const T *at = x + row * stride;
      for (int c = 0; c < W; ++c) {
        const float value = load(at + c);
        s[c] += value;
        q[c] += value * value;
      }
    }
    for (int c = 0; c < W; ++c) {
      sum[c] += s[c];
      square[c] += q[c];
    }
  }
}

template <class T, int W>
void add_statistics_chunk(const T *a, const T *b, T *s, int64_t rows, int64_t stride, double *sum, double *square) {
  for (int64_t from = 0; from < rows; from += kRows) {
    const int64_t to = from + kRows < rows ? from + kRows : rows;
    float u[W] = {}, q[W] = {};
    for (int64_t row = from; row < to; ++row) {
      const T *__restrict at_a = a + row * stride;
      const T *__restrict at_b = b + row * stride;
      T *__restrict at_s = s + row * stride;
      for (int c = 0; c < W; ++c) {
        store(at_s + c, load(at_a + c) + load(at_b + c));
        const float value = load(at_s + c);
        u[c] += value;
        q[c] += value * value;
      }
    }
    for (int c = 0; c < W; ++c) {
      sum[c] += u[c];
      square[c] += q[c];
    }
  }
}

template <class T, int W>
void apply_chunk(const T *x, T *y, int64_t rows, int64_t stride, const float *scale, const float *shift, float slope) {
  float a[W], b[W];
  for (int c = 0; c < W; ++c) {
    a[c] = scale[c];
    b[c] = shift[c];
  }
  for (int64_t row = 0; row < rows; ++row) {
    const T *__restrict from = x + row * stride;
    T *__restrict to = y + row * stride;
    for (int c = 0; c < W; ++c) {
      const float z = load(from + c) * a[c] + b[c];
      store(to + c, z > 0 ? z : z * slope);
    }
  }
}

template <class T, int W>
void backward_statistics_chunk(const T *x, const T *dy, int64_t rows, int64_t stride, const float *scale,
                               const float *shift, float slope, double *sum_g, double *sum_gx) {
  float a[W], b[W];
  for (int c = 0; c < W; ++c) {
    a[c] = scale[c];
    b[c] = shift[c];
  }
  for (int64_t from = 0; from < rows; from += kRows) {
    const int64_t to = from + kRows < rows ? from + kRows : rows;
    float s[W] = {}, q[W] = {};
    for (int64_t row = from; row < to; ++row) {
      const T *at_x = x + row * stride;
      const T *at_dy = dy + row * stride;
      for (int c = 0; c < W; ++c) {
        const float value = load(at_x + c);
        const float upstream = load(at_dy + c);
        const float g = value * a[c] + b[c] > 0 ? upstream : upstream * slope;
        s[c] += g;
        q[c] += g * value;
      }
    }
    for (int c = 0; c < W; ++c) {
      sum_g[c] += s[c];
      sum_gx[c] += q[c];
    }
  }
}

template <class T, int W, bool More>
void backward_apply_chunk(const T *x, const T *dy, const T *more, T *dx, int64_t rows, int64_t stride,
                          const float *scale, const float *shift, float slope, const float *p, const float *q) {
  float a[W], b[W], u[W], v[W];
  for (int c = 0; c < W; ++c) {
    a[c] = scale[c];
    b[c] = shift[c];
    u[c] = p[c];
    v[c] = q[c];
  }
  for (int64_t row = 0; row < rows; ++row) {
    const T *__restrict at_x = x + row * stride;
    const T *__restrict at_dy = dy + row * stride;
    const T *__restrict at_more = More ? more + row * stride : nullptr;
    T *__restrict to = dx + row * stride;
    for (int c = 0; c < W; ++c) {
      const float value = load(at_x + c);
      const float upstream = load(at_dy + c);
      const float g = value * a[c] + b[c] > 0 ? upstream : upstream * slope;
      const float own = g * a[c] + value * u[c] + v[c];
      store(to + c, More ? own + load(at_more + c) : own);
    }
  }
}

// Calls `step` with the largest chunk of channels that fits, as a compile-time constant.
template <class Step> void for_chunks(int64_t channels, Step step) {
  int64_t c = 0;
  for (; c + 32 <= channels; c += 32) {
    step(c, std::integral_constant<int, 32>());
  }
  for (; c + 16 <= channels; c += 16) {
    step(c, std::integral_constant<int, 16>());
  }
  for (; c < channels; ++c) {
    step(c, std::integral_constant<int, 1>());
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
    for_chunks(channels, [&](int64_t c, auto width) {
      statistics_chunk<T, width.value>(x + row * channels + c, count, channels, sum + c, square + c);
    });
  });
}

template <class T>
void add_statistics(const T *a, const T *b, T *s, int64_t rows, int64_t channels, double *sum, double *square) {
  for_blocks(rows, channels, [&](int64_t row, int64_t count) {
    for_chunks(channels, [&](int64_t c, auto width) {
      const int64_t at = row * channels + c;
      add_statistics_chunk<T, width.value>(a + at, b + at, s + at, count, channels, sum + c, square + c);
    });
  });
}

template <class T>
void apply(const T *x, T *y, int64_t rows, int64_t channels, const float *scale, const float *shift, float slope) {
  for_blocks(rows, channels, [&](int64_t row, int64_t count) {
    for_chunks(channels, [&](int64_t c, auto width) {
      const int64_t at = row * channels + c;
      apply_chunk<T, width.value>(x + at, y + at, count, channels, scale + c, shift + c, slope);
    });
  });
}

template <class T>
void backward_statistics(const T *x, const T *dy, int64_t rows, int64_t channels, const float *scale,
                         const float *shift, float slope, double *sum_g, double *sum_gx) {
  for_blocks(rows, channels, [&](int64_t row, int64_t count) {
    for_chunks(channels, [&](int64_t c, auto width) {
      const int64_t at = row * channels + c;
      backward_statistics_chunk<T, width.value>(x + at, dy + at, count, channels, scale + c, shift + c, slope,
                                                sum_g + c, sum_gx + c);
    });
  });
}

template <class T>
void backward_apply(const T *x, const T *dy, const T *more, T *dx, int64_t rows, int64_t channels, const float *scale,
                    const float *shift, float slope, const float *p, const float *q) {
  for_blocks(rows, channels, [&](int64_t row, int64_t count) {
    for_chunks(channels, [&](int64_t c, auto width) {
      const int64_t at = row * channels + c;
      if (more) {
        backward_apply_chunk<T, width.value, true>(x + at, dy + at, more + at, dx + at, count, channels, scale + c,
                                                   shift + c, slope, p + c, q + c);
      } else {
        backward_apply_chunk<T, width.value, false>(x + at, dy + at, nullptr, dx + at, count, channels, scale + c,
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
      if (bf16) {
        apply(static_cast<const Bf16 *>(x), static_cast<Bf16 *>(y), rows, channels, scale, shift, slope);
      } else {
        apply(static_cast<const float *>(x), static_cast<float *>(y), rows, channels, scale, shift, slope);
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
