#include "eval/token_loss.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace crumb::eval {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// The largest logit; NaN when one is NaN or +infinity.
float checked_maximum(std::span<const float> logits) noexcept {
  float maximum = -std::numeric_limits<float>::infinity();
  bool bad = logits.empty();
  for (const float x : logits) {
    bad = bad || std::isnan(x);
    maximum = std::max(maximum, x);
  }
  return bad || std::isinf(maximum) ? std::numeric_limits<float>::quiet_NaN() : maximum;
}

}  // namespace

double log_sum_exp(std::span<const float> logits) noexcept {
  const float maximum = checked_maximum(logits);
  if (std::isnan(maximum)) return kNan;
  double sum = 0;
  for (const float x : logits) sum += std::exp(x - maximum);
  return static_cast<double>(maximum) + std::log(sum);
}

double cross_entropy(std::span<const float> logits, std::int32_t target) noexcept {
  return log_sum_exp(logits) - static_cast<double>(logits[static_cast<std::size_t>(target)]);
}

double kl_divergence(std::span<const float> reference, std::span<const float> logits) noexcept {
  const double log_p_sum = log_sum_exp(reference), log_q_sum = log_sum_exp(logits);
  if (std::isnan(log_p_sum) || std::isnan(log_q_sum)) return kNan;
  double sum = 0;
  for (std::size_t v = 0; v < reference.size(); ++v) {
    const double log_p = reference[v] - log_p_sum;
    const float p = std::exp(static_cast<float>(log_p));
    if (p > 0) sum += p * (log_p - (logits[v] - log_q_sum));
  }
  return std::max(sum, 0.0);  // rounding alone can make a zero divergence slightly negative
}

std::int32_t argmax(std::span<const float> logits) noexcept {
  return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace crumb::eval
