#include "kernels/simd/narrow_avx2.h"

namespace crumb::kernels {
namespace {

constexpr std::int64_t kTileRows = 3;  // 12 sums in 16 registers

}  // namespace
}  // namespace crumb::kernels

#include "kernels/dense_linear/dense_linear_simd.h"

namespace crumb::kernels {

const DenseLinearFunctions* dense_linear_avx2() noexcept {
  static constexpr DenseLinearFunctions kFunctions = {multiply};
  return &kFunctions;
}

}  // namespace crumb::kernels
