#pragma once
#include "kernels/mse.h"
#include "kernels/simd/vec_math.h"

namespace crumb::kernels {
namespace {

void row(const float* y, const float* target, std::int64_t h, float factor, float* grad, double* error,
         double* energy) noexcept {
  Sum64 e, t;
  for_vectors(
      h,
      [&](std::int64_t i) {
        const Vec wanted = load(target + i), difference = load(y + i) - wanted;
        add_product_f64(e, difference, difference);
        add_product_f64(t, wanted, wanted);
        if (grad != nullptr) store(grad + i, difference * splat(factor));
      },
      [&](std::int64_t i, std::int64_t rest) {
        const Vec wanted = load_n(target + i, rest), difference = load_n(y + i, rest) - wanted;
        add_product_f64(e, difference, difference);
        add_product_f64(t, wanted, wanted);
        if (grad != nullptr) store_n(grad + i, difference * splat(factor), rest);
      });
  *error = total(e);
  *energy = total(t);
}

}  // namespace
}  // namespace crumb::kernels
