// Mean squared error with its gradient and the per-token energies of the report.
#pragma once
#include <cstdint>
#include <span>

#include "kernels/registry.h"

namespace crumb::kernels {

/// Returns mean((y - target)^2) over M * H elements, summed in f64.
///
/// y, target         [M, H] f32
/// grad (out)        [M, H] f32 or nullptr: grad_loss * 2 * (y - target) / (M * H); may be y
/// row_error (out)   [M] f64 or nullptr: sum_h (y - target)^2 of each token
/// row_energy (out)  [M] f64 or nullptr: sum_h target^2 of each token
/// Independent of the number of threads; relative error 2^-22 (differences are rounded to f32).
double mse_loss(const float* y, const float* target, std::int64_t m, std::int64_t h, float grad_loss,
                float* grad, double* row_error, double* row_energy);

struct MseFunctions {
  /// One row of h: sums into *error and *energy, gradient factor * (y - target) into grad unless that is
  /// nullptr.
  void (*row)(const float* y, const float* target, std::int64_t h, float factor, float* grad, double* error,
              double* energy) noexcept;
};
std::span<const Variant<MseFunctions>> mse_variants();
const MseFunctions* mse_ref() noexcept;
const MseFunctions* mse_avx2() noexcept;
const MseFunctions* mse_avx512() noexcept;

}  // namespace crumb::kernels
