// Recording and replaying CUDA graphs; see graph.h.
//
// Memory: every replay writes to the blocks that the recording took and gave back, so that nobody else may ever have them.
// libtorch's allocator hands a free block out again only to the stream that it came from, and the recordings' own stream is
// used for nothing else. But it gives segments that are wholly free back to the driver, when memory is short and when cuDNN has
// tried its algorithms. Before a recording, as many segments as the last rehearsal filled, and half as many again, are
// therefore set aside, with a small block held in each; a recording that needed another segment is refused.
#include "graph.h"
#include "told.h"

#include <dlfcn.h>
#include <optional>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>

namespace {

using mixmatch::told;

// Of cuda.h, whose values and signatures are part of the driver's binary interface.
using Result = int;
constexpr int kRelaxed = 2; // CU_STREAM_CAPTURE_MODE_RELAXED: memory may be taken while recording

struct Driver {
  Result (*begin)(void *stream, int mode);
  Result (*end)(void *stream, void **graph);
  Result (*instantiate)(void **exec, void *graph, unsigned long long flags);
  Result (*launch)(void *exec, void *stream);
  Result (*destroy)(void *graph);
  Result (*destroy_exec)(void *exec);
  Result (*describe)(Result result, const char **text);
};

const Driver &driver() {
  static const Driver found = [] {
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    TORCH_CHECK(library != nullptr, "no NVIDIA driver is loaded");
    const auto symbol = [&](const char *name) {
      void *address = dlsym(library, name);
      TORCH_CHECK(address != nullptr, "the NVIDIA driver has no ", name);
      return address;
    };
    return Driver{
        reinterpret_cast<decltype(Driver::begin)>(symbol("cuStreamBeginCapture_v2")),
        reinterpret_cast<decltype(Driver::end)>(symbol("cuStreamEndCapture")),
        reinterpret_cast<decltype(Driver::instantiate)>(symbol("cuGraphInstantiateWithFlags")),
        reinterpret_cast<decltype(Driver::launch)>(symbol("cuGraphLaunch")),
        reinterpret_cast<decltype(Driver::destroy)>(symbol("cuGraphDestroy")),
        reinterpret_cast<decltype(Driver::destroy_exec)>(symbol("cuGraphExecDestroy")),
        reinterpret_cast<decltype(Driver::describe)>(symbol("cuGetErrorString")),
    };
  }();
  return found;
}

void check(Result result, const char *what) {
  if (result != 0) {
    const char *text = nullptr;
    driver().describe(result, &text);
    TORCH_CHECK(false, what, ": ", text ? text : "CUDA error ", text ? "" : std::to_string(result));
  }
}

// What `leave` hands out: a graph, and the blocks that keep its segments.
struct Recording {
  void *exec = nullptr;
  c10::Device device;
  std::vector<at::Tensor> held;
};

// Bytes in blocks of at most 1 MiB and in larger ones, which the allocator keeps in segments of their own.
struct Bytes {
  int64_t small, large;
};

// The stream that waits meanwhile, and what was taken when ours was entered.
struct Entered {
  c10::Stream before;
  Bytes taken;
  int64_t reserved;
  std::vector<at::Tensor> held;
};
thread_local std::optional<Entered> entered;
thread_local std::optional<c10::Stream> own; // which recordings are made in
thread_local Bytes rehearsed{0, 0};

constexpr int64_t kMiB = 1 << 20;
constexpr int64_t kSegment = 2 * kMiB; // of small blocks
constexpr int64_t kChunk = kSegment / 128;
constexpr size_t kGaps = 64;

c10::DeviceAllocator &allocator() { return *c10::getDeviceAllocator(c10::DeviceType::CUDA); }

using c10::CachingAllocator::Stat;
using c10::CachingAllocator::StatType;

// What is allocated by kind, `current` or at the `peak` since that was last reset.
Bytes allocated(c10::DeviceIndex device, int64_t Stat::*when) {
  const auto bytes = allocator().getDeviceStats(device).allocated_bytes;
  const auto of = [&](StatType kind) { return bytes[static_cast<size_t>(kind)].*when; };
  return {of(StatType::SMALL_POOL), of(StatType::LARGE_POOL)};
}

int64_t reserved(c10::DeviceIndex device) {
  return allocator().getDeviceStats(device).reserved_bytes[static_cast<size_t>(StatType::AGGREGATE)].current;
}

// Segments of the current stream for half as much again as was rehearsed, each kept by a block in the answer.
std::vector<at::Tensor> set_aside(const c10::Device &device) {
  const auto block = [&](int64_t bytes) { return at::empty({bytes}, at::TensorOptions().dtype(at::kByte).device(device)); };
  std::vector<at::Tensor> held, passing;
  const int64_t large = rehearsed.large * 3 / 2 + 32 * kMiB;
  passing.push_back(block(large));
  const auto *begin = static_cast<const char *>(passing.back().const_data_ptr()), *end = begin + large;
  passing.clear();
  // The smallest block of the large kind goes into the tightest gap, which may be another segment's: there are few, as the cache
  // was emptied. An allocator that is set not to split its segments would go on until the card is full.
  for (bool inside = false; !inside;) {
    TORCH_CHECK(held.size() < kGaps, "the allocator gives no part of a segment that was set aside");
    held.push_back(block(kMiB + 512));
    const auto *at = static_cast<const char *>(held.back().const_data_ptr());
    inside = begin <= at && at < end;
  }
  // Chunks fill one segment after another, so that one in 128 is in each; the last one is in the last.
  const int64_t chunks = (rehearsed.small * 3 / 2 / kSegment + 4) * 128;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    (chunk % 128 == 0 || chunk + 1 == chunks ? held : passing).push_back(block(kChunk));
  }
  return held;
}

} // namespace

extern "C" int mixmatch_graph_enter(int index, int capture, char *error, size_t room) {
  return told(error, room, [&] {
    TORCH_CHECK(!entered, "a recording is under way already");
    const c10::impl::VirtualGuardImpl guard(c10::DeviceType::CUDA);
    const c10::Device device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index));
    if (!own || own->device() != device) {
      own = guard.getStreamFromGlobalPool(device);
    }
    guard.synchronizeDevice(device.index());
    Entered now{guard.exchangeStream(*own), {}, 0, {}};
    try {
      if (capture != 0) {
        allocator().emptyCache();
        now.held = set_aside(device);
        now.reserved = reserved(device.index());
        check(driver().begin(guard.getStreamNativeHandle(*own), kRelaxed), "beginning to record");
      } else {
        allocator().resetPeakStats(device.index());
        now.taken = allocated(device.index(), &Stat::current);
      }
    } catch (...) {
      guard.exchangeStream(now.before);
      throw;
    }
    entered = std::move(now);
  });
}

extern "C" int mixmatch_graph_leave(int capture, void **graph, int *again, char *error, size_t room) {
  return told(error, room, [&] {
    TORCH_CHECK(entered, "no recording is under way");
    const c10::impl::VirtualGuardImpl guard(c10::DeviceType::CUDA);
    Entered was = std::move(*entered);
    entered.reset();
    guard.exchangeStream(was.before);
    *graph = nullptr;
    *again = 0;
    const auto device = own->device_index();
    if (capture == 0) {
      guard.synchronizeDevice(device);
      const Bytes peak = allocated(device, &Stat::peak);
      rehearsed = {peak.small - was.taken.small, peak.large - was.taken.large};
      return;
    }
    void *recorded = nullptr, *exec = nullptr;
    check(driver().end(guard.getStreamNativeHandle(*own), &recorded), "ending the recording");
    const Result made = driver().instantiate(&exec, recorded, 0);
    driver().destroy(recorded);
    check(made, "making the graph");
    const int64_t more = reserved(device) - was.reserved;
    if (more != 0) {
      driver().destroy_exec(exec);
      rehearsed = {rehearsed.small * 2, rehearsed.large * 2};
      *again = 1;
      TORCH_CHECK(false, "the recording took ", more, " bytes more than were set aside");
    }
    *graph = new Recording{exec, own->device(), std::move(was.held)};
    guard.synchronizeDevice(device);
  });
}

extern "C" int mixmatch_graph_launch(void *graph, char *error, size_t room) {
  return told(error, room, [&] {
    const auto *recording = static_cast<Recording *>(graph);
    // The default stream is the current device's, and behind the copies of the inputs is where the graph belongs.
    const c10::DeviceGuard current(recording->device);
    const c10::impl::VirtualGuardImpl device(c10::DeviceType::CUDA);
    void *stream = device.getStreamNativeHandle(device.getStream(recording->device));
    check(driver().launch(recording->exec, stream), "launching the graph");
  });
}

extern "C" void mixmatch_graph_free(void *graph) {
  auto *recording = static_cast<Recording *>(graph);
  if (recording != nullptr) {
    char unsaid[1];
    told(unsaid, sizeof unsaid, [&] { // its last launch may be under way
      c10::impl::VirtualGuardImpl(c10::DeviceType::CUDA).synchronizeDevice(recording->device.index());
    });
    driver().destroy_exec(recording->exec);
    delete recording;
  }
}
