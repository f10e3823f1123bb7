#include "norm_act.h"
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

} // namespace

extern "C" void *mixmatch_norm_act(const void *input, const void *gamma, const void *beta, const void *mean,
                                   const void *variance, int batch, double momentum, double eps, double slope,
                                   char *error, size_t room) {
  const auto tensor = [](const void *pointer) { return static_cast<const at::Tensor *>(pointer); };
  try {
    return new at::Tensor(mixmatch::norm_act(*tensor(input), *tensor(gamma), *tensor(beta), tensor(mean),
                                             tensor(variance), batch != 0, momentum, eps, slope));
  } catch (const std::exception &e) {
    report(e.what(), error, room);
  } catch (...) {
    report("unknown exception in norm_act", error, room);
  }
  return nullptr;
}

extern "C" void *mixmatch_add_norm_act(const void *a, const void *b, const void *gamma, const void *beta,
                                       const void *mean, const void *variance, int batch, double momentum, double eps,
                                       double slope, void **sum, char *error, size_t room) {
  const auto tensor = [](const void *pointer) { return static_cast<const at::Tensor *>(pointer); };
  try {
    auto both = mixmatch::add_norm_act(*tensor(a), *tensor(b), *tensor(gamma), *tensor(beta), tensor(mean),
                                       tensor(variance), batch != 0, momentum, eps, slope);
    auto activated = std::make_unique<at::Tensor>(std::move(both.second));
    *sum = new at::Tensor(std::move(both.first));
    return activated.release();
  } catch (const std::exception &e) {
    report(e.what(), error, room);
  } catch (...) {
    report("unknown exception in add_norm_act", error, room);
  }
  return nullptr;
}
