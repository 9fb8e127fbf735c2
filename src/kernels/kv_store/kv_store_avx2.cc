#include "kernels/simd/narrow_avx2.h"

#include "kernels/kv_store/kv_store_simd.h"

namespace crumb::kernels {

const KvStoreFunctions* kv_store_avx2() noexcept {
  static constexpr KvStoreFunctions kFunctions = {store_all};
  return &kFunctions;
}

}  // namespace crumb::kernels
