#include "processor.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace mixmatch {
namespace {

struct Version {
  const char *name;
  bool runs; // on this processor
  Level level;
};

// What MIXMATCH_KERNELS names is to see whether a difference comes from there. Where it does not run, that is said, or whoever compares
// would take the best for what was named.
Level choose() {
  const bool v4 = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512cd");
  const Version versions[] = {
      {"v4_bf16", v4 && __builtin_cpu_supports("avx512bf16"), Level::v4_bf16},
      {"v4", v4, Level::v4},
      {"v3", __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"), Level::v3},
      {"v1", true, Level::v1},
  };
  const char *wanted = std::getenv("MIXMATCH_KERNELS");
  const bool named = wanted != nullptr && *wanted != '\0';
  const char *fault = "is none of v1, v3, v4 and v4_bf16";
  const Version *best = nullptr;
  for (const Version &version : versions) {
    const bool meant = named && std::strcmp(wanted, version.name) == 0;
    if (meant && version.runs) {
      return version.level;
    }
    if (meant) {
      fault = "does not run on this processor";
    }
    if (version.runs && best == nullptr) {
      best = &version;
    }
  }
  if (named) {
    std::fprintf(stderr, "MIXMATCH_KERNELS=%.32s %s; %s is used\n", wanted, fault, best->name);
  }
  return best->level;
}

} // namespace

Level kernel_level() {
  static const Level chosen = choose();
  return chosen;
}

} // namespace mixmatch
