#include "kernels/simd/narrow_avx2.h"

#include "kernels/token_quant/token_quant_simd.h"

namespace crumb::kernels {

const TokenQuantFunctions* token_quant_avx2() noexcept {
  static constexpr TokenQuantFunctions kFunctions = {extremes, codes, values};
  return &kFunctions;
}

}  // namespace crumb::kernels
