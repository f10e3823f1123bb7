// The few libtorch calls that tch does not bind. Plain C on the outside: no exception crosses.
#pragma once
#include <cstddef>

#ifdef __cplusplus
extern "C" {
#endif

// What a norm is computed by. `mean` and `variance` are the running statistics or null; with `batch` they are updated and the batch's own
// are used. A slope of 1 is BatchNorm alone.
struct MixmatchNorm {
  const void *gamma, *beta, *mean, *variance;
  int batch;
  double momentum, eps, slope;
};

// lrelu(batch_norm(input)), differentiable in input, gamma and beta; see norm_act.cpp. A new tensor, or null with the reason, cut to `room`
// bytes, in `error`.
void *mixmatch_norm_act(const void *input, const struct MixmatchNorm *by, char *error, size_t room);

// The same for `a` + `b`, which is put into `sum` as a new tensor; `b` may be null, and `sums`, which are a's.
void *mixmatch_add_norm_act(const void *a, const void *b, const void *sums, const struct MixmatchNorm *by, void **sum,
                            char *error, size_t room);

// See norm_conv.h; y, an undefined tensor where it is not for these. x and y's sums are put into `made` as new tensors; `sums` and `plus` may
// be null. As above.
void *mixmatch_norm_conv(const void *x, const void *sums, const struct MixmatchNorm *by, const void *weight, const void *plus,
                         long long stride, long long padding, void *made[2], char *error, size_t room);

// lrelu(x·scale + shift), one float32 scale and shift a channel; for inference. As above.
void *mixmatch_scale_act(const void *input, const void *scale, const void *shift, double slope, char *error,
                         size_t room);

// See conv.h. As above.
void *mixmatch_conv(const void *x, const void *weight, long long stride, long long padding, char *error, size_t room);

// See packed_conv.h; 1 or 0, which is also the answer of a libtorch that cannot be asked.
int mixmatch_onednn_has_bf16(void);

// See packed_conv.h. `input` holds the four sizes of the inputs that the weight is packed for. As above.
void *mixmatch_conv_pack(const void *weight, const long long *input, long long stride, long long padding, char *error,
                         size_t room);

// See packed_conv.h; `packed` as the function above makes it. As above.
void *mixmatch_conv_pack_also(const void *weight, const void *packed, const long long *input, long long stride,
                              long long padding, char *error, size_t room);

// lrelu(x·scale + shift) + zero as bytes; see norm_act.h. As above.
void *mixmatch_quantise_act(const void *input, const void *scale, const void *shift, double slope, double zero, char *error,
                            size_t room);

// See int8_conv.h; 1 or 0, which is also the answer of a libtorch that cannot be asked.
int mixmatch_int8_is_exact(void);

// See int8_conv.h. `input` holds four sizes. A convolution for the functions below, or null with the reason in `error`.
void *mixmatch_int8_conv(const void *weight, const void *bias, const long long *input, long long stride, long long padding,
                         double input_scale, long long input_zero, double output_scale, int relu, char *error, size_t room);

// `onto` may be null; where it is not, it is overwritten. A new tensor, or null with the reason.
void *mixmatch_int8_conv_run(const void *conv, const void *x, const void *onto, int kind, char *error, size_t room);

void mixmatch_int8_conv_free(void *conv);

// See packed_conv.h; `input` holds four sizes. A tensor that may be undefined. As above.
void *mixmatch_conv_pack_winograd(const void *weight, const long long *input, long long stride, long long padding, char *error,
                                  size_t room);

// `onto` may be null; where it is not, it is overwritten. As above.
void *mixmatch_conv_run(const void *x, const void *packed, const void *winograd, const void *bias, const void *onto,
                        long long stride, long long padding, double slope, char *error, size_t room);

#ifdef __cplusplus
}
#endif
