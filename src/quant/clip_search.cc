#include "quant/clip_search.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/check.h"
#include "base/half.h"
#include "base/parallel_for.h"
#include "quant/affine.h"

namespace crumb::quant {
namespace {

// sum of energy * (Q2(Q1(w)) - w)^2 over one group; `energy` may be null.
double group_error(const float* w, const float* energy, std::int64_t count, float scale, float zero_point,
                   float max_code) noexcept {
  double sum = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const float code = std::clamp(std::nearbyint(w[i] / scale) + zero_point, 0.0f, max_code);
    const float error = (code - zero_point) * scale - w[i];
    sum += static_cast<double>(error) * error * (energy == nullptr ? 1.0 : energy[i]);
  }
  return sum;
}

}  // namespace

void init_clip_search(std::span<const float> w, std::int64_t n, std::int64_t k, const AffineSpec& spec,
                      const ClipSearch& search, std::span<const float> energy, bool scale_f16,
                      std::span<float> scales, std::span<float> zero_points) {
  const std::int64_t groups = spec.groups(k), size = spec.group_of(k);
  CRUMB_CHECK(static_cast<std::int64_t>(w.size()) == n * k &&
              static_cast<std::int64_t>(scales.size()) == n * groups);
  CRUMB_CHECK(zero_points.size() == scales.size() &&
              (energy.empty() || static_cast<std::int64_t>(energy.size()) == k));
  CRUMB_CHECK(search.steps >= 1 && search.min_ratio > 0 && search.min_ratio <= 1);
  init_minmax(w, n, k, spec, scales, zero_points);
  const auto max_code = static_cast<float>(spec.max_code());
  parallel_for(n * groups, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const float* group = w.data() + i * size;
      const float* weights = energy.empty() ? nullptr : energy.data() + (i % groups) * size;
      const auto [low, high] = std::minmax_element(group, group + size);
      const auto as_stored = [&](float s) { return scale_f16 ? std::max(round_to_f16(s), kMinScale) : s; };
      float best_scale = scales[static_cast<std::size_t>(i)];
      float best_zero = effective_zero_point(zero_points[static_cast<std::size_t>(i)], spec);
      double best = group_error(group, weights, size, as_stored(best_scale), best_zero, max_code);
      for (int step = 0; step < search.steps; ++step) {
        const double ratio =
            search.steps == 1 ? 1.0 : search.min_ratio + (1 - search.min_ratio) * step / (search.steps - 1);
        const float scale =
            std::clamp(static_cast<float>((*high - *low) * ratio) / max_code, kMinScale, kMaxScale);
        const float center = -*low * static_cast<float>(ratio) / scale;
        const std::array<float, 2> zeros = {effective_zero_point(std::floor(center), spec),
                                            effective_zero_point(std::ceil(center), spec)};
        for (const float zero : zeros) {
          const double error = group_error(group, weights, size, as_stored(scale), zero, max_code);
          if (error < best) {
            best = error;
            best_scale = scale;
            best_zero = zero;
          }
        }
      }
      scales[static_cast<std::size_t>(i)] = best_scale;
      zero_points[static_cast<std::size_t>(i)] = best_zero;
    }
  });
}

}  // namespace crumb::quant
