// What the VNNI variant writes in assembly, in a file of its own so that emulated AVX-512 can put functions
// in its place. Needs simd/vec_avx512.h.
#pragma once
#include "kernels/simd/vec_avx512.h"

#ifdef CRUMB_EMULATE_AVX512  // where speed of compiling counts more
#define CRUMB_INLINE inline
#define CRUMB_INLINE_LAMBDA
#else
#define CRUMB_INLINE inline __attribute__((always_inline))
#define CRUMB_INLINE_LAMBDA __attribute__((always_inline))
#endif

namespace crumb::kernels {
namespace {

#ifdef CRUMB_EMULATE_AVX512
inline void keep(__m512i&) {}
inline void keep(__m256i&) {}
inline void add_products(__m512i& sum, __m512i codes, __m512i quad) {
  sum = _mm512_dpbusd_epi32(sum, codes, quad);
}
inline void add_products(__m512i& sum, __m512i codes, const std::int8_t* a) {
  std::int32_t four = 0;
  __builtin_memcpy(&four, a, 4);
  sum = _mm512_dpbusd_epi32(sum, codes, _mm512_set1_epi32(four));
}
inline void add_products(__m256i& sum, __m256i codes, const std::int8_t* a) {
  std::int32_t four = 0;
  __builtin_memcpy(&four, a, 4);
  sum = _mm256_dpbusd_epi32(sum, codes, _mm256_set1_epi32(four));
}
#else
/// The empty assembly keeps GCC from reading a value from memory again for every use.
CRUMB_INLINE void keep(__m512i& v) {
  asm volatile("" : "+v"(v));
}
CRUMB_INLINE void keep(__m256i& v) {
  asm volatile("" : "+v"(v));
}
/// sum += codes * the quad of activations at `a`, for all 16 rows (or 8). In assembly: around the intrinsic
/// GCC 12 copies and spills the sums, which costs two thirds of the speed of prefill.
CRUMB_INLINE void add_products(__m512i& sum, __m512i codes, const std::int8_t* a) {
  using Quad = const std::int8_t[4];
  asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(codes), "m"(*reinterpret_cast<Quad*>(a)));
}
CRUMB_INLINE void add_products(__m256i& sum, __m256i codes, const std::int8_t* a) {
  using Quad = const std::int8_t[4];
  asm("vpdpbusd %2%{1to8%}, %1, %0" : "+v"(sum) : "v"(codes), "m"(*reinterpret_cast<Quad*>(a)));
}
CRUMB_INLINE void add_products(__m512i& sum, __m512i codes, __m512i quad) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(quad));
}
#endif

}  // namespace
}  // namespace crumb::kernels
