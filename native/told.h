// Exceptions end where Rust begins.
#pragma once

#include <cstddef>
#include <cstdio>
#include <exception>

namespace mixmatch {

// Runs `work`; 0, or 1 with the reason in the `room` bytes of `error`.
template <class Work> int told(char *error, size_t room, Work work) {
  try {
    work();
    return 0;
  } catch (const std::exception &e) {
    std::snprintf(error, room, "%s", e.what());
  } catch (...) {
    std::snprintf(error, room, "an exception that is no std::exception");
  }
  return 1;
}

} // namespace mixmatch
