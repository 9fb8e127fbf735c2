#include "base/half.h"
#include "kernels/packed.h"
#include "kernels/packed/code_at.h"

namespace crumb::kernels {
namespace {

// (code - zero_point) of weight j in row n.
int centered(const PackedArgs& a, std::int64_t n, std::int64_t j) {
  const std::uint32_t* row = a.words + n * (a.k * a.bits / 32);
  return code_at(row, j, a.bits) -
         static_cast<int>(a.zero_points[n * (a.k / a.group_size) + j / a.group_size]);
}

float scale_of(const PackedArgs& a, std::int64_t n, std::int64_t j) {
  return a.scales[n * (a.k / a.group_size) + j / a.group_size];
}

void dequantize(const PackedArgs& a, std::int64_t begin, std::int64_t end, float* w_hat) noexcept {
  for (std::int64_t n = begin; n < end; ++n) {
    for (std::int64_t j = 0; j < a.k; ++j)
      w_hat[n * a.k + j] = static_cast<float>(centered(a, n, j)) * scale_of(a, n, j);
  }
}

void dequantize_bf16(const PackedArgs& a, std::int64_t begin, std::int64_t end,
                     std::uint16_t* w_hat) noexcept {
  for (std::int64_t n = begin; n < end; ++n) {
    for (std::int64_t j = 0; j < a.k; ++j) {
      w_hat[n * a.k + j] = float_to_bf16(static_cast<float>(centered(a, n, j)) * scale_of(a, n, j));
    }
  }
}

void scale_gradient(const PackedArgs& a, std::int64_t begin, std::int64_t end, const float* grad_w_hat,
                    float* grad_scale) noexcept {
  for (std::int64_t n = begin; n < end; ++n) {
    for (std::int64_t g = 0; g < a.k / a.group_size; ++g) {
      double sum = 0;
      for (std::int64_t j = g * a.group_size; j < (g + 1) * a.group_size; ++j) {
        sum += static_cast<double>(centered(a, n, j)) * grad_w_hat[n * a.k + j];
      }
      grad_scale[n * (a.k / a.group_size) + g] = static_cast<float>(sum);
    }
  }
}

}  // namespace

const PackedFunctions* packed_ref() noexcept {
  static constexpr PackedFunctions kFunctions = {dequantize, dequantize_bf16, scale_gradient};
  return &kFunctions;
}

}  // namespace crumb::kernels
