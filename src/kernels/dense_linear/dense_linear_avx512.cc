#include "kernels/simd/narrow_avx512.h"

namespace crumb::kernels {
namespace {

constexpr std::int64_t kTileRows = 6;  // 24 sums in 32 registers

}  // namespace
}  // namespace crumb::kernels

#include "kernels/dense_linear/dense_linear_simd.h"

namespace crumb::kernels {

const DenseLinearFunctions* dense_linear_avx512() noexcept {
  static constexpr DenseLinearFunctions kFunctions = {multiply};
  return &kFunctions;
}

}  // namespace crumb::kernels
