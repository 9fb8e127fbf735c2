#include "kernels/simd/vec_avx512.h"

#include "kernels/swiglu/swiglu_simd.h"

namespace crumb::kernels {

const SwigluFunctions* swiglu_avx512() noexcept {
  static constexpr SwigluFunctions kFunctions = {forward, backward};
  return &kFunctions;
}

}  // namespace crumb::kernels
