#include "methods/gptq/group_scale.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "quant/affine.h"
#include "quant/stored_scale.h"

namespace crumb::methods::gptq {

namespace {

struct Range {
  float low = 0, high = 0;
};

GroupScale scale_of(const Range& range, const quant::AffineSpec& spec, bool scale_f16, bool parity) {
  const auto max_code = static_cast<float>(spec.max_code());
  if (spec.grid == quant::Grid::kSignedSym) {
    const float largest = std::max(-range.low, range.high);
    const int half = 1 << (spec.bits - 1);
    const bool positive = range.high > -range.low && !parity;
    return {quant::stored_scale(2 * largest / max_code, scale_f16),
            static_cast<float>(positive ? half - 1 : half)};
  }
  const float scale = quant::stored_scale((range.high - range.low) / max_code, scale_f16);
  return {scale, quant::effective_zero_point(-range.low / scale, spec)};
}

double power_error(std::span<const float> w, const GroupScale& s, std::int32_t max_code, double norm) {
  double sum = 0;
  for (const float value : w) {
    const auto code = static_cast<float>(quant::quantize_one(value, s.scale, s.zero_point, max_code));
    sum += std::pow(std::abs(static_cast<double>((code - s.zero_point) * s.scale - value)), norm);
  }
  return sum;
}

}  // namespace

GroupScale find_group_scale(std::span<const float> w, std::span<const float> energy,
                            const quant::AffineSpec& spec, const RangeSearch& search, bool scale_f16,
                            bool parity) {
  const auto [least, most] = std::minmax_element(w.begin(), w.end());
  Range range{std::min(*least, 0.0f), std::max(*most, 0.0f)};
  if (range.low == range.high) return scale_of({-1, 1}, spec, scale_f16, parity);
  if (search.rule == RangeRule::kClipSearch) {
    GroupScale found;
    const quant::AffineSpec whole{spec.bits, -1, spec.grid};
    quant::init_clip_search(w, 1, static_cast<std::int64_t>(w.size()), whole, search.clip, energy, scale_f16,
                            {&found.scale, 1}, {&found.zero_point, 1});
    found.scale = quant::stored_scale(found.scale, scale_f16);
    return found;
  }
  GroupScale best = scale_of(range, spec, scale_f16, parity);
  if (search.rule == RangeRule::kMinMax) return best;
  double best_error = std::numeric_limits<double>::infinity();
  const int candidates = static_cast<int>(search.max_shrink * search.steps);
  for (int i = 0; i < candidates; ++i) {
    const auto part = static_cast<float>(1 - static_cast<double>(i) / search.steps);
    const GroupScale tried = scale_of({part * range.low, part * range.high}, spec, scale_f16, parity);
    const double error = power_error(w, tried, spec.max_code(), search.norm);
    if (error < best_error) {
      best_error = error;
      best = tried;
    }
  }
  return best;
}

}  // namespace crumb::methods::gptq
