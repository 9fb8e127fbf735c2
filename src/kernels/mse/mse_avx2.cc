#include "kernels/simd/vec_avx2.h"

#include "kernels/mse/mse_simd.h"

namespace crumb::kernels {

const MseFunctions* mse_avx2() noexcept {
  static constexpr MseFunctions kFunctions = {row};
  return &kFunctions;
}

}  // namespace crumb::kernels
