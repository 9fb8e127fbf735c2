#include "kernels/mse.h"

#include <vector>

#include "base/parallel_for.h"

namespace crumb::kernels {

std::span<const Variant<MseFunctions>> mse_variants() {
  static const Variant<MseFunctions> kVariants[] = {
      {Isa::kAvx512, mse_avx512()}, {Isa::kAvx2, mse_avx2()}, {Isa::kRef, mse_ref()}};
  return kVariants;
}

double mse_loss(const float* y, const float* target, std::int64_t m, std::int64_t h, float grad_loss,
                float* grad, double* row_error, double* row_energy) {
  const auto run = choose(mse_variants()).run->row;
  const double elements = static_cast<double>(m) * static_cast<double>(h);
  const auto factor = static_cast<float>(2.0 * grad_loss / elements);
  std::vector<double> errors(row_error == nullptr ? static_cast<std::size_t>(m) : 0);
  double* const error = row_error == nullptr ? errors.data() : row_error;
  parallel_for(m, std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(h, 1)),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t i = begin; i < end; ++i) {
                   double energy = 0;
                   run(y + i * h, target + i * h, h, factor, grad == nullptr ? nullptr : grad + i * h,
                       error + i, &energy);
                   if (row_energy != nullptr) row_energy[i] = energy;
                 }
               });
  double sum = 0;
  for (std::int64_t i = 0; i < m; ++i) sum += error[i];
  return sum / elements;
}

}  // namespace crumb::kernels
