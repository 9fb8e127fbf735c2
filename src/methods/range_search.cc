#include "methods/range_search.h"

#include <utility>

#include "base/check.h"

namespace crumb::methods {

using at::Tensor;

std::vector<double> range_ratios(double most) {
  constexpr double kLeast = 0.3;
  constexpr int kRatios = 25;
  std::vector<double> ratios;
  for (int i = 0; i < kRatios; ++i) ratios.push_back(kLeast + (most - kLeast) * i / kRatios);
  return ratios;
}

RangeEnds search_range_ends(const RangeEnds& start, std::span<const double> values,
                            const std::function<Tensor(const RangeEnds&)>& error_of) {
  const at::NoGradGuard no_grad;
  RangeEnds best = start;
  Tensor least = error_of(best);
  for (const auto& [upper, lower] : {std::pair(true, true), std::pair(true, false), std::pair(false, true)}) {
    for (const double value : values) {
      RangeEnds tried = best;
      if (upper) tried.upper = at::full_like(best.upper, value);
      if (lower) tried.lower = at::full_like(best.lower, value);
      const Tensor error = error_of(tried), better = error < least;
      best = {at::where(better, tried.upper, best.upper), at::where(better, tried.lower, best.lower)};
      least = at::where(better, error, least);
    }
  }
  return best;
}

Tensor error_weights(std::span<const float> energy, std::int64_t k, const at::TensorOptions& options) {
  if (energy.empty()) return at::ones({k}, options);
  CRUMB_CHECK(static_cast<std::int64_t>(energy.size()) == k);
  return at::tensor(at::ArrayRef<float>(energy.data(), energy.size())).to(options.device());
}

}  // namespace crumb::methods
