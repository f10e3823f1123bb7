// Compiled for each pair of a number format and a tile: WINOGRAD_TILE = 2 and 4 and KERNEL_LEVEL = 3, 4 and 5 with the matching -march,
// WINOGRAD_NUMBER = float, float and Bf16 and WINOGRAD_TABLE = winograd2_v3, _v4, _v4_bf16, winograd4_v3 and _v4.
#include "winograd_kernels.h"

#include <algorithm>

#include "winograd_tiles.h"

namespace mixmatch {
namespace {

using T = WINOGRAD_NUMBER;

// In the gradient du, of float32, is read and written again for each block of so many tiles. Tried on Zen 5 between 16 and 512.
constexpr int64_t kGradientTiles = kMade == 2 ? 128 : 64;

// Words between one position and the next beyond what they hold: at powers of two they would share the same few places of the cache.
constexpr int64_t kGap = 16;

// Words of input channels up to which four positions of the transformed weight, for 32 output channels, stay in the nearest cache
// while all tiles of a block pass. Without AVX-512 there are too few registers for the sums of four positions, and of six with it.
constexpr int64_t kFew = kVectors > 2 && kMade == 2 ? 32 : 0;

// Tiles that are transformed and multiplied before the next ones are: few enough for the cache, with the transformed weight. Tried on Zen 5
// between 8 and 128; more pay only where the weight of one column of positions just fits the nearest cache, in bf16 of 64 channels.
int64_t tiles_together(const WinogradShape &shape) {
  if constexpr (kMade == 4) {
    return 24;
  }
  const int64_t steps = shape.in / kPair<T>;
  return kPair<T> == 2 && 2 * steps > kFew && steps <= kFew ? 48 : 16;
}

struct Blocks {
  int64_t rows, tiles; // of each
  Blocks(const WinogradShape &shape, int64_t tiles_wanted)
      : rows(std::max<int64_t>(1, tiles_wanted / (shape.width / kMade))), tiles(rows * (shape.width / kMade)) {}
  // Words from one position to the next: `channels` numbers of each tile, or of two tiles.
  int64_t next(int64_t channels) const { return tiles * channels / kPair<T> + kGap; }
};

// The images' rows of pixels around rows of tiles, and `outside` above and below: a row of zeros, or null where those are of what x is made into.
struct Rows {
  const T *x, *outside;
  const WinogradShape &shape;
  void around(int64_t tiles, const T *rows[kMet]) const {
    const int64_t down = shape.height / kMade, image = tiles / down, top = tiles % down * kMade - 1;
    for (int64_t i = 0; i < kMet; ++i) {
      const int64_t y = top + i;
      rows[i] = y < 0 || y >= shape.height ? outside : x + (image * shape.height + y) * shape.width * shape.in;
    }
  }
  // The new rows of those from `begin` on: the row of tiles before them has their first two, too.
  Ahead ahead(int64_t begin, int64_t end) const {
    const int64_t row = shape.width * shape.in;
    return Ahead::of(x + (kMade * begin + 1) * row, (end - begin) * kMade * row);
  }
};

int64_t zeros(const WinogradShape &shape) { return shape.width * shape.in / kPair<T>; }

// `scratch`: room for a row of zeros.
Rows rows_of(const void *x, const WinogradBefore *before, const WinogradShape &shape, void *scratch) {
  if (before == nullptr) {
    std::memset(scratch, 0, zeros(shape) * sizeof(float));
  }
  return {static_cast<const T *>(x), before == nullptr ? static_cast<const T *>(scratch) : nullptr, shape};
}

int64_t room(const WinogradShape &shape) {
  const Blocks blocks(shape, tiles_together(shape));
  return kPositions * (blocks.next(shape.in) + blocks.tiles * shape.out + kGap) + zeros(shape);
}

template <class To>
void transform_to(const T *const around[kMet], const WinogradBefore *before, const WinogradShape &shape, To to) {
  if (before == nullptr) {
    input_row(around, shape.width, shape.in, AsItIs(), to);
  } else {
    input_row(around, shape.width, shape.in, *before, to);
  }
}

// A row of tiles for a product that sums over channels.
void transform(const T *const around[kMet], const WinogradBefore *before, const WinogradShape &shape, OverChannels<T> to) {
#ifdef __AVX512BF16__
  if (shape.in % (OverManyChannels::vectors * kLanes) == 0) {
    return transform_to(around, before, shape, OverManyChannels{to});
  }
#endif
  transform_to(around, before, shape, to);
}

template <class How>
void convolve_how(const void *x, const void *u, void *y, const How &how, const WinogradAlong &along, const WinogradShape &shape,
                  int64_t begin, int64_t end, void *scratch) {
  const Blocks blocks(shape, tiles_together(shape));
  const int64_t across = shape.width / kMade, steps = shape.in / kPair<T>;
  const int64_t v_next = blocks.next(shape.in), m_next = blocks.tiles * shape.out + kGap, u_next = steps * shape.out;
  auto *v = static_cast<uint32_t *>(scratch);
  auto *m = static_cast<float *>(scratch) + kPositions * v_next;
  const Rows source = rows_of(x, along.before, shape, m + kPositions * m_next);
  const auto *seen = along.seen;
  const auto *weight = static_cast<const uint32_t *>(u);
  const bool few = kFew > 0 && steps <= kFew; // known where there are none
  for (int64_t from = begin; from < end; from += blocks.rows) {
    const int64_t rows = std::min(blocks.rows, end - from);
    for (int64_t row = 0; row < rows; ++row) {
      const T *around[kMet];
      source.around(from + row, around);
      T *to = reinterpret_cast<T *>(v) + row * across * shape.in;
      transform(around, along.before, shape, {to, v_next * kPair<T>, shape.in});
    }
    const Ahead next = source.ahead(from + rows, std::min(end, from + rows + blocks.rows));
    T *const outs = static_cast<T *>(y) + from * kMade * shape.width * shape.out;
    const int64_t count = rows * kMade * shape.width * shape.out;
    const T *adds = how.read(outs);
    const Ahead written = Ahead::of(outs, count), added = Ahead::of(adds, adds == nullptr || adds == outs ? 0 : count);
    const int64_t first = from * kMade * shape.width;
    const T *const others = seen == nullptr ? nullptr : static_cast<const T *>(seen->beside);
    const Ahead beside = others == nullptr ? Ahead{} : Ahead::of(others + first * shape.out, count);
    if (few) {
      for (int64_t j = 0; j < kMet; ++j) {
        next.parts(j, j + 1, kMet);
        written.parts(j, j + 1, kMet);
        added.parts(j, j + 1, kMet);
        beside.parts(j, j + 1, kMet);
        column_product<T>({v + j * v_next, weight + j * u_next, kMet * v_next, kMet * u_next, steps, shape.out,
                           m + j * m_next, kMet * m_next},
                          rows * across);
      }
    } else {
      for (int64_t p = 0; p < kPositions; ++p) {
        next.parts(p, p + 1, kPositions);
        written.parts(p, p + 1, kPositions);
        added.parts(p, p + 1, kPositions);
        beside.parts(p, p + 1, kPositions);
        product<T>({v + p * v_next, steps, 1}, rows * across, weight + p * u_next, steps, m + p * m_next, shape.out, false);
      }
    }
    for (int64_t row = 0; row < rows; ++row) {
      const float *made = m + row * across * shape.out;
      T *to = outs + row * kMade * shape.width * shape.out;
      (few ? output_row_of_columns<T, How> : output_row<T, How>)(made, m_next, to, shape.width, shape.out, how);
    }
    if (seen != nullptr) {
      seen->pixels(seen->context, outs, first, count / shape.out);
    }
  }
}

void convolve(const void *x, const void *u, void *y, const WinogradAlong &along, const WinogradShape &shape, int64_t begin,
              int64_t end, void *scratch) {
  const auto *after = along.after;
  if (after == nullptr) {
    return convolve_how(x, u, y, Plainly<T>(), along, shape, begin, end, scratch);
  }
  const auto *bias = static_cast<const T *>(after->bias), *add = static_cast<const T *>(after->add);
  const auto *base = static_cast<const T *>(y);
  if (bias == nullptr) {
    return convolve_how(x, u, y, Plus<T>{add, base}, along, shape, begin, end, scratch);
  }
  if (add != nullptr) {
    return convolve_how(x, u, y, Then<T, true>{bias, after->slope, add, base}, along, shape, begin, end, scratch);
  }
  convolve_how(x, u, y, Then<T, false>{bias, after->slope, nullptr, nullptr}, along, shape, begin, end, scratch);
}

int64_t gradient_room(const WinogradShape &shape) {
  const Blocks blocks(shape, kGradientTiles);
  return kPositions * (blocks.next(shape.in) + blocks.next(shape.out)) + zeros(shape);
}

void gradient(const void *x, const WinogradBefore *before, const void *dy, float *du, const WinogradShape &shape, int64_t begin,
              int64_t end, void *scratch) {
  const Blocks blocks(shape, kGradientTiles);
  const int64_t across = shape.width / kMade, v_next = blocks.next(shape.in), d_next = blocks.next(shape.out);
  auto *v = static_cast<uint32_t *>(scratch), *d = v + kPositions * v_next;
  const Rows source = rows_of(x, before, shape, d + kPositions * d_next);
  if (begin >= end) {
    std::memset(du, 0, kPositions * shape.in * shape.out * sizeof(float));
  }
  for (int64_t from = begin; from < end; from += blocks.rows) {
    const int64_t rows = std::min(blocks.rows, end - from);
    for (int64_t row = 0; row < rows; ++row) {
      const T *around[kMet];
      source.around(from + row, around);
      const int64_t first = row * across / kPair<T>;
      transform_to(around, before, shape, OverTiles<T>{v + first * shape.in, v_next, shape.in});
      gradient_row(static_cast<const T *>(dy) + (from + row) * kMade * shape.width * shape.out, shape.width, shape.out,
                   OverTiles<T>{d + first * shape.out, d_next, shape.out});
    }
    const int64_t then = from + rows, last = std::min(end, then + blocks.rows), pixels = kMade * shape.width * shape.out;
    const Ahead next = source.ahead(then, last);
    const Ahead next_dy = Ahead::of(static_cast<const T *>(dy) + then * pixels, (last - then) * pixels);
    for (int64_t p = 0; p < kPositions; ++p) {
      next.parts(p, p + 1, kPositions);
      next_dy.parts(p, p + 1, kPositions);
      product<T>({v + p * v_next, 1, shape.in}, shape.in, d + p * d_next, rows * across / kPair<T>,
                 du + p * shape.in * shape.out, shape.out, from > begin);
    }
  }
}

// G·g·Gᵀ of sixteen kernels.
void transformed(const Floats g[9], Floats u[kPositions]) {
  Floats down[3][kMet];
  for (int x = 0; x < 3; ++x) {
    const Floats column[3] = {g[x], g[3 + x], g[6 + x]};
    weight_transform(column, down[x]);
  }
  for (int y = 0; y < kMet; ++y) {
    const Floats row[3] = {down[0][y], down[1][y], down[2][y]};
    weight_transform(row, u + kMet * y);
  }
}

// `Turned`: by 180°, and summed over outs. By squares of 16 outs and ins, whose lines are whole.
template <bool Turned>
void weight(const void *weight, int64_t in, int64_t out, int64_t begin, int64_t end, void *u) {
  constexpr int64_t pair = kPair<T>, line = kLanes * pair;
  alignas(64) T square[kPositions][kLanes * kLanes];
  for (int64_t o = begin; o < end; o += kLanes) {
    for (int64_t i = 0; i < in; i += kLanes) {
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        Floats g[9], transform[kPositions];
        for (int k = 0; k < 9; ++k) {
          const int from = Turned ? 8 - k : k;
          g[k] = load<Floats>(static_cast<const T *>(weight) + ((o + lane) * 9 + from) * in + i);
        }
        transformed(g, transform);
        for (int64_t p = 0; p < kPositions; ++p) {
          T ins[kLanes];
          store(ins, transform[p]);
          for (int64_t l = 0; l < kLanes; ++l) {
            const int64_t at = Turned ? lane / pair * line + l * pair + lane % pair : l / pair * line + lane * pair + l % pair;
            square[p][at] = ins[l];
          }
        }
      }
      const int64_t rows = Turned ? out : in, columns = Turned ? in : out, row = Turned ? o : i, column = Turned ? i : o;
      for (int64_t p = 0; p < kPositions; ++p) {
        for (int64_t r = 0; r < kLanes / pair; ++r) {
          T *to = static_cast<T *>(u) + p * rows * columns + ((row / pair + r) * columns + column) * pair;
          std::memcpy(to, square[p] + r * line, line * sizeof(T));
        }
      }
    }
  }
}

// Gᵀ·du·G.
void weight_gradient(const float *du, int64_t parts, int64_t in, int64_t out, int64_t begin, int64_t end, void *dw) {
  alignas(64) T square[kLanes][9][kLanes]; // outs, the kernel's, ins
  for (int64_t o = begin; o < end; o += kLanes) {
    for (int64_t i = 0; i < in; i += kLanes) {
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        Floats m[kPositions];
        for (int64_t p = 0; p < kPositions; ++p) {
          const float *at = du + (p * in + i + lane) * out + o;
          m[p] = load<Floats>(at);
          for (int64_t part = 1; part < parts; ++part) {
            m[p] += load<Floats>(at + part * kPositions * in * out);
          }
        }
        Floats down[kMet][3], g[9];
        for (int x = 0; x < kMet; ++x) {
          Floats column[kMet];
          for (int y = 0; y < kMet; ++y) {
            column[y] = m[kMet * y + x];
          }
          weight_gradient_transform(column, down[x]);
        }
        for (int y = 0; y < 3; ++y) {
          Floats row[kMet];
          for (int x = 0; x < kMet; ++x) {
            row[x] = down[x][y];
          }
          weight_gradient_transform(row, g + 3 * y);
        }
        for (int k = 0; k < 9; ++k) {
          T outs[kLanes];
          store(outs, g[k]);
          for (int64_t l = 0; l < kLanes; ++l) {
            square[l][k][lane] = outs[l];
          }
        }
      }
      for (int64_t l = 0; l < kLanes; ++l) {
        for (int64_t k = 0; k < 9; ++k) {
          std::memcpy(static_cast<T *>(dw) + ((o + l) * 9 + k) * in + i, square[l][k], sizeof square[l][k]);
        }
      }
    }
  }
}

} // namespace

extern const WinogradKernels WINOGRAD_TABLE = {kMade, weight<false>, weight<true>, convolve, room, gradient, gradient_room,
                                               weight_gradient};

} // namespace mixmatch
