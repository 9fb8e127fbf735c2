// The optimizer's loops over parameters.
#pragma once
#include <cstdint>
#include <span>

#include "kernels/registry.h"

namespace crumb::kernels {

struct AdamWOptions {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
};

/// One AdamW step (arXiv:1711.05101, decoupled decay), in the order of operations of torch's single-tensor
/// implementation:
///
///   w *= 1 - lr * weight_decay;   m += (1 - beta1) * (g - m);   v = v * beta2 + (1 - beta2) * g * g
///   w -= lr / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + eps)
///
/// Coefficients are computed in f64 and rounded to f32 once; m's update is one fused multiply-add, the rest
/// is rounded operation by operation, so that all variants agree bit for bit. w, m, v (in, out) and grad
/// [count] f32. `step` counts from 1.
void adamw_step(float* w, const float* grad, float* m, float* v, std::int64_t count, std::int64_t step,
                const AdamWOptions& options);

/// sum x^2 in f64, in an order that depends on count only. For gradient norms.
double sum_of_squares(const float* x, std::int64_t count);

/// The coefficients of one step, rounded to f32.
struct AdamWCoefficients {
  float decay, one_minus_beta1, beta2, one_minus_beta2, step_size, sqrt_correction2, eps;
};
AdamWCoefficients adamw_coefficients(std::int64_t step, const AdamWOptions& options);

struct AdamWFunctions {
  void (*step)(float* w, const float* grad, float* m, float* v, std::int64_t count,
               const AdamWCoefficients&) noexcept;
  double (*sum_of_squares)(const float* x, std::int64_t count) noexcept;
};
std::span<const Variant<AdamWFunctions>> adamw_variants();
const AdamWFunctions* adamw_ref() noexcept;
const AdamWFunctions* adamw_avx2() noexcept;
const AdamWFunctions* adamw_avx512() noexcept;

}  // namespace crumb::kernels
