// BatchNorm and leaky ReLU, and the addition of a residual before them, as one differentiable function on the CPU: two
// passes over memory forward and two backward, where the separate operations make three or four and five or six, and only
// the normalised function's input is kept for the backward pass.
#include "norm_act.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

namespace mixmatch {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// y of x, and what the backward pass needs of it kept.
at::Tensor activated(AutogradContext *context, const at::Tensor &x, const at::Tensor &sums, const NormBy &by) {
  const auto normed = norm_by(x, sums, by);
  context->save_for_backward(normed.kept());
  context->saved_data["slope"] = by.slope;
  return activate(x, normed.to, by.slope);
}

Gradients kept_gradients(AutogradContext *context, const at::Tensor &upstream, const at::Tensor &more) {
  const auto of = Normed::of(context->get_saved_variables(), context->saved_data["slope"].toDouble());
  const auto dy = as_it_lies(upstream, of.x);
  return norm_gradients(of, gradient_sums(of, dy), dy, as_it_lies(more, of.x));
}

// … of x → (x, y): what comes for x itself is added, and is all there is where nobody took y.
Gradients passed_gradients(AutogradContext *context, const variable_list &upstream) {
  return upstream[1].defined() ? kept_gradients(context, upstream[1], upstream[0]) : Gradients{upstream[0], {}, {}};
}

// x → y = lrelu(bn(x)) by the batch's statistics.
struct NormAct : torch::autograd::Function<NormAct> {
  static at::Tensor forward(AutogradContext *context, const at::Tensor &x, const at::Tensor &gamma,
                            const at::Tensor &beta, const NormBy &by) {
    return activated(context, x, sums_of(x), by);
  }

  static variable_list backward(AutogradContext *context, variable_list upstream) {
    auto g = kept_gradients(context, upstream[0], at::Tensor());
    return {g.x, g.gamma, g.beta, at::Tensor()};
  }
};

// (a, b) → (s, y) with s = a + b and y = lrelu(bn(s)) by the batch's statistics.
struct AddNormAct : torch::autograd::Function<AddNormAct> {
  static variable_list forward(AutogradContext *context, const at::Tensor &a, const at::Tensor &b,
                               const at::Tensor &gamma, const at::Tensor &beta, const NormBy &by) {
    context->set_materialize_grads(false); // s may be used by nobody else
    const auto [s, sums] = add_and_sums(a, b);
    return {s, activated(context, s, sums, by)};
  }

  static variable_list backward(AutogradContext *context, variable_list upstream) {
    const auto g = passed_gradients(context, upstream);
    return {g.x, g.x, g.gamma, g.beta, at::Tensor()};
  }
};

// x → (x, y): of an x that somebody else takes, too, whose gradient is added on the way.
struct PassNormAct : torch::autograd::Function<PassNormAct> {
  static variable_list forward(AutogradContext *context, const at::Tensor &x, const at::Tensor &gamma, const at::Tensor &beta,
                               const at::Tensor &sums, const NormBy &by) {
    context->set_materialize_grads(false);
    return {x, activated(context, x, sums, by)};
  }

  static variable_list backward(AutogradContext *context, variable_list upstream) {
    const auto g = passed_gradients(context, upstream);
    return {g.x, g.gamma, g.beta, at::Tensor(), at::Tensor()};
  }
};

// A vector as cuDNN's float32 kernels want it: they read 16 bytes at a time, and a view into the flat buffer of all parameters
// begins wherever the one before it ends. In bf16 they read it number by number.
at::Tensor aligned(const at::Tensor &vector, const at::Tensor &x) {
  const bool off = reinterpret_cast<uintptr_t>(vector.const_data_ptr()) % 16 != 0;
  return off && x.is_cuda() && x.scalar_type() == at::kFloat ? vector.clone() : vector;
}

} // namespace

at::Tensor norm_act(const at::Tensor &x, const NormBy &by) {
  const bool differentiated = at::GradMode::is_enabled() && (x.requires_grad() || by.gamma.requires_grad());
  // By running statistics with a gradient (a frozen layer), and anywhere but on the CPU: libtorch's own operations.
  if (!fused_kind(x) || (!by.batch && differentiated)) {
    const auto kept = [](const at::Tensor *tensor) {
      return tensor ? std::optional<at::Tensor>(*tensor) : std::optional<at::Tensor>();
    };
    const auto &running = by.running;
    auto y = at::batch_norm(x, aligned(by.gamma, x), aligned(by.beta, x), kept(running.mean), kept(running.variance), by.batch,
                            running.momentum, running.eps, true);
    // In place: the gradient of BatchNorm needs its input alone.
    return by.slope == 1.0 ? y : at::leaky_relu_(y, by.slope);
  }
  check(x, by);
  const auto rows = x.contiguous(at::MemoryFormat::ChannelsLast);
  if (differentiated) {
    return NormAct::apply(rows, by.gamma, by.beta, by);
  }
  at::NoGradGuard no_grad;
  return activate(rows, norm_by(rows, by.batch ? sums_of(rows) : at::Tensor(), by).to, by.slope);
}

std::pair<at::Tensor, at::Tensor> add_norm_act(const at::Tensor &a, const at::Tensor *b, const at::Tensor *sums,
                                               const NormBy &by) {
  const bool same = fused_kind(a) && (b == nullptr || (fused_kind(*b) && a.sizes() == b->sizes() &&
                                                       a.scalar_type() == b->scalar_type()));
  if (!same || !by.batch) {
    const auto s = b == nullptr ? a : a + *b;
    return {s, norm_act(s, by)};
  }
  check(a, by);
  const auto format = at::MemoryFormat::ChannelsLast;
  const auto left = a.contiguous(format), right = b == nullptr ? at::Tensor() : b->contiguous(format);
  const auto known = b == nullptr ? sums_or_made(left, sums) : at::Tensor();
  const bool differentiated = a.requires_grad() || by.gamma.requires_grad() || (b != nullptr && b->requires_grad());
  if (at::GradMode::is_enabled() && differentiated) {
    auto both = b == nullptr ? PassNormAct::apply(left, by.gamma, by.beta, known, by)
                             : AddNormAct::apply(left, right, by.gamma, by.beta, by);
    return {both[0], both[1]};
  }
  const auto [s, made] = b == nullptr ? std::pair(left, known) : add_and_sums(left, right);
  return {s, activate(s, norm_by(s, made, by).to, by.slope)};
}

at::Tensor scale_act(const at::Tensor &x, const at::Tensor &scale, const at::Tensor &shift, double slope) {
  TORCH_CHECK(fused_kind(x), "scale_act needs float32 or bf16 images on the CPU, got ", x.scalar_type(), " ", x.sizes());
  check_vectors(x, {&scale, &shift});
  at::NoGradGuard no_grad;
  return activate(x.contiguous(at::MemoryFormat::ChannelsLast), {scale, shift}, slope);
}

at::Tensor quantise_act(const at::Tensor &x, const at::Tensor &scale, const at::Tensor &shift, double slope, double zero) {
  TORCH_CHECK(fused_kind(x), "quantise_act needs float32 or bf16 images on the CPU, got ", x.scalar_type(), " ", x.sizes());
  check_vectors(x, {&scale, &shift});
  at::NoGradGuard no_grad;
  const auto rows = x.contiguous(at::MemoryFormat::ChannelsLast);
  const NormShape shape(rows);
  auto y = at::empty(rows.sizes(), rows.options().dtype(at::kByte), at::MemoryFormat::ChannelsLast);
  auto *bytes = y.mutable_data_ptr<uint8_t>();
  const auto *by = scale.const_data_ptr<float>(), *plus = shift.const_data_ptr<float>();
  at::parallel_for(0, shape.rows, shape.grain(), [&](int64_t begin, int64_t end) {
    norm_act_kernels().quantise(shape.bf16, shape.at(rows, begin), bytes + begin * shape.channels, end - begin,
                                shape.channels, by, plus, static_cast<float>(slope), static_cast<float>(zero));
  });
  return y;
}

} // namespace mixmatch
