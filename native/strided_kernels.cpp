// Compiled twice: with STRIDED_TABLE = strided_v4 and _v4_bf16, STRIDED_NUMBER = float and Bf16, KERNEL_LEVEL = 4 and 5, and the matching
// -march.
#include "strided_kernels.h"

#include <algorithm>

#include "products.h"

namespace mixmatch {
namespace {

using T = STRIDED_NUMBER;

// Pixels of y that are made together, and those over which a gradient is summed before it is written. Tried on Zen 5.
constexpr int64_t kPixels = 32, kGradientPixels = 128;

// Words between one copy of rows and the next beyond what they hold: at powers of two they would share the same few places of the cache.
constexpr int64_t kGap = 16;

// A pixel's channels, or those of two beside each other as the products over pixels read them.
void copy(const T *from, int64_t channels, T *to) {
  for (int64_t c = 0; c < channels; c += kLanes) {
    std::memcpy(to + c, from + c, kLanes * sizeof(T));
  }
}

void pair(const T *first, const T *second, int64_t channels, uint32_t *to) {
  if constexpr (kPair<T> == 1) {
    std::memcpy(to, first, channels * sizeof(T));
    std::memcpy(to + channels, second, channels * sizeof(T));
  } else {
    for (int64_t c = 0; c < channels; c += kLanes) {
      Halves low, high;
      std::memcpy(&low, first + c, sizeof low);
      std::memcpy(&high, second + c, sizeof high);
      const Words both = words(low) | words(high) << 16;
      std::memcpy(to + c, &both, sizeof both);
    }
  }
}

// A row of y-many pixels into the scratch: for a product that sums over channels, or over pixels. `at(x)`: where pixel x lies.
struct OverChannels {
  template <class At> static void row(At at, int64_t across, int64_t channels, uint32_t *to) {
    for (int64_t x = 0; x < across; ++x) {
      copy(at(x), channels, reinterpret_cast<T *>(to) + x * channels);
    }
  }
};

struct OverPixels {
  template <class At> static void row(At at, int64_t across, int64_t channels, uint32_t *to) {
    for (int64_t x = 0; x < across; x += 2) {
      pair(at(x), at(x + 1), channels, to + x / kPair<T> * channels);
    }
  }
};

// Rows of y that are met together, none beyond an image.
struct Blocks {
  int64_t down, across, most;
  Blocks(const StridedShape &shape, int64_t pixels)
      : down(shape.height / 2), across(shape.width / 2), most(std::clamp<int64_t>(pixels / across, 1, down)) {}

  template <class Block> void each(int64_t begin, int64_t end, Block block) const {
    for (int64_t from = begin; from < end;) {
      const int64_t rows = std::min({most, down - from % down, end - from});
      block(from, rows, std::min(end, from + rows + most));
      from += rows;
    }
  }
};

// What is asked for while products are made, and how far they are.
struct Meanwhile {
  Ahead ahead[2];
  int64_t parts, done = 0;
  void operator()(int64_t made) {
    for (const Ahead &what : ahead) {
      what.parts(done, done + made, parts);
    }
    done += made;
  }
};

// The numbers of the kernel in one direction: 0, 1, 2, or 1 alone, which meets pixel 2·x where k meets 2·x + k − 1.
struct Kernel {
  int64_t first, last;
  explicit Kernel(const StridedShape &shape) : first(shape.kernel == 3 ? 0 : 1), last(shape.kernel == 3 ? 3 : 2) {}
  int64_t index(int64_t ky, int64_t kx) const { return (ky - first) * (last - first) + kx - first; }
  template <class Tap> void each(Tap tap) const {
    for (int64_t ky = first; ky < last; ++ky) {
      for (int64_t kx = first; kx < last; ++kx) {
        tap(ky, kx);
      }
    }
  }
};

// Every pixel of x that the block's rows of y are made of, one copy of rows for each column of the kernel: `even` of the rows 2·y,
// `odd` of the rows 2·y − 1 and, one further, 2·y + 1.
struct Copies {
  uint32_t *even[3], *odd[3];
  int64_t line; // words from one row to the next
  Copies(const Blocks &blocks, int64_t channels, uint32_t *scratch) : line(blocks.across * channels / kPair<T>) {
    for (int k = 0; k < 3; ++k) {
      even[k] = scratch + 2 * k * next(blocks, channels);
      odd[k] = even[k] + next(blocks, channels);
    }
  }
  static int64_t next(const Blocks &blocks, int64_t channels) {
    return (blocks.most + 1) * blocks.across * channels / kPair<T> + kGap;
  }
  const uint32_t *of(int64_t ky, int64_t kx) const { return ky == 1 ? even[kx] : odd[kx] + ky / 2 * line; }
};

template <class Over>
void copy_input(const T *x, const T *zero, const StridedShape &shape, int64_t from, int64_t rows, const Copies &to) {
  const Kernel kernel(shape);
  const int64_t down = shape.height / 2, across = shape.width / 2, pixels = shape.width * shape.in;
  const T *image = x + from / down * shape.height * pixels;
  const int64_t top = from % down;
  for (int64_t k = kernel.first; k < kernel.last; ++k) {
    const auto row_of = [&](int64_t row, uint32_t *at) {
      const auto where = [&](int64_t x) {
        const int64_t column = 2 * x + k - 1;
        return row < 0 || column < 0 ? zero : image + row * pixels + column * shape.in;
      };
      Over::row(where, across, shape.in, at);
    };
    for (int64_t row = 0; row < rows; ++row) {
      row_of(2 * (top + row), to.even[k] + row * to.line);
    }
    for (int64_t row = 0; shape.kernel == 3 && row <= rows; ++row) {
      row_of(2 * (top + row) - 1, to.odd[k] + row * to.line);
    }
  }
}

int64_t room(const StridedShape &shape) {
  const Blocks few(shape, kPixels), many(shape, kGradientPixels);
  const int64_t most = std::max(shape.in, shape.out);
  return most / kPair<T> + kGap +
         std::max(6 * Copies::next(few, most), 6 * Copies::next(many, shape.in) + Copies::next(many, shape.out));
}

// The scratch's zeros, and what is behind them.
uint32_t *behind_zeros(void *scratch, const StridedShape &shape) {
  const int64_t words = std::max(shape.in, shape.out) / kPair<T>;
  std::memset(scratch, 0, words * sizeof(uint32_t));
  return static_cast<uint32_t *>(scratch) + (words + 15) / 16 * 16;
}

void forward(const void *x, const void *u, void *y, const StridedShape &shape, int64_t begin, int64_t end, void *scratch) {
  const Kernel kernel(shape);
  const Blocks blocks(shape, kPixels);
  const Copies copies(blocks, shape.in, behind_zeros(scratch, shape));
  const int64_t steps = shape.in / kPair<T>, width = shape.width * shape.in;
  const auto *weight = static_cast<const uint32_t *>(u);
  blocks.each(begin, end, [&](int64_t from, int64_t rows, int64_t then) {
    copy_input<OverChannels>(static_cast<const T *>(x), static_cast<const T *>(scratch), shape, from, rows, copies);
    Taps taps;
    kernel.each([&](int64_t ky, int64_t kx) {
      taps.add(copies.of(ky, kx), weight + kernel.index(ky, kx) * steps * shape.out);
    });
    const int64_t pixels = rows * blocks.across;
    T *const to = static_cast<T *>(y) + from * blocks.across * shape.out;
    const Ahead next = Ahead::of(static_cast<const T *>(x) + 2 * (from + rows) * width, 2 * (then - from - rows) * width);
    Meanwhile meanwhile{{next, Ahead::of(to, pixels * shape.out)}, pixels * shape.out / kLanes};
    sum_of_products(taps, pixels, steps, to, shape.out, meanwhile);
  });
}

void input_gradient(const void *dy, const void *u, void *dx, const StridedShape &shape, int64_t begin, int64_t end,
                    void *scratch) {
  const Kernel kernel(shape);
  const Blocks blocks(shape, kPixels);
  const auto *zero = static_cast<const T *>(scratch);
  uint32_t *own = behind_zeros(scratch, shape);
  const int64_t next = Copies::next(blocks, shape.out);
  // dy as it is, and moved by a column, one row more than the block's; a kernel of one needs the first alone.
  uint32_t *const copies[2] = {own, own + next};
  T *made = reinterpret_cast<T *>(own + 2 * next);
  const int64_t steps = shape.out / kPair<T>, line = blocks.across * steps;
  const auto *weight = static_cast<const uint32_t *>(u);
  blocks.each(begin, end, [&](int64_t from, int64_t rows, int64_t then) {
    const auto *first = static_cast<const T *>(dy) + from * blocks.across * shape.out;
    const int64_t more = kernel.first == 0 ? 1 : 0;
    for (int64_t row = 0; row < rows + more; ++row) {
      const bool there = from % blocks.down + row < blocks.down;
      for (int64_t k = 0; k <= more; ++k) {
        const auto where = [&](int64_t x) {
          return there && x + k < blocks.across ? first + (row * blocks.across + x + k) * shape.out : zero;
        };
        OverChannels::row(where, blocks.across, shape.out, copies[k] + row * line);
      }
    }
    const int64_t pixels = rows * blocks.across, after = from + rows;
    const int64_t line_dy = blocks.across * shape.out, lines_dx = 2 * shape.width * shape.in;
    const Ahead next = Ahead::of(static_cast<const T *>(dy) + after * line_dy, (then - after) * line_dy);
    const Ahead written = Ahead::of(static_cast<const T *>(dx) + from * lines_dx, rows * lines_dx);
    Meanwhile meanwhile{{next, written}, 4 * pixels * shape.in / kLanes};
    // Each of the four pixels of dx around one of y has products of its own: one, two, two and four, or, with a kernel of one, none but one.
    for (int64_t phase = 0; phase < 4; ++phase) {
      const int64_t down = phase / 2, right = phase % 2;
      Taps taps;
      kernel.each([&](int64_t ky, int64_t kx) {
        if ((ky != 1) == (down == 1) && (kx != 1) == (right == 1)) {
          taps.add(copies[kx == 0] + (ky == 0) * line, weight + kernel.index(ky, kx) * steps * shape.in);
        }
      });
      sum_of_products(taps, pixels, steps, made, shape.in, meanwhile);
      for (int64_t row = 0; row < rows; ++row) {
        T *to = static_cast<T *>(dx) + ((2 * (from + row) + down) * shape.width + right) * shape.in;
        for (int64_t x = 0; x < blocks.across; ++x) {
          copy(made + (row * blocks.across + x) * shape.in, shape.in, to + 2 * x * shape.in);
        }
      }
    }
  });
}

void gradient(const void *x, const void *dy, float *du, const StridedShape &shape, int64_t begin, int64_t end, void *scratch) {
  const Kernel kernel(shape);
  const Blocks blocks(shape, kGradientPixels);
  uint32_t *own = behind_zeros(scratch, shape);
  const Copies copies(blocks, shape.in, own);
  uint32_t *const by = own + 6 * Copies::next(blocks, shape.in);
  if (begin >= end) {
    std::memset(du, 0, shape.kernel * shape.kernel * shape.in * shape.out * sizeof(float));
  }
  blocks.each(begin, end, [&](int64_t from, int64_t rows, int64_t then) {
    copy_input<OverPixels>(static_cast<const T *>(x), static_cast<const T *>(scratch), shape, from, rows, copies);
    const auto *first = static_cast<const T *>(dy) + from * blocks.across * shape.out;
    OverPixels::row([&](int64_t x) { return first + x * shape.out; }, rows * blocks.across, shape.out, by);
    const int64_t after = from + rows, width = shape.width * shape.in, line = blocks.across * shape.out;
    const Ahead next = Ahead::of(static_cast<const T *>(x) + 2 * after * width, 2 * (then - after) * width);
    const Ahead next_dy = Ahead::of(static_cast<const T *>(dy) + after * line, (then - after) * line);
    // Not multiplied at once: inlined into a lambda the products are a fifth slower (GCC 12).
    Taps taps;
    kernel.each([&](int64_t ky, int64_t kx) { taps.add(copies.of(ky, kx), by); });
    Meanwhile meanwhile{{next, next_dy}, taps.count};
    for (int64_t t = 0; t < taps.count; ++t) {
      meanwhile(1);
      product<T>({taps.a[t], 1, shape.in}, shape.in, by, rows * blocks.across / kPair<T>, du + t * shape.in * shape.out,
                 shape.out, from > begin);
    }
  });
}

// Words of `rows` rows, `step` apart, as columns.
void turn(const uint32_t *from, int64_t step, uint32_t *to, int64_t to_step, int64_t rows, int64_t columns) {
  for (int64_t c = 0; c < columns; ++c) {
    for (int64_t r = 0; r < rows; ++r) {
      to[c * to_step + r] = from[r * step + c];
    }
  }
}

void weight(const void *weight, const StridedShape &shape, int64_t begin, int64_t end, void *u) {
  const int64_t row = shape.kernel * shape.kernel * shape.in / kPair<T>;
  for (int64_t o = begin; o < end; o += kLanes) {
    turn(static_cast<const uint32_t *>(weight) + o * row, row, static_cast<uint32_t *>(u) + o, shape.out, kLanes, row);
  }
}

void turned_weight(const void *weight, const StridedShape &shape, int64_t begin, int64_t end, void *u) {
  const int64_t taps = shape.kernel * shape.kernel;
  for (int64_t o = begin; o < end; o += 2) {
    for (int64_t tap = 0; tap < taps; ++tap) {
      const T *first = static_cast<const T *>(weight) + (o * taps + tap) * shape.in;
      pair(first, first + taps * shape.in, shape.in,
           static_cast<uint32_t *>(u) + (tap * shape.out + o) / kPair<T> * shape.in);
    }
  }
}

void weight_gradient(const float *du, int64_t parts, const StridedShape &shape, int64_t begin, int64_t end, void *dw) {
  const int64_t taps = shape.kernel * shape.kernel, all = taps * shape.in * shape.out;
  T square[kLanes][kLanes];
  for (int64_t o = begin; o < end; o += kLanes) {
    for (int64_t row = 0; row < taps * shape.in; row += kLanes) {
      for (int64_t i = 0; i < kLanes; ++i) {
        const float *at = du + (row + i) * shape.out + o;
        Floats sum = load<Floats>(at);
        for (int64_t part = 1; part < parts; ++part) {
          sum += load<Floats>(at + part * all);
        }
        T outs[kLanes];
        store(outs, sum);
        for (int64_t lane = 0; lane < kLanes; ++lane) {
          square[lane][i] = outs[lane];
        }
      }
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        std::memcpy(static_cast<T *>(dw) + (o + lane) * taps * shape.in + row, square[lane], sizeof square[lane]);
      }
    }
  }
}

} // namespace

extern const StridedKernels STRIDED_TABLE = {weight, turned_weight, forward, input_gradient, gradient, room, weight_gradient};

} // namespace mixmatch
