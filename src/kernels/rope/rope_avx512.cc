#include "kernels/simd/vec_avx512.h"

#include "kernels/rope/rope_simd.h"

namespace crumb::kernels {

const RopeFunctions* rope_avx512() noexcept {
  static constexpr RopeFunctions kFunctions = {rotate};
  return &kFunctions;
}

}  // namespace crumb::kernels
