// Several channels at a time, in float32 or bfloat16: what the loops over activations and convolutions are written with. No libtorch
// here: what includes this is compiled once for each instruction set, KERNEL_LEVEL = 1, 3, 4 or 5 (build.rs), and everything in it
// belongs to one such file alone.
#pragma once
#include <cstdint>

// Flags of the environment come after those of build.rs and would silently win: a version would crash where it is chosen, or be
// slower than its name says.
#ifdef __x86_64__
#if KERNEL_LEVEL == 1
#if defined(__AVX__)
#error "version v1 is for any x86-64, but CXXFLAGS adds AVX to it: unset -march and -m flags in CXXFLAGS"
#endif
#elif KERNEL_LEVEL == 3
#if !defined(__AVX2__) || !defined(__FMA__) || defined(__AVX512F__)
#error "version v3 is for AVX2 and FMA, but CXXFLAGS takes them away or adds AVX-512: unset -march and -m flags in CXXFLAGS"
#endif
#elif KERNEL_LEVEL == 4
#if !defined(__AVX512BW__) || defined(__AVX512BF16__)
#error "version v4 is for AVX-512 without bf16, but CXXFLAGS makes it another: unset -march and -m flags in CXXFLAGS"
#endif
#elif KERNEL_LEVEL == 5
#if !defined(__AVX512BW__) || !defined(__AVX512BF16__)
#error "version v4_bf16 is for AVX-512 with bf16, but CXXFLAGS takes it away: unset -march and -m flags in CXXFLAGS"
#endif
#else
#error "KERNEL_LEVEL is 1, 3, 4 or 5 (build.rs)"
#endif
#endif

#include <cstring>
#include <type_traits>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace mixmatch {
namespace {

// bfloat16 is the upper half of a float.
struct Bf16 {
  uint16_t bits;
};

// Channels in GCC's vector types, which any instruction set has: left to itself the compiler gives up on some of
// these loops without a word, and the scalar code is five times slower. With AVX2 as many as a register holds: of longer ones GCC keeps
// each value in memory, and the loops take two to five times as long.
#if defined(__AVX2__) && !defined(__AVX512F__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 16;
#endif
using Floats = float __attribute__((vector_size(4 * kLanes)));
using Words = uint32_t __attribute__((vector_size(4 * kLanes)));
using Ints = int32_t __attribute__((vector_size(4 * kLanes)));
using Halves = uint16_t __attribute__((vector_size(2 * kLanes)));
using Bytes = uint8_t __attribute__((vector_size(kLanes)));

// V is `Floats`, or `float` for the channels that are left over.
template <class V> constexpr int kWidth = sizeof(V) / sizeof(float);

template <class V> V load(const float *at) {
  V value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

// Each half as a word. GCC takes the vector apart for it and puts it together again: five instructions where AVX-512 has one.
inline Words words(Halves halves) {
#ifdef __AVX512F__
  // All sixteen: what takes no mask leaves GCC 12 with a warning about its own header.
  return reinterpret_cast<Words>(_mm512_maskz_cvtepu16_epi32(0xffff, reinterpret_cast<__m256i>(halves)));
#else
  return __builtin_convertvector(halves, Words);
#endif
}

template <class V> V load(const Bf16 *at) {
  V value;
  if constexpr (kWidth<V> == 1) {
    const uint32_t bits = static_cast<uint32_t>(at->bits) << 16;
    std::memcpy(&value, &bits, sizeof value);
  } else {
    Halves halves;
    std::memcpy(&halves, at, sizeof halves);
    const Words bits = words(halves) << 16;
    std::memcpy(&value, &bits, sizeof value);
  }
  return value;
}

template <class V> void store(float *at, V value) { std::memcpy(at, &value, sizeof value); }

// Round to nearest, ties to even. A NaN of the usual form stays one. Where the processor has an instruction for it, that
// takes one for six, and numbers below 2⁻¹²⁶ become 0.
template <class V> void store(Bf16 *at, V value) {
#ifdef __AVX512BF16__
  if constexpr (kWidth<V> == kLanes) {
    const __m256bh halves = _mm512_cvtneps_pbh(reinterpret_cast<__m512>(value));
    std::memcpy(at, &halves, sizeof halves);
    return;
  }
#endif
  if constexpr (kWidth<V> == 1) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    at->bits = static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
  } else {
    Words bits;
    std::memcpy(&bits, &value, sizeof bits);
    const auto halves = __builtin_convertvector((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16, Halves);
    std::memcpy(at, &halves, sizeof halves);
  }
}

// Asks for memory that is needed soon, so that nobody waits for it then.
inline void ask_for(const void *at, int64_t bytes) {
  for (int64_t line = 0; line < bytes; line += 64) {
    __builtin_prefetch(static_cast<const char *>(at) + line);
  }
}

// Memory that is asked for while products are made, which take long enough for it to come: what the next block reads, and what this one
// writes, as the processor reads a line before it writes to it. All at once would be more than it can wait for at a time.
struct Ahead {
  const void *at;
  int64_t bytes;
  template <class T> static Ahead of(const T *at, int64_t count) { return {at, count > 0 ? count * int64_t(sizeof(T)) : 0}; }
  // Those parts from `begin` to `end`, of `all`.
  void parts(int64_t begin, int64_t end, int64_t all) const {
    const int64_t lines = (bytes + 63) / 64, first = lines * begin / all;
    ask_for(static_cast<const char *>(at) + 64 * first, 64 * (lines * end / all - first));
  }
};

} // namespace
} // namespace mixmatch
