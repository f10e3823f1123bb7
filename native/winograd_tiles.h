// A row of tiles into the transformed domain and out of it. Part of winograd_kernels.cpp.
//
// Position kMet·i + j of a tile is row i, column j of what it is transformed into. The functions are not inlined: within their callers the compiler
// has too few registers for the addresses.
#pragma once
#include "winograd_products.h"

namespace mixmatch {
namespace {

// Where the numbers of one position lie for a product that sums over channels: [tiles, channels].
template <class T> struct OverChannels {
  T *to;
  int64_t next, channels; // `next`: from one position to the next
  static constexpr int64_t tiles = 1, vectors = 1; // of channels, which are met together

  T *at(int64_t tile, int64_t channel) const { return to + tile * channels + channel; }
  using In = InOrder<T, Floats, 1>;
  void put(T *&at, const Floats value[1]) const {
    In::store(at, value);
    at += next;
  }
};

#ifdef __AVX512BF16__
// The same of 32 channels of bfloat16 at a time.
struct OverManyChannels : OverChannels<Bf16> {
  static constexpr int64_t vectors = 2;

  using In = EvenAndOdd;
  void put(Bf16 *&at, const Floats value[2]) const {
    In::store(at, value);
    at += next;
  }
};
#endif

// … and for one that sums over tiles: [tiles / pair, channels, pair].
template <class T> struct OverTiles {
  uint32_t *to;
  int64_t next, channels;
  static constexpr int64_t tiles = kPair<T>, vectors = 1;

  uint32_t *at(int64_t tile, int64_t channel) const { return to + tile / kPair<T> * channels + channel; }
  using In = InOrder<T, Floats, 1>;
  void put(uint32_t *&at, const Floats value[tiles]) const {
    if constexpr (kPair<T> == 1) {
      std::memcpy(at, &value[0], sizeof value[0]);
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

// What is convolved: x as it is, or `WinogradBefore`; `Of`: that of some channels, of which the first is `c`.
struct AsItIs {};

template <class To, class Before> struct Of {
  static constexpr bool zeros = false; // where there are no rows
  Of(const Before &, int64_t) {}
  void make(Floats[To::vectors]) const {}
};

template <class To> struct Of<To, WinogradBefore> {
  static constexpr bool zeros = true;
  Floats scale[To::vectors], shift[To::vectors];
  float slope;
  Of(const WinogradBefore &all, int64_t c) : slope(all.slope) {
    To::In::constants(all.scale + c, scale);
    To::In::constants(all.shift + c, shift);
  }
  void make(Floats values[To::vectors]) const {
#pragma GCC unroll 2
    for (int64_t v = 0; v < To::vectors; ++v) {
      const Floats z = values[v] * scale[v] + shift[v];
      values[v] = larger(z, z * slope);
    }
  }
};

// Bᵀ·d of a column of pixels.
template <class To, class T, class Made>
__attribute__((always_inline)) inline void column(const T *const rows[kMet], int64_t at, const Made &made,
                                                  Floats to[To::vectors][kMet]) {
  Floats d[To::vectors][kMet];
#pragma GCC unroll 6
  for (int i = 0; i < kMet; ++i) {
    Floats values[To::vectors] = {};
    const bool inside = !Made::zeros || (i > 0 && i < kMet - 1);
    if (inside || rows[i] != nullptr) {
      To::In::load(rows[i] + at, values);
      made.make(values);
    }
#pragma GCC unroll 2
    for (int64_t v = 0; v < To::vectors; ++v) {
      d[v][i] = values[v];
    }
  }
#pragma GCC unroll 2
  for (int64_t v = 0; v < To::vectors; ++v) {
    input_transform(d[v], to[v]);
  }
}

// Bᵀ·d·B for a row of tiles; `rows`: the rows of pixels that it is made of, of which two belong to the next ones, too; the first and the last
// may be null for zeros where `Of` makes such.
template <class T, class Before, class To>
__attribute__((noinline)) void input_row(const T *const rows[kMet], int64_t width, int64_t channels, Before before, To to) {
  constexpr int64_t n = kMade * To::tiles, vectors = To::vectors; // new columns in each turn
  for (int64_t c = 0; c < channels; c += vectors * kLanes) {
    const T *from[kMet];
    for (int i = 0; i < kMet; ++i) {
      from[i] = rows[i] == nullptr ? nullptr : rows[i] + c;
    }
    const Of<To, Before> made_of(before, c);
    Floats d[2 + n][vectors][kMet] = {}; // d[0] is the column left of the tile
    column<To>(from, 0, made_of, d[1]);
    for (int64_t x = 1; x < width; x += n) {
      for (int64_t k = 0; k < n; ++k) {
        if (k < n - 1 || x + k < width) {
          column<To>(from, (x + k) * channels, made_of, d[2 + k]);
        } else {
          for (int64_t v = 0; v < vectors; ++v) {
            for (Floats &value : d[2 + k][v]) {
              value = Floats{};
            }
          }
        }
      }
      auto at = to.at(x / kMade, c);
#pragma GCC unroll 6
      for (int i = 0; i < kMet; ++i) {
        Floats made[To::tiles][vectors][kMet];
#pragma GCC unroll 2
        for (int64_t t = 0; t < To::tiles; ++t) {
#pragma GCC unroll 2
          for (int64_t v = 0; v < vectors; ++v) {
            Floats across[kMet];
#pragma GCC unroll 6
            for (int j = 0; j < kMet; ++j) {
              across[j] = d[kMade * t + j][v][i];
            }
            input_transform(across, made[t][v]);
          }
        }
#pragma GCC unroll 6
        for (int j = 0; j < kMet; ++j) {
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
        for (int i = 0; i < kMet; ++i) {
          d[0][v][i] = d[n][v][i];
          d[1][v][i] = d[n + 1][v][i];
        }
      }
    }
  }
}

// A·dy·Aᵀ for a row of tiles: what is multiplied by the transformed input for the gradient of the transformed weight. `dy`: its first row
// of pixels.
template <class T>
__attribute__((noinline)) void gradient_row(const T *dy, int64_t width, int64_t channels, OverTiles<T> to) {
  constexpr int64_t tiles = OverTiles<T>::tiles;
  for (int64_t c = 0; c < channels; c += kLanes) {
    for (int64_t x = 0; x < width; x += kMade * tiles) {
      Floats down[tiles][kMade][kMet];
#pragma GCC unroll 2
      for (int64_t t = 0; t < tiles; ++t) {
#pragma GCC unroll 4
        for (int j = 0; j < kMade; ++j) {
          Floats column[kMade];
#pragma GCC unroll 4
          for (int i = 0; i < kMade; ++i) {
            column[i] = load<Floats>(dy + (i * width + x + kMade * t + j) * channels + c);
          }
          output_gradient(column, down[t][j]);
        }
      }
      auto at = to.at(x / kMade, c);
#pragma GCC unroll 6
      for (int i = 0; i < kMet; ++i) {
        Floats made[tiles][kMet];
#pragma GCC unroll 2
        for (int64_t t = 0; t < tiles; ++t) {
          Floats across[kMade];
#pragma GCC unroll 4
          for (int j = 0; j < kMade; ++j) {
            across[j] = down[t][j][i];
          }
          output_gradient(across, made[t]);
        }
#pragma GCC unroll 6
        for (int j = 0; j < kMet; ++j) {
          Floats values[tiles];
#pragma GCC unroll 2
          for (int64_t t = 0; t < tiles; ++t) {
            values[t] = made[t][j];
          }
          to.put(at, values);
        }
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

// The last step of Aᵀ·m·A: a row of a tile's pixels of its columns.
template <class T, class How> void output_pixels(const Floats m[kMet], T *out, int64_t channels, int64_t c, const How &how) {
  Floats made[kMade];
  output_transform(m, made);
#pragma GCC unroll 4
  for (int x = 0; x < kMade; ++x) {
    how.put(out + x * channels + c, made[x], c);
  }
}

// A row of tiles of y from the sums of each column, [rows of pixels, kMet, tiles, channels].
template <class T, class How>
__attribute__((noinline)) void output_row_of_columns(const float *m, int64_t next, T *out, int64_t width, int64_t channels,
                                                     How how) {
  for (int64_t t = 0; t < width / kMade; ++t) {
    for (int64_t c = 0; c < channels; c += kLanes) {
      T *to = out + kMade * t * channels;
      for (int row = 0; row < kMade; ++row) {
        Floats value[kMet];
        for (int j = 0; j < kMet; ++j) {
          value[j] = load<Floats>(m + (kMet * row + j) * next + t * channels + c);
        }
        output_pixels(value, to + row * width * channels, channels, c, how);
      }
    }
  }
}

// The same from the products of all positions, [kPositions, tiles, channels].
template <class T, class How>
__attribute__((noinline)) void output_row(const float *m, int64_t next, T *out, int64_t width, int64_t channels, How how) {
  for (int64_t t = 0; t < width / kMade; ++t) {
    for (int64_t c = 0; c < channels; c += kLanes) {
      Floats rows[kMade][kMet];
#pragma GCC unroll 6
      for (int j = 0; j < kMet; ++j) {
        Floats met[kMet], made[kMade];
#pragma GCC unroll 6
        for (int i = 0; i < kMet; ++i) {
          met[i] = load<Floats>(m + (kMet * i + j) * next + t * channels + c);
        }
        output_transform(met, made);
#pragma GCC unroll 4
        for (int row = 0; row < kMade; ++row) {
          rows[row][j] = made[row];
        }
      }
      T *to = out + kMade * t * channels;
#pragma GCC unroll 4
      for (int row = 0; row < kMade; ++row) {
        output_pixels(rows[row], to + row * width * channels, channels, c, how);
      }
    }
  }
}

} // namespace
} // namespace mixmatch
