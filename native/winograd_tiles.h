// A row of tiles into the transformed domain and out of it. Part of winograd_kernels.cpp.
//
// Position 4·i + j of a tile is row i, column j of its transformed 4×4. The functions are not inlined: within their callers the compiler
// has too few registers for the addresses.
#pragma once
#include "winograd_products.h"

namespace mixmatch {
namespace {

// Where the numbers of one position lie for a product that sums over channels: [tiles, channels].
template <class T> struct OverChannels {
  T *to;
  int64_t next, channels; // `next`: from one position to the next
  static constexpr int64_t tiles = 1;

  T *at(int64_t tile, int64_t channel) const { return to + tile * channels + channel; }
  void put(T *&at, const Floats value[1]) const {
    store(at, value[0]);
    at += next;
  }
};

// … and for one that sums over tiles: [tiles / pair, channels, pair].
template <class T> struct OverTiles {
  uint32_t *to;
  int64_t next, channels;
  static constexpr int64_t tiles = 2; // which are written together

  uint32_t *at(int64_t tile, int64_t channel) const { return to + tile / kPair<T> * channels + channel; }
  void put(uint32_t *&at, const Floats value[2]) const {
    if constexpr (kPair<T> == 1) {
      std::memcpy(at, &value[0], sizeof value[0]);
      std::memcpy(at + channels, &value[1], sizeof value[1]);
    }
#ifdef __AVX512BF16__
    if constexpr (kPair<T> == 2) {
      const __m512bh both =
          _mm512_cvtne2ps_pbh(reinterpret_cast<__m512>(value[1]), reinterpret_cast<__m512>(value[0]));
      // 0, 16, 1, 17 …: each channel's two tiles beside each other.
      const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                             5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
      const __m512i words = _mm512_permutexvar_epi16(order, reinterpret_cast<__m512i>(both));
      std::memcpy(at, &words, sizeof words);
    }
#endif
    at += next;
  }
};

// Bᵀ·d of four pixels.
inline void input_transform(Floats d0, Floats d1, Floats d2, Floats d3, Floats to[4]) {
  to[0] = d0 - d2;
  to[1] = d1 + d2;
  to[2] = d2 - d1;
  to[3] = d1 - d3;
}

// … of a column.
template <class T> void column(const T *const rows[4], int64_t at, Floats to[4]) {
  input_transform(load<Floats>(rows[0] + at), load<Floats>(rows[1] + at), load<Floats>(rows[2] + at),
                  load<Floats>(rows[3] + at), to);
}

// Bᵀ·d·B for a row of tiles; `rows`: the four rows of pixels that it is made of, of which two belong to the next ones, too.
template <class T, class To>
__attribute__((noinline)) void input_row(const T *const rows[4], int64_t width, int64_t channels, To to) {
  constexpr int64_t n = 2 * To::tiles; // new columns in each turn
  for (int64_t c = 0; c < channels; c += kLanes) {
    const T *const from[4] = {rows[0] + c, rows[1] + c, rows[2] + c, rows[3] + c};
    Floats d[2 + n][4] = {}; // d[0] is the column left of the tile
    column(from, 0, d[1]);
    for (int64_t x = 1; x < width; x += n) {
      for (int64_t k = 0; k < n; ++k) {
        if (k < n - 1 || x + k < width) {
          column(from, (x + k) * channels, d[2 + k]);
        } else {
          for (Floats &value : d[2 + k]) {
            value = Floats{};
          }
        }
      }
      auto at = to.at(x / 2, c);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        Floats v[To::tiles][4];
#pragma GCC unroll 2
        for (int64_t t = 0; t < To::tiles; ++t) {
          input_transform(d[2 * t][i], d[2 * t + 1][i], d[2 * t + 2][i], d[2 * t + 3][i], v[t]);
        }
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
          Floats values[To::tiles];
#pragma GCC unroll 2
          for (int64_t t = 0; t < To::tiles; ++t) {
            values[t] = v[t][j];
          }
          to.put(at, values);
        }
      }
      for (int i = 0; i < 4; ++i) {
        d[0][i] = d[n][i];
        d[1][i] = d[n + 1][i];
      }
    }
  }
}

// A·dy·Aᵀ for a row of tiles: what is multiplied by the transformed input for the gradient of the transformed weight.
template <class T>
__attribute__((noinline)) void gradient_row(const T *top, const T *bottom, int64_t width, int64_t channels, OverTiles<T> to) {
  for (int64_t c = 0; c < channels; c += kLanes) {
    for (int64_t x = 0; x < width; x += 4) {
      Floats left[4][2], right[4][2];
#pragma GCC unroll 2
      for (int t = 0; t < 2; ++t) {
        const int64_t at = (x + 2 * t) * channels + c;
        const Floats a = load<Floats>(top + at), b = load<Floats>(top + at + channels);
        const Floats d = load<Floats>(bottom + at), e = load<Floats>(bottom + at + channels);
        left[0][t] = a;
        left[1][t] = a + d;
        left[2][t] = a - d;
        left[3][t] = -d;
        right[0][t] = b;
        right[1][t] = b + e;
        right[2][t] = b - e;
        right[3][t] = -e;
      }
      auto at = to.at(x / 2, c);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const Floats sum[2] = {left[i][0] + right[i][0], left[i][1] + right[i][1]};
        const Floats difference[2] = {left[i][0] - right[i][0], left[i][1] - right[i][1]};
        const Floats minus[2] = {-right[i][0], -right[i][1]};
        to.put(at, left[i]);
        to.put(at, sum);
        to.put(at, difference);
        to.put(at, minus);
      }
    }
  }
}

// How sixteen channels of a pixel are written, of which the first is `c`. `read`: what is read for those at `out`, or null.
template <class T> struct Plainly {
  void put(T *out, Floats value, int64_t) const { store(out, value); }
  const T *read(const T *) const { return nullptr; }
};

template <class T> struct Plus {
  const T *add, *y;
  void put(T *out, Floats value, int64_t) const { store(out, value + load<Floats>(read(out))); }
  const T *read(const T *out) const { return add + (out - y); }
};

template <class T, bool Add> struct Then {
  const T *bias;
  float slope;
  const T *add, *y;
  void put(T *out, Floats value, int64_t c) const {
    value += load<Floats>(bias + c);
    if constexpr (Add) {
      value += load<Floats>(read(out));
    }
    store(out, value > 0 ? value : value * slope);
  }
  const T *read(const T *out) const { return Add ? add + (out - y) : nullptr; }
};

// The last step of Aᵀ·m·A: a row of two pixels of its four columns.
template <class T, class How> void output_pair(const Floats m[4], T *out, int64_t channels, int64_t c, const How &how) {
  how.put(out + c, output_first(m[0], m[1], m[2]), c);
  how.put(out + channels + c, output_second(m[1], m[2], m[3]), c);
}

// A row of tiles of y from p and q of each column, [8, tiles, channels].
template <class T, class How>
__attribute__((noinline)) void output_row_of_columns(const float *m, int64_t next, T *out, int64_t width, int64_t channels,
                                                     How how) {
  for (int64_t t = 0; t < width / 2; ++t) {
    for (int64_t c = 0; c < channels; c += kLanes) {
      T *to = out + 2 * t * channels;
      for (int row = 0; row < 2; ++row) {
        Floats value[4];
        for (int j = 0; j < 4; ++j) {
          value[j] = load<Floats>(m + (4 * row + j) * next + t * channels + c);
        }
        output_pair(value, to + row * width * channels, channels, c, how);
      }
    }
  }
}

// The same from the products of all positions, [16, tiles, channels].
template <class T, class How>
__attribute__((noinline)) void output_row(const float *m, int64_t next, T *out, int64_t width, int64_t channels, How how) {
  for (int64_t t = 0; t < width / 2; ++t) {
    for (int64_t c = 0; c < channels; c += kLanes) {
      Floats p[4], q[4];
      for (int j = 0; j < 4; ++j) {
        const float *at = m + j * next + t * channels + c;
        const Floats m0 = load<Floats>(at), m1 = load<Floats>(at + 4 * next), m2 = load<Floats>(at + 8 * next),
                     m3 = load<Floats>(at + 12 * next);
        p[j] = output_first(m0, m1, m2);
        q[j] = output_second(m1, m2, m3);
      }
      T *to = out + 2 * t * channels;
      output_pair(p, to, channels, c, how);
      output_pair(q, to + width * channels, channels, c, how);
    }
  }
}

} // namespace
} // namespace mixmatch
