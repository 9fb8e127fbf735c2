#include "kernels/simd/vec_avx512.h"

#include "kernels/packed/packed_simd.h"

namespace crumb::kernels {

const PackedFunctions* packed_avx512() noexcept {
  static constexpr PackedFunctions kFunctions = {dequantize, dequantize_bf16, scale_gradient};
  return &kFunctions;
}

}  // namespace crumb::kernels
