#include "kernels/layer_norm.h"

#include <cmath>

namespace crumb::kernels {

void layer_norm(const float* x, const float* weight, const float* bias, float eps, std::int64_t m,
                std::int64_t h, float* y) noexcept {
  for (std::int64_t row = 0; row < m; ++row, x += h, y += h) {
    double sum = 0, squares = 0;
    for (std::int64_t i = 0; i < h; ++i) sum += static_cast<double>(x[i]);
    const double mean = sum / static_cast<double>(h);
    for (std::int64_t i = 0; i < h; ++i) {
      const double centred = static_cast<double>(x[i]) - mean;
      squares += centred * centred;
    }
    const double rstd = 1.0 / std::sqrt(squares / static_cast<double>(h) + static_cast<double>(eps));
    for (std::int64_t i = 0; i < h; ++i)
      y[i] = static_cast<float>((static_cast<double>(x[i]) - mean) * rstd) * weight[i] + bias[i];
  }
}

}  // namespace crumb::kernels
