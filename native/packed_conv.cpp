// libtorch's own operations for compiled inference (TorchInductor calls them), reached by their names in its dispatcher:
// oneDNN itself is hidden inside libtorch.
#include "packed_conv.h"
#include "winograd.h"

#include <ATen/core/dispatch/Dispatcher.h>

#include <atomic>
#include <optional>

namespace mixmatch {
namespace {

using Scalars = torch::List<std::optional<at::Scalar>>;
using Word = std::optional<c10::string_view>;

// mkldnn::_convolution_pointwise and its form that adds, as their schemas spell them.
using Pointwise = at::Tensor(const at::Tensor &, const at::Tensor &, const std::optional<at::Tensor> &, at::IntArrayRef,
                             at::IntArrayRef, at::IntArrayRef, int64_t, c10::string_view, Scalars, Word);
using Binary = at::Tensor &(at::Tensor &, const at::Tensor &, const at::Tensor &, const std::optional<at::Tensor> &,
                            at::IntArrayRef, at::IntArrayRef, at::IntArrayRef, int64_t, c10::string_view,
                            std::optional<at::Scalar>, Word, Scalars, Word);
using Pack = at::Tensor(const at::Tensor &, at::IntArrayRef, at::IntArrayRef, at::IntArrayRef, int64_t,
                        at::OptionalIntArrayRef);
using Layout = at::Tensor(const at::Tensor &);

template <class Signature> c10::TypedOperatorHandle<Signature> operation(const char *name, const char *overload) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, overload).typed<Signature>();
}

const char *activation(double slope) { return slope == 1.0 ? "none" : slope == 0.0 ? "relu" : "leaky_relu"; }

Scalars parameters(double slope) {
  Scalars scalars;
  if (slope != 1.0 && slope != 0.0) {
    scalars.push_back(at::Scalar(slope));
  }
  return scalars;
}

constexpr int64_t kOnes[] = {1, 1};

// What conv_run promises, one operation after another.
at::Tensor conv_then(const at::Tensor &x, const at::Tensor &weight, const at::Tensor &bias, at::Tensor *onto,
                     int64_t stride, int64_t padding, double slope) {
  at::Tensor y = at::conv2d(x, weight, bias, {stride, stride}, at::IntArrayRef{padding, padding});
  if (onto != nullptr) {
    y = onto->add_(y);
  }
  return slope == 1.0 ? y : slope == 0.0 ? at::relu_(y) : at::leaky_relu_(y, slope);
}

// False once cuDNN had no plan for all of it at once where one after another worked: older cards have none.
std::atomic<bool> at_once{true};

// The same on a GPU with ReLU as one operation of cuDNN's, where it has one: a small batch takes as long as handing its
// operations to the driver takes, and this is a third as many.
std::optional<at::Tensor> conv_relu(const at::Tensor &x, const at::Tensor &weight, const at::Tensor &bias,
                                    const at::Tensor *onto, int64_t stride, int64_t padding) {
  const int64_t strides[] = {stride, stride}, paddings[] = {padding, padding};
  try {
    return onto == nullptr ? at::cudnn_convolution_relu(x, weight, bias, strides, paddings, kOnes, 1)
                           : at::cudnn_convolution_add_relu(x, weight, *onto, 1.0, bias, strides, paddings, kOnes, 1);
  } catch (const c10::Error &) {
    return std::nullopt;
  }
}

at::Tensor conv_unpacked(const at::Tensor &x, const at::Tensor &weight, const at::Tensor &bias, at::Tensor *onto,
                         int64_t stride, int64_t padding, double slope) {
  at::NoGradGuard no_grad;
  const bool fused = x.is_cuda() && slope == 0.0 && at_once.load(std::memory_order_relaxed);
  if (fused) {
    if (auto y = conv_relu(x, weight, bias, onto, stride, padding)) {
      return *y;
    }
  }
  const at::Tensor y = conv_then(x, weight, bias, onto, stride, padding, slope);
  // Only where this works: memory that has run out says nothing about cuDNN's plans.
  if (fused) {
    at_once.store(false, std::memory_order_relaxed);
  }
  return y;
}

} // namespace

bool onednn_has_bf16() {
  static const bool has = operation<bool()>("mkldnn::_is_mkldnn_bf16_supported", "").call();
  return has;
}

at::Tensor conv_pack(const at::Tensor &weight, at::IntArrayRef input, int64_t stride, int64_t padding) {
  at::NoGradGuard no_grad;
  if (!weight.is_cpu() || (weight.scalar_type() == at::kBFloat16 && !onednn_has_bf16())) {
    return weight.clone(at::MemoryFormat::ChannelsLast);
  }
  static const auto pack = operation<Pack>("mkldnn::_reorder_convolution_weight", "");
  const int64_t strides[] = {stride, stride}, paddings[] = {padding, padding};
  return pack.call(weight, paddings, strides, kOnes, 1, input);
}

at::Tensor conv_pack_also(const at::Tensor &weight, const at::Tensor &packed, at::IntArrayRef input, int64_t stride,
                          int64_t padding) {
  if (!packed.is_mkldnn()) {
    return packed;
  }
  static const auto layout = operation<Layout>("mkldnn::_get_mkldnn_serialized_md", "");
  at::Tensor also = conv_pack(weight, input, stride, padding);
  return layout.call(also).equal(layout.call(packed)) ? packed : also;
}

at::Tensor conv_pack_winograd(const at::Tensor &weight, at::IntArrayRef input, int64_t stride, int64_t padding) {
  at::NoGradGuard no_grad;
  return winograd_fits_weight(weight, stride, padding) ? winograd_weight(weight, input[2], input[3]) : at::Tensor();
}

at::Tensor conv_run(const at::Tensor &x, const at::Tensor &packed, const at::Tensor &winograd, const at::Tensor &bias,
                    at::Tensor *onto, int64_t stride, int64_t padding, double slope) {
  // In batches of any size: an image's answer does not depend on what is beside it.
  const bool laid_out = onto == nullptr || onto->is_contiguous(at::MemoryFormat::ChannelsLast);
  if (winograd.defined() && laid_out && winograd_takes(x, winograd, bias.size(0))) {
    at::NoGradGuard no_grad;
    return winograd_run(x, winograd, bias, onto, slope);
  }
  if (!packed.is_mkldnn()) {
    return conv_unpacked(x, packed, bias, onto, stride, padding, slope);
  }
  static const auto plain = operation<Pointwise>("mkldnn::_convolution_pointwise", "");
  static const auto adding = operation<Binary>("mkldnn::_convolution_pointwise_", "binary");
  const int64_t strides[] = {stride, stride}, paddings[] = {padding, padding};
  if (onto == nullptr) {
    return plain.call(x, packed, bias, paddings, strides, kOnes, 1, activation(slope), parameters(slope), "");
  }
  const Word then = slope == 1.0 ? Word() : Word(activation(slope));
  return adding.call(*onto, x, packed, bias, paddings, strides, kOnes, 1, "add", at::Scalar(1.0), then,
                     parameters(slope), Word());
}

} // namespace mixmatch
