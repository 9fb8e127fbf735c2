#include "kernels/simd/narrow_avx512.h"

namespace crumb::kernels {
namespace {

// 24 and 16 sums, beside what they are made of, in 32 registers.
constexpr int kScoreRows = 6, kScoreVectors = 4, kOutputRows = 4, kOutputVectors = 4;

}  // namespace
}  // namespace crumb::kernels

#include "kernels/cached_attention/cached_attention_simd.h"

namespace crumb::kernels {

const CachedAttentionFunctions* cached_attention_avx512() noexcept {
  static constexpr CachedAttentionFunctions kFunctions = {attend};
  return &kFunctions;
}

}  // namespace crumb::kernels
