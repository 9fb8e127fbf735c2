#include "kernels/simd/vec_avx2.h"

#include "kernels/logits/logits_simd.h"

namespace crumb::kernels {

const LogitsFunctions* logits_avx2() noexcept {
  static constexpr LogitsFunctions kFunctions = {largest, sum_exp, exp_scale, kl};
  return &kFunctions;
}

}  // namespace crumb::kernels
