// vdpbf16ps: two products a lane and instruction. Register tile 12 rows x 32 columns, as in sgemm; a step is
// one pair of K.
#include "kernels/simd/vec_avx512.h"

#include "kernels/gemm_bf16/pairs_avx512.h"

namespace crumb::kernels {
namespace {

constexpr int kRows = 12, kColumns = 32;

// A panel: [pair][kRows], 32 bits each. The panel holds 12 of the 16 lines that a square brings.
void pack_a(const Bf16Operand& a, std::int64_t m, std::int64_t k, std::int64_t k_padded, std::int64_t index,
            std::uint16_t* panel) noexcept {
  const std::int64_t line = index * kRows, lines = least(kRows, m - line);
  auto* out = reinterpret_cast<std::uint32_t*>(panel);
  __m512i square[16];
  for (std::int64_t l = 0; l < k_padded; l += 32) {
    load_square(a, !a.transpose, line, lines, l, k - l, /*line_major=*/false, square);
    const std::int64_t pairs = least(16, (k_padded - l) / 2);
    for (std::int64_t p = 0; p < pairs; ++p)
      _mm512_mask_storeu_epi32(out + (l / 2 + p) * kRows, 0x0fff, square[p]);
  }
}

// B panel: [pair][kColumns], 32 bits each.
void pack_b(const Bf16Operand& b, std::int64_t n, std::int64_t k, std::int64_t k_padded, std::int64_t index,
            std::uint16_t* panel) noexcept {
  auto* out = reinterpret_cast<std::uint32_t*>(panel);
  __m512i square[16];
  for (int half = 0; half < 2; ++half) {
    const std::int64_t line = index * kColumns + half * 16, lines = most(0, least(16, n - line));
    for (std::int64_t l = 0; l < k_padded; l += 32) {
      load_square(b, b.transpose, line, lines, l, lines > 0 ? k - l : 0, /*line_major=*/false, square);
      const std::int64_t pairs = least(16, (k_padded - l) / 2);
      for (std::int64_t p = 0; p < pairs; ++p)
        _mm512_storeu_si512(out + (l / 2 + p) * kColumns + half * 16, square[p]);
    }
  }
}

void nothing() noexcept {}

void multiply(const std::uint16_t* a_panel, const std::uint16_t* b_panel, std::int64_t k_begin,
              std::int64_t k_count, std::int64_t, float* c, std::int64_t ldc, std::int64_t rows,
              std::int64_t columns, bool accumulate) noexcept {
  const std::uint16_t *a = a_panel + k_begin * kRows, *b = b_panel + k_begin * kColumns;
  Vec sum[kRows][2];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = zero();
  for (std::int64_t p = 0; p < k_count / 2; ++p, a += 2 * kRows, b += 2 * kColumns) {
    const __m512bh b0 = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b)),
                   b1 = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b + 32));
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      std::int32_t pair = 0;
      __builtin_memcpy(&pair, a + 2 * r, 4);
      const __m512bh x = reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
      sum[r][0] = _mm512_dpbf16_ps(sum[r][0], x, b0);
      sum[r][1] = _mm512_dpbf16_ps(sum[r][1], x, b1);
    }
  }
  const Mask first = first_lanes(columns), second = first_lanes(columns - 16);
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    if (r >= rows) break;
    float* const out = c + r * ldc;
    if (accumulate) {
      sum[r][0] = sum[r][0] + _mm512_maskz_loadu_ps(first, out);
      sum[r][1] = sum[r][1] + _mm512_maskz_loadu_ps(second, out + 16);
    }
    _mm512_mask_storeu_ps(out, first, sum[r][0]);
    _mm512_mask_storeu_ps(out + 16, second, sum[r][1]);
  }
}

}  // namespace

const GemmBf16Functions* gemm_bf16_avx512bf16() noexcept {
  static constexpr GemmBf16Functions kFunctions = {kRows,  kColumns, 32,      512,     pack_a,
                                                   pack_b, nothing,  nothing, multiply};
  return &kFunctions;
}

}  // namespace crumb::kernels
