#include "kernels/simd/vec_avx512.h"

#include "kernels/lowbit/tile_products.h"
#include "kernels/lowbit_amx_model.h"

namespace crumb::kernels {
namespace {

std::int64_t products = 0;

// TMUL as the instruction set manual describes it: tiles of 16 rows of 64 bytes; tdpbsud adds, for every 4 of
// K, the products of the signed bytes of row m of the first tile and the unsigned bytes of row k, column n of
// the second.
struct Model {
  alignas(64) static thread_local unsigned char tiles[8][16][64];

  template <int t>
  static void zero() {
    __builtin_memset(tiles[t], 0, sizeof(tiles[t]));
  }
  template <int t>
  static void load(const void* p, std::int64_t stride) {
    for (int row = 0; row < 16; ++row)
      __builtin_memcpy(tiles[t][row], static_cast<const char*>(p) + row * stride, 64);
  }
  template <int t>
  static void store(void* p, std::int64_t stride) {
    for (int row = 0; row < 16; ++row)
      __builtin_memcpy(static_cast<char*>(p) + row * stride, tiles[t][row], 64);
  }
  template <int c, int a, int b>
  static void multiply_add() {
    __atomic_fetch_add(&products, 1, __ATOMIC_RELAXED);
    for (int m = 0; m < 16; ++m) {
      std::int32_t sums[16];
      __builtin_memcpy(sums, tiles[c][m], 64);
      for (int k = 0; k < 16; ++k) {
        for (int n = 0; n < 16; ++n) {
          for (int i = 0; i < 4; ++i)
            sums[n] += static_cast<signed char>(tiles[a][m][4 * k + i]) * tiles[b][k][4 * n + i];
        }
      }
      __builtin_memcpy(tiles[c][m], sums, 64);
    }
  }
};
thread_local unsigned char Model::tiles[8][16][64];

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
