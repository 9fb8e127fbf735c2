#include "kernels/simd/vec_avx512.h"

#include "kernels/lowbit/vnni.h"

namespace crumb::kernels {

const LowbitFunctions* lowbit_avx512vnni() noexcept {
  static constexpr LowbitFunctions kFunctions = {prepare, {multiply_int8<VnniProducts>, multiply_exact}};
  return &kFunctions;
}

}  // namespace crumb::kernels
