#include "kernels/simd/vec_avx512.h"

#include "kernels/amx_model.h"
#include "kernels/gemm_bf16/tiles.h"

namespace crumb::kernels {
namespace {

std::int64_t products = 0;

// TMUL as the instruction set manual describes it: tiles of 16 rows of 64 bytes; tdpbf16ps adds, for every
// pair of K, the product of the pair of row m of the first tile and of the pair in row k, column n of the
// second.
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
  static float half(const unsigned char* p) {
    std::uint32_t bits = static_cast<std::uint32_t>(p[0]) << 16 | static_cast<std::uint32_t>(p[1]) << 24;
    float value = 0;
    __builtin_memcpy(&value, &bits, 4);
    return value;
  }
  template <int c, int a, int b>
  static void multiply_add() {
    __atomic_fetch_add(&products, 1, __ATOMIC_RELAXED);
    for (int m = 0; m < 16; ++m) {
      float sums[16];
      __builtin_memcpy(sums, tiles[c][m], 64);
      for (int k = 0; k < 16; ++k) {
        for (int n = 0; n < 16; ++n) {
          for (int i = 0; i < 2; ++i)
            sums[n] += half(tiles[a][m] + 4 * k + 2 * i) * half(tiles[b][k] + 4 * n + 2 * i);
        }
      }
      __builtin_memcpy(tiles[c][m], sums, 64);
    }
  }
};
thread_local unsigned char Model::tiles[8][16][64];

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
