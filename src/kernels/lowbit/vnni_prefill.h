// Many tokens: codes are unpacked once for a block of tokens and meet them in the first-level cache.
#pragma once
#include "kernels/lowbit/vnni_codes.h"

namespace crumb::kernels {
namespace {

constexpr int kPanelChunks = 4;
constexpr int kPanelTiles = 2;

/// Up to kPanelChunks chunks of two tiles, codes one a byte: 8 KB that stay in the first-level cache while
/// the tokens pass. A chunk of one step has zeros in its second half.
struct Panel {
  struct Chunk {
    std::int64_t activations, index;  // where the chunk's activations begin in a row; its number in the row
    std::int64_t quads;
  };
  int chunks;
  Chunk chunk[kPanelChunks];
  alignas(64) std::uint8_t codes[kPanelTiles][kPanelChunks][16][64];
  Vec scales[kPanelTiles][kPanelChunks];
  __m512i zero_points[kPanelTiles][kPanelChunks];
};

template <int bits>
void unpack_steps(Bytes codes, std::int64_t steps, std::uint8_t (&out)[16][64]) {
  for (std::int64_t s = 0; s < 2; ++s) {
    if (s < steps) {
      for_quads<bits>(codes + s * 64 * bits, [&](int quad, __m512i v) CRUMB_INLINE_LAMBDA {
        _mm512_store_si512(out[s * 8 + quad], v);
      });
    } else {
      for (int i = 8; i < 16; ++i) _mm512_store_si512(out[i], _mm512_setzero_si512());
    }
  }
}

/// Fills the panel from chunk `chunk` of the group at `at`, and moves both on.
template <int bits>
void fill_panel(const LowbitMatrix& w, const LowbitGeometry& g, const Bytes (&tile)[kPanelTiles], int tiles,
                GroupWalk& at, std::int64_t& chunk, Panel& panel) {
  const bool symmetric = w.shape.grid == quant::Grid::kSignedSym;
  panel.chunks = 0;
  while (panel.chunks < kPanelChunks && !at.done()) {
    const std::int64_t left = g.steps - 2 * chunk, steps = left < 2 ? left : 2;
    panel.chunk[panel.chunks] = {activation_offset(g, at.group) + chunk * kChunk, at.group * g.chunks + chunk,
                                 8 * steps};
#pragma GCC unroll 2
    for (int i = 0; i < tiles; ++i) {
      unpack_steps<bits>(tile[i] + at.codes + chunk * 128 * bits, steps, panel.codes[i][panel.chunks]);
      panel.scales[i][panel.chunks] = scales_of(tile[i] + at.scales);
      panel.zero_points[i][panel.chunks] = zero_points_of<bits>(tile[i] + at.zeros, symmetric);
    }
    ++panel.chunks;
    if (++chunk == g.chunks) {
      chunk = 0;
      at.next();
    }
  }
}

/// y [token][tile][16] of one block of tokens, at most Products::kTokens.
struct PanelSums {
  alignas(64) float y[64][kPanelTiles][16];
};

/// Tokens m … m + tokens - 1 (rows `row` … of the sums): tokens * tiles integer sums in registers.
template <int tiles, int tokens>
void multiply_panel(const Panel& panel, const LowbitActivations& x, std::int64_t m, std::int64_t row,
                    PanelSums& sums) {
  for (int c = 0; c < panel.chunks; ++c) {
    const Panel::Chunk& chunk = panel.chunk[c];
    const std::int8_t* a = x.codes + m * x.stride + chunk.activations;
    const std::int32_t* x_sums = x.sums + m * x.chunks + chunk.index;
    const float* x_scales = x.scales + m * x.chunks + chunk.index;
    __m512i sum[tiles][tokens];
#pragma GCC unroll 2
    for (int i = 0; i < tiles; ++i) {
#pragma GCC unroll 8
      for (int t = 0; t < tokens; ++t)
        sum[i][t] = zero_point_term(panel.zero_points[i][c], x_sums[t * x.chunks]);
    }
    for (std::int64_t q = 0; q < chunk.quads; ++q, a += 4) {
      __m512i v[tiles];
#pragma GCC unroll 2
      for (int i = 0; i < tiles; ++i) v[i] = _mm512_load_si512(panel.codes[i][c][q]);
#pragma GCC unroll 8
      for (int t = 0; t < tokens; ++t) {
        const __m512i four = splat_quad(a + t * x.stride);
#pragma GCC unroll 2
        for (int i = 0; i < tiles; ++i) add_products(sum[i][t], v[i], four);
      }
    }
#pragma GCC unroll 2
    for (int i = 0; i < tiles; ++i) {
#pragma GCC unroll 8
      for (int t = 0; t < tokens; ++t) {
        float* const y = sums.y[row + t][i];
        store(y, add_chunk(load(y), sum[i][t], panel.scales[i][c], x_scales[t * x.chunks]));
      }
    }
  }
}

/// VNNI's products of a panel with tokens [m, m + count).
struct VnniProducts {
  static constexpr int kTokens = 48;  // 12 KB of activations, 6 KB of sums and the panel fit 32 KB
  template <int tiles>
  static void multiply(const Panel& panel, const LowbitActivations& x, std::int64_t m, std::int64_t count,
                       std::int64_t row, PanelSums& sums) {
    std::int64_t t = 0;
    for (; t + 8 <= count; t += 8) multiply_panel<tiles, 8>(panel, x, m + t, row + t, sums);
    for (; t + 4 <= count; t += 4) multiply_panel<tiles, 4>(panel, x, m + t, row + t, sums);
    for (; t < count; ++t) multiply_panel<tiles, 1>(panel, x, m + t, row + t, sums);
  }
};

template <int bits, class Products>
void prefill(const LowbitMatrix& w, const LowbitGeometry& g, const LowbitActivations& x, std::int64_t begin,
             std::int64_t end, float* y, std::int64_t ldy) {
  Panel panel;
  PanelSums sums;
  for (std::int64_t first = begin; first < end; first += kPanelTiles) {
    const int tiles = end - first < kPanelTiles ? 1 : kPanelTiles;
    const Bytes tile[kPanelTiles] = {w.data + first * g.tile_bytes,
                                     w.data + (first + tiles - 1) * g.tile_bytes};
    for (std::int64_t m = 0; m < x.m; m += Products::kTokens) {
      const std::int64_t count = x.m - m < Products::kTokens ? x.m - m : Products::kTokens;
      __builtin_memset(&sums, 0, sizeof(sums));
      GroupWalk at(g);
      std::int64_t chunk = 0;
      while (!at.done()) {
        fill_panel<bits>(w, g, tile, tiles, at, chunk, panel);
        if (tiles == 2)
          Products::template multiply<2>(panel, x, m, count, 0, sums);
        else
          Products::template multiply<1>(panel, x, m, count, 0, sums);
      }
#pragma GCC unroll 2
      for (int i = 0; i < tiles; ++i) {
        const std::int64_t n = (first + i) * kRows;
        for (std::int64_t t = 0; t < count; ++t)
          store_n(y + (m + t) * ldy + n, load(sums.y[t][i]), w.shape.n - n);
      }
    }
  }
}

}  // namespace
}  // namespace crumb::kernels
