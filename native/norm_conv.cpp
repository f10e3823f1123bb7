#include "norm_conv.h"
#include "winograd.h"

#include <torch/csrc/autograd/custom_function.h>

namespace mixmatch {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// What makes x into the activated x on its way into a convolution.
WinogradBefore activating(const Normed &of) {
  return {of.to.scale.const_data_ptr<float>(), of.to.shift.const_data_ptr<float>(), static_cast<float>(of.slope)};
}

// y and its sums.
std::pair<at::Tensor, at::Tensor> convolved(const Normed &of, const at::Tensor &weight, const at::Tensor *plus) {
  const int64_t out = weight.size(0);
  const bool bf16 = weight.scalar_type() == at::kBFloat16;
  TwoSums sums(winograd_parts(of.x), out);
  const auto before = activating(of);
  const WinogradWith with{&before, plus, [&](int64_t part, const void *y, int64_t, int64_t count) {
                            norm_act_kernels().statistics(bf16, y, count, out, sums.first(part), sums.second(part));
                          }};
  const auto y = winograd_conv(of.x, weight, with);
  return {y, sums.total()};
}

// The gradient of an activated x, and of that the sums which the norm's gradients need.
std::pair<at::Tensor, at::Tensor> input_gradient(const Normed &of, const at::Tensor &dy, const at::Tensor &weight) {
  TwoSums sums(winograd_parts(dy), of.x.size(1));
  const WinogradWith with{nullptr, nullptr,
                          [&](int64_t part, const void *dx, int64_t first, int64_t count) {
                            add_gradient_sums(of, dx, first, count, sums.first(part), sums.second(part));
                          },
                          &of.x};
  const auto dx = winograd_input_gradient(dy, weight, with);
  return {dx, sums.total()};
}

struct Function : torch::autograd::Function<Function> {
  static variable_list forward(AutogradContext *context, const at::Tensor &x, const at::Tensor &gamma, const at::Tensor &beta,
                               const at::Tensor &weight, const std::optional<at::Tensor> &plus, const at::Tensor &sums,
                               const NormBy &by) {
    context->set_materialize_grads(false); // x may be used by nobody else
    const auto normed = norm_by(x, sums, by);
    const auto [y, sums_of_y] = convolved(normed, weight, plus ? &*plus : nullptr);
    auto kept = normed.kept();
    kept.push_back(weight);
    context->save_for_backward(std::move(kept));
    context->saved_data["slope"] = by.slope;
    context->mark_non_differentiable({sums_of_y});
    return {x, y, sums_of_y};
  }

  static variable_list backward(AutogradContext *context, variable_list upstream) {
    if (!upstream[1].defined()) { // nobody took y
      return {upstream[0], at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
    }
    const auto kept = context->get_saved_variables();
    const auto of = Normed::of(kept, context->saved_data["slope"].toDouble());
    const auto &weight = kept[5];
    const auto dy = as_it_lies(upstream[1], of.x);
    const auto before = activating(of);
    const auto dw = winograd_weight_gradient(of.x, dy, weight, &before);
    const auto [to_activated, sums] = input_gradient(of, dy, weight);
    const auto g = norm_gradients(of, sums, to_activated, as_it_lies(upstream[0], of.x));
    return {g.x, g.gamma, g.beta, dw, context->needs_input_grad(4) ? dy : at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

} // namespace

NormConv norm_conv(const at::Tensor &x, const at::Tensor *sums, const NormBy &by, const at::Tensor &weight,
                   const at::Tensor *plus, int64_t stride, int64_t padding) {
  const bool differentiated =
      at::GradMode::is_enabled() &&
      (x.requires_grad() || by.gamma.requires_grad() || weight.requires_grad() || (plus && plus->requires_grad()));
  if (!fused_kind(x) || !winograd_fits(x, weight, stride, padding) || (plus && !winograd_adds(x, weight, *plus)) ||
      by.slope > 1.0 || (differentiated && !by.batch)) {
    return {};
  }
  check(x, by);
  const auto known = by.batch ? sums_or_made(x, sums) : at::Tensor();
  if (differentiated) {
    const auto added = plus ? std::optional<at::Tensor>(*plus) : std::nullopt;
    auto made = Function::apply(x, by.gamma, by.beta, weight, added, known, by);
    return {made[0], made[1], made[2]};
  }
  const auto [y, sums_of_y] = convolved(norm_by(x, known, by), weight, plus);
  return {x, y, sums_of_y};
}

} // namespace mixmatch
