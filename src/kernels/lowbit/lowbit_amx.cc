#include "kernels/simd/vec_avx512.h"

#include "kernels/lowbit/tile_products.h"

namespace crumb::kernels {
namespace {

struct Hardware {
  template <int t>
  static void zero();
  template <int t>
  static void load(const void* p, std::int64_t stride);
  template <int t>
  static void store(void* p, std::int64_t stride);
  template <int c, int a, int b>
  static void multiply_add();
};

// GCC's intrinsics paste the tile's number into assembly, so it has to be a literal, not a template
// parameter.
#define CRUMB_TILE(t)                                                 \
  template <>                                                         \
  inline void Hardware::load<t>(const void* p, std::int64_t stride) { \
    _tile_loadd(t, p, stride);                                        \
  }
#define CRUMB_SUM_TILE(t, a, b)                                  \
  CRUMB_TILE(t)                                                  \
  template <>                                                    \
  inline void Hardware::zero<t>() {                              \
    _tile_zero(t);                                               \
  }                                                              \
  template <>                                                    \
  inline void Hardware::store<t>(void* p, std::int64_t stride) { \
    _tile_stored(t, p, stride);                                  \
  }                                                              \
  template <>                                                    \
  inline void Hardware::multiply_add<t, a, b>() {                \
    _tile_dpbsud(t, a, b);                                       \
  }
CRUMB_SUM_TILE(0, 4, 6)
CRUMB_SUM_TILE(1, 4, 7)
CRUMB_SUM_TILE(2, 5, 6)
CRUMB_SUM_TILE(3, 5, 7)
CRUMB_TILE(4)
CRUMB_TILE(5)
CRUMB_TILE(6)
CRUMB_TILE(7)
#undef CRUMB_SUM_TILE
#undef CRUMB_TILE

struct alignas(64) TileConfig {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);

// The configuration is the thread's: it is loaded at every entry and assumes nothing of who used the tiles
// before.
void multiply(const LowbitMatrix& w, const LowbitActivations& x, std::int64_t begin, std::int64_t end,
              float* y, std::int64_t ldy) noexcept {
  static constexpr TileConfig kConfig;
  const bool tiles = x.m > kDecodeTokens;
  if (tiles) _tile_loadconfig(&kConfig);
  multiply_int8<TileProducts<Hardware>>(w, x, begin, end, y, ldy);
  if (tiles) _tile_release();
}

}  // namespace

const LowbitFunctions* lowbit_amx() noexcept {
  static constexpr LowbitFunctions kFunctions = {prepare, {multiply, multiply_exact}};
  return &kFunctions;
}

}  // namespace crumb::kernels
