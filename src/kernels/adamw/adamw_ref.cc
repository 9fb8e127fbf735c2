#include <cmath>

#include "kernels/adamw.h"

namespace crumb::kernels {
namespace {

void step(float* w, const float* grad, float* m, float* v, std::int64_t count,
          const AdamWCoefficients& c) noexcept {
  for (std::int64_t i = 0; i < count; ++i) {
    const float g = grad[i];
    m[i] = std::fma(c.one_minus_beta1, g - m[i], m[i]);
    v[i] = v[i] * c.beta2 + c.one_minus_beta2 * g * g;
    const float denominator = std::sqrt(v[i]) / c.sqrt_correction2 + c.eps;
    w[i] = w[i] * c.decay - c.step_size * m[i] / denominator;
  }
}

double squares(const float* x, std::int64_t count) noexcept {
  double sum = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += static_cast<double>(x[i]) * x[i];
  return sum;
}

}  // namespace

const AdamWFunctions* adamw_ref() noexcept {
  static constexpr AdamWFunctions kFunctions = {step, squares};
  return &kFunctions;
}

}  // namespace crumb::kernels
