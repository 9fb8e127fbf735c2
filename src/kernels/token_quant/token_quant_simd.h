#pragma once
#include "kernels/simd/vec_math.h"
#include "kernels/token_quant.h"

namespace crumb::kernels {
namespace {

bool extremes(const float* x, std::int64_t count, float* low, float* high) noexcept {
  Vec least = zero(), greatest = zero();
  Vec seen = zero();  // stays 0 while numbers are finite: 0 times infinity is NaN
  const auto take = [&](Vec v) {
    least = at_most(v, least);
    greatest = at_least(v, greatest);
    seen = fma(v, zero(), seen);
  };
  for_vectors(
      count, [&](std::int64_t i) { take(load(x + i)); },
      [&](std::int64_t i, std::int64_t rest) { take(load_n(x + i, rest)); });
  *low = min_lanes(least);
  *high = max_lanes(greatest);
  return sum_lanes(seen) == 0;
}

/// quant::centered_code as floats; a row whose scale is NaN becomes 0.
struct Centered {
  explicit Centered(const quant::TokenGrid& grid)
      : dead(grid.scale != grid.scale),
        scale(splat(dead ? 1.0f : grid.scale)),
        zero_point(splat(grid.zero_point)),
        top(splat(grid.top)) {}
  Vec operator()(Vec x) const {
    if (dead) return zero();
    return at_most(at_least(round_even(x / scale) + zero_point, zero()), top) - zero_point;
  }
  bool dead;
  Vec scale, zero_point, top;
};

std::int32_t codes(const float* x, std::int64_t count, const quant::TokenGrid& grid,
                   std::int8_t* out) noexcept {
  const Centered centered(grid);
  Vec sum = zero();  // exact: count * 128 <= 2^24
  for_vectors(
      count,
      [&](std::int64_t i) {
        const Vec code = centered(load(x + i));
        sum = sum + code;
        store_i8(out + i, code);
      },
      [&](std::int64_t i, std::int64_t rest) {
        const Vec code = centered(load_n(x + i, rest));  // 0 beyond the end
        sum = sum + code;
        std::int8_t last[kLanes];
        store_i8(last, code);
        for (std::int64_t j = 0; j < rest; ++j) out[i + j] = last[j];
      });
  return static_cast<std::int32_t>(sum_lanes(sum));
}

void values(const float* x, std::int64_t count, const quant::TokenGrid& grid, float* y) noexcept {
  const Centered centered(grid);
  const Vec scale = splat(grid.scale);
  for_vectors(
      count, [&](std::int64_t i) { store(y + i, centered(load(x + i)) * scale); },
      [&](std::int64_t i, std::int64_t rest) {
        store_n(y + i, centered(load_n(x + i, rest)) * scale, rest);
      });
}

}  // namespace
}  // namespace crumb::kernels
