// A convolution whose backward pass waits for no thread; by our own kernels where they are faster (winograd.h, strided.h), else by oneDNN.
//
// oneDNN's gradient of the weight divides the images among the threads, and those that have summed their part wait for the
// others by spinning, in generated code. On cores that are all ours this is quick; beside any other busy process the one that waits
// holds the core which the other needs, for a whole time slice, in every layer. Here each thread calls oneDNN for its own images,
// where it takes one thread and has nothing to wait for, and the parts are added after. docs/experiments.md, "The training step".
#include "conv.h"
#include "strided.h"
#include "winograd.h"

#include <algorithm>
#include <array>
#include <omp.h>
#include <vector>

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

namespace mixmatch {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Every thread holds a gradient of the whole weight: beyond this many numbers (WRN-28-2's largest has 147,456) oneDNN does better,
// which divides the weight itself among the threads then.
constexpr int64_t kLargestWeight = 1 << 18;

// Bytes of one thread's gradient of its images up to which they are computed together with the weight's: they lie in its cache, where
// copying them to the others costs less than one more waiting for each other at the end.
constexpr int64_t kLargestPart = 1 << 20;

struct Layer {
  int64_t stride, padding;
};

std::pair<at::Tensor, at::Tensor> libtorchs(const at::Tensor &dy, const at::Tensor &x, const at::Tensor &weight,
                                            const Layer &layer, bool input, bool kernel) {
  const std::array<bool, 3> wanted{input, kernel, false};
  auto [dx, dw, unused] =
      at::convolution_backward(dy, x, weight, c10::nullopt, {layer.stride, layer.stride},
                               {layer.padding, layer.padding}, {1, 1}, false, {0, 0}, 1, wanted);
  return {dx, dw};
}

// While it lives, what this thread calls takes this thread alone. Inside a parallel region a primitive of oneDNN gets no other, but is
// made for as many as OpenMP would give, and one that is made for two waits for the second for ever, or computes half.
class OneThread {
  int before;

public:
  OneThread() {
    // libtorch gives a thread that is new to it the number of threads that somebody has set, at its first look: not later than here.
    at::get_num_threads();
    at::internal::lazy_init_num_threads();
    before = omp_get_max_threads();
    omp_set_num_threads(1);
  }
  ~OneThread() { omp_set_num_threads(before); }
  OneThread(const OneThread &) = delete;
  OneThread &operator=(const OneThread &) = delete;
};

// dx (undefined unless `input`) and dw, of `parts` groups of images, each by one thread.
std::pair<at::Tensor, at::Tensor> by_parts(const at::Tensor &dy, const at::Tensor &x, const at::Tensor &weight,
                                           const Layer &layer, bool input, int64_t parts) {
  const int64_t images = x.size(0), each = (images + parts - 1) / parts;
  std::vector<at::Tensor> kernels(parts);
  const auto dx = input ? at::empty_like(x) : at::Tensor();
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    const c10::AutoGradMode no_grad(false); // a thread of OpenMP's has modes of its own
    const OneThread alone;
    for (int64_t part = begin; part < end; ++part) {
      const int64_t from = part * each, count = std::min(images, from + each) - from;
      if (count <= 0) {
        continue; // five images for four threads: two, two and one
      }
      auto [to_input, to_kernel] =
          libtorchs(dy.narrow(0, from, count), x.narrow(0, from, count), weight, layer, input, true);
      kernels[part] = std::move(to_kernel);
      if (input) {
        dx.narrow(0, from, count).copy_(to_input);
      }
    }
  });
  // In float32 and in the order of the images, whichever thread had them; each part has been rounded to the weight's format.
  auto dw = kernels[0].to(at::kFloat);
  for (int64_t part = 1; part < parts; ++part) {
    if (kernels[part].defined()) {
      dw.add_(kernels[part]);
    }
  }
  return {dx, dw.to(weight.scalar_type())};
}

bool is_ours(const at::Tensor &x, const at::Tensor &weight, const Layer &layer) {
  return winograd_fits(x, weight, layer.stride, layer.padding) || strided_fits(x, weight, layer.stride, layer.padding);
}

at::Tensor forward_of(const at::Tensor &x, const at::Tensor &weight, const Layer &layer) {
  if (winograd_fits(x, weight, layer.stride, layer.padding)) {
    return winograd_conv(x, weight);
  }
  return strided_fits(x, weight, layer.stride, layer.padding)
             ? strided_conv(x, weight)
             : at::conv2d(x, weight, c10::nullopt, layer.stride, layer.padding);
}

struct Conv : torch::autograd::Function<Conv> {
  static at::Tensor forward(AutogradContext *context, const at::Tensor &x, const at::Tensor &weight, int64_t stride,
                            int64_t padding) {
    context->save_for_backward({x, weight});
    context->saved_data["stride"] = stride;
    context->saved_data["padding"] = padding;
    return forward_of(x, weight, {stride, padding});
  }

  static variable_list backward(AutogradContext *context, variable_list upstream) {
    const auto kept = context->get_saved_variables();
    const auto &x = kept[0], &weight = kept[1];
    const Layer layer{context->saved_data["stride"].toInt(), context->saved_data["padding"].toInt()};
    const bool input = context->needs_input_grad(0), kernel = context->needs_input_grad(1);
    const auto dy = upstream[0].contiguous(x.suggest_memory_format());
    if (is_ours(x, weight, layer)) {
      const bool winograd = layer.stride == 1;
      at::Tensor dx, dw;
      if (input) {
        dx = winograd ? winograd_input_gradient(dy, weight) : strided_input_gradient(dy, x, weight);
      }
      if (kernel) {
        dw = winograd ? winograd_weight_gradient(x, dy, weight) : strided_weight_gradient(x, dy, weight);
      }
      return {dx, dw, at::Tensor(), at::Tensor()};
    }
    const int64_t parts = std::min<int64_t>(at::get_num_threads(), x.size(0));
    if (!kernel || parts < 2 || at::in_parallel_region()) {
      auto [dx, dw] = libtorchs(dy, x, weight, layer, input, kernel);
      return {dx, dw, at::Tensor(), at::Tensor()};
    }
    const bool together = input && static_cast<int64_t>(x.nbytes()) / parts <= kLargestPart;
    auto [dx, dw] = by_parts(dy, x, weight, layer, together, parts);
    if (input && !together) {
      dx = libtorchs(dy, x, weight, layer, true, false).first;
    }
    return {dx, dw, at::Tensor(), at::Tensor()};
  }
};

} // namespace

at::Tensor conv(const at::Tensor &x, const at::Tensor &weight, int64_t stride, int64_t padding) {
  const bool differentiated = at::GradMode::is_enabled() && (x.requires_grad() || weight.requires_grad());
  const bool known = x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16;
  const bool ours = differentiated && known && x.device().is_cpu() && x.dim() == 4 && x.numel() > 0 && weight.dim() == 4 &&
                    (weight.numel() <= kLargestWeight || is_ours(x, weight, {stride, padding}));
  return ours ? Conv::apply(x, weight, stride, padding) : forward_of(x, weight, {stride, padding});
}

} // namespace mixmatch
