#include "kernels/simd/vec_avx2.h"

#include "kernels/rope/rope_simd.h"

namespace crumb::kernels {

const RopeFunctions* rope_avx2() noexcept {
  static constexpr RopeFunctions kFunctions = {rotate};
  return &kFunctions;
}

}  // namespace crumb::kernels
