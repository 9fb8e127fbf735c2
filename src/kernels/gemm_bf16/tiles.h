// The product on AMX tiles, written over a class `Tiles` of static functions, so that a test can put a model
// of the tiles in the processor's place.
//
// A tile is 16 rows of 64 bytes. Panels of A are 32 rows, panels of B 32 columns, each two tiles wide; along
// K a tile holds 32 elements:
//   A  [K/32][2 tiles][16 rows][16 pairs]     B  [K/32][2 tiles][16 pairs][16 columns]
#pragma once
#include "kernels/gemm_bf16/pairs_avx512.h"

namespace crumb::kernels {
namespace {

constexpr std::int64_t kTileElements = 512;  // bf16 in one tile
constexpr std::int64_t kPanelLines = 32;

void pack_tiles(const Bf16Operand& x, bool along_k, std::int64_t lines_in_all, std::int64_t k,
                std::int64_t k_padded, std::int64_t index, bool line_major, std::uint16_t* panel) {
  __m512i square[16];
  for (std::int64_t l = 0; l < k_padded; l += 32) {
    for (int half = 0; half < 2; ++half) {
      const std::int64_t line = index * kPanelLines + half * 16,
                         lines = most(0, least(16, lines_in_all - line));
      load_square(x, along_k, line, lines, l, lines > 0 ? k - l : 0, line_major, square);
      for (int i = 0; i < 16; ++i) _mm512_storeu_si512(panel + i * 32, square[i]);
      panel += kTileElements;
    }
  }
}

void pack_a(const Bf16Operand& a, std::int64_t m, std::int64_t k, std::int64_t k_padded, std::int64_t index,
            std::uint16_t* panel) noexcept {
  pack_tiles(a, !a.transpose, m, k, k_padded, index, /*line_major=*/true, panel);
}

void pack_b(const Bf16Operand& b, std::int64_t n, std::int64_t k, std::int64_t k_padded, std::int64_t index,
            std::uint16_t* panel) noexcept {
  pack_tiles(b, b.transpose, n, k, k_padded, index, /*line_major=*/false, panel);
}

/// C tiles 0 1 / 2 3 += A tiles 4, 5 times B tiles 6, 7: two loads of each operand feed four products.
template <class Tiles>
void multiply_whole(const std::uint16_t* a, const std::uint16_t* b, std::int64_t steps, float* c,
                    std::int64_t ldc, bool accumulate) {
  if (accumulate) {
    Tiles::template load<0>(c, ldc * 4);
    Tiles::template load<1>(c + 16, ldc * 4);
    Tiles::template load<2>(c + 16 * ldc, ldc * 4);
    Tiles::template load<3>(c + 16 * ldc + 16, ldc * 4);
  } else {
    Tiles::template zero<0>();
    Tiles::template zero<1>();
    Tiles::template zero<2>();
    Tiles::template zero<3>();
  }
  for (std::int64_t l = 0; l < steps; ++l, a += 2 * kTileElements, b += 2 * kTileElements) {
    Tiles::template load<4>(a, 64);
    Tiles::template load<6>(b, 64);
    Tiles::template multiply_add<0, 4, 6>();
    Tiles::template load<7>(b + kTileElements, 64);
    Tiles::template multiply_add<1, 4, 7>();
    Tiles::template load<5>(a + kTileElements, 64);
    Tiles::template multiply_add<2, 5, 6>();
    Tiles::template multiply_add<3, 5, 7>();
  }
  Tiles::template store<0>(c, ldc * 4);
  Tiles::template store<1>(c + 16, ldc * 4);
  Tiles::template store<2>(c + 16 * ldc, ldc * 4);
  Tiles::template store<3>(c + 16 * ldc + 16, ldc * 4);
}

template <class Tiles>
void multiply_tiles(const std::uint16_t* a_panel, const std::uint16_t* b_panel, std::int64_t k_begin,
                    std::int64_t k_count, std::int64_t, float* c, std::int64_t ldc, std::int64_t rows,
                    std::int64_t columns, bool accumulate) noexcept {
  const std::uint16_t *a = a_panel + k_begin * kPanelLines, *b = b_panel + k_begin * kPanelLines;
  if (rows == kPanelLines && columns == kPanelLines) {
    multiply_whole<Tiles>(a, b, k_count / 32, c, ldc, accumulate);
    return;
  }
  alignas(64) float whole[kPanelLines * kPanelLines];  // tiles are stored whole; the edge of C takes its part
  multiply_whole<Tiles>(a, b, k_count / 32, whole, kPanelLines, false);
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j)
      c[i * ldc + j] = whole[i * kPanelLines + j] + (accumulate ? c[i * ldc + j] : 0.0f);
  }
}

}  // namespace
}  // namespace crumb::kernels
