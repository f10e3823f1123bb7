#include "strided.h"

#include "own_conv.h"
#include "strided_kernels.h"

namespace mixmatch {
namespace {

const StridedKernels &kernels(at::ScalarType kind) { return kind == at::kFloat ? strided_v4 : strided_v4_bf16; }

StridedShape shape_of(const at::Tensor &x, const at::Tensor &weight) {
  return {x.size(2), x.size(3), weight.size(1), weight.size(0), weight.size(2)};
}

using OfWeight = decltype(StridedKernels::weight);

at::Tensor turned(const at::Tensor &weight, const StridedShape &shape, OfWeight turn) {
  const auto kernel = weight.contiguous(at::MemoryFormat::ChannelsLast);
  auto u = at::empty({weight.numel()}, weight.scalar_type());
  by_squares(shape.out, [&](int64_t begin, int64_t end) {
    turn(kernel.const_data_ptr(), shape, begin, end, u.mutable_data_ptr());
  });
  return u;
}

int64_t rows_of(const at::Tensor &x) { return x.size(0) * x.size(2) / 2; }

// `to` of `from`, over all rows of y, by the weight as `turn` makes it: forward and back are the same but for these.
void run(const StridedKernels &of, OfWeight turn, decltype(StridedKernels::forward) kernel, const at::Tensor &weight,
         const StridedShape &shape, int64_t rows, const at::Tensor &from, const at::Tensor &to) {
  const auto u = turned(weight, shape, turn);
  by_rows(rows, parts_of(rows), of.room(shape), [&](int64_t, int64_t begin, int64_t end, void *scratch) {
    kernel(from.const_data_ptr(), u.const_data_ptr(), to.mutable_data_ptr(), shape, begin, end, scratch);
  });
}

} // namespace

bool strided_fits(const at::Tensor &x, const at::Tensor &weight, int64_t stride, int64_t padding) {
  static const bool off = switched_off("MIXMATCH_STRIDED");
  if (off || stride != 2 || weight.dim() != 4 || weight.size(2) != weight.size(3) || !images_fit(x)) {
    return false;
  }
  const int64_t kernel = weight.size(2);
  return ((kernel == 3 && padding == 1) || (kernel == 1 && padding == 0)) && weight.device().is_cpu() &&
         x.scalar_type() == weight.scalar_type() && products_are_ours(weight.scalar_type(), Level::v4) && x.size(1) == weight.size(1) &&
         channels_fit(weight.size(0)) && channels_fit(weight.size(1));
}

at::Tensor strided_conv(const at::Tensor &x, const at::Tensor &weight) {
  const auto &of = kernels(x.scalar_type());
  const auto shape = shape_of(x, weight);
  auto y = images_like(x, shape.out, shape.height / 2, shape.width / 2);
  run(of, of.weight, of.forward, weight, shape, rows_of(x), x, y);
  return y;
}

at::Tensor strided_input_gradient(const at::Tensor &dy, const at::Tensor &x, const at::Tensor &weight) {
  const auto &of = kernels(x.scalar_type());
  const auto shape = shape_of(x, weight);
  auto dx = at::empty_like(x);
  run(of, of.turned_weight, of.input_gradient, weight, shape, rows_of(x), dy, dx);
  return dx;
}

at::Tensor strided_weight_gradient(const at::Tensor &x, const at::Tensor &dy, const at::Tensor &weight) {
  const auto &of = kernels(x.scalar_type());
  const auto shape = shape_of(x, weight);
  return weight_gradient_by_rows(
      weight, weight.numel(), rows_of(x), of.room(shape),
      [&](float *du, int64_t begin, int64_t end, void *scratch) {
        of.gradient(x.const_data_ptr(), dy.const_data_ptr(), du, shape, begin, end, scratch);
      },
      [&](const float *du, int64_t parts, int64_t begin, int64_t end, void *dw) {
        of.weight_gradient(du, parts, shape, begin, end, dw);
      });
}

} // namespace mixmatch
