#include "conv.h"
#include "int8_conv.h"
#include "norm_act.h"
#include "norm_conv.h"
#include "packed_conv.h"
#include "shim.h"
#include "told.h"

#include <ATen/ATen.h>
#include <array>
#include <memory>
#include <torch/csrc/autograd/variable.h>

namespace {

const at::Tensor *tensor(const void *pointer) { return static_cast<const at::Tensor *>(pointer); }

// The sizes of an input.
std::array<int64_t, 4> four(const long long *sizes) { return {sizes[0], sizes[1], sizes[2], sizes[3]}; }

mixmatch::NormBy norm(const MixmatchNorm &by) {
  return {*tensor(by.gamma), *tensor(by.beta), {tensor(by.mean), tensor(by.variance), by.momentum, by.eps}, by.batch != 0, by.slope};
}

// What `make` makes, as a new tensor; null and the reason where it throws.
template <class Make> void *made(char *error, size_t room, Make make) {
  at::Tensor *made = nullptr;
  mixmatch::told(error, room, [&] { made = new at::Tensor(make()); });
  return made;
}

} // namespace

extern "C" void *mixmatch_norm_act(const void *input, const MixmatchNorm *by, char *error, size_t room) {
  return made(error, room, [&] { return mixmatch::norm_act(*tensor(input), norm(*by)); });
}

extern "C" void *mixmatch_add_norm_act(const void *a, const void *b, const void *sums, const MixmatchNorm *by, void **sum,
                                       char *error, size_t room) {
  return made(error, room, [&] {
    auto both = mixmatch::add_norm_act(*tensor(a), tensor(b), tensor(sums), norm(*by));
    *sum = new at::Tensor(std::move(both.first));
    return std::move(both.second);
  });
}

extern "C" void *mixmatch_norm_conv(const void *x, const void *sums, const MixmatchNorm *by, const void *weight,
                                    const void *plus, long long stride, long long padding, void *made_also[2], char *error,
                                    size_t room) {
  return made(error, room, [&] {
    auto all = mixmatch::norm_conv(*tensor(x), tensor(sums), norm(*by), *tensor(weight), tensor(plus), stride, padding);
    made_also[0] = new at::Tensor(std::move(all.x));
    made_also[1] = new at::Tensor(std::move(all.sums));
    return std::move(all.y);
  });
}

extern "C" void *mixmatch_scale_act(const void *input, const void *scale, const void *shift, double slope, char *error,
                                    size_t room) {
  return made(error, room, [&] { return mixmatch::scale_act(*tensor(input), *tensor(scale), *tensor(shift), slope); });
}

extern "C" void *mixmatch_conv(const void *x, const void *weight, long long stride, long long padding, char *error,
                               size_t room) {
  return made(error, room, [&] { return mixmatch::conv(*tensor(x), *tensor(weight), stride, padding); });
}

extern "C" int mixmatch_onednn_has_bf16() {
  bool has = false;
  char unsaid[1];
  mixmatch::told(unsaid, sizeof unsaid, [&] { has = mixmatch::onednn_has_bf16(); });
  return has ? 1 : 0;
}

extern "C" void *mixmatch_conv_pack(const void *weight, const long long *input, long long stride, long long padding,
                                    char *error, size_t room) {
  return made(error, room, [&] {
    return mixmatch::conv_pack(*tensor(weight), four(input), stride, padding);
  });
}

extern "C" void *mixmatch_conv_pack_also(const void *weight, const void *packed, const long long *input,
                                         long long stride, long long padding, char *error, size_t room) {
  return made(error, room, [&] {
    return mixmatch::conv_pack_also(*tensor(weight), *tensor(packed), four(input), stride, padding);
  });
}

extern "C" void *mixmatch_conv_pack_winograd(const void *weight, const long long *input, long long stride,
                                             long long padding, char *error, size_t room) {
  return made(error, room, [&] {
    return mixmatch::conv_pack_winograd(*tensor(weight), four(input), stride, padding);
  });
}

extern "C" void *mixmatch_conv_run(const void *x, const void *packed, const void *winograd, const void *bias,
                                   const void *onto, long long stride, long long padding, double slope, char *error,
                                   size_t room) {
  return made(error, room, [&] {
    at::Tensor target;
    if (onto != nullptr) {
      target = *tensor(onto); // another handle of the same memory, which is what is written to
    }
    return mixmatch::conv_run(*tensor(x), *tensor(packed), *tensor(winograd), *tensor(bias), onto ? &target : nullptr,
                              stride, padding, slope);
  });
}

extern "C" void *mixmatch_quantise_act(const void *input, const void *scale, const void *shift, double slope, double zero,
                                       char *error, size_t room) {
  return made(error, room,
              [&] { return mixmatch::quantise_act(*tensor(input), *tensor(scale), *tensor(shift), slope, zero); });
}

extern "C" int mixmatch_int8_is_exact() {
  bool exact = false;
  char unsaid[1];
  mixmatch::told(unsaid, sizeof unsaid, [&] { exact = mixmatch::int8_is_exact(); });
  return exact ? 1 : 0;
}

extern "C" void *mixmatch_int8_conv(const void *weight, const void *bias, const long long *input, long long stride,
                                    long long padding, double input_scale, long long input_zero, double output_scale,
                                    int relu, char *error, size_t room) {
  mixmatch::Int8Conv *conv = nullptr;
  mixmatch::told(error, room, [&] {
    conv = new mixmatch::Int8Conv(*tensor(weight), *tensor(bias), four(input), stride, padding,
                                  {input_scale, input_zero, output_scale, relu != 0});
  });
  return conv;
}

extern "C" void *mixmatch_int8_conv_run(const void *conv, const void *x, const void *onto, int kind, char *error,
                                        size_t room) {
  return made(error, room, [&] {
    return static_cast<const mixmatch::Int8Conv *>(conv)->run(*tensor(x), onto ? tensor(onto) : nullptr,
                                                              static_cast<at::ScalarType>(kind));
  });
}

extern "C" void mixmatch_int8_conv_free(void *conv) { delete static_cast<mixmatch::Int8Conv *>(conv); }
