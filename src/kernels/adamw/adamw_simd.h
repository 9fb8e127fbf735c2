#pragma once
#include "kernels/adamw.h"
#include "kernels/simd/vec_math.h"

namespace crumb::kernels {
namespace {

struct State {
  Vec w, m, v;
};

inline State updated(Vec w, Vec g, Vec m, Vec v, const AdamWCoefficients& c) {
  m = fma(splat(c.one_minus_beta1), g - m, m);
  v = v * splat(c.beta2) + splat(c.one_minus_beta2) * g * g;
  const Vec denominator = square_root(v) / splat(c.sqrt_correction2) + splat(c.eps);
  return {w * splat(c.decay) - splat(c.step_size) * m / denominator, m, v};
}

void step(float* w, const float* grad, float* m, float* v, std::int64_t count,
          const AdamWCoefficients& c) noexcept {
  for_vectors(
      count,
      [&](std::int64_t i) {
        const State s = updated(load(w + i), load(grad + i), load(m + i), load(v + i), c);
        store(w + i, s.w);
        store(m + i, s.m);
        store(v + i, s.v);
      },
      [&](std::int64_t i, std::int64_t rest) {
        const State s =
            updated(load_n(w + i, rest), load_n(grad + i, rest), load_n(m + i, rest), load_n(v + i, rest), c);
        store_n(w + i, s.w, rest);
        store_n(m + i, s.m, rest);
        store_n(v + i, s.v, rest);
      });
}

double squares(const float* x, std::int64_t count) noexcept {
  Sum64 sum;
  for_vectors(
      count, [&](std::int64_t i) { add_product_f64(sum, load(x + i), load(x + i)); },
      [&](std::int64_t i, std::int64_t rest) {
        add_product_f64(sum, load_n(x + i, rest), load_n(x + i, rest));
      });
  return total(sum);
}

}  // namespace
}  // namespace crumb::kernels
