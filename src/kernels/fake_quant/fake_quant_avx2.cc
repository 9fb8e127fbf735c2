#include "kernels/simd/vec_avx2.h"

#include "kernels/fake_quant/fake_quant_simd.h"

namespace crumb::kernels {

const FakeQuantFunctions* fake_quant_avx2() noexcept {
  static constexpr FakeQuantFunctions kFunctions = {forward, forward_bf16, backward};
  return &kFunctions;
}

}  // namespace crumb::kernels
