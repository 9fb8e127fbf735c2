// Prefill on AMX tiles, written over a class `Tiles` of static functions, so that a test can put a model of
// the tiles in the processor's place. Needs vnni.h.
//
// A tile of activations is 16 tokens of 64 k as they lie in their rows; a tile of weights is the 16 quads of
// a panel's chunk. tdpbsud adds their products to 32-bit sums: the integers of every other variant.
#pragma once
#include "kernels/lowbit/vnni.h"

namespace crumb::kernels {
namespace {

/// The sums of one chunk, 16 tokens x 16 rows, into y.
CRUMB_INLINE void add_tile(const Panel& panel, int c, int i, const std::int32_t (&tile)[16][16],
                           const std::int32_t* x_sums, const float* x_scales, std::int64_t chunks,
                           std::int64_t row, PanelSums& sums) {
  const Vec scales = panel.scales[i][c];
  const __m512i zero_points = panel.zero_points[i][c];
  for (int t = 0; t < 16; ++t) {
    float* const y = sums.y[row + t][i];
    const __m512i sum =
        _mm512_add_epi32(_mm512_load_si512(tile[t]), zero_point_term(zero_points, x_sums[t * chunks]));
    store(y, add_chunk(load(y), sum, scales, x_scales[t * chunks]));
  }
}

template <class Tiles>
struct TileProducts {
  static constexpr int kTokens = 64;

  /// 32 tokens and both tiles of the panel: two loads of each operand feed four products.
  static void multiply_square(const Panel& panel, const LowbitActivations& x, std::int64_t m,
                              std::int64_t row, PanelSums& sums) {
    alignas(64) std::int32_t out[4][16][16];
    for (int c = 0; c < panel.chunks; ++c) {
      const Panel::Chunk& chunk = panel.chunk[c];
      const std::int8_t* const a = x.codes + m * x.stride + chunk.activations;
      Tiles::template zero<0>();
      Tiles::template zero<1>();
      Tiles::template zero<2>();
      Tiles::template zero<3>();
      Tiles::template load<4>(a, x.stride);
      Tiles::template load<6>(panel.codes[0][c], 64);
      Tiles::template multiply_add<0, 4, 6>();
      Tiles::template load<7>(panel.codes[1][c], 64);
      Tiles::template multiply_add<1, 4, 7>();
      Tiles::template load<5>(a + 16 * x.stride, x.stride);
      Tiles::template multiply_add<2, 5, 6>();
      Tiles::template multiply_add<3, 5, 7>();
      Tiles::template store<0>(out[0], 64);
      Tiles::template store<1>(out[1], 64);
      Tiles::template store<2>(out[2], 64);
      Tiles::template store<3>(out[3], 64);
      for (int half = 0; half < 2; ++half) {
        const std::int64_t at = (m + 16 * half) * x.chunks + chunk.index;
        for (int i = 0; i < 2; ++i) {
          add_tile(panel, c, i, out[2 * half + i], x.sums + at, x.scales + at, x.chunks, row + 16 * half,
                   sums);
        }
      }
    }
  }

  /// 16 tokens and one tile.
  static void multiply_one(const Panel& panel, int i, const LowbitActivations& x, std::int64_t m,
                           std::int64_t row, PanelSums& sums) {
    alignas(64) std::int32_t out[16][16];
    for (int c = 0; c < panel.chunks; ++c) {
      const Panel::Chunk& chunk = panel.chunk[c];
      Tiles::template zero<0>();
      Tiles::template load<4>(x.codes + m * x.stride + chunk.activations, x.stride);
      Tiles::template load<6>(panel.codes[i][c], 64);
      Tiles::template multiply_add<0, 4, 6>();
      Tiles::template store<0>(out, 64);
      const std::int64_t at = m * x.chunks + chunk.index;
      add_tile(panel, c, i, out, x.sums + at, x.scales + at, x.chunks, row, sums);
    }
  }

  template <int tiles>
  static void multiply(const Panel& panel, const LowbitActivations& x, std::int64_t m, std::int64_t count,
                       std::int64_t row, PanelSums& sums) {
    std::int64_t t = 0;
    if constexpr (tiles == 2) {
      for (; t + 32 <= count; t += 32) multiply_square(panel, x, m + t, row + t, sums);
    }
    for (; t + 16 <= count; t += 16) {
      for (int i = 0; i < tiles; ++i) multiply_one(panel, i, x, m + t, row + t, sums);
    }
    VnniProducts::multiply<tiles>(panel, x, m + t, count - t, row + t, sums);
  }
};

}  // namespace
}  // namespace crumb::kernels
