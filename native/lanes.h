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

#ifdef __AVX512BF16__
// As bfloat16 in turn: the first of `even`, the first of `odd` …
inline Words alternating(Floats even, Floats odd) {
  const __m512bh both = _mm512_cvtne2ps_pbh(reinterpret_cast<__m512>(odd), reinterpret_cast<__m512>(even));
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20,
                                         4, 19, 3, 18, 2, 17, 1, 16, 0);
  return reinterpret_cast<Words>(_mm512_permutexvar_epi16(order, reinterpret_cast<__m512i>(both)));
}
#endif

// The larger of each; of a NaN and a number the second.
inline Floats larger(Floats a, Floats b) {
#ifdef __AVX512F__
  return reinterpret_cast<Floats>(_mm512_maskz_max_ps(0xffff, reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b)));
#else
  return a > b ? a : b;
#endif
}

// N vectors of channels beside each other, in the order in which they lie.
template <class T, class V, int N> struct InOrder {
  static void load(const T *at, V to[N]) {
    for (int n = 0; n < N; ++n) {
      to[n] = mixmatch::load<V>(at + n * kWidth<V>);
    }
  }
  static void store(T *at, const V values[N]) {
    for (int n = 0; n < N; ++n) {
      mixmatch::store(at + n * kWidth<V>, values[n]);
    }
  }
  // Of numbers of these channels.
  static void constants(const float *at, V to[N]) { std::memcpy(to, at, N * sizeof(V)); }
  static void add_to(double *sums, const V values[N]) {
    float each[N * kWidth<V>];
    std::memcpy(each, values, sizeof each);
    for (int c = 0; c < N * kWidth<V>; ++c) {
      sums[c] += each[c];
    }
  }
};

#ifdef __AVX512BF16__
// The same of 32 channels of bfloat16: those with even numbers are one vector, those with odd numbers the other. To take their words apart and to
// put them together again needs fewer instructions than to widen and to narrow each half.
struct EvenAndOdd {
  static void load(const Bf16 *at, Floats to[2]) {
    Words both;
    std::memcpy(&both, at, sizeof both);
    to[0] = reinterpret_cast<Floats>(both << 16);
    to[1] = reinterpret_cast<Floats>(both & 0xffff0000u);
  }
  static void store(Bf16 *at, const Floats values[2]) {
    const Words both = alternating(values[0], values[1]);
    std::memcpy(at, &both, sizeof both);
  }
  static void constants(const float *at, Floats to[2]) {
    for (int lane = 0; lane < kLanes; ++lane) {
      to[0][lane] = at[2 * lane];
      to[1][lane] = at[2 * lane + 1];
    }
  }
  static void add_to(double *sums, const Floats values[2]) {
    for (int lane = 0; lane < kLanes; ++lane) {
      sums[2 * lane] += values[0][lane];
      sums[2 * lane + 1] += values[1][lane];
    }
  }
};
#endif

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
