#include "kernels/simd/vec_avx512.h"

#include "kernels/amx_model.h"
#include "kernels/gemm_bf16/tiles.h"
#include "kernels/simd/tile_model.h"

namespace crumb::kernels {
namespace {

std::int64_t products = 0;

struct Model {
  template <int t>
  static void zero() {
    TileModel::zero(t);
  }
  template <int t>
  static void load(const void* p, std::int64_t stride) {
    TileModel::load(t, p, stride);
  }
  template <int t>
  static void store(void* p, std::int64_t stride) {
    TileModel::store(t, p, stride);
  }
  template <int c, int a, int b>
  static void multiply_add() {
    __atomic_fetch_add(&products, 1, __ATOMIC_RELAXED);
    TileModel::add_bf16_products(c, a, b);
  }
};

void nothing() noexcept {}

}  // namespace

namespace test {

const GemmBf16Functions* amx_model() noexcept {
  static constexpr GemmBf16Functions kFunctions = {
      32, 32, 32, 64, pack_a, pack_b, nothing, nothing, multiply_tiles<Model>};
  return &kFunctions;
}
std::int64_t amx_model_products() noexcept {
  return products;
}

}  // namespace test
}  // namespace crumb::kernels
