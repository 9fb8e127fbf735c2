#pragma once
#include "kernels/simd/vec_math.h"
#include "kernels/swiglu.h"

namespace crumb::kernels {
namespace {

inline Vec sigmoid(Vec x) {
  return splat(1.0f) / (splat(1.0f) + exponential(zero() - x));
}

void forward(const float* gate, const float* up, std::int64_t count, float* y) noexcept {
  const auto one = [](Vec g, Vec u) { return g * sigmoid(g) * u; };
  for_vectors(
      count, [&](std::int64_t i) { store(y + i, one(load(gate + i), load(up + i))); },
      [&](std::int64_t i, std::int64_t rest) {
        store_n(y + i, one(load_n(gate + i, rest), load_n(up + i, rest)), rest);
      });
}

void backward(const float* gate, const float* up, const float* grad_y, std::int64_t count, float* grad_gate,
              float* grad_up) noexcept {
  struct Pair {
    Vec gate, up;
  };
  const auto one = [](Vec g, Vec u, Vec d) {
    const Vec s = sigmoid(g), silu = g * s;
    return Pair{d * u * fma(silu, splat(1.0f) - s, s), d * silu};
  };
  for_vectors(
      count,
      [&](std::int64_t i) {
        const Pair pair = one(load(gate + i), load(up + i), load(grad_y + i));
        store(grad_gate + i, pair.gate);
        store(grad_up + i, pair.up);
      },
      [&](std::int64_t i, std::int64_t rest) {
        const Pair pair = one(load_n(gate + i, rest), load_n(up + i, rest), load_n(grad_y + i, rest));
        store_n(grad_gate + i, pair.gate, rest);
        store_n(grad_up + i, pair.up, rest);
      });
}

}  // namespace
}  // namespace crumb::kernels
