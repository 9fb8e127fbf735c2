#include "kernels/simd/narrow_avx512.h"

#include "kernels/token_quant/token_quant_simd.h"

namespace crumb::kernels {

const TokenQuantFunctions* token_quant_avx512() noexcept {
  static constexpr TokenQuantFunctions kFunctions = {extremes, codes, values};
  return &kFunctions;
}

}  // namespace crumb::kernels
