#include "kernels/simd/vec_avx2.h"

#include "kernels/sgemm/sgemm_simd.h"

namespace crumb::kernels {

const SgemmFunctions* sgemm_avx2() noexcept {
  static constexpr SgemmFunctions kFunctions = {run};
  return &kFunctions;
}

}  // namespace crumb::kernels
