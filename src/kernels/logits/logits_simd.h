#pragma once
#include "kernels/logits.h"
#include "kernels/simd/vec_math.h"

namespace crumb::kernels {
namespace {

float largest(const float* x, std::int64_t v) noexcept {
  Vec m = splat(x[0]);
  for_vectors(
      v, [&](std::int64_t i) { m = at_least(load(x + i), m); },
      [&](std::int64_t i, std::int64_t rest) {
        m = at_least(choose(first_lanes(rest), load_n(x + i, rest), splat(x[0])), m);
      });
  return max_lanes(m);
}

double sum_exp(const float* x, std::int64_t v, float shift) noexcept {
  Sum64 sum;
  for_vectors(
      v, [&](std::int64_t i) { add_f64(sum, exponential(load(x + i) - splat(shift))); },
      [&](std::int64_t i, std::int64_t rest) {
        add_f64(sum, choose(first_lanes(rest), exponential(load_n(x + i, rest) - splat(shift)), zero()));
      });
  return total(sum);
}

void exp_scale(float* x, std::int64_t v, float shift, float factor) noexcept {
  for_vectors(
      v, [&](std::int64_t i) { store(x + i, exponential(load(x + i) - splat(shift)) * splat(factor)); },
      [&](std::int64_t i, std::int64_t rest) {
        store_n(x + i, exponential(load_n(x + i, rest) - splat(shift)) * splat(factor), rest);
      });
}

double kl(float* x, const float* t, std::int64_t v, double x_lse, double t_lse, float factor,
          bool grad) noexcept {
  // sum p (t - x) - (t_lse - x_lse) sum p: the differences of logits are taken before anything large is
  // subtracted.
  Sum64 weighted, mass;
  const Vec x_shift = splat(static_cast<float>(x_lse)), t_shift = splat(static_cast<float>(t_lse));
  const auto one = [&](Vec xs, Vec ts, Mask seen) {
    const Vec p = choose(seen, exponential(ts - t_shift), zero());
    add_product_f64(weighted, p, ts - xs);
    add_f64(mass, p);
    return (exponential(xs - x_shift) - p) * splat(factor);
  };
  for_vectors(
      v,
      [&](std::int64_t i) {
        const Vec g = one(load(x + i), load(t + i), first_lanes(kLanes));
        if (grad) store(x + i, g);
      },
      [&](std::int64_t i, std::int64_t rest) {
        const Vec g = one(load_n(x + i, rest), load_n(t + i, rest), first_lanes(rest));
        if (grad) store_n(x + i, g, rest);
      });
  // With p = exp(t - t_shift) the weights sum to `mass`, 1 up to rounding: normalizing removes the rounding
  // of t_shift.
  return total(weighted) / total(mass) - (t_lse - x_lse);
}

}  // namespace
}  // namespace crumb::kernels
