#include "norm_act.h"
#include "packed_conv.h"
#include "shim.h"

#include <ATen/ATen.h>
#include <cstdio>
#include <memory>
#include <torch/csrc/autograd/variable.h>

namespace {

void report(const char *what, char *error, size_t room) {
  if (error != nullptr && room > 0) {
    std::snprintf(error, room, "%s", what);
  }
}

const at::Tensor *tensor(const void *pointer) { return static_cast<const at::Tensor *>(pointer); }

// What `make` makes, as a new tensor; null and the reason where it throws.
template <class Make> void *made(const char *name, char *error, size_t room, Make make) {
  try {
    return new at::Tensor(make());
  } catch (const std::exception &e) {
    report(e.what(), error, room);
  } catch (...) {
    report(name, error, room);
  }
  return nullptr;
}

} // namespace

extern "C" void *mixmatch_norm_act(const void *input, const void *gamma, const void *beta, const void *mean,
                                   const void *variance, int batch, double momentum, double eps, double slope,
                                   char *error, size_t room) {
  return made("unknown exception in norm_act", error, room, [&] {
    return mixmatch::norm_act(*tensor(input), *tensor(gamma), *tensor(beta), tensor(mean), tensor(variance), batch != 0,
                              momentum, eps, slope);
  });
}

extern "C" void *mixmatch_add_norm_act(const void *a, const void *b, const void *gamma, const void *beta,
                                       const void *mean, const void *variance, int batch, double momentum, double eps,
                                       double slope, void **sum, char *error, size_t room) {
  return made("unknown exception in add_norm_act", error, room, [&] {
    auto both = mixmatch::add_norm_act(*tensor(a), *tensor(b), *tensor(gamma), *tensor(beta), tensor(mean),
                                       tensor(variance), batch != 0, momentum, eps, slope);
    *sum = new at::Tensor(std::move(both.first));
    return std::move(both.second);
  });
}

extern "C" void *mixmatch_scale_act(const void *input, const void *scale, const void *shift, double slope, char *error,
                                    size_t room) {
  return made("unknown exception in scale_act", error, room,
              [&] { return mixmatch::scale_act(*tensor(input), *tensor(scale), *tensor(shift), slope); });
}

extern "C" void *mixmatch_conv_pack(const void *weight, const long long *input, long long stride, long long padding,
                                    char *error, size_t room) {
  return made("unknown exception in conv_pack", error, room, [&] {
    const int64_t sizes[] = {input[0], input[1], input[2], input[3]};
    return mixmatch::conv_pack(*tensor(weight), sizes, stride, padding);
  });
}

extern "C" void *mixmatch_conv_run(const void *x, const void *packed, const void *bias, const void *onto,
                                   long long stride, long long padding, double slope, char *error, size_t room) {
  return made("unknown exception in conv_run", error, room, [&] {
    at::Tensor target;
    if (onto != nullptr) {
      target = *tensor(onto); // another handle of the same memory, which is what is written to
    }
    return mixmatch::conv_run(*tensor(x), *tensor(packed), *tensor(bias), onto ? &target : nullptr, stride, padding,
                              slope);
  });
}
