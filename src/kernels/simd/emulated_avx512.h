// AVX-512, VNNI, bf16 and the tiles on a processor with AVX2, for tests where the machine lacks them:
// vec_avx512.h includes this in place of <immintrin.h> when CRUMB_EMULATE_AVX512 is defined, which only
// tests/emulated does.
//
// SIMDe brings most intrinsics under their own names. Below are those that its version 0.7.4 lacks and those
// that it does otherwise than the processor; each hides the declaration of <immintrin.h> from this namespace.
// tests/kernels/intrinsics_isa_test.cc holds all to their definitions. Everything has internal linkage.
#pragma once
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512/add.h>
#include <simde/x86/avx512/and.h>
#include <simde/x86/avx512/cast.h>
#include <simde/x86/avx512/cmp.h>
#include <simde/x86/avx512/cvts.h>
#include <simde/x86/avx512/fmadd.h>
#include <simde/x86/avx512/fnmadd.h>
#include <simde/x86/avx512/insert.h>
#include <simde/x86/avx512/load.h>
#include <simde/x86/avx512/loadu.h>
#include <simde/x86/avx512/max.h>
#include <simde/x86/avx512/min.h>
#include <simde/x86/avx512/mov.h>
#include <simde/x86/avx512/or.h>
#include <simde/x86/avx512/set.h>
#include <simde/x86/avx512/set1.h>
#include <simde/x86/avx512/setr.h>
#include <simde/x86/avx512/setzero.h>
#include <simde/x86/avx512/slli.h>
#include <simde/x86/avx512/srli.h>
#include <simde/x86/avx512/srlv.h>
#include <simde/x86/avx512/store.h>
#include <simde/x86/avx512/storeu.h>
#include <simde/x86/avx512/unpackhi.h>
#include <simde/x86/avx512/unpacklo.h>

#include <cstdint>

#include "kernels/simd/tile_model.h"

// Macros of <immintrin.h>, some only without optimization, and one of SIMDe.
#undef _mm512_abs_ps
#undef _mm512_cvtps_ph
#undef _mm256_dpbusd_epi32
#undef _mm512_dpbf16_ps
#undef _mm512_dpbusd_epi32
#undef _mm512_extractf32x8_ps
#undef _mm512_madd_epi16
#undef _mm512_mask_blend_ps
#undef _mm512_roundscale_ps
#undef _mm512_scalef_ps
#undef _mm512_shuffle_f32x4
#undef _mm512_srai_epi32
#undef _mm512_ternarylogic_epi32
#undef _tile_dpbf16ps
#undef _tile_dpbsud
#undef _tile_loadconfig
#undef _tile_loadd
#undef _tile_release
#undef _tile_stored
#undef _tile_zero

namespace crumb::kernels {
namespace {

template <class Half>
struct Halves {
  Half low, high;
};
struct Lanes {
  float f[16];
};
template <class To, class From>
inline To as(From x) {
  return __builtin_bit_cast(To, x);
}
inline bool in_mask(std::uint32_t mask, int lane) {
  return mask >> lane & 1;
}

// Masked: a lane outside of the mask is neither read nor written in memory.
inline __m512 _mm512_maskz_loadu_ps(__mmask16 mask, const void* p) {
  Lanes r = {};
  for (int i = 0; i < 16; ++i)
    if (in_mask(mask, i)) __builtin_memcpy(r.f + i, static_cast<const char*>(p) + 4 * i, 4);
  return as<__m512>(r);
}
inline void _mm512_mask_storeu_ps(void* p, __mmask16 mask, __m512 x) {
  const Lanes a = as<Lanes>(x);
  for (int i = 0; i < 16; ++i)
    if (in_mask(mask, i)) __builtin_memcpy(static_cast<char*>(p) + 4 * i, a.f + i, 4);
}
inline void _mm512_mask_storeu_epi32(void* p, __mmask16 mask, __m512i x) {
  _mm512_mask_storeu_ps(p, mask, as<__m512>(x));
}
template <int words>
struct Words {
  std::uint16_t w[words];
};
inline __m256i _mm256_maskz_loadu_epi16(__mmask16 mask, const void* p) {
  Words<16> r = {};
  for (int i = 0; i < 16; ++i)
    if (in_mask(mask, i)) __builtin_memcpy(r.w + i, static_cast<const char*>(p) + 2 * i, 2);
  return as<__m256i>(r);
}
inline __m512i _mm512_maskz_loadu_epi16(__mmask32 mask, const void* p) {
  Words<32> r = {};
  for (int i = 0; i < 32; ++i)
    if (in_mask(mask, i)) __builtin_memcpy(r.w + i, static_cast<const char*>(p) + 2 * i, 2);
  return as<__m512i>(r);
}
inline void _mm256_mask_storeu_epi16(void* p, __mmask16 mask, __m256i x) {
  const auto a = as<Words<16>>(x);
  for (int i = 0; i < 16; ++i)
    if (in_mask(mask, i)) __builtin_memcpy(static_cast<char*>(p) + 2 * i, a.w + i, 2);
}
inline __m512 _mm512_mask_blend_ps(__mmask16 mask, __m512 no, __m512 yes) {
  Lanes r = as<Lanes>(no);
  const Lanes b = as<Lanes>(yes);
  for (int i = 0; i < 16; ++i)
    if (in_mask(mask, i)) r.f[i] = b.f[i];
  return as<__m512>(r);
}

// What AVX2 does with half as many lanes.
inline __m512 _mm512_abs_ps(__m512 x) {  // clears the sign of zero and NaN too, where SIMDe asks x < 0
  return as<__m512>(_mm512_and_si512(as<__m512i>(x), _mm512_set1_epi32(0x7fffffff)));
}
inline __m512 _mm512_sqrt_ps(__m512 x) {
  const auto a = as<Halves<__m256>>(x);
  return as<__m512>(Halves<__m256>{_mm256_sqrt_ps(a.low), _mm256_sqrt_ps(a.high)});
}
inline __m512 _mm512_roundscale_ps(__m512 x, int how) {
  constexpr int kHow = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  if (how != kHow) __builtin_trap();
  const auto a = as<Halves<__m256>>(x);
  return as<__m512>(Halves<__m256>{_mm256_round_ps(a.low, kHow), _mm256_round_ps(a.high, kHow)});
}
inline __m512i _mm512_srai_epi32(__m512i x, unsigned count) {
  const auto a = as<Halves<__m256i>>(x);
  const int by = static_cast<int>(count);
  return as<__m512i>(Halves<__m256i>{_mm256_srai_epi32(a.low, by), _mm256_srai_epi32(a.high, by)});
}
inline __m512i _mm512_madd_epi16(__m512i x, __m512i y) {
  const auto a = as<Halves<__m256i>>(x), b = as<Halves<__m256i>>(y);
  return as<__m512i>(Halves<__m256i>{_mm256_madd_epi16(a.low, b.low), _mm256_madd_epi16(a.high, b.high)});
}
/// Unsigned bytes of x times signed ones of y, four products to a lane, which wraps. Not inline: the low-bit
/// files, where it stands unrolled a thousand times, would take half a minute each to compile.
[[gnu::noinline, maybe_unused]] __m256i _mm256_dpbusd_epi32(__m256i sum, __m256i x, __m256i y) {
  const __m256i even = _mm256_madd_epi16(_mm256_and_si256(x, _mm256_set1_epi16(255)),
                                         _mm256_srai_epi16(_mm256_slli_epi16(y, 8), 8));
  const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(x, 8), _mm256_srai_epi16(y, 8));
  return _mm256_add_epi32(sum, _mm256_add_epi32(even, odd));
}
inline __m512i _mm512_dpbusd_epi32(__m512i sum, __m512i x, __m512i y) {
  const auto s = as<Halves<__m256i>>(sum), a = as<Halves<__m256i>>(x), b = as<Halves<__m256i>>(y);
  return as<__m512i>(
      Halves<__m256i>{_mm256_dpbusd_epi32(s.low, a.low, b.low), _mm256_dpbusd_epi32(s.high, a.high, b.high)});
}
/// Bit by bit x | (y & z): the only table in use. (SIMDe's switch over all tables takes long to compile.)
inline __m512i _mm512_ternarylogic_epi32(__m512i x, __m512i y, __m512i z, int table) {
  if (table != 0xf8) __builtin_trap();
  return _mm512_or_si512(x, _mm512_and_si512(y, z));
}
inline __m512 _mm512_cvtepi32_ps(__m512i x) {
  const auto a = as<Halves<__m256i>>(x);
  return as<__m512>(Halves<__m256>{_mm256_cvtepi32_ps(a.low), _mm256_cvtepi32_ps(a.high)});
}
/// Half to even; outside of int32, and for NaN, the most negative number.
inline __m512i _mm512_cvtps_epi32(__m512 x) {
  const auto a = as<Halves<__m256>>(x);
  return as<__m512i>(Halves<__m256i>{_mm256_cvtps_epi32(a.low), _mm256_cvtps_epi32(a.high)});
}
inline __m512d _mm512_cvtps_pd(__m256 x) {
  const auto a = as<Halves<__m128>>(x);
  return as<__m512d>(Halves<__m256d>{_mm256_cvtps_pd(a.low), _mm256_cvtps_pd(a.high)});
}
inline __m512 _mm512_cvtph_ps(__m256i x) {
  const auto a = as<Halves<__m128i>>(x);
  return as<__m512>(Halves<__m256>{_mm256_cvtph_ps(a.low), _mm256_cvtph_ps(a.high)});
}
inline __m256i _mm512_cvtps_ph(__m512 x, int how) {
  if (how != _MM_FROUND_TO_NEAREST_INT) __builtin_trap();
  const auto a = as<Halves<__m256>>(x);
  return as<__m256i>(Halves<__m128i>{_mm256_cvtps_ph(a.low, _MM_FROUND_TO_NEAREST_INT),
                                     _mm256_cvtps_ph(a.high, _MM_FROUND_TO_NEAREST_INT)});
}
inline __m512i _mm512_cvtepi8_epi32(__m128i x) {
  return as<__m512i>(Halves<__m256i>{_mm256_cvtepi8_epi32(x), _mm256_cvtepi8_epi32(_mm_srli_si128(x, 8))});
}
inline __m512i _mm512_cvtepu8_epi32(__m128i x) {
  return as<__m512i>(Halves<__m256i>{_mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(_mm_srli_si128(x, 8))});
}
inline __m512i _mm512_cvtepu16_epi32(__m256i x) {
  const auto a = as<Halves<__m128i>>(x);
  return as<__m512i>(Halves<__m256i>{_mm256_cvtepu16_epi32(a.low), _mm256_cvtepu16_epi32(a.high)});
}

// Lane by lane.
struct Ints {
  std::int32_t i[16];
};
struct Bytes16 {
  std::uint8_t b[16];
};
/// Keep the low bits; nothing saturates.
inline __m256i _mm512_cvtepi32_epi16(__m512i x) {
  const Ints a = as<Ints>(x);
  Words<16> r;
  for (int i = 0; i < 16; ++i) r.w[i] = static_cast<std::uint16_t>(a.i[i]);
  return as<__m256i>(r);
}
inline __m128i _mm512_cvtepi32_epi8(__m512i x) {
  const Ints a = as<Ints>(x);
  Bytes16 r;
  for (int i = 0; i < 16; ++i) r.b[i] = static_cast<std::uint8_t>(a.i[i]);
  return as<__m128i>(r);
}
/// x 2^floor(n) for finite n, rounded once: a result below the normal numbers is denormal, not zero.
inline __m512 _mm512_scalef_ps(__m512 x, __m512 n) {
  Lanes r = as<Lanes>(x);
  const Lanes b = as<Lanes>(n);
  for (int i = 0; i < 16; ++i) {
    const float up = b.f[i] > 500 ? 500.0f : b.f[i], power = up > -500 ? up : -500.0f;
    auto whole = static_cast<std::int64_t>(power);
    if (static_cast<float>(whole) > power) --whole;
    r.f[i] = static_cast<float>(r.f[i] * __builtin_bit_cast(double, (1023 + whole) << 52));
  }
  return as<__m512>(r);
}
/// Fused: the odd pair's product first, then the even one's. The processor takes denormals for zero and gives
/// zero for them.
inline __m512 _mm512_dpbf16_ps(__m512 sum, __m512bh x, __m512bh y) {
  const auto flushed = [](__m256 v) {
    const __m256 magnitude = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v);
    const __m256 keep = _mm256_cmp_ps(magnitude, _mm256_set1_ps(0x1p-126f), _CMP_NLT_UQ);
    return _mm256_and_ps(v, _mm256_or_ps(keep, _mm256_set1_ps(-0.0f)));
  };
  const auto odd = [&](__m256i v) {
    return flushed(_mm256_castsi256_ps(_mm256_and_si256(v, _mm256_set1_epi32(-0x10000))));
  };
  const auto even = [&](__m256i v) { return flushed(_mm256_castsi256_ps(_mm256_slli_epi32(v, 16))); };
  const auto both = [&](__m256 s, __m256i a, __m256i b) {
    const __m256 one = flushed(_mm256_fmadd_ps(odd(a), odd(b), flushed(s)));
    return flushed(_mm256_fmadd_ps(even(a), even(b), one));
  };
  const auto s = as<Halves<__m256>>(sum);
  const auto a = as<Halves<__m256i>>(x), b = as<Halves<__m256i>>(y);
  return as<__m512>(Halves<__m256>{both(s.low, a.low, b.low), both(s.high, a.high, b.high)});
}

// Moved lanes.
inline __m256 _mm512_extractf32x8_ps(__m512 x, int which) {
  const auto a = as<Halves<__m256>>(x);
  return which % 2 == 0 ? a.low : a.high;
}
/// Quarters of a, of a, of b, of b, two bits of `which` each.
inline __m512 _mm512_shuffle_f32x4(__m512 x, __m512 y, int which) {
  struct Quarters {
    __m128 q[4];
  };
  const auto a = as<Quarters>(x), b = as<Quarters>(y);
  return as<__m512>(
      Quarters{{a.q[which & 3], a.q[which >> 2 & 3], b.q[which >> 4 & 3], b.q[which >> 6 & 3]}});
}

// Reductions, halves first, as GCC's.
template <class T, int count, class Combine>
inline T reduced(const T (&lanes)[count], const Combine& combine) {
  if constexpr (count == 1) {
    return lanes[0];
  } else {
    T half[count / 2];
    for (int i = 0; i < count / 2; ++i) half[i] = combine(lanes[count / 2 + i], lanes[i]);
    return reduced(half, combine);
  }
}
inline float _mm512_reduce_add_ps(__m512 x) {
  return reduced(as<Lanes>(x).f, [](float a, float b) { return a + b; });
}
inline double _mm512_reduce_add_pd(__m512d x) {
  struct Doubles {
    double d[8];
  };
  return reduced(as<Doubles>(x).d, [](double a, double b) { return a + b; });
}
inline std::int32_t _mm512_reduce_add_epi32(__m512i x) {
  return reduced(as<Ints>(x).i, [](std::int32_t a, std::int32_t b) {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(a) + static_cast<std::uint32_t>(b));
  });
}
inline std::int32_t _mm512_reduce_max_epi32(__m512i x) {
  return reduced(as<Ints>(x).i, [](std::int32_t a, std::int32_t b) { return a > b ? a : b; });
}
inline float _mm512_reduce_max_ps(__m512 x) {
  return reduced(as<Lanes>(x).f, [](float a, float b) { return a > b ? a : b; });
}
inline float _mm512_reduce_min_ps(__m512 x) {
  return reduced(as<Lanes>(x).f, [](float a, float b) { return a < b ? a : b; });
}

// Tiles. They are only there between _tile_loadconfig and _tile_release, and are 16 rows of 64 bytes.
static inline thread_local bool tiles_configured = false;
inline void need_tiles() {
  if (!tiles_configured) __builtin_trap();
}
inline void _tile_loadconfig(const void* p) {
  unsigned char config[64];
  __builtin_memcpy(config, p, 64);
  for (int t = 0; t < 8; ++t) {
    if (config[0] != 1 || config[16 + 2 * t] != 64 || config[17 + 2 * t] != 0 || config[48 + t] != 16)
      __builtin_trap();
    TileModel::zero(t);
  }
  tiles_configured = true;
}
inline void _tile_release() {
  tiles_configured = false;
}
inline void _tile_zero(int t) {
  need_tiles();
  TileModel::zero(t);
}
inline void _tile_loadd(int t, const void* p, std::int64_t stride) {
  need_tiles();
  TileModel::load(t, p, stride);
}
inline void _tile_stored(int t, void* p, std::int64_t stride) {
  need_tiles();
  TileModel::store(t, p, stride);
}
inline void _tile_dpbf16ps(int c, int a, int b) {
  need_tiles();
  TileModel::add_bf16_products(c, a, b);
}
inline void _tile_dpbsud(int c, int a, int b) {
  need_tiles();
  TileModel::add_byte_products(c, a, b);
}

}  // namespace
}  // namespace crumb::kernels
