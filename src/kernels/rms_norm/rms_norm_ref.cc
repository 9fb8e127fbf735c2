#include <cmath>

#include "kernels/rms_norm.h"

namespace crumb::kernels {
namespace {

void forward(const float* x, const float* weight, float eps, std::int64_t m, std::int64_t h, float* y,
             float* rstd) noexcept {
  for (std::int64_t i = 0; i < m; ++i) {
    double sum = 0;
    for (std::int64_t j = 0; j < h; ++j) sum += static_cast<double>(x[i * h + j]) * x[i * h + j];
    const double r = 1.0 / std::sqrt(sum / static_cast<double>(h) + eps);
    rstd[i] = static_cast<float>(r);
    for (std::int64_t j = 0; j < h; ++j) y[i * h + j] = static_cast<float>(x[i * h + j] * r * weight[j]);
  }
}

void backward(const float* x, const float* weight, const float* rstd, const float* grad_y, std::int64_t m,
              std::int64_t h, float* grad_x, float* grad_weight) noexcept {
  for (std::int64_t i = 0; i < m; ++i) {
    const float *row = x + i * h, *g = grad_y + i * h;
    const double r = rstd[i];
    double dot = 0;
    for (std::int64_t j = 0; j < h; ++j) dot += static_cast<double>(g[j]) * weight[j] * row[j];
    const double mean = dot / static_cast<double>(h) * r * r * r;
    for (std::int64_t j = 0; j < h; ++j) {
      if (grad_weight != nullptr)
        grad_weight[j] += static_cast<float>(static_cast<double>(g[j]) * row[j] * r);
      grad_x[i * h + j] = static_cast<float>(r * g[j] * weight[j] - row[j] * mean);
    }
  }
}

}  // namespace

const RmsNormFunctions* rms_norm_ref() noexcept {
  static constexpr RmsNormFunctions kFunctions = {forward, backward};
  return &kFunctions;
}

}  // namespace crumb::kernels
