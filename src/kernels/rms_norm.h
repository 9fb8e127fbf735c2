// RMSNorm and its gradient.
#pragma once
#include <cstdint>
#include <span>

#include "kernels/registry.h"

namespace crumb::kernels {

/// y[m, h] = x[m, h] * rstd[m] * weight[h],   rstd[m] = 1 / sqrt(mean_h(x[m, h]^2) + eps)
///
/// x [M, H], weight [H], y (out) [M, H], may be x; rstd (out) [M]. All f32 and contiguous. The mean is summed
/// in f64, so that values of 10^4 lose nothing. Relative error of y against f64: 4 * 2^-24.
void rms_norm(const float* x, const float* weight, float eps, std::int64_t m, std::int64_t h, float* y,
              float* rstd);

/// With g = grad_y * weight:   grad_x = rstd * g - x * rstd^3 * mean_h(g * x),   grad_weight[h] = sum_m
/// grad_y * x * rstd
///
/// grad_x (out) [M, H], may be grad_y; grad_weight (out) [H] or nullptr. Rows are summed into partial
/// gradients of fixed numbers of rows that are then added in order in f64: the same for every number of
/// threads.
void rms_norm_backward(const float* x, const float* weight, const float* rstd, const float* grad_y,
                       std::int64_t m, std::int64_t h, float* grad_x, float* grad_weight);

/// Variants work on all rows given; grad_weight is added to, never overwritten.
struct RmsNormFunctions {
  void (*forward)(const float* x, const float* weight, float eps, std::int64_t m, std::int64_t h, float* y,
                  float* rstd) noexcept;
  void (*backward)(const float* x, const float* weight, const float* rstd, const float* grad_y,
                   std::int64_t m, std::int64_t h, float* grad_x, float* grad_weight) noexcept;
};
std::span<const Variant<RmsNormFunctions>> rms_norm_variants();
const RmsNormFunctions* rms_norm_ref() noexcept;
const RmsNormFunctions* rms_norm_avx2() noexcept;
const RmsNormFunctions* rms_norm_avx512() noexcept;

}  // namespace crumb::kernels
