// The few libtorch calls that tch does not bind. Plain C on the outside: no exception crosses.
#pragma once
#include <cstddef>

#ifdef __cplusplus
extern "C" {
#endif

// leaky_relu with a slope of the caller's (tch binds only the default .01). A new tensor, or null with
// the reason, cut to `room` bytes, in `error`.
void *mixmatch_leaky_relu(const void *input, double slope, char *error, size_t room);

#ifdef __cplusplus
}
#endif
