#include "kernels/simd/vec_avx512.h"

#include "kernels/attention/attention_simd.h"

namespace crumb::kernels {

const AttentionFunctions* attention_avx512() noexcept {
  static constexpr AttentionFunctions kFunctions = {online_softmax, finish, row_dots, backward_scores};
  return &kFunctions;
}

}  // namespace crumb::kernels
