// Reading the layout with AVX-512: codes, scales and zero points of 16 rows, and what VNNI makes of them.
// Needs simd/vec_avx512.h.
#pragma once
#include "kernels/lowbit/layout.h"
#include "kernels/lowbit/vnni_products.h"

namespace crumb::kernels {
namespace {

using Bytes = const std::byte*;

// The second level 8 KB ahead and the first 1 KB ahead, on two streams, takes 2-bit weights from 0.4 to 1.0
// of the read bandwidth of one core (Zen 4); other distances of 4 to 32 KB and 0.25 to 2 KB are no better.
constexpr std::int64_t kFar = 8192, kNear = 1024;
/// In volatile assembly, so that the requests stay between the reads: GCC would gather them all at a chunk's
/// begin.
CRUMB_INLINE void prefetch(Bytes p) {
  asm volatile("prefetcht1 %0\n\tprefetcht0 %1" : : "m"(p[kFar]), "m"(p[kNear]));
}
/// Reads a unit once, and asks for what the stream holds further on.
CRUMB_INLINE __m512i unit(Bytes p) {
  prefetch(p);
  __m512i v = _mm512_load_si512(p);
  keep(v);
  return v;
}
CRUMB_INLINE __m512i byte_mask(int value) {
  return _mm512_set1_epi8(static_cast<char>(value));
}
/// low | (high & mask)
CRUMB_INLINE __m512i or_masked(__m512i low, __m512i high, __m512i mask) {
  return _mm512_ternarylogic_epi32(low, high, mask, 0xf8);
}
CRUMB_INLINE __m512i splat_quad(const std::int8_t* a) {
  std::int32_t four = 0;
  __builtin_memcpy(&four, a, 4);
  return _mm512_set1_epi32(four);
}
CRUMB_INLINE Vec scales_of(Bytes p) {
  return _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(p)));
}

/// Zero points of 16 rows as 32-bit integers.
template <int bits>
CRUMB_INLINE __m512i zero_points_of(Bytes p, bool symmetric) {
  if (symmetric) return _mm512_set1_epi32(1 << (bits - 1));
  if constexpr (bits >= 6) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  } else if constexpr (bits == 2) {
    std::int32_t word = 0;
    __builtin_memcpy(&word, p, 4);
    const __m512i shifts = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    return _mm512_and_si512(_mm512_srlv_epi32(_mm512_set1_epi32(word), shifts), _mm512_set1_epi32(3));
  } else {
    std::int64_t words = 0;
    __builtin_memcpy(&words, p, 8);
    const __m512i shifts = _mm512_setr_epi32(0, 0, 4, 4, 8, 8, 12, 12, 16, 16, 20, 20, 24, 24, 28, 28);
    return _mm512_and_si512(_mm512_srlv_epi32(_mm512_set1_epi64(words), shifts), _mm512_set1_epi32(15));
  }
}

/// use(quad, codes) for the eight quads of a step, codes as unsigned bytes.
template <int bits, class Use>
CRUMB_INLINE void for_quads(Bytes p, const Use& use) {
  if constexpr (bits == 8) {
#pragma GCC unroll 8
    for (int u = 0; u < 8; ++u) use(u, unit(p + 64 * u));
  } else if constexpr (bits == 4) {
    const __m512i low = byte_mask(0x0f);
#pragma GCC unroll 4
    for (int u = 0; u < 4; ++u) {
      const __m512i v = unit(p + 64 * u);
      use(2 * u, _mm512_and_si512(v, low));
      use(2 * u + 1, _mm512_and_si512(_mm512_srli_epi16(v, 4), low));
    }
  } else if constexpr (bits == 6) {
    const __m512i low = byte_mask(0x0f), high = byte_mask(0x30);
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const __m512i h = unit(p + 256 + 64 * i), v0 = unit(p + 128 * i), v1 = unit(p + 128 * i + 64);
      use(4 * i, or_masked(_mm512_and_si512(v0, low), _mm512_slli_epi16(h, 4), high));
      use(4 * i + 1,
          or_masked(_mm512_and_si512(_mm512_srli_epi16(v0, 4), low), _mm512_slli_epi16(h, 2), high));
      use(4 * i + 2, or_masked(_mm512_and_si512(v1, low), h, high));
      use(4 * i + 3,
          or_masked(_mm512_and_si512(_mm512_srli_epi16(v1, 4), low), _mm512_srli_epi16(h, 2), high));
    }
  } else {
    const __m512i low = byte_mask(0x03), high = byte_mask(0x04);
#pragma GCC unroll 2
    for (int u = 0; u < 2; ++u) {
      const __m512i v = unit(p + 64 * u);
      __m512i q[4] = {_mm512_and_si512(v, low), _mm512_and_si512(_mm512_srli_epi16(v, 2), low),
                      _mm512_and_si512(_mm512_srli_epi16(v, 4), low),
                      _mm512_and_si512(_mm512_srli_epi16(v, 6), low)};
      if constexpr (bits == 3) {
        __m512i h = unit(p + 128);
        if (u == 1) h = _mm512_srli_epi16(h, 1);
        q[0] = or_masked(q[0], h, high);
        q[1] = or_masked(q[1], _mm512_srli_epi16(h, 2), high);
        q[2] = or_masked(q[2], _mm512_srli_epi16(h, 4), high);
        q[3] = or_masked(q[3], _mm512_slli_epi16(h, 2), high);  // u = 1: bit 1 is bit 0 by now
      }
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) use(4 * u + j, q[j]);
    }
  }
}

/// use(sum, quad, codes): as for_quads, but codes of 2 to 4 bits stay where they lie in their bytes, without
/// shifts, and go to one of four sums, which total_in_place() puts together.
template <int bits, class Use>
CRUMB_INLINE void for_quads_in_place(Bytes p, const Use& use) {
  if constexpr (bits == 8) {
#pragma GCC unroll 8
    for (int u = 0; u < 8; ++u) use(u % 4, u, unit(p + 64 * u));
  } else if constexpr (bits == 6) {
    for_quads<6>(p, [&](int quad, __m512i v) CRUMB_INLINE_LAMBDA { use(quad % 4, quad, v); });
  } else if constexpr (bits == 4) {
#pragma GCC unroll 4
    for (int u = 0; u < 4; ++u) {
      const __m512i v = unit(p + 64 * u);
      use(u % 2 * 2, 2 * u, _mm512_and_si512(v, byte_mask(0x0f)));
      use(u % 2 * 2 + 1, 2 * u + 1, _mm512_and_si512(v, byte_mask(0xf0)));
    }
  } else if constexpr (bits == 2) {
#pragma GCC unroll 2
    for (int u = 0; u < 2; ++u) {
      const __m512i v = unit(p + 64 * u);
      use(0, 4 * u, _mm512_and_si512(v, byte_mask(0x03)));
      use(1, 4 * u + 1, _mm512_and_si512(v, byte_mask(0x0c)));
      use(2, 4 * u + 2, _mm512_and_si512(v, byte_mask(0x30)));
      use(3, 4 * u + 3, _mm512_and_si512(v, byte_mask(0xc0)));
    }
  } else {
    const __m512i high = unit(p + 128);
#pragma GCC unroll 2
    for (int u = 0; u < 2; ++u) {
      const __m512i v = unit(p + 64 * u), h = u == 0 ? high : _mm512_srli_epi16(high, 1);
      use(0, 4 * u, or_masked(_mm512_and_si512(v, byte_mask(0x03)), h, byte_mask(0x04)));
      use(1, 4 * u + 1, or_masked(_mm512_and_si512(v, byte_mask(0x0c)), h, byte_mask(0x10)));
      use(2, 4 * u + 2, or_masked(_mm512_and_si512(v, byte_mask(0x30)), h, byte_mask(0x40)));
      use(3, 4 * u + 3,
          or_masked(_mm512_and_si512(_mm512_srli_epi16(v, 6), byte_mask(0x03)),
                    _mm512_slli_epi16(high, u == 0 ? 2 : 1), byte_mask(0x04)));
    }
  }
}

/// The four sums of for_quads_in_place; the shifts are exact.
template <int bits>
CRUMB_INLINE __m512i total_in_place(const __m512i (&s)[4]) {
  if constexpr (bits >= 6) {
    return _mm512_add_epi32(_mm512_add_epi32(s[0], s[1]), _mm512_add_epi32(s[2], s[3]));
  } else if constexpr (bits == 4) {
    return _mm512_add_epi32(_mm512_add_epi32(s[0], s[2]), _mm512_srai_epi32(_mm512_add_epi32(s[1], s[3]), 4));
  } else if constexpr (bits == 2) {
    __m512i t = _mm512_add_epi32(s[2], _mm512_srai_epi32(s[3], 2));
    t = _mm512_add_epi32(s[1], _mm512_srai_epi32(t, 2));
    return _mm512_add_epi32(s[0], _mm512_srai_epi32(t, 2));
  } else {
    const __m512i t = _mm512_add_epi32(s[1], _mm512_srai_epi32(s[2], 2));
    return _mm512_add_epi32(_mm512_add_epi32(s[0], s[3]), _mm512_srai_epi32(t, 2));
  }
}

/// -zero_point * sum of the activation codes, where a chunk's integer sum begins. |sum| <= 64 * 127 fits
/// int16, and the upper half of a zero point is 0.
CRUMB_INLINE __m512i zero_point_term(__m512i zero_points, std::int32_t sum) {
  return _mm512_madd_epi16(zero_points, _mm512_set1_epi32(-sum));
}

/// y = fma(S, scale_w * scale_x, y)
CRUMB_INLINE Vec add_chunk(Vec y, __m512i sum, Vec scales, float x_scale) {
  return fma(_mm512_cvtepi32_ps(sum), scales * splat(x_scale), y);
}

}  // namespace
}  // namespace crumb::kernels
