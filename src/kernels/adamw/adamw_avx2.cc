#include "kernels/simd/vec_avx2.h"

#include "kernels/adamw/adamw_simd.h"

namespace crumb::kernels {

const AdamWFunctions* adamw_avx2() noexcept {
  static constexpr AdamWFunctions kFunctions = {step, squares};
  return &kFunctions;
}

}  // namespace crumb::kernels
