// The few libtorch calls that tch does not bind. Plain C on the outside: no exception crosses.
#pragma once
#include <cstddef>

#ifdef __cplusplus
extern "C" {
#endif

// lrelu(batch_norm(input)), differentiable in input, gamma and beta; see norm_act.cpp. `mean` and `variance` are the running
// statistics or null; with `batch` they are updated and the batch's own are used. A slope of 1 is BatchNorm alone. A new
// tensor, or null with the reason, cut to `room` bytes, in `error`.
void *mixmatch_norm_act(const void *input, const void *gamma, const void *beta, const void *mean, const void *variance,
                        int batch, double momentum, double eps, double slope, char *error, size_t room);

// The same for `a` + `b`, which is put into `sum` as a new tensor.
void *mixmatch_add_norm_act(const void *a, const void *b, const void *gamma, const void *beta, const void *mean,
                            const void *variance, int batch, double momentum, double eps, double slope, void **sum,
                            char *error, size_t room);

#ifdef __cplusplus
}
#endif
