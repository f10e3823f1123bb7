// A step of training as one CUDA graph: recorded once, then replayed with a single call to the driver instead of a thousand
// launches, which is what a small network's step consists of.
//
// Through c10's device-neutral interface and the driver's C interface, found at run time: the library that this is linked
// against may be libtorch's CPU half alone.
#pragma once
#include <cstddef>

#ifdef __cplusplus
extern "C" {
#endif

// Waits for `device`, then makes a stream of its own this thread's current one; with `capture`, what is put into it from now
// on is recorded instead of run. 0, or 1 with the reason, cut to `room` bytes, in `error`.
int mixmatch_graph_enter(int device, int capture, char *error, size_t room);

// Back to the stream of before; waits for the device. With `capture`, `graph` becomes what was recorded, ready to be launched;
// null where recording failed, with 1 in `again` where that was for memory of which the next `enter` sets more aside. To be
// called once for each `enter` that gave 0. As above.
int mixmatch_graph_leave(int capture, void **graph, int *again, char *error, size_t room);

// Puts all that was recorded into the current stream of its device. As above.
int mixmatch_graph_launch(void *graph, char *error, size_t room);

// Gives back what `leave` made, once the device is done with it; nothing for null.
void mixmatch_graph_free(void *graph);

#ifdef __cplusplus
}
#endif
