#include "kernels/simd/narrow_avx2.h"

namespace crumb::kernels {
namespace {

// Eight sums, beside what they are made of, in sixteen registers.
constexpr int kScoreRows = 4, kScoreVectors = 2, kOutputRows = 2, kOutputVectors = 4;

}  // namespace
}  // namespace crumb::kernels

#include "kernels/cached_attention/cached_attention_simd.h"

namespace crumb::kernels {

const CachedAttentionFunctions* cached_attention_avx2() noexcept {
  static constexpr CachedAttentionFunctions kFunctions = {attend};
  return &kFunctions;
}

}  // namespace crumb::kernels
