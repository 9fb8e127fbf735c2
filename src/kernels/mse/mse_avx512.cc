#include "kernels/simd/vec_avx512.h"

#include "kernels/mse/mse_simd.h"

namespace crumb::kernels {

const MseFunctions* mse_avx512() noexcept {
  static constexpr MseFunctions kFunctions = {row};
  return &kFunctions;
}

}  // namespace crumb::kernels
