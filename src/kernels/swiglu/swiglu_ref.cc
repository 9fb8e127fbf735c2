#include <cmath>

#include "kernels/swiglu.h"

namespace crumb::kernels {
namespace {

double sigmoid(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}

void forward(const float* gate, const float* up, std::int64_t count, float* y) noexcept {
  for (std::int64_t i = 0; i < count; ++i) y[i] = static_cast<float>(gate[i] * sigmoid(gate[i]) * up[i]);
}

void backward(const float* gate, const float* up, const float* grad_y, std::int64_t count, float* grad_gate,
              float* grad_up) noexcept {
  for (std::int64_t i = 0; i < count; ++i) {
    const double g = gate[i], u = up[i], d = grad_y[i], s = sigmoid(g);
    grad_gate[i] = static_cast<float>(d * u * s * (1.0 + g * (1.0 - s)));
    grad_up[i] = static_cast<float>(d * g * s);
  }
}

}  // namespace

const SwigluFunctions* swiglu_ref() noexcept {
  static constexpr SwigluFunctions kFunctions = {forward, backward};
  return &kFunctions;
}

}  // namespace crumb::kernels
