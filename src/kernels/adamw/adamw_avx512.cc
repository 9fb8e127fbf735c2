#include "kernels/simd/vec_avx512.h"

#include "kernels/adamw/adamw_simd.h"

namespace crumb::kernels {

const AdamWFunctions* adamw_avx512() noexcept {
  static constexpr AdamWFunctions kFunctions = {step, squares};
  return &kFunctions;
}

}  // namespace crumb::kernels
