#include "kernels/simd/vec_avx512.h"

#include "kernels/lowbit/tile_products.h"
#include "kernels/lowbit_amx_model.h"
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
    TileModel::add_byte_products(c, a, b);
  }
};

}  // namespace

namespace test {

const LowbitFunctions* lowbit_amx_model() noexcept {
  static constexpr LowbitFunctions kFunctions = {prepare,
                                                 {multiply_int8<TileProducts<Model>>, multiply_exact}};
  return &kFunctions;
}
std::int64_t lowbit_amx_model_products() noexcept {
  return products;
}

}  // namespace test
}  // namespace crumb::kernels
