// Reading the layout with AVX2: codes, scales and zero points, a unit as two halves of 8 rows, and what
// vpmaddubsw makes of them. Needs simd/vec_avx2.h.
#pragma once
#include "kernels/lowbit/layout.h"
#include "kernels/simd/vec_avx2.h"

#define CRUMB_INLINE inline __attribute__((always_inline))
#define CRUMB_INLINE_LAMBDA __attribute__((always_inline))

namespace crumb::kernels {
namespace {

using Bytes = const std::byte*;

/// Both halves of a unit, or anything that is 16 rows of 32 bits.
struct Unit {
  __m256i half[2];
};
constexpr std::int64_t kFar = 8192, kNear = 1024;  // as in vnni_codes.h

/// Reads a unit once, and asks for what the stream holds further on. The empty assembly keeps GCC from
/// reading it again for every mask.
CRUMB_INLINE Unit unit(const void* p) {
  const char* const at = static_cast<const char*>(p);
  asm volatile("prefetcht1 %0\n\tprefetcht0 %1" : : "m"(at[kFar]), "m"(at[kNear]));
  __m256i low = _mm256_load_si256(reinterpret_cast<const __m256i*>(at));
  __m256i high = _mm256_load_si256(reinterpret_cast<const __m256i*>(at + 32));
  asm volatile("" : "+x"(low), "+x"(high));
  return {{low, high}};
}
CRUMB_INLINE Unit masked(Unit u, int mask) {
  const __m256i m = _mm256_set1_epi8(static_cast<char>(mask));
  return {{_mm256_and_si256(u.half[0], m), _mm256_and_si256(u.half[1], m)}};
}
CRUMB_INLINE Unit shifted_right(Unit u, int count) {
  return {{_mm256_srli_epi16(u.half[0], count), _mm256_srli_epi16(u.half[1], count)}};
}
CRUMB_INLINE Unit shifted_left(Unit u, int count) {
  return {{_mm256_slli_epi16(u.half[0], count), _mm256_slli_epi16(u.half[1], count)}};
}
CRUMB_INLINE Unit either(Unit a, Unit b) {
  return {{_mm256_or_si256(a.half[0], b.half[0]), _mm256_or_si256(a.half[1], b.half[1])}};
}
/// Four activations for all rows. In assembly: GCC 12 would load them into general registers to use them
/// again, and spill those.
CRUMB_INLINE __m256i splat_quad(const std::int8_t* a) {
  using Quad = const std::int8_t[4];
  __m256i quad;
  asm volatile("vpbroadcastd %1, %0" : "=x"(quad) : "m"(*reinterpret_cast<Quad*>(a)));
  return quad;
}
/// sum += codes * the quad, in pairs. The empty assembly keeps GCC from collecting products to add them in
/// another order, for which it lacks registers.
CRUMB_INLINE void add_products(__m256i& sum, __m256i codes, __m256i quad) {
  sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(codes, quad));
  asm("" : "+x"(sum));
}
/// Pairs in int16 to int32.
CRUMB_INLINE __m256i widen(__m256i pairs) {
  return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
CRUMB_INLINE Vec scales_of(Bytes p, int half) {
  return _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(p + 16 * half)));
}

/// Zero points of 8 rows as 32-bit integers.
template <int bits>
CRUMB_INLINE __m256i zero_points_of(Bytes p, int half, bool symmetric) {
  if (symmetric) return _mm256_set1_epi32(1 << (bits - 1));
  if constexpr (bits >= 6) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + 8 * half)));
  } else if constexpr (bits == 2) {
    std::int32_t word = 0;
    __builtin_memcpy(&word, p, 4);
    const __m256i shifts = _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14);
    return _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32(word >> 16 * half), shifts),
                            _mm256_set1_epi32(3));
  } else {
    std::int64_t words = 0;
    __builtin_memcpy(&words, p, 8);
    const __m256i shifts = _mm256_setr_epi32(0, 0, 4, 4, 8, 8, 12, 12);
    const __m256i both = _mm256_set1_epi64x(words);
    return _mm256_and_si256(_mm256_srlv_epi32(half == 0 ? both : _mm256_srli_epi32(both, 16), shifts),
                            _mm256_set1_epi32(15));
  }
}

CRUMB_INLINE __m256i zero_point_term(__m256i zero_points, std::int32_t sum) {
  return _mm256_madd_epi16(zero_points, _mm256_set1_epi32(-sum));
}
CRUMB_INLINE Vec add_chunk(Vec y, __m256i sum, Vec scales, float x_scale) {
  return fma(_mm256_cvtepi32_ps(sum), scales * splat(x_scale), y);
}

/// use(sum, quad, codes) for the eight quads of a step; codes as unsigned bytes in one of two int16 sums:
///
///   2, 3 bits   sum 0, and sum 1 for quads whose codes stay times 4 where they lie
///   4 bits      sums 0 and 1 in turn
///   6, 8 bits   sum 0 the low four bits of the codes, sum 1 the others: sums of whole codes could overflow
///
/// A sum takes at most 30480 in magnitude over a chunk of 64 k (6, 8 bits: over a step of 32 k), activations
/// being at most 127: 2 bits 4 * (2 * 762) and 4 * (2 * 3048), 3 bits 4 * (3 * 1778) and 4 * 7112, 4 to 8
/// bits 8 * 3810.
template <int bits, class Use>
CRUMB_INLINE void for_quads_in_place(Bytes p, const Use& use) {
  if constexpr (bits == 8) {
#pragma GCC unroll 8
    for (int u = 0; u < 8; ++u) {
      const Unit v = unit(p + 64 * u);
      use(0, u, masked(v, 0x0f));
      use(1, u, masked(shifted_right(v, 4), 0x0f));
    }
  } else if constexpr (bits == 6) {
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const Unit h = unit(p + 256 + 64 * i);
#pragma GCC unroll 2
      for (int u = 0; u < 2; ++u) {
        const Unit v = unit(p + 128 * i + 64 * u);
        const int quad = 4 * i + 2 * u;
        use(0, quad, masked(v, 0x0f));
        use(0, quad + 1, masked(shifted_right(v, 4), 0x0f));
        use(1, quad, masked(shifted_right(h, 4 * u), 0x03));
        use(1, quad + 1, masked(shifted_right(h, 4 * u + 2), 0x03));
      }
    }
  } else if constexpr (bits == 4) {
#pragma GCC unroll 4
    for (int u = 0; u < 4; ++u) {
      const Unit v = unit(p + 64 * u);
      use(0, 2 * u, masked(v, 0x0f));
      use(1, 2 * u + 1, masked(shifted_right(v, 4), 0x0f));
    }
  } else if constexpr (bits == 2) {
#pragma GCC unroll 2
    for (int u = 0; u < 2; ++u) {
      const Unit v = unit(p + 64 * u), v4 = shifted_right(v, 4);
      use(0, 4 * u, masked(v, 0x03));
      use(1, 4 * u + 1, masked(v, 0x0c));
      use(0, 4 * u + 2, masked(v4, 0x03));
      use(1, 4 * u + 3, masked(v4, 0x0c));
    }
  } else {
    const Unit high = unit(p + 128);
#pragma GCC unroll 2
    for (int u = 0; u < 2; ++u) {
      const Unit v = unit(p + 64 * u), h = u == 0 ? high : shifted_right(high, 1);
      use(0, 4 * u, either(masked(v, 0x03), masked(h, 0x04)));
      use(1, 4 * u + 1, either(masked(v, 0x0c), masked(h, 0x10)));
      use(0, 4 * u + 2, shifted_right(either(masked(v, 0x30), masked(h, 0x40)), 4));
      use(0, 4 * u + 3, either(masked(shifted_right(v, 6), 0x03), masked(shifted_left(high, 2 - u), 0x04)));
    }
  }
}

/// Both int16 sums of eight rows as one of int32.
template <int bits>
CRUMB_INLINE __m256i total_in_place(__m256i pairs0, __m256i pairs1) {
  const __m256i first = widen(pairs0), second = widen(pairs1);
  if constexpr (bits >= 6) return _mm256_add_epi32(first, _mm256_slli_epi32(second, 4));
  if constexpr (bits == 4) return _mm256_add_epi32(first, second);
  return _mm256_add_epi32(first, _mm256_srai_epi32(second, 2));
}

/// use(quad, codes) for the quads of a step, plain codes.
template <int bits, class Use>
CRUMB_INLINE void for_quads(Bytes p, const Use& use) {
  if constexpr (bits == 8) {
#pragma GCC unroll 8
    for (int u = 0; u < 8; ++u) use(u, unit(p + 64 * u));
  } else if constexpr (bits == 6) {
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const Unit h = unit(p + 256 + 64 * i), v0 = unit(p + 128 * i), v1 = unit(p + 128 * i + 64);
      use(4 * i, either(masked(v0, 0x0f), masked(shifted_left(h, 4), 0x30)));
      use(4 * i + 1, either(masked(shifted_right(v0, 4), 0x0f), masked(shifted_left(h, 2), 0x30)));
      use(4 * i + 2, either(masked(v1, 0x0f), masked(h, 0x30)));
      use(4 * i + 3, either(masked(shifted_right(v1, 4), 0x0f), masked(shifted_right(h, 2), 0x30)));
    }
  } else {
    for_quads_in_place<bits>(p, [&](int which, int quad, Unit v) CRUMB_INLINE_LAMBDA {
      use(quad, bits < 4 && which == 1 ? shifted_right(v, 2) : v);
    });
  }
}

}  // namespace
}  // namespace crumb::kernels
