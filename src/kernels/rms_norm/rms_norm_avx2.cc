#include "kernels/simd/vec_avx2.h"

#include "kernels/rms_norm/rms_norm_simd.h"

namespace crumb::kernels {

const RmsNormFunctions* rms_norm_avx2() noexcept {
  static constexpr RmsNormFunctions kFunctions = {forward, backward};
  return &kFunctions;
}

}  // namespace crumb::kernels
