// What the convolutions that are computed by our own kernels (winograd.h, strided.h) share: which they are for, and how their rows are
// divided among the threads.
#pragma once
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "processor.h"

namespace mixmatch {

// Channels that the kernels' squares are made of, and up to which they were measured.
constexpr int64_t kSquare = 16, kMostChannels = 256;

inline bool channels_fit(int64_t channels) { return channels > 0 && channels <= kMostChannels && channels % kSquare == 0; }

// Whether our products of this number format are here, and faster than oneDNN's: in float32 from `least` on, in bf16 with its products of
// AVX-512 alone, without AMX.
inline bool products_are_ours(at::ScalarType kind, Level least) {
  const Level level = kernel_level();
  if (kind == at::kFloat) {
    return level >= least;
  }
  static const bool amx = __builtin_cpu_supports("amx-bf16");
  return kind == at::kBFloat16 && level == Level::v4_bf16 && !amx;
}

// Whether the environment sets `name` to 0.
inline bool switched_off(const char *name) {
  const char *said = std::getenv(name);
  return said != nullptr && std::strcmp(said, "0") == 0;
}

// On the CPU, and in memory as the kernels read it.
inline bool images_fit(const at::Tensor &x) {
  return x.device().is_cpu() && x.dim() == 4 && x.size(0) > 0 && x.size(2) > 0 && x.size(2) % 2 == 0 && x.size(3) > 0 &&
         x.size(3) % 4 == 0 && x.is_contiguous(at::MemoryFormat::ChannelsLast);
}

inline at::Tensor images_like(const at::Tensor &x, int64_t channels, int64_t height, int64_t width) {
  return at::empty({x.size(0), channels, height, width}, x.options().memory_format(at::MemoryFormat::ChannelsLast));
}

inline int64_t parts_of(int64_t rows) {
  return at::in_parallel_region() ? 1 : std::min<int64_t>(at::get_num_threads(), rows);
}

// `part(k, begin, end, scratch)` for each thread's rows; `room`: the words of its scratch, which is aligned to 64 bytes.
template <class Part> void by_rows(int64_t rows, int64_t parts, int64_t room, Part part) {
  const int64_t each = (rows + parts - 1) / parts, line = (room + 15) / 16 * 16;
  const auto scratch = at::empty({parts, line}, at::kFloat);
  auto *memory = scratch.mutable_data_ptr<float>();
  at::parallel_for(0, parts, 1, [&](int64_t first, int64_t last) {
    for (int64_t k = first; k < last; ++k) {
      part(k, std::min(rows, k * each), std::min(rows, (k + 1) * each), memory + k * line);
    }
  });
}

// `part(begin, end)` for squares of `channels`, from … to.
template <class Part> void by_squares(int64_t channels, Part part) {
  at::parallel_for(0, channels / kSquare, 1, [&](int64_t begin, int64_t end) { part(begin * kSquare, end * kSquare); });
}

// The gradient of `weight` [out, …]: `sum(du, begin, end, scratch)` for each thread's rows, into `numbers` float32 of its own, which
// `finish(du, parts, begin, end, dw)` adds up for the outs begin … end.
template <class Sum, class Finish>
at::Tensor weight_gradient_by_rows(const at::Tensor &weight, int64_t numbers, int64_t rows, int64_t room, Sum sum, Finish finish) {
  const int64_t parts = parts_of(rows);
  const auto sums = at::empty({parts, numbers}, at::kFloat);
  auto *du = sums.mutable_data_ptr<float>();
  by_rows(rows, parts, room, [&](int64_t k, int64_t begin, int64_t end, void *scratch) {
    sum(du + k * numbers, begin, end, scratch);
  });
  auto dw = at::empty(weight.sizes(), weight.options().memory_format(at::MemoryFormat::ChannelsLast));
  by_squares(weight.size(0), [&](int64_t begin, int64_t end) { finish(du, parts, begin, end, dw.mutable_data_ptr()); });
  return dw;
}

} // namespace mixmatch
