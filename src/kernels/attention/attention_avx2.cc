#include "kernels/simd/vec_avx2.h"

#include "kernels/attention/attention_simd.h"

namespace crumb::kernels {

const AttentionFunctions* attention_avx2() noexcept {
  static constexpr AttentionFunctions kFunctions = {online_softmax, finish, row_dots, backward_scores};
  return &kFunctions;
}

}  // namespace crumb::kernels
