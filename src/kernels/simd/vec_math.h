// Functions that need no more than the names of vec_avx2.h or vec_avx512.h, one of which is included before.
#pragma once

namespace crumb::kernels {
namespace {

/// exp(x), relative error below 2^-22.5; 0 below -87.33, where the result would be denormal; NaN stays NaN.
/// Above 88.37 it stays at exp(88.37). Cody and Waite's reduction x = n log 2 + r, then a polynomial of
/// degree 6 for exp(r) on |r| <= log(2) / 2 (Cephes' coefficients).
inline Vec exponential(Vec x) {
  const Mask tiny = less(x, splat(-87.33f));
  x = at_most(at_least(x, splat(-87.33f)), splat(88.37f));
  const Vec n = round_even(x * splat(1.44269504f));
  const Vec r = fnma(n, splat(-2.12194440e-4f), fnma(n, splat(0.693359375f), x));
  Vec p = splat(1.9875691500e-4f);
  p = fma(p, r, splat(1.3981999507e-3f));
  p = fma(p, r, splat(8.3334519073e-3f));
  p = fma(p, r, splat(4.1665795894e-2f));
  p = fma(p, r, splat(1.6666665459e-1f));
  p = fma(p, r, splat(5.0000001201e-1f));
  p = fma(p, r * r, r + splat(1.0f));
  return choose(tiny, zero(), times_power_of_two(p, n));
}
inline float exponential(float x) {
  float lanes[kLanes];
  store(lanes, exponential(splat(x)));
  return lanes[0];
}

inline std::int64_t least(std::int64_t a, std::int64_t b) {
  return a < b ? a : b;
}
inline std::int64_t most(std::int64_t a, std::int64_t b) {
  return a > b ? a : b;
}

/// full(j) for every whole vector of [0, count), then tail(j, remaining) for the rest.
template <class Full, class Tail>
inline void for_vectors(std::int64_t count, const Full& full, const Tail& tail) {
  std::int64_t j = 0;
  for (; j + kLanes <= count; j += kLanes) full(j);
  if (j < count) tail(j, count - j);
}

}  // namespace
}  // namespace crumb::kernels
