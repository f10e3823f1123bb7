// BatchNorm and leaky ReLU as one differentiable function on the CPU: two passes over memory forward and two backward,
// where the separate operations make three and five, and only the input is kept for the backward pass.
#include "norm_act_kernels.h"
#include "shim.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

namespace mixmatch {
namespace {

const NormActKernels &kernels() {
  static const NormActKernels &chosen = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                                                __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512cd")
                                            ? norm_act_v4
                                        : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? norm_act_v3
                                                                                                        : norm_act_v1;
  return chosen;
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

// Mean and 1/√(variance + ε) of the batch, float32 [C]; the running statistics take them in where there are any.
std::pair<at::Tensor, at::Tensor> batch_statistics(const at::Tensor &x, const at::Tensor *running_mean,
                                                   const at::Tensor *running_variance, double momentum, double eps) {
  const auto shape = shape_of(x);
  const auto sums = two_sums(shape, [&](int64_t from, int64_t count, double *sum, double *square) {
    kernels().statistics(shape.bf16, shape.at(x, from), count, shape.channels, sum, square);
  });
  auto mean = at::empty({shape.channels}, x.options().dtype(at::kFloat)), inverse = at::empty_like(mean);
  auto *m = mean.mutable_data_ptr<float>(), *i = inverse.mutable_data_ptr<float>();
  float *rm = running_mean ? running_mean->mutable_data_ptr<float>() : nullptr;
  float *rv = running_variance ? running_variance->mutable_data_ptr<float>() : nullptr;
  const double count = static_cast<double>(shape.rows);
  for (int64_t c = 0; c < shape.channels; ++c) {
    const double average = sums[c] / count;
    const double variance = std::max(0.0, sums[shape.channels + c] / count - average * average);
    m[c] = static_cast<float>(average);
    i[c] = static_cast<float>(1.0 / std::sqrt(variance + eps));
    if (rm && rv) { // the unbiased variance, as PyTorch keeps it
      rm[c] = static_cast<float>((1 - momentum) * rm[c] + momentum * average);
      rv[c] = static_cast<float>((1 - momentum) * rv[c] + momentum * variance * count / std::max(1.0, count - 1));
    }
  }
  return {mean, inverse};
}

struct NormAct : torch::autograd::Function<NormAct> {
  static at::Tensor forward(torch::autograd::AutogradContext *context, const at::Tensor &x, const at::Tensor &gamma,
                            const at::Tensor &beta, const at::Tensor &mean, const at::Tensor &inverse, double slope) {
    const auto to = affine(gamma, beta, mean, inverse);
    context->save_for_backward({x, mean, inverse, to.scale, to.shift});
    context->saved_data["slope"] = slope;
    return activate(x, to, slope);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext *context,
                                                 torch::autograd::variable_list upstream) {
    const auto saved = context->get_saved_variables();
    const auto &x = saved[0], &mean = saved[1], &inverse = saved[2], &scale = saved[3], &shift = saved[4];
    const auto slope = static_cast<float>(context->saved_data["slope"].toDouble());
    const auto dy = upstream[0].to(x.scalar_type()).contiguous(at::MemoryFormat::ChannelsLast);
    const auto shape = shape_of(x);
    const auto *a = scale.const_data_ptr<float>(), *b = shift.const_data_ptr<float>();
    const auto sums = two_sums(shape, [&](int64_t from, int64_t count, double *sum_g, double *sum_gx) {
      kernels().backward_statistics(shape.bf16, shape.at(x, from), shape.at(dy, from), count, shape.channels, a, b,
                                    slope, sum_g, sum_gx);
    });
    // With ĝ = Σ g·x̂: dx = scale·(g − Σg/n − x̂·ĝ/n), written as g·scale + x·p + q.
    auto gamma_gradient = at::empty_like(mean), beta_gradient = at::empty_like(mean);
    std::vector<float> p(shape.channels), q(shape.channels);
    const auto *m = mean.const_data_ptr<float>(), *i = inverse.const_data_ptr<float>();
    auto *dgamma = gamma_gradient.mutable_data_ptr<float>(), *dbeta = beta_gradient.mutable_data_ptr<float>();
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
    auto dx = at::empty_like(x);
    at::parallel_for(0, shape.rows, shape.grain(), [&](int64_t begin, int64_t end) {
      kernels().backward_apply(shape.bf16, shape.at(x, begin), shape.at(dy, begin), shape.at_mut(dx, begin),
                               end - begin, shape.channels, a, b, slope, p.data(), q.data());
    });
    return {dx, gamma_gradient, beta_gradient, at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

bool fused_kind(const at::Tensor &x) {
  return x.device().is_cpu() && x.dim() == 4 && x.numel() > 0 &&
         (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
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
    const auto y = at::batch_norm(x, gamma, beta, kept(running_mean), kept(running_variance), batch, momentum, eps, true);
    return slope == 1.0 ? y : at::leaky_relu(y, slope);
  }
  for (const auto *vector : {&gamma, &beta, running_mean, running_variance}) { // they are read as plain arrays below
    TORCH_CHECK(!vector || (vector->numel() == x.size(1) && vector->scalar_type() == at::kFloat &&
                            vector->is_contiguous() && vector->device().is_cpu()),
                "norm_act needs a contiguous float32 vector for each of ", x.size(1), " channels, got ",
                vector->scalar_type(), " ", vector->sizes());
  }
  const auto rows = x.contiguous(at::MemoryFormat::ChannelsLast);
  at::Tensor mean, inverse;
  {
    at::NoGradGuard no_grad;
    if (batch) {
      std::tie(mean, inverse) = batch_statistics(rows.detach(), running_mean, running_variance, momentum, eps);
    } else {
      mean = *running_mean;
      inverse = (*running_variance + eps).rsqrt();
    }
    if (!differentiated) {
      return activate(rows, affine(gamma, beta, mean, inverse), slope);
    }
  }
  return NormAct::apply(rows, gamma, beta, mean, inverse, slope);
}

} // namespace mixmatch
