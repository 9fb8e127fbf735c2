// Eight floats. Included by *_avx2.cc files only; everything has internal linkage. The same names at another
// width: vec_avx512.h.
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace crumb::kernels {
namespace {

using Vec = __m256;
using Mask = __m256;  // all bits of a lane, or none
constexpr int kLanes = 8;

inline __m256i lanes_below(std::int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline Vec zero() {
  return _mm256_setzero_ps();
}
inline Vec splat(float x) {
  return _mm256_set1_ps(x);
}
inline Vec load(const float* p) {
  return _mm256_loadu_ps(p);
}
inline Vec load_n(const float* p, std::int64_t n) {
  return _mm256_maskload_ps(p, lanes_below(n));
}  // zeros beyond n
inline void store(float* p, Vec x) {
  _mm256_storeu_ps(p, x);
}
inline void store_n(float* p, Vec x, std::int64_t n) {
  _mm256_maskstore_ps(p, lanes_below(n), x);
}
inline Vec fma(Vec a, Vec b, Vec c) {
  return _mm256_fmadd_ps(a, b, c);
}
inline Vec fnma(Vec a, Vec b, Vec c) {
  return _mm256_fnmadd_ps(a, b, c);
}  // c - a b
// Like std::clamp and std::max of a bound and a value: a NaN in `x` stays.
inline Vec at_least(Vec x, Vec low) {
  return _mm256_max_ps(low, x);
}
inline Vec at_most(Vec x, Vec high) {
  return _mm256_min_ps(high, x);
}
inline Vec round_even(Vec x) {
  return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline Vec square_root(Vec x) {
  return _mm256_sqrt_ps(x);
}
inline Mask equal(Vec a, Vec b) {
  return _mm256_cmp_ps(a, b, _CMP_EQ_OQ);
}
inline Mask less(Vec a, Vec b) {
  return _mm256_cmp_ps(a, b, _CMP_LT_OQ);
}
inline Mask first_lanes(std::int64_t n) {
  return _mm256_castsi256_ps(lanes_below(n));
}
inline Vec choose(Mask m, Vec yes, Vec no) {
  return _mm256_blendv_ps(no, yes, m);
}

inline float sum_lanes(Vec x) {
  const __m128 a = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 b = _mm_add_ps(a, _mm_movehl_ps(a, a));
  return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}
inline float max_lanes(Vec x) {
  const __m128 a = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 b = _mm_max_ps(a, _mm_movehl_ps(a, a));
  return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}

/// Sums of floats in f64, lane by lane.
struct Sum64 {
  __m256d low = _mm256_setzero_pd(), high = _mm256_setzero_pd();
};
inline __m256d low_f64(Vec x) {
  return _mm256_cvtps_pd(_mm256_castps256_ps128(x));
}
inline __m256d high_f64(Vec x) {
  return _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1));
}
inline void add_f64(Sum64& sum, Vec x) {
  sum.low = _mm256_add_pd(sum.low, low_f64(x));
  sum.high = _mm256_add_pd(sum.high, high_f64(x));
}
inline void add_product_f64(Sum64& sum, Vec x, Vec y) {  // products of floats are exact in f64
  sum.low = _mm256_fmadd_pd(low_f64(x), low_f64(y), sum.low);
  sum.high = _mm256_fmadd_pd(high_f64(x), high_f64(y), sum.high);
}
inline double total(const Sum64& sum) {
  const __m256d s = _mm256_add_pd(sum.low, sum.high);
  const __m128d a = _mm_add_pd(_mm256_castpd256_pd128(s), _mm256_extractf128_pd(s, 1));
  return _mm_cvtsd_f64(_mm_add_sd(a, _mm_unpackhi_pd(a, a)));
}

/// x * 2^n for integers n in [-126, 127] and x in [0.5, 2).
inline Vec times_power_of_two(Vec x, Vec n) {
  const __m256i exponent =
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_mul_ps(x, _mm256_castsi256_ps(exponent));
}

/// bfloat16 bits in the low halves of 32-bit lanes, as base/half.h rounds.
inline __m256i bf16_bits(Vec x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded =
      _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
  const __m256i nan = _mm256_or_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(0x40));
  return _mm256_blendv_epi8(rounded, nan, _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
}
inline void store_bf16(std::uint16_t* p, Vec x) {
  const __m256i bits = bf16_bits(x);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm_packus_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1)));
}
inline void store_bf16_n(std::uint16_t* p, Vec x, std::int64_t n) {
  alignas(16) std::uint16_t all[kLanes];
  store_bf16(all, x);
  for (std::int64_t i = 0; i < n; ++i) p[i] = all[i];
}

/// The kLanes codes of `bits` bits that begin at a byte: eight codes are `bits` bytes, so no lane straddles
/// two reads.
template <int bits>
inline Vec load_codes(const unsigned char* p) {
  if constexpr (bits == 8) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  } else {
    std::uint32_t eight = 0;
    __builtin_memcpy(&eight, p, bits);
    const __m256i shifts =
        _mm256_setr_epi32(0, bits, 2 * bits, 3 * bits, 4 * bits, 5 * bits, 6 * bits, 7 * bits);
    const __m256i codes = _mm256_srlv_epi32(_mm256_set1_epi32(static_cast<int>(eight)), shifts);
    return _mm256_cvtepi32_ps(_mm256_and_si256(codes, _mm256_set1_epi32((1 << bits) - 1)));
  }
}

/// rows[i] becomes column i of the kLanes x kLanes square.
inline void transpose_square(Vec rows[kLanes]) {
  Vec t[8];
  for (int i = 0; i < 4; ++i) {
    t[2 * i] = _mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
  }
  Vec u[8];
  for (int i = 0; i < 2; ++i) {
    u[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
    u[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
    u[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
    u[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    rows[i] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
    rows[i + 4] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
  }
}

}  // namespace
}  // namespace crumb::kernels
