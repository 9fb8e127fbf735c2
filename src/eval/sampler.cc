#include "eval/sampler.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "eval/token_loss.h"

namespace crumb::eval {

Sampler::Sampler(const SamplerOptions& options) : options_(options), random_(options.seed) {
  constexpr char kWhere[] = "eval.sampler";
  if (!std::isfinite(options.temperature) || options.temperature < 0) {
    fail(ErrorKind::kInvalidArgument, kWhere, "temperature is ", options.temperature,
         "; expected 0 (greedy) or a positive number");
  }
  if (options.top_k < 0)
    fail(ErrorKind::kInvalidArgument, kWhere, "top_k is ", options.top_k,
         "; expected 0 (all) or a positive number");
  if (!(options.top_p > 0 && options.top_p <= 1))
    fail(ErrorKind::kInvalidArgument, kWhere, "top_p is ", options.top_p, "; expected above 0, at most 1");
}

std::int32_t Sampler::next(std::span<const float> logits) {
  if (std::isnan(log_sum_exp(logits))) {
    fail(ErrorKind::kNumerics, "eval.sampler", "logits: NaN or infinity among ", logits.size(),
         "; expected finite numbers");
  }
  if (options_.temperature == 0) return argmax(logits);

  ranked_.clear();
  for (std::size_t v = 0; v < logits.size(); ++v)
    ranked_.emplace_back(logits[v], static_cast<std::int32_t>(v));
  const auto likelier = [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  };
  std::size_t count = ranked_.size();
  if (options_.top_k > 0) count = std::min(count, static_cast<std::size_t>(options_.top_k));
  std::partial_sort(ranked_.begin(), ranked_.begin() + static_cast<std::ptrdiff_t>(count), ranked_.end(),
                    likelier);
  ranked_.resize(count);

  std::vector<double> probability(count);
  double sum = 0;
  for (std::size_t i = 0; i < count; ++i) {
    probability[i] =
        std::exp((static_cast<double>(ranked_[i].first) - ranked_[0].first) / options_.temperature);
    sum += probability[i];
  }
  if (options_.top_p < 1) {
    double kept = 0;
    std::size_t n = 0;
    while (n < count && kept < options_.top_p * sum) kept += probability[n++];
    count = std::max<std::size_t>(n, 1);
    sum = kept;
  }
  double left = random_.uniform() * sum;
  for (std::size_t i = 0; i + 1 < count; ++i) {
    left -= probability[i];
    if (left < 0) return ranked_[i].second;
  }
  return ranked_[count - 1].second;
}

}  // namespace crumb::eval
