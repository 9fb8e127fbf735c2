#include "base/half.h"
#include "kernels/dense_linear.h"

namespace crumb::kernels {
namespace {

void multiply(const DenseMatrix& w, const float* x, std::int64_t ldx, std::int64_t m, std::int64_t begin,
              std::int64_t end, float* y, std::int64_t ldy) noexcept {
  const auto weight = [&](std::int64_t i) -> float {
    if (w.type == DenseType::kF32) return static_cast<const float*>(w.data)[i];
    const std::uint16_t bits = static_cast<const std::uint16_t*>(w.data)[i];
    return w.type == DenseType::kF16 ? f16_to_float(bits) : bf16_to_float(bits);
  };
  for (std::int64_t row = 0; row < m; ++row) {
    for (std::int64_t n = begin; n < end; ++n) {
      double sum = 0;
      for (std::int64_t k = 0; k < w.k; ++k)
        sum += static_cast<double>(weight(n * w.k + k)) * x[row * ldx + k];
      y[row * ldy + n] = static_cast<float>(sum);
    }
  }
}

}  // namespace

const DenseLinearFunctions* dense_linear_ref() noexcept {
  static constexpr DenseLinearFunctions kFunctions = {multiply};
  return &kFunctions;
}

}  // namespace crumb::kernels
