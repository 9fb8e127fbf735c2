// Sixteen floats. Included by *_avx512.cc, *_avx512bf16.cc and *_amx.cc files only; everything has internal
// linkage. See vec_avx2.h.
#pragma once
#ifdef CRUMB_EMULATE_AVX512  // in tests/emulated only
#include "kernels/simd/emulated_avx512.h"
#else
#include <immintrin.h>
#endif

#include <cstdint>

namespace crumb::kernels {
namespace {

using Vec = __m512;
using Mask = __mmask16;
constexpr int kLanes = 16;

inline Mask first_lanes(std::int64_t n) {
  return static_cast<Mask>(n >= 16 ? 0xffffu : n <= 0 ? 0u : (1u << n) - 1u);
}
inline Vec zero() {
  return _mm512_setzero_ps();
}
inline Vec splat(float x) {
  return _mm512_set1_ps(x);
}
inline Vec load(const float* p) {
  return _mm512_loadu_ps(p);
}
inline Vec load_n(const float* p, std::int64_t n) {
  return _mm512_maskz_loadu_ps(first_lanes(n), p);
}  // zeros beyond n
inline void store(float* p, Vec x) {
  _mm512_storeu_ps(p, x);
}
inline void store_n(float* p, Vec x, std::int64_t n) {
  _mm512_mask_storeu_ps(p, first_lanes(n), x);
}
inline Vec fma(Vec a, Vec b, Vec c) {
  return _mm512_fmadd_ps(a, b, c);
}
inline Vec fnma(Vec a, Vec b, Vec c) {
  return _mm512_fnmadd_ps(a, b, c);
}  // c - a b
// Like std::clamp and std::max of a bound and a value: a NaN in `x` stays.
inline Vec at_least(Vec x, Vec low) {
  return _mm512_max_ps(low, x);
}
inline Vec at_most(Vec x, Vec high) {
  return _mm512_min_ps(high, x);
}
inline Vec round_even(Vec x) {
  return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline Vec square_root(Vec x) {
  return _mm512_sqrt_ps(x);
}
inline Mask equal(Vec a, Vec b) {
  return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
}
inline Mask less(Vec a, Vec b) {
  return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}
inline Vec choose(Mask m, Vec yes, Vec no) {
  return _mm512_mask_blend_ps(m, no, yes);
}
inline float sum_lanes(Vec x) {
  return _mm512_reduce_add_ps(x);
}
inline float max_lanes(Vec x) {
  return _mm512_reduce_max_ps(x);
}

/// Sums of floats in f64, lane by lane.
struct Sum64 {
  __m512d low = _mm512_setzero_pd(), high = _mm512_setzero_pd();
};
inline __m512d low_f64(Vec x) {
  return _mm512_cvtps_pd(_mm512_castps512_ps256(x));
}
inline __m512d high_f64(Vec x) {
  return _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1));
}
inline void add_f64(Sum64& sum, Vec x) {
  sum.low = _mm512_add_pd(sum.low, low_f64(x));
  sum.high = _mm512_add_pd(sum.high, high_f64(x));
}
inline void add_product_f64(Sum64& sum, Vec x, Vec y) {  // products of floats are exact in f64
  sum.low = _mm512_fmadd_pd(low_f64(x), low_f64(y), sum.low);
  sum.high = _mm512_fmadd_pd(high_f64(x), high_f64(y), sum.high);
}
inline double total(const Sum64& sum) {
  return _mm512_reduce_add_pd(_mm512_add_pd(sum.low, sum.high));
}

/// x * 2^n for integers n in [-126, 127].
inline Vec times_power_of_two(Vec x, Vec n) {
  return _mm512_scalef_ps(x, n);
}

/// bfloat16 bits in the low halves of 32-bit lanes, as base/half.h rounds. (vcvtneps2bf16 would flush
/// denormals.)
inline __m512i bf16_bits(Vec x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded =
      _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
  const __m512i nan = _mm512_or_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(0x40));
  return _mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), nan);
}
inline void store_bf16(std::uint16_t* p, Vec x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(bf16_bits(x)));
}
inline void store_bf16_n(std::uint16_t* p, Vec x, std::int64_t n) {
  _mm256_mask_storeu_epi16(p, first_lanes(n), _mm512_cvtepi32_epi16(bf16_bits(x)));
}

/// The kLanes codes of `bits` bits that begin at a byte: two reads of eight codes, each `bits` bytes.
template <int bits>
inline Vec load_codes(const unsigned char* p) {
  if constexpr (bits == 8) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  } else {
    std::uint32_t first = 0, second = 0;
    __builtin_memcpy(&first, p, bits);
    __builtin_memcpy(&second, p + bits, bits);
    const __m512i both = _mm512_inserti64x4(_mm512_set1_epi32(static_cast<int>(first)),
                                            _mm256_set1_epi32(static_cast<int>(second)), 1);
    const __m512i shifts =
        _mm512_setr_epi32(0, bits, 2 * bits, 3 * bits, 4 * bits, 5 * bits, 6 * bits, 7 * bits, 0, bits,
                          2 * bits, 3 * bits, 4 * bits, 5 * bits, 6 * bits, 7 * bits);
    return _mm512_cvtepi32_ps(
        _mm512_and_si512(_mm512_srlv_epi32(both, shifts), _mm512_set1_epi32((1 << bits) - 1)));
  }
}

/// rows[i] becomes column i of the kLanes x kLanes square.
inline void transpose_square(Vec rows[kLanes]) {
  __m512d t[16];
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_castps_pd(_mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]));
    t[2 * i + 1] = _mm512_castps_pd(_mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1]));
  }
  Vec u[16];  // u[4 i + j]: column j of each 4 x 4 square of rows 4 i … 4 i + 3
  for (int i = 0; i < 4; ++i) {
    u[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(t[4 * i], t[4 * i + 2]));
    u[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(t[4 * i], t[4 * i + 2]));
    u[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(t[4 * i + 1], t[4 * i + 3]));
    u[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(t[4 * i + 1], t[4 * i + 3]));
  }
  for (int j = 0; j < 4; ++j) {
    const Vec even_low = _mm512_shuffle_f32x4(u[j], u[4 + j], 0x88),
              odd_low = _mm512_shuffle_f32x4(u[j], u[4 + j], 0xdd);
    const Vec even_high = _mm512_shuffle_f32x4(u[8 + j], u[12 + j], 0x88),
              odd_high = _mm512_shuffle_f32x4(u[8 + j], u[12 + j], 0xdd);
    rows[j] = _mm512_shuffle_f32x4(even_low, even_high, 0x88);
    rows[8 + j] = _mm512_shuffle_f32x4(even_low, even_high, 0xdd);
    rows[4 + j] = _mm512_shuffle_f32x4(odd_low, odd_high, 0x88);
    rows[12 + j] = _mm512_shuffle_f32x4(odd_low, odd_high, 0xdd);
  }
}

}  // namespace
}  // namespace crumb::kernels
