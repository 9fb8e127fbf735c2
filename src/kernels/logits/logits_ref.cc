#include <cmath>

#include "kernels/logits.h"

namespace crumb::kernels {
namespace {

float largest(const float* x, std::int64_t v) noexcept {
  float m = x[0];
  for (std::int64_t i = 1; i < v; ++i) m = x[i] > m ? x[i] : m;
  return m;
}

double sum_exp(const float* x, std::int64_t v, float shift) noexcept {
  double sum = 0;
  for (std::int64_t i = 0; i < v; ++i) sum += std::exp(static_cast<double>(x[i]) - shift);
  return sum;
}

void exp_scale(float* x, std::int64_t v, float shift, float factor) noexcept {
  for (std::int64_t i = 0; i < v; ++i)
    x[i] = static_cast<float>(std::exp(static_cast<double>(x[i]) - shift) * factor);
}

double kl(float* x, const float* t, std::int64_t v, double x_lse, double t_lse, float factor,
          bool grad) noexcept {
  double sum = 0;
  for (std::int64_t i = 0; i < v; ++i) {
    const double log_p = t[i] - t_lse, log_q = x[i] - x_lse, p = std::exp(log_p);
    sum += p * (log_p - log_q);
    if (grad) x[i] = static_cast<float>((std::exp(log_q) - p) * factor);
  }
  return sum;
}

}  // namespace

const LogitsFunctions* logits_ref() noexcept {
  static constexpr LogitsFunctions kFunctions = {largest, sum_exp, exp_scale, kl};
  return &kFunctions;
}

}  // namespace crumb::kernels
