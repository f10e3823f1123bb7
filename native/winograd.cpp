#include "winograd.h"

#include "own_conv.h"

namespace mixmatch {
namespace {

// With tiles of 4×4 pixels, where they are there for this number format, or of 2×2.
const WinogradKernels &kernels(at::ScalarType kind, bool large) {
  if (kind == at::kBFloat16) {
    // Rounded to bfloat16 what large tiles are transformed into would be a hundredth off, three times as much as of small ones.
    return winograd2_v4_bf16;
  }
  const bool wide = kernel_level() >= Level::v4;
  return large ? (wide ? winograd4_v4 : winograd4_v3) : (wide ? winograd2_v4 : winograd2_v3);
}

bool large_tiles_fit(int64_t height, int64_t width) { return height % 4 == 0 && width % 4 == 0; }

const WinogradKernels &kernels_for(const at::Tensor &x) {
  return kernels(x.scalar_type(), large_tiles_fit(x.size(2), x.size(3)));
}

// For the gradient of the weight each thread writes sums for all of it, of large tiles more than twice as many: they pay from so many tiles
// of its own on (Zen 5).
constexpr int64_t kTilesForSums = 64;

const WinogradKernels &gradient_kernels_for(const at::Tensor &x) {
  const auto &large = kernels_for(x);
  const int64_t rows = x.size(0) * x.size(2) / large.tile, tiles = rows * (x.size(3) / large.tile);
  return tiles / parts_of(rows) < kTilesForSums ? kernels(x.scalar_type(), false) : large;
}

// Those that `transformed` was made by.
const WinogradKernels &kernels_of(const at::Tensor &transformed, int64_t in, int64_t out) {
  return kernels(transformed.scalar_type(), transformed.numel() != kernels(transformed.scalar_type(), false).positions() * in * out);
}

WinogradShape shape_of(const at::Tensor &x, int64_t in, int64_t out) { return {x.size(2), x.size(3), in, out}; }

int64_t rows_of(const at::Tensor &x, const WinogradKernels &by) { return x.size(0) * x.size(2) / by.tile; }

using OfWeight = decltype(WinogradKernels::weight);

at::Tensor transformed(const at::Tensor &weight, const WinogradKernels &by, OfWeight transform) {
  const auto kernel = weight.contiguous(at::MemoryFormat::ChannelsLast);
  auto u = at::empty({by.positions() * weight.size(0) * weight.size(1)}, weight.scalar_type());
  by_squares(weight.size(0), [&](int64_t begin, int64_t end) {
    transform(kernel.const_data_ptr(), weight.size(1), weight.size(0), begin, end, u.mutable_data_ptr());
  });
  return u;
}

// `with` and which part it reads, for the kernels.
struct Reading {
  const WinogradWith &with;
  int64_t part;
  static void pixels(void *context, const void *y, int64_t first, int64_t count) {
    const auto &of = *static_cast<const Reading *>(context);
    of.with.read(of.part, y, first, count);
  }
};

void convolve(const at::Tensor &x, const at::Tensor &u, const at::Tensor &y, const WinogradAfter *after,
              const WinogradWith &with) {
  const auto shape = shape_of(x, x.size(1), y.size(1));
  const auto &of = kernels_of(u, shape.in, shape.out);
  const int64_t rows = rows_of(x, of);
  by_rows(rows, parts_of(rows), of.room(shape), [&](int64_t part, int64_t begin, int64_t end, void *scratch) {
    Reading reading{with, part};
    const WinogradSeen seen{Reading::pixels, &reading, with.beside ? with.beside->const_data_ptr() : nullptr};
    of.convolve(x.const_data_ptr(), u.const_data_ptr(), y.mutable_data_ptr(), {with.before, after, with.read ? &seen : nullptr},
                shape, begin, end, scratch);
  });
}

at::Tensor room_for(const at::Tensor &x, int64_t out) { return images_like(x, out, x.size(2), x.size(3)); }

at::Tensor convolved(const at::Tensor &x, const at::Tensor &u, int64_t out, const WinogradWith &with) {
  auto y = room_for(x, out);
  const WinogradAfter plus{nullptr, with.plus ? with.plus->const_data_ptr() : nullptr, 1.0f};
  convolve(x, u, y, with.plus ? &plus : nullptr, with);
  return y;
}

at::Tensor weight_for(const at::Tensor &x, const at::Tensor &weight) {
  const auto &by = kernels_for(x);
  return transformed(weight, by, by.weight);
}

bool alike(const at::Tensor &a, at::IntArrayRef sizes, at::ScalarType kind) {
  return a.device().is_cpu() && a.sizes() == sizes && a.scalar_type() == kind && a.is_contiguous(at::MemoryFormat::ChannelsLast);
}

} // namespace

bool winograd_fits_weight(const at::Tensor &weight, int64_t stride, int64_t padding) {
  static const bool off = switched_off("MIXMATCH_WINOGRAD");
  return !off && stride == 1 && padding == 1 && weight.device().is_cpu() && weight.dim() == 4 && weight.size(2) == 3 &&
         weight.size(3) == 3 && channels_fit(weight.size(0)) && channels_fit(weight.size(1)) &&
         products_are_ours(weight.scalar_type(), Level::v3);
}

bool winograd_fits(const at::Tensor &x, const at::Tensor &weight, int64_t stride, int64_t padding) {
  return winograd_fits_weight(weight, stride, padding) && images_fit(x) && x.scalar_type() == weight.scalar_type() &&
         x.size(1) == weight.size(1);
}

at::Tensor winograd_weight(const at::Tensor &weight, int64_t height, int64_t width) {
  // A batch may be a single image, for whose few tiles the larger weight would be read.
  const int64_t tiles = height / 4 * (width / 4);
  const bool few = tiles < 9 || weight.size(0) * weight.size(1) > 1024 * tiles;
  const auto &by = kernels(weight.scalar_type(), large_tiles_fit(height, width) && !few);
  return transformed(weight, by, by.weight);
}

bool winograd_takes(const at::Tensor &x, const at::Tensor &transformed, int64_t out) {
  return images_fit(x) && (kernels_of(transformed, x.size(1), out).tile == 2 || large_tiles_fit(x.size(2), x.size(3)));
}

at::Tensor winograd_run(const at::Tensor &x, const at::Tensor &transformed, const at::Tensor &bias, at::Tensor *onto,
                        double slope) {
  const int64_t out = bias.size(0);
  TORCH_CHECK(bias.scalar_type() == x.scalar_type() && bias.is_contiguous() &&
                  transformed.numel() == kernels_of(transformed, x.size(1), out).positions() * x.size(1) * out &&
                  transformed.scalar_type() == x.scalar_type(),
              "a transformed weight or a bias of another convolution");
  const bool add = onto != nullptr;
  TORCH_CHECK(!add || alike(*onto, {x.size(0), out, x.size(2), x.size(3)}, x.scalar_type()),
              "what a convolution is added to has another shape, number format or layout");
  const auto y = add ? *onto : room_for(x, out);
  const WinogradAfter after{bias.const_data_ptr(), add ? y.const_data_ptr() : nullptr, static_cast<float>(slope)};
  convolve(x, transformed, y, &after, {});
  return y;
}

int64_t winograd_parts(const at::Tensor &x) { return parts_of(rows_of(x, kernels_for(x))); }

at::Tensor winograd_conv(const at::Tensor &x, const at::Tensor &weight, const WinogradWith &with) {
  return convolved(x, weight_for(x, weight), weight.size(0), with);
}

bool winograd_adds(const at::Tensor &x, const at::Tensor &weight, const at::Tensor &plus) {
  return alike(plus, {x.size(0), weight.size(0), x.size(2), x.size(3)}, x.scalar_type());
}

at::Tensor winograd_input_gradient(const at::Tensor &dy, const at::Tensor &weight, const WinogradWith &with) {
  const auto &by = kernels_for(dy);
  return convolved(dy, transformed(weight, by, by.turned_weight), weight.size(1), with);
}

at::Tensor winograd_weight_gradient(const at::Tensor &x, const at::Tensor &dy, const at::Tensor &weight,
                                    const WinogradBefore *before) {
  const auto &of = gradient_kernels_for(x);
  const auto shape = shape_of(x, weight.size(1), weight.size(0));
  return weight_gradient_by_rows(
      weight, of.positions() * shape.in * shape.out, rows_of(x, of), of.gradient_room(shape),
      [&](float *du, int64_t begin, int64_t end, void *scratch) {
        of.gradient(x.const_data_ptr(), before, dy.const_data_ptr(), du, shape, begin, end, scratch);
      },
      [&](const float *du, int64_t parts, int64_t begin, int64_t end, void *dw) {
        of.weight_gradient(du, parts, shape.in, shape.out, begin, end, dw);
      });
}

} // namespace mixmatch
