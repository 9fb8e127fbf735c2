// Narrower numbers as floats and back, beside vec_avx2.h; everything has internal linkage.
// The same names at another width: narrow_avx512.h.
#pragma once
#include <immintrin.h>

#include <cstdint>

#include "kernels/simd/vec_avx2.h"

namespace crumb::kernels {
namespace {

inline Vec load_f16(const std::uint16_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline __m128i load_words_n(const std::uint16_t* p, std::int64_t n) {  // zeros beyond n
  alignas(16) std::uint16_t words[8] = {};
  for (std::int64_t i = 0; i < n; ++i) words[i] = p[i];
  return _mm_load_si128(reinterpret_cast<const __m128i*>(words));
}
inline Vec load_f16_n(const std::uint16_t* p, std::int64_t n) {
  return _mm256_cvtph_ps(load_words_n(p, n));
}
inline Vec load_bf16(const std::uint16_t* p) {
  return _mm256_castsi256_ps(
      _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 16));
}
inline Vec load_bf16_n(const std::uint16_t* p, std::int64_t n) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_words_n(p, n)), 16));
}
inline void store_f16(std::uint16_t* p, Vec x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}
inline Vec load_i8(const void* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p))));
}
inline Vec load_u8(const void* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p))));
}
/// The low and the high four bits of kLanes bytes.
inline void load_nibbles(const void* p, Vec& low, Vec& high) {
  const __m256i bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p)));
  low = _mm256_cvtepi32_ps(_mm256_and_si256(bytes, _mm256_set1_epi32(15)));
  high = _mm256_cvtepi32_ps(_mm256_srli_epi32(bytes, 4));
}
inline Vec magnitude(Vec x) {
  return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}
inline float min_lanes(Vec x) {
  const __m128 a = _mm_min_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 b = _mm_min_ps(a, _mm_movehl_ps(a, a));
  return _mm_cvtss_f32(_mm_min_ss(b, _mm_movehdup_ps(b)));
}
/// Integers in [-128, 127] as bytes.
inline void store_i8(void* p, Vec x) {
  const __m256i ints = _mm256_cvtps_epi32(x);
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(ints), _mm256_extracti128_si256(ints, 1));
  _mm_storel_epi64(static_cast<__m128i*>(p), _mm_packs_epi16(words, words));
}

}  // namespace
}  // namespace crumb::kernels
