#include "shim.h"

#include <ATen/ATen.h>
#include <cstdio>
#include <torch/csrc/autograd/variable.h>

namespace {

void report(const char *what, char *error, size_t room) {
  if (error != nullptr && room > 0) {
    std::snprintf(error, room, "%s", what);
  }
}

} // namespace

extern "C" void *mixmatch_leaky_relu(const void *input, double slope, char *error, size_t room) {
  try {
    const auto &x = *static_cast<const at::Tensor *>(input);
    return new at::Tensor(at::leaky_relu(x, slope));
  } catch (const std::exception &e) {
    report(e.what(), error, room);
  } catch (...) {
    report("unknown exception in leaky_relu", error, room);
  }
  return nullptr;
}
