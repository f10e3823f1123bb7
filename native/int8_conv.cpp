// By libtorch's own operations for quantised inference (TorchInductor calls them), reached by their names in its dispatcher, as
// in packed_conv.cpp.
#include "int8_conv.h"

#include <ATen/core/dispatch/Dispatcher.h>

#include <optional>
#include <string_view>

namespace mixmatch {
namespace {

using Sizes = c10::List<int64_t>;
using Scalars = c10::List<std::optional<at::Scalar>>;
using Word = std::optional<std::string_view>;
using Bias = std::optional<at::Tensor>;
using Kind = std::optional<c10::ScalarType>;

// onednn::qconv_prepack, qconv2d_pointwise and its form that adds, as their functions in libtorch are declared.
using Pack = at::Tensor(at::Tensor, at::Tensor, double, int64_t, Sizes, Sizes, Sizes, int64_t, std::optional<Sizes>);
using Pointwise = at::Tensor(at::Tensor, double, int64_t, at::Tensor, at::Tensor, at::Tensor, Bias, Sizes, Sizes, Sizes,
                             int64_t, double, int64_t, Kind, std::string_view, Scalars, Word);
using Binary = at::Tensor(at::Tensor, double, int64_t, at::Tensor, at::Tensor, at::Tensor, at::Tensor, Bias, Sizes, Sizes,
                          Sizes, int64_t, double, int64_t, Kind, double, int64_t, std::string_view,
                          std::optional<at::Scalar>, Word, Scalars, Word);
using Layout = at::Tensor(const at::Tensor &);

template <class Signature> c10::TypedOperatorHandle<Signature> operation(const char *name, const char *overload) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, overload).typed<Signature>();
}

// int8 holds −127…127 here: symmetric, and oneDNN's sums stay exact.
constexpr double kLargest = 127.0;

bool exact() {
  // The largest products there are, in sums that 16 bits do not hold: every output is a known whole number.
  const auto options = at::TensorOptions().dtype(at::kFloat);
  const auto weight = at::ones({16, 64, 1, 1}, options);
  const Int8Conv conv(weight, at::zeros({16}, options), {2, 64, 4, 4}, 1, 0, {1.0, 0, 1.0, false});
  const auto x = at::full({2, 64, 4, 4}, 255, at::TensorOptions().dtype(at::kByte)).contiguous(at::MemoryFormat::ChannelsLast);
  const auto off = conv.run(x, nullptr, at::kFloat).sub(64 * 255.0).abs().max().item<float>();
  return off < 1.0f;
}

} // namespace

bool int8_is_exact() {
  static const bool is = exact();
  return is;
}

Int8Conv::Int8Conv(const at::Tensor &weight, const at::Tensor &bias, at::IntArrayRef input, int64_t stride,
                   int64_t padding, const Int8Meaning &meaning)
    : meaning_(meaning), strides_({stride, stride}), paddings_({padding, padding}), dilations_({1, 1}) {
  at::NoGradGuard no_grad;
  TORCH_CHECK(weight.is_cpu() && weight.scalar_type() == at::kFloat && weight.dim() == 4 && input.size() == 4,
              "an int8 convolution is made of a float32 weight [out, in, k, k] on the CPU, got ", weight.scalar_type(), " ",
              weight.sizes());
  // A channel of zeros keeps a scale that can be divided by.
  scales_ = weight.abs().amax({1, 2, 3}).div(kLargest).clamp_min(1e-30).contiguous();
  zeros_ = at::zeros({weight.size(0)}, at::TensorOptions().dtype(at::kInt));
  bias_ = bias.to(at::kFloat).contiguous().clone();
  const auto bytes = weight.div(scales_.view({-1, 1, 1, 1})).round().clamp(-kLargest, kLargest).to(at::kChar);
  static const auto pack = operation<Pack>("onednn::qconv_prepack", "");
  static const auto layout = operation<Layout>("mkldnn::_get_mkldnn_serialized_md", "");
  const auto packed = [&](int64_t images) {
    return pack.call(bytes, scales_, meaning.input_scale, meaning.input_zero, strides_, paddings_, dilations_, 1,
                     Sizes({images, input[1], input[2], input[3]}));
  };
  packed_ = packed(input[0]);
  single_ = packed(1);
  if (layout.call(single_).equal(layout.call(packed_))) {
    single_ = packed_;
  }
}

at::Tensor Int8Conv::run(const at::Tensor &x, const at::Tensor *onto, at::ScalarType kind) const {
  at::NoGradGuard no_grad;
  TORCH_CHECK(x.scalar_type() == at::kByte && x.dim() == 4, "an int8 convolution takes uint8 images, got ", x.scalar_type(),
              " ", x.sizes());
  const auto &weight = x.size(0) == 1 ? single_ : packed_;
  const char *then = meaning_.relu ? "relu" : "none";
  static const auto plain = operation<Pointwise>("onednn::qconv2d_pointwise", "");
  static const auto adding = operation<Binary>("onednn::qconv2d_pointwise", "binary");
  if (onto != nullptr) {
    return adding.call(x, meaning_.input_scale, meaning_.input_zero, weight, scales_, zeros_, *onto, bias_, strides_,
                       paddings_, dilations_, 1, 1.0, 0, onto->scalar_type(), 1.0, 0, "sum", at::Scalar(1.0), then,
                       Scalars(), "");
  }
  const double scale = kind == at::kByte ? meaning_.output_scale : 1.0;
  return plain.call(x, meaning_.input_scale, meaning_.input_zero, weight, scales_, zeros_, bias_, strides_, paddings_,
                    dilations_, 1, scale, 0, kind, then, Scalars(), "");
}

} // namespace mixmatch
