// The transforms of Winograd's F(m×m, 3×3) in one dimension, m = WINOGRAD_TILE. Part of winograd_kernels.cpp.
//
// The products are those of polynomials at some points and at ∞: 0, ±1 where m is 2, and 0, ±√½, ±√2 where it is 4. Of the points that
// were tried for 4 these round least, 2.5 times as much as those of 2; the usual 0, ±1, ±2 5.6 times.
#pragma once
#include "products.h"

namespace mixmatch {
namespace {

// Pixels each way that a tile makes, and those that it is made of; positions of a tile in the transformed domain.
constexpr int kMade = WINOGRAD_TILE, kMet = kMade + 2, kPositions = kMet * kMet;

#if WINOGRAD_TILE == 2

// Bᵀ·d of the pixels.
inline void input_transform(const Floats d[kMet], Floats to[kMet]) {
  to[0] = d[0] - d[2];
  to[1] = d[1] + d[2];
  to[2] = d[2] - d[1];
  to[3] = d[1] - d[3];
}

// Aᵀ·m of the products.
inline void output_transform(const Floats m[kMet], Floats to[kMade]) {
  to[0] = m[0] + m[1] + m[2];
  to[1] = m[1] - m[2] - m[3];
}

// A·dy, by which the gradient of the products comes of that of the output.
inline void output_gradient(const Floats dy[kMade], Floats to[kMet]) {
  to[0] = dy[0];
  to[1] = dy[0] + dy[1];
  to[2] = dy[0] - dy[1];
  to[3] = -dy[1];
}

// G·g of the kernel.
inline void weight_transform(const Floats g[3], Floats to[kMet]) {
  const Floats outer = 0.5f * (g[0] + g[2]), middle = 0.5f * g[1];
  to[0] = g[0];
  to[1] = outer + middle;
  to[2] = outer - middle;
  to[3] = g[2];
}

// Gᵀ·m, by which the gradient of the kernel comes of that of the products.
inline void weight_gradient_transform(const Floats m[kMet], Floats to[3]) {
  const Floats sum = 0.5f * (m[1] + m[2]);
  to[0] = m[0] + sum;
  to[1] = 0.5f * (m[1] - m[2]);
  to[2] = sum + m[3];
}

#else
static_assert(kMade == 4, "WINOGRAD_TILE is 2 or 4");

constexpr float kRoot = 1.41421356f, kHalfRoot = 0.70710678f; // √2, √½

// At a point and at its opposite.
inline void at_both(Floats even, Floats odd, Floats to[2]) {
  to[0] = even + odd;
  to[1] = even - odd;
}

inline void input_transform(const Floats d[kMet], Floats to[kMet]) {
  const Floats even = d[4] - 2.0f * d[2], odd = kHalfRoot * d[3] - kRoot * d[1];
  const Floats even_far = d[4] - 0.5f * d[2], odd_far = kRoot * d[3] - kHalfRoot * d[1];
  to[0] = d[0] + (d[4] - 2.5f * d[2]);
  at_both(even, odd, to + 1);
  at_both(even_far, odd_far, to + 3);
  to[5] = d[1] + (d[5] - 2.5f * d[3]);
}

inline void output_transform(const Floats m[kMet], Floats to[kMade]) {
  const Floats sum = m[1] + m[2], difference = m[1] - m[2], sum_far = m[3] + m[4], difference_far = m[3] - m[4];
  to[0] = m[0] + sum + sum_far;
  to[1] = kHalfRoot * difference + kRoot * difference_far;
  to[2] = 0.5f * sum + 2.0f * sum_far;
  to[3] = m[5] + (0.5f * kHalfRoot) * difference + (2.0f * kRoot) * difference_far;
}

inline void output_gradient(const Floats dy[kMade], Floats to[kMet]) {
  const Floats even = dy[0] + 0.5f * dy[2], odd = kHalfRoot * dy[1] + (0.5f * kHalfRoot) * dy[3];
  const Floats even_far = dy[0] + 2.0f * dy[2], odd_far = kRoot * dy[1] + (2.0f * kRoot) * dy[3];
  to[0] = dy[0];
  at_both(even, odd, to + 1);
  at_both(even_far, odd_far, to + 3);
  to[5] = dy[3];
}

inline void weight_transform(const Floats g[3], Floats to[kMet]) {
  const Floats even = (-2.0f / 3.0f) * g[0] - (1.0f / 3.0f) * g[2], odd = (-2.0f / 3.0f * kHalfRoot) * g[1];
  const Floats even_far = (1.0f / 6.0f) * g[0] + (1.0f / 3.0f) * g[2], odd_far = (1.0f / 6.0f * kRoot) * g[1];
  to[0] = g[0];
  at_both(even, odd, to + 1);
  at_both(even_far, odd_far, to + 3);
  to[5] = g[2];
}

inline void weight_gradient_transform(const Floats m[kMet], Floats to[3]) {
  const Floats sum = m[1] + m[2], difference = m[1] - m[2], sum_far = m[3] + m[4], difference_far = m[3] - m[4];
  to[0] = m[0] - (2.0f / 3.0f) * sum + (1.0f / 6.0f) * sum_far;
  to[1] = (-2.0f / 3.0f * kHalfRoot) * difference + (1.0f / 6.0f * kRoot) * difference_far;
  to[2] = m[5] + (1.0f / 3.0f) * (sum_far - sum);
}

#endif

} // namespace
} // namespace mixmatch
