// BatchNorm and leaky ReLU, and the addition of a residual before them, as one differentiable function on the CPU: two
// passes over memory forward and two backward, where the separate operations make three or four and five or six, and only
// the normalised function's input is kept for the backward pass.
#include "norm_act.h"
#include "norm_act_kernels.h"
#include "processor.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

namespace mixmatch {
namespace {

const NormActKernels &kernels() {
  switch (kernel_level()) {
  case Level::v4_bf16:
    return norm_act_v4_bf16;
  case Level::v4:
    return norm_act_v4;
  case Level::v3:
    return norm_act_v3;
  default:
    return norm_act_v1;
  }
}

// Numbers that one thread should have at least.
constexpr int64_t kGrain = 16384;

struct Shape {
  int64_t rows, channels;
  bool bf16;
  size_t bytes() const { return bf16 ? 2 : 4; }
  int64_t grain() const { return std::max<int64_t>(1, kGrain / channels); }
  const char *at(const at::Tensor &tensor, int64_t row) const {
    return static_cast<const char *>(tensor.const_data_ptr()) + row * channels * bytes();
  }
  char *at_mut(const at::Tensor &tensor, int64_t row) const {
    return static_cast<char *>(tensor.mutable_data_ptr()) + row * channels * bytes();
  }
};

Shape shape_of(const at::Tensor &x) {
  return {x.size(0) * x.size(2) * x.size(3), x.size(1), x.scalar_type() == at::kBFloat16};
}

// Two sums for each channel over all rows: every thread sums its part, then the parts are added in the order of the
// threads, so that the same thread count gives the same bits.
template <class Part> std::vector<double> two_sums(const Shape &shape, Part part) {
  const int64_t threads = std::max<int64_t>(1, std::min<int64_t>(at::get_num_threads(), shape.rows / shape.grain()));
  const int64_t each = (shape.rows + threads - 1) / threads, width = 2 * shape.channels;
  std::vector<double> parts(threads * width, 0.0);
  at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t thread = begin; thread < end; ++thread) {
      const int64_t from = thread * each, to = std::min(shape.rows, from + each);
      double *sums = parts.data() + thread * width;
      if (from < to) {
        part(from, to - from, sums, sums + shape.channels);
      }
    }
  });
  for (int64_t thread = 1; thread < threads; ++thread) {
    for (int64_t i = 0; i < width; ++i) {
      parts[i] += parts[thread * width + i];
    }
  }
  parts.resize(width);
  return parts;
}

struct Affine {
  at::Tensor scale, shift; // float32 [C]: x·scale + shift is the normalised x
};

Affine affine(const at::Tensor &gamma, const at::Tensor &beta, const at::Tensor &mean, const at::Tensor &inverse) {
  auto scale = gamma * inverse;
  return {scale, beta - mean * scale};
}

at::Tensor activate(const at::Tensor &x, const Affine &to, double slope) {
  const auto shape = shape_of(x);
  auto y = at::empty_like(x);
  const auto *scale = to.scale.const_data_ptr<float>(), *shift = to.shift.const_data_ptr<float>();
  at::parallel_for(0, shape.rows, shape.grain(), [&](int64_t begin, int64_t end) {
    kernels().apply(shape.bf16, shape.at(x, begin), shape.at_mut(y, begin), end - begin, shape.channels, scale, shift,
                    static_cast<float>(slope));
  });
  return y;
}

struct Running {
  const at::Tensor *mean, *variance; // float32 [C] or null
  double momentum, eps;
};

struct Statistics {
  at::Tensor mean, inverse; // float32 [C]: the mean and 1/√(variance + ε)
};

// From the sums of the values and of their squares; the running statistics take the batch in where there are any.
Statistics batch_statistics(const std::vector<double> &sums, const Shape &shape, const Running &running) {
  const auto options = at::TensorOptions().dtype(at::kFloat);
  auto mean = at::empty({shape.channels}, options), inverse = at::empty({shape.channels}, options);
  auto *m = mean.mutable_data_ptr<float>(), *i = inverse.mutable_data_ptr<float>();
  float *rm = running.mean ? running.mean->mutable_data_ptr<float>() : nullptr;
  float *rv = running.variance ? running.variance->mutable_data_ptr<float>() : nullptr;
  const double count = static_cast<double>(shape.rows), momentum = running.momentum;
  for (int64_t c = 0; c < shape.channels; ++c) {
    const double average = sums[c] / count;
    const double variance = std::max(0.0, sums[shape.channels + c] / count - average * average);
    m[c] = static_cast<float>(average);
    i[c] = static_cast<float>(1.0 / std::sqrt(variance + running.eps));
    if (rm && rv) { // the unbiased variance, as PyTorch keeps it
      rm[c] = static_cast<float>((1 - momentum) * rm[c] + momentum * average);
      rv[c] = static_cast<float>((1 - momentum) * rv[c] + momentum * variance * count / std::max(1.0, count - 1));
    }
  }
  return {mean, inverse};
}

Statistics statistics_of(const at::Tensor &x, const Running &running) {
  const auto shape = shape_of(x);
  const auto sums = two_sums(shape, [&](int64_t from, int64_t count, double *sum, double *square) {
    kernels().statistics(shape.bf16, shape.at(x, from), count, shape.channels, sum, square);
  });
  return batch_statistics(sums, shape, running);
}

// a + b and its statistics in one pass.
std::pair<at::Tensor, Statistics> add(const at::Tensor &a, const at::Tensor &b, const Running &running) {
  const auto shape = shape_of(a);
  auto s = at::empty_like(a);
  const auto sums = two_sums(shape, [&](int64_t from, int64_t count, double *sum, double *square) {
    kernels().add_statistics(shape.bf16, shape.at(a, from), shape.at(b, from), shape.at_mut(s, from), count,
                             shape.channels, sum, square);
  });
  return {s, batch_statistics(sums, shape, running)};
}

struct Gradients {
  at::Tensor x, gamma, beta;
};

// The gradients of y = lrelu(bn(x)) by the batch's statistics, given dy; `more` is added to x's where it is defined.
Gradients gradients(const at::Tensor &x, const Statistics &by, const Affine &to, double leak, at::Tensor dy,
                    at::Tensor more) {
  const auto rows = [&](const at::Tensor &t) { return t.to(x.scalar_type()).contiguous(at::MemoryFormat::ChannelsLast); };
  dy = rows(dy);
  more = more.defined() ? rows(more) : more;
  const auto shape = shape_of(x);
  const auto slope = static_cast<float>(leak);
  const auto *a = to.scale.const_data_ptr<float>(), *b = to.shift.const_data_ptr<float>();
  const auto sums = two_sums(shape, [&](int64_t from, int64_t count, double *sum_g, double *sum_gx) {
    kernels().backward_statistics(shape.bf16, shape.at(x, from), shape.at(dy, from), count, shape.channels, a, b, slope,
                                  sum_g, sum_gx);
  });
  // With ĝ = Σ g·x̂: dx = scale·(g − Σg/n − x̂·ĝ/n), written as g·scale + x·p + q.
  Gradients out{at::empty_like(x), at::empty_like(by.mean), at::empty_like(by.mean)};
  std::vector<float> p(shape.channels), q(shape.channels);
  const auto *m = by.mean.const_data_ptr<float>(), *i = by.inverse.const_data_ptr<float>();
  auto *dgamma = out.gamma.mutable_data_ptr<float>(), *dbeta = out.beta.mutable_data_ptr<float>();
  const double count = static_cast<double>(shape.rows);
  for (int64_t c = 0; c < shape.channels; ++c) {
    const double sum_g = sums[c];
    const double sum_normalised = (sums[shape.channels + c] - m[c] * sum_g) * i[c];
    dgamma[c] = static_cast<float>(sum_normalised);
    dbeta[c] = static_cast<float>(sum_g);
    const double slope_x = -a[c] * i[c] * sum_normalised / count;
    p[c] = static_cast<float>(slope_x);
    q[c] = static_cast<float>(-a[c] * sum_g / count - slope_x * m[c]);
  }
  at::parallel_for(0, shape.rows, shape.grain(), [&](int64_t begin, int64_t end) {
    kernels().backward_apply(shape.bf16, shape.at(x, begin), shape.at(dy, begin),
                             more.defined() ? shape.at(more, begin) : nullptr, shape.at_mut(out.x, begin), end - begin,
                             shape.channels, a, b, slope, p.data(), q.data());
  });
  return out;
}

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// What is learnt, and how it is used.
struct Learnt {
  const at::Tensor &gamma, &beta;
  double slope;
};

// y of x, and what the backward pass needs of it kept.
at::Tensor activated(AutogradContext *context, const at::Tensor &x, const Statistics &by, const Learnt &learnt) {
  const auto to = affine(learnt.gamma, learnt.beta, by.mean, by.inverse);
  context->save_for_backward({x, by.mean, by.inverse, to.scale, to.shift});
  context->saved_data["slope"] = learnt.slope;
  return activate(x, to, learnt.slope);
}

Gradients kept_gradients(AutogradContext *context, const at::Tensor &dy, const at::Tensor &more) {
  const auto kept = context->get_saved_variables();
  return gradients(kept[0], {kept[1], kept[2]}, {kept[3], kept[4]}, context->saved_data["slope"].toDouble(), dy, more);
}

// … of x → (x, y): what comes for x itself is added, and is all there is where nobody took y.
Gradients passed_gradients(AutogradContext *context, const variable_list &upstream) {
  return upstream[1].defined() ? kept_gradients(context, upstream[1], upstream[0]) : Gradients{upstream[0], {}, {}};
}

// x → y = lrelu(bn(x)) by the batch's statistics.
struct NormAct : torch::autograd::Function<NormAct> {
  static at::Tensor forward(AutogradContext *context, const at::Tensor &x, const at::Tensor &gamma,
                            const at::Tensor &beta, const Running &running, double slope) {
    return activated(context, x, statistics_of(x, running), {gamma, beta, slope});
  }

  static variable_list backward(AutogradContext *context, variable_list upstream) {
    auto g = kept_gradients(context, upstream[0], at::Tensor());
    return {g.x, g.gamma, g.beta, at::Tensor(), at::Tensor()};
  }
};

// (a, b) → (s, y) with s = a + b and y = lrelu(bn(s)) by the batch's statistics.
struct AddNormAct : torch::autograd::Function<AddNormAct> {
  static variable_list forward(AutogradContext *context, const at::Tensor &a, const at::Tensor &b,
                               const at::Tensor &gamma, const at::Tensor &beta, const Running &running, double slope) {
    context->set_materialize_grads(false); // s may be used by nobody else
    const auto [s, by] = add(a, b, running);
    return {s, activated(context, s, by, {gamma, beta, slope})};
  }

  static variable_list backward(AutogradContext *context, variable_list upstream) {
    const auto g = passed_gradients(context, upstream);
    return {g.x, g.x, g.gamma, g.beta, at::Tensor(), at::Tensor()};
  }
};

// x → (x, y): of an x that somebody else takes, too, whose gradient is added on the way.
struct PassNormAct : torch::autograd::Function<PassNormAct> {
  static variable_list forward(AutogradContext *context, const at::Tensor &x, const at::Tensor &gamma, const at::Tensor &beta,
                               const Running &running, double slope) {
    context->set_materialize_grads(false);
    return {x, activated(context, x, statistics_of(x, running), {gamma, beta, slope})};
  }

  static variable_list backward(AutogradContext *context, variable_list upstream) {
    const auto g = passed_gradients(context, upstream);
    return {g.x, g.gamma, g.beta, at::Tensor(), at::Tensor()};
  }
};

bool fused_kind(const at::Tensor &x) {
  return x.device().is_cpu() && x.dim() == 4 && x.numel() > 0 &&
         (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

void check_vectors(const at::Tensor &x, std::initializer_list<const at::Tensor *> vectors) {
  for (const auto *vector : vectors) { // they are read as plain arrays
    TORCH_CHECK(!vector || (vector->numel() == x.size(1) && vector->scalar_type() == at::kFloat &&
                            vector->is_contiguous() && vector->device().is_cpu()),
                "norm_act needs a contiguous float32 vector for each of ", x.size(1), " channels, got ",
                vector->scalar_type(), " ", vector->sizes());
  }
}

// A vector as cuDNN's float32 kernels want it: they read 16 bytes at a time, and a view into the flat buffer of all parameters
// begins wherever the one before it ends. In bf16 they read it number by number.
at::Tensor aligned(const at::Tensor &vector, const at::Tensor &x) {
  const bool off = reinterpret_cast<uintptr_t>(vector.const_data_ptr()) % 16 != 0;
  return off && x.is_cuda() && x.scalar_type() == at::kFloat ? vector.clone() : vector;
}

} // namespace

at::Tensor norm_act(const at::Tensor &x, const at::Tensor &gamma, const at::Tensor &beta,
                    const at::Tensor *running_mean, const at::Tensor *running_variance, bool batch, double momentum,
                    double eps, double slope) {
  const bool differentiated = at::GradMode::is_enabled() && (x.requires_grad() || gamma.requires_grad());
  // By running statistics with a gradient (a frozen layer), and anywhere but on the CPU: libtorch's own operations.
  if (!fused_kind(x) || (!batch && differentiated)) {
    const auto kept = [](const at::Tensor *tensor) {
      return tensor ? std::optional<at::Tensor>(*tensor) : std::optional<at::Tensor>();
    };
    auto y = at::batch_norm(x, aligned(gamma, x), aligned(beta, x), kept(running_mean), kept(running_variance), batch,
                            momentum, eps, true);
    // In place: the gradient of BatchNorm needs its input alone.
    return slope == 1.0 ? y : at::leaky_relu_(y, slope);
  }
  check_vectors(x, {&gamma, &beta, running_mean, running_variance});
  TORCH_CHECK(batch || (running_mean && running_variance), "norm_act by running statistics needs them");
  const auto rows = x.contiguous(at::MemoryFormat::ChannelsLast);
  const Running running{running_mean, running_variance, momentum, eps};
  if (differentiated) {
    return NormAct::apply(rows, gamma, beta, running, slope);
  }
  at::NoGradGuard no_grad;
  const auto by = batch ? statistics_of(rows, running) : Statistics{*running_mean, (*running_variance + eps).rsqrt()};
  return activate(rows, affine(gamma, beta, by.mean, by.inverse), slope);
}

std::pair<at::Tensor, at::Tensor> add_norm_act(const at::Tensor &a, const at::Tensor *b, const at::Tensor &gamma,
                                               const at::Tensor &beta, const at::Tensor *running_mean,
                                               const at::Tensor *running_variance, bool batch, double momentum,
                                               double eps, double slope) {
  const bool same = fused_kind(a) && (b == nullptr || (fused_kind(*b) && a.sizes() == b->sizes() &&
                                                       a.scalar_type() == b->scalar_type()));
  if (!same || !batch) {
    const auto s = b == nullptr ? a : a + *b;
    return {s, norm_act(s, gamma, beta, running_mean, running_variance, batch, momentum, eps, slope)};
  }
  check_vectors(a, {&gamma, &beta, running_mean, running_variance});
  const auto format = at::MemoryFormat::ChannelsLast;
  const auto left = a.contiguous(format), right = b == nullptr ? at::Tensor() : b->contiguous(format);
  const Running running{running_mean, running_variance, momentum, eps};
  const bool differentiated = a.requires_grad() || gamma.requires_grad() || (b != nullptr && b->requires_grad());
  if (at::GradMode::is_enabled() && differentiated) {
    auto both = b == nullptr ? PassNormAct::apply(left, gamma, beta, running, slope)
                             : AddNormAct::apply(left, right, gamma, beta, running, slope);
    return {both[0], both[1]};
  }
  const auto [s, by] = b == nullptr ? std::pair(left, statistics_of(left, running)) : add(left, right, running);
  return {s, activate(s, affine(gamma, beta, by.mean, by.inverse), slope)};
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
  const auto shape = shape_of(rows);
  auto y = at::empty(rows.sizes(), rows.options().dtype(at::kByte), at::MemoryFormat::ChannelsLast);
  auto *bytes = y.mutable_data_ptr<uint8_t>();
  const auto *by = scale.const_data_ptr<float>(), *plus = shift.const_data_ptr<float>();
  at::parallel_for(0, shape.rows, shape.grain(), [&](int64_t begin, int64_t end) {
    kernels().quantise(shape.bf16, shape.at(rows, begin), bytes + begin * shape.channels, end - begin, shape.channels, by,
                       plus, static_cast<float>(slope), static_cast<float>(zero));
  });
  return y;
}

} // namespace mixmatch
