#include "kernels/simd/narrow_avx512.h"

#include "kernels/kv_store/kv_store_simd.h"

namespace crumb::kernels {

const KvStoreFunctions* kv_store_avx512() noexcept {
  static constexpr KvStoreFunctions kFunctions = {store_all};
  return &kFunctions;
}

}  // namespace crumb::kernels
