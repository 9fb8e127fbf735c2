#include "kernels/simd/vec_avx512.h"

#include "kernels/fake_quant/fake_quant_simd.h"

namespace crumb::kernels {

const FakeQuantFunctions* fake_quant_avx512() noexcept {
  static constexpr FakeQuantFunctions kFunctions = {forward, forward_bf16, backward};
  return &kFunctions;
}

}  // namespace crumb::kernels
