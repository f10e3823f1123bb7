#include "norm_passes.h"
#include "processor.h"

#include <ATen/Parallel.h>

namespace mixmatch {
namespace {

// Numbers that one thread should have at least.
constexpr int64_t kGrain = 16384;

// `part(from, count, first, second)` for each thread's rows.
template <class Part> at::Tensor two_sums(const NormShape &shape, Part part) {
  const int64_t threads = std::max<int64_t>(1, std::min<int64_t>(at::get_num_threads(), shape.rows / shape.grain()));
  const int64_t each = (shape.rows + threads - 1) / threads;
  TwoSums sums(threads, shape.channels);
  at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t thread = begin; thread < end; ++thread) {
      const int64_t from = thread * each, to = std::min(shape.rows, from + each);
      if (from < to) {
        part(from, to - from, sums.first(thread), sums.second(thread));
      }
    }
  });
  return sums.total();
}

// The running statistics take the batch in where there are any.
Statistics batch_statistics(const at::Tensor &sums, const at::Tensor &x, const Running &running) {
  const NormShape shape(x);
  const auto options = at::TensorOptions().dtype(at::kFloat);
  Statistics by{at::empty({shape.channels}, options), at::empty({shape.channels}, options)};
  auto *m = by.mean.mutable_data_ptr<float>(), *i = by.inverse.mutable_data_ptr<float>();
  float *rm = running.mean ? running.mean->mutable_data_ptr<float>() : nullptr;
  float *rv = running.variance ? running.variance->mutable_data_ptr<float>() : nullptr;
  const auto *sum = sums.const_data_ptr<double>(), *square = sum + shape.channels;
  const double count = static_cast<double>(shape.rows), momentum = running.momentum;
  for (int64_t c = 0; c < shape.channels; ++c) {
    const double average = sum[c] / count;
    const double variance = std::max(0.0, square[c] / count - average * average);
    m[c] = static_cast<float>(average);
    i[c] = static_cast<float>(1.0 / std::sqrt(variance + running.eps));
    if (rm && rv) { // the unbiased variance, as PyTorch keeps it
      rm[c] = static_cast<float>((1 - momentum) * rm[c] + momentum * average);
      rv[c] = static_cast<float>((1 - momentum) * rv[c] + momentum * variance * count / std::max(1.0, count - 1));
    }
  }
  return by;
}

} // namespace

bool fused_kind(const at::Tensor &x) {
  return x.device().is_cpu() && x.dim() == 4 && x.numel() > 0 &&
         (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

void check_vectors(const at::Tensor &x, std::initializer_list<const at::Tensor *> vectors) {
  for (const auto *vector : vectors) {
    TORCH_CHECK(!vector || (vector->numel() == x.size(1) && vector->scalar_type() == at::kFloat &&
                            vector->is_contiguous() && vector->device().is_cpu()),
                "norm_act needs a contiguous float32 vector for each of ", x.size(1), " channels, got ",
                vector->scalar_type(), " ", vector->sizes());
  }
}

at::Tensor as_it_lies(const at::Tensor &gradient, const at::Tensor &x) {
  return gradient.defined() ? gradient.to(x.scalar_type()).contiguous(at::MemoryFormat::ChannelsLast) : gradient;
}

void check(const at::Tensor &x, const NormBy &by) {
  check_vectors(x, {&by.gamma, &by.beta, by.running.mean, by.running.variance});
  TORCH_CHECK(by.batch || (by.running.mean && by.running.variance), "norm_act by running statistics needs them");
}

const NormActKernels &norm_act_kernels() {
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

NormShape::NormShape(const at::Tensor &x)
    : rows(x.size(0) * x.size(2) * x.size(3)), channels(x.size(1)), bf16(x.scalar_type() == at::kBFloat16) {}

int64_t NormShape::grain() const { return std::max<int64_t>(1, kGrain / channels); }

at::Tensor TwoSums::total() const {
  const int64_t width = 2 * channels;
  auto total = at::empty({2, channels}, at::kDouble);
  auto *to = total.mutable_data_ptr<double>();
  std::copy_n(sums.data(), width, to);
  for (size_t part = width; part < sums.size(); part += width) {
    for (int64_t i = 0; i < width; ++i) {
      to[i] += sums[part + i];
    }
  }
  return total;
}

at::Tensor activate(const at::Tensor &x, const Affine &to, double slope) {
  const NormShape shape(x);
  auto y = at::empty_like(x);
  const auto *scale = to.scale.const_data_ptr<float>(), *shift = to.shift.const_data_ptr<float>();
  at::parallel_for(0, shape.rows, shape.grain(), [&](int64_t begin, int64_t end) {
    norm_act_kernels().apply(shape.bf16, shape.at(x, begin), shape.at_mut(y, begin), end - begin, shape.channels, scale,
                             shift, static_cast<float>(slope));
  });
  return y;
}

at::Tensor sums_of(const at::Tensor &x) {
  const NormShape shape(x);
  return two_sums(shape, [&](int64_t from, int64_t count, double *sum, double *square) {
    norm_act_kernels().statistics(shape.bf16, shape.at(x, from), count, shape.channels, sum, square);
  });
}

std::pair<at::Tensor, at::Tensor> add_and_sums(const at::Tensor &a, const at::Tensor &b) {
  const NormShape shape(a);
  auto s = at::empty_like(a);
  const auto sums = two_sums(shape, [&](int64_t from, int64_t count, double *sum, double *square) {
    norm_act_kernels().add_statistics(shape.bf16, shape.at(a, from), shape.at(b, from), shape.at_mut(s, from), count,
                                      shape.channels, sum, square);
  });
  return {s, sums};
}

at::Tensor sums_or_made(const at::Tensor &x, const at::Tensor *sums) {
  TORCH_CHECK(!sums || (sums->sizes() == at::IntArrayRef({2, x.size(1)}) && sums->scalar_type() == at::kDouble &&
                        sums->is_contiguous() && sums->device().is_cpu()),
              "the sums of another input");
  return sums ? *sums : sums_of(x);
}

Normed norm_by(const at::Tensor &x, const at::Tensor &sums, const NormBy &by) {
  const auto &running = by.running;
  const auto of = sums.defined() ? batch_statistics(sums, x, running)
                                 : Statistics{*running.mean, (*running.variance + running.eps).rsqrt()};
  auto scale = by.gamma * of.inverse;
  return {x, of, {scale, by.beta - of.mean * scale}, by.slope};
}

void add_gradient_sums(const Normed &of, const void *dy, int64_t first, int64_t count, double *sum_g, double *sum_gx) {
  const NormShape shape(of.x);
  norm_act_kernels().backward_statistics(shape.bf16, shape.at(of.x, first), dy, count, shape.channels,
                                         of.to.scale.const_data_ptr<float>(), of.to.shift.const_data_ptr<float>(),
                                         static_cast<float>(of.slope), sum_g, sum_gx);
}

at::Tensor gradient_sums(const Normed &of, const at::Tensor &dy) {
  const NormShape shape(of.x);
  return two_sums(shape, [&](int64_t from, int64_t count, double *sum_g, double *sum_gx) {
    add_gradient_sums(of, shape.at(dy, from), from, count, sum_g, sum_gx);
  });
}

Gradients norm_gradients(const Normed &of, const at::Tensor &sums, const at::Tensor &dy, const at::Tensor &more) {
  const NormShape shape(of.x);
  // With ĝ = Σ g·x̂: dx = scale·(g − Σg/n − x̂·ĝ/n), written as g·scale + x·p + q.
  Gradients out{at::empty_like(of.x), at::empty_like(of.by.mean), at::empty_like(of.by.mean)};
  std::vector<float> p(shape.channels), q(shape.channels);
  const auto *a = of.to.scale.const_data_ptr<float>(), *b = of.to.shift.const_data_ptr<float>();
  const auto *m = of.by.mean.const_data_ptr<float>(), *i = of.by.inverse.const_data_ptr<float>();
  auto *dgamma = out.gamma.mutable_data_ptr<float>(), *dbeta = out.beta.mutable_data_ptr<float>();
  const auto *sum = sums.const_data_ptr<double>();
  const double count = static_cast<double>(shape.rows);
  for (int64_t c = 0; c < shape.channels; ++c) {
    const double sum_g = sum[c];
    const double sum_normalised = (sum[shape.channels + c] - m[c] * sum_g) * i[c];
    dgamma[c] = static_cast<float>(sum_normalised);
    dbeta[c] = static_cast<float>(sum_g);
    const double slope_x = -a[c] * i[c] * sum_normalised / count;
    p[c] = static_cast<float>(slope_x);
    q[c] = static_cast<float>(-a[c] * sum_g / count - slope_x * m[c]);
  }
  at::parallel_for(0, shape.rows, shape.grain(), [&](int64_t begin, int64_t end) {
    norm_act_kernels().backward_apply(shape.bf16, shape.at(of.x, begin), shape.at(dy, begin),
                                      more.defined() ? shape.at(more, begin) : nullptr, shape.at_mut(out.x, begin),
                                      end - begin, shape.channels, a, b, static_cast<float>(of.slope), p.data(), q.data());
  });
  return out;
}

} // namespace mixmatch
