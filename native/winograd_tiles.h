// A row of tiles into the transformed domain and out of it. Part of winograd_kernels.cpp.
//
// Position 4·i + j of a tile is row i, column j of its transformed 4×4. The functions are not inlined: within their callers the compiler
// has too few registers for the addresses.
#pragma once
#include "winograd_products.h"

namespace mixmatch {
namespace {

#ifdef __AVX512BF16__
// As bfloat16 in turn: the first of `even`, the first of `odd` …
inline Words alternating(Floats even, Floats odd) {
  const __m512bh both = _mm512_cvtne2ps_pbh(reinterpret_cast<__m512>(odd), reinterpret_cast<__m512>(even));
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20,
                                         4, 19, 3, 18, 2, 17, 1, 16, 0);
  return reinterpret_cast<Words>(_mm512_permutexvar_epi16(order, reinterpret_cast<__m512i>(both)));
}
#endif

// Where the numbers of one position lie for a product that sums over channels: [tiles, channels].
template <class T> struct OverChannels {
  T *to;
  int64_t next, channels; // `next`: from one position to the next
  static constexpr int64_t tiles = 1, vectors = 1; // of channels, which are met together

  T *at(int64_t tile, int64_t channel) const { return to + tile * channels + channel; }
  static void get(const T *at, Floats value[1]) { value[0] = load<Floats>(at); }
  void put(T *&at, const Floats value[1]) const {
    store(at, value[0]);
    at += next;
  }
};

#ifdef __AVX512BF16__
// The same of 32 channels of bfloat16 at a time: those with even numbers are one vector, those with odd numbers the other. To take
// their words apart and to put them together again needs fewer instructions than to widen and to narrow each half.
struct OverManyChannels : OverChannels<Bf16> {
  static constexpr int64_t vectors = 2;

  static void get(const Bf16 *at, Floats value[2]) {
    Words both;
    std::memcpy(&both, at, sizeof both);
    value[0] = reinterpret_cast<Floats>(both << 16);
    value[1] = reinterpret_cast<Floats>(both & 0xffff0000u);
  }
  void put(Bf16 *&at, const Floats value[2]) const {
    const Words both = alternating(value[0], value[1]);
    std::memcpy(at, &both, sizeof both);
    at += next;
  }
};
#endif

// … and for one that sums over tiles: [tiles / pair, channels, pair].
template <class T> struct OverTiles {
  uint32_t *to;
  int64_t next, channels;
  static constexpr int64_t tiles = 2, vectors = 1;

  uint32_t *at(int64_t tile, int64_t channel) const { return to + tile / kPair<T> * channels + channel; }
  static void get(const T *at, Floats value[1]) { value[0] = load<Floats>(at); }
  void put(uint32_t *&at, const Floats value[2]) const {
    if constexpr (kPair<T> == 1) {
      std::memcpy(at, &value[0], sizeof value[0]);
      std::memcpy(at + channels, &value[1], sizeof value[1]);
    }
#ifdef __AVX512BF16__
    if constexpr (kPair<T> == 2) {
      const Words both = alternating(value[0], value[1]); // each channel's two tiles beside each other
      std::memcpy(at, &both, sizeof both);
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
template <class To, class T> void column(const T *const rows[4], int64_t at, Floats to[To::vectors][4]) {
  Floats d[4][To::vectors];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    To::get(rows[i] + at, d[i]);
  }
#pragma GCC unroll 2
  for (int64_t v = 0; v < To::vectors; ++v) {
    input_transform(d[0][v], d[1][v], d[2][v], d[3][v], to[v]);
  }
}

// Bᵀ·d·B for a row of tiles; `rows`: the four rows of pixels that it is made of, of which two belong to the next ones, too.
template <class T, class To>
__attribute__((noinline)) void input_row(const T *const rows[4], int64_t width, int64_t channels, To to) {
  constexpr int64_t n = 2 * To::tiles, vectors = To::vectors; // new columns in each turn
  for (int64_t c = 0; c < channels; c += vectors * kLanes) {
    const T *const from[4] = {rows[0] + c, rows[1] + c, rows[2] + c, rows[3] + c};
    Floats d[2 + n][vectors][4] = {}; // d[0] is the column left of the tile
    column<To>(from, 0, d[1]);
    for (int64_t x = 1; x < width; x += n) {
      for (int64_t k = 0; k < n; ++k) {
        if (k < n - 1 || x + k < width) {
          column<To>(from, (x + k) * channels, d[2 + k]);
        } else {
          for (int64_t v = 0; v < vectors; ++v) {
            for (Floats &value : d[2 + k][v]) {
              value = Floats{};
            }
          }
        }
      }
      auto at = to.at(x / 2, c);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        Floats made[To::tiles][vectors][4];
#pragma GCC unroll 2
        for (int64_t t = 0; t < To::tiles; ++t) {
#pragma GCC unroll 2
          for (int64_t v = 0; v < vectors; ++v) {
            input_transform(d[2 * t][v][i], d[2 * t + 1][v][i], d[2 * t + 2][v][i], d[2 * t + 3][v][i], made[t][v]);
          }
        }
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
          Floats values[To::tiles * vectors];
#pragma GCC unroll 2
          for (int64_t t = 0; t < To::tiles; ++t) {
#pragma GCC unroll 2
            for (int64_t v = 0; v < vectors; ++v) {
              values[t * vectors + v] = made[t][v][j];
            }
          }
          to.put(at, values);
        }
      }
      for (int64_t v = 0; v < vectors; ++v) {
        for (int i = 0; i < 4; ++i) {
          d[0][v][i] = d[n][v][i];
          d[1][v][i] = d[n + 1][v][i];
        }
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
