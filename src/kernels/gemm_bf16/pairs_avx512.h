// Packing operands to bfloat16 pairs: a 32-bit lane holds K = 2 p (low half) and 2 p + 1 of one row or
// column. Needs vec_avx512.h.
//
// Both operands of a product are seen the same way here: 16 `lines` (rows of op(A) or columns of op(B)) and
// the pairs along K.
#pragma once
#include "kernels/gemm_bf16.h"
#include "kernels/simd/vec_math.h"

namespace crumb::kernels {
namespace {

/// `count` elements (at most 16) at index `at` as bf16 bits in 32-bit lanes, zeros beyond.
inline __m512i load_bf16_bits(const Bf16Operand& x, std::int64_t at, std::int64_t count) {
  if (x.bf16 != nullptr)
    return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first_lanes(count), x.bf16 + at));
  return bf16_bits(load_n(x.f32 + at, count));
}

/// 32 elements along K as 16 pairs.
inline __m512i load_pairs(const Bf16Operand& x, std::int64_t at, std::int64_t count) {
  if (x.bf16 != nullptr) {
    const __mmask32 mask = count >= 32 ? 0xffffffffu : count <= 0 ? 0u : (1u << count) - 1u;
    return _mm512_maskz_loadu_epi16(mask, x.bf16 + at);
  }
  const __m256i low = _mm512_cvtepi32_epi16(bf16_bits(load_n(x.f32 + at, most(0, count))));
  const __m256i high = count > 16 ? _mm512_cvtepi32_epi16(bf16_bits(load_n(x.f32 + at + 16, count - 16)))
                                  : _mm256_setzero_si256();
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

inline void transpose_pairs(__m512i rows[16]) {
  Vec as_floats[16];
  for (int i = 0; i < 16; ++i) as_floats[i] = _mm512_castsi512_ps(rows[i]);
  transpose_square(as_floats);
  for (int i = 0; i < 16; ++i) rows[i] = _mm512_castps_si512(as_floats[i]);
}

/// Square of 16 lines x 16 pairs (32 of K). `along_k`: K is contiguous in memory, a line is a row there.
/// `line_major`: out[i] holds line i's pairs, else out[p] holds pair p of all lines.
/// Lines from `line`, of which `lines` exist; K from `k`, of which `depth` exist.
inline void load_square(const Bf16Operand& x, bool along_k, std::int64_t line, std::int64_t lines,
                        std::int64_t k, std::int64_t depth, bool line_major, __m512i out[16]) {
  if (along_k) {
    for (int i = 0; i < 16; ++i)
      out[i] = i < lines && depth > 0 ? load_pairs(x, (line + i) * x.ld + k, depth) : _mm512_setzero_si512();
  } else {
    for (int p = 0; p < 16; ++p) {
      const std::int64_t at = (k + 2 * p) * x.ld + line;
      const __m512i even = 2 * p < depth ? load_bf16_bits(x, at, lines) : _mm512_setzero_si512();
      const __m512i odd = 2 * p + 1 < depth ? load_bf16_bits(x, at + x.ld, lines) : _mm512_setzero_si512();
      out[p] = _mm512_or_si512(even, _mm512_slli_epi32(odd, 16));
    }
  }
  if (along_k != line_major) transpose_pairs(out);
}

}  // namespace
}  // namespace crumb::kernels
