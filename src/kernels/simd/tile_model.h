// The tile instructions in software, for tests on machines without AMX. Everything has internal linkage.
#pragma once
#include <cstdint>

namespace crumb::kernels {
namespace {

/// As the instruction set manual describes TMUL, for tiles of 16 rows of 64 bytes. The tiles are the
/// thread's.
struct TileModel {
  alignas(64) static inline thread_local unsigned char tiles[8][16][64];

  static void zero(int t) { __builtin_memset(tiles[t], 0, sizeof(tiles[t])); }
  static void load(int t, const void* p, std::int64_t stride) {
    for (int row = 0; row < 16; ++row)
      __builtin_memcpy(tiles[t][row], static_cast<const char*>(p) + row * stride, 64);
  }
  static void store(int t, void* p, std::int64_t stride) {
    for (int row = 0; row < 16; ++row)
      __builtin_memcpy(static_cast<char*>(p) + row * stride, tiles[t][row], 64);
  }
  static float half(const unsigned char* p) {
    std::uint32_t bits = static_cast<std::uint32_t>(p[0]) << 16 | static_cast<std::uint32_t>(p[1]) << 24;
    float value = 0;
    __builtin_memcpy(&value, &bits, 4);
    return value;
  }
  /// tdpbf16ps adds, for every pair of K, the product of the pair of row m of tile a and of the pair in row
  /// k, column n of tile b.
  static void add_bf16_products(int c, int a, int b) {
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
  /// tdpbsud adds, for every 4 of K, the products of the signed bytes of row m of tile a and the unsigned
  /// bytes of row k, column n of tile b.
  static void add_byte_products(int c, int a, int b) {
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

}  // namespace
}  // namespace crumb::kernels
