#include "kernels/intrinsics.h"

#include "kernels/simd/narrow_avx512.h"

namespace crumb::kernels {
namespace {

template <class V>
V get(const void* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
void put(void* p, const T& x) {
  __builtin_memcpy(p, &x, sizeof x);
}
using I = __m512i;

#define CRUMB_INTRINSIC(name, ...)                                            \
  {                                                                           \
#name, [](const void* a [[maybe_unused]], const void* b [[maybe_unused]], \
              const void* c [[maybe_unused]], void* out) { __VA_ARGS__; }     \
  }
constexpr test::Intrinsic kList[] = {
    CRUMB_INTRINSIC(maskz_loadu_ps, put(out, _mm512_maskz_loadu_ps(get<__mmask16>(c), a))),
    CRUMB_INTRINSIC(mask_storeu_ps, _mm512_mask_storeu_ps(out, get<__mmask16>(c), get<Vec>(a))),
    CRUMB_INTRINSIC(mask_storeu_epi32, _mm512_mask_storeu_epi32(out, get<__mmask16>(c), get<I>(a))),
    CRUMB_INTRINSIC(maskz_loadu_16_words, put(out, _mm256_maskz_loadu_epi16(get<__mmask16>(c), a))),
    CRUMB_INTRINSIC(maskz_loadu_32_words, put(out, _mm512_maskz_loadu_epi16(get<__mmask32>(c), a))),
    CRUMB_INTRINSIC(mask_storeu_16_words, _mm256_mask_storeu_epi16(out, get<__mmask16>(c), get<__m256i>(a))),
    CRUMB_INTRINSIC(mask_blend_ps,
                    put(out, _mm512_mask_blend_ps(get<__mmask16>(c), get<Vec>(a), get<Vec>(b)))),
    CRUMB_INTRINSIC(mask_mov_epi32, put(out, _mm512_mask_mov_epi32(get<I>(a), get<__mmask16>(c), get<I>(b)))),
    CRUMB_INTRINSIC(cmp_eq, put(out, _mm512_cmp_ps_mask(get<Vec>(a), get<Vec>(b), _CMP_EQ_OQ))),
    CRUMB_INTRINSIC(cmp_lt, put(out, _mm512_cmp_ps_mask(get<Vec>(a), get<Vec>(b), _CMP_LT_OQ))),
    CRUMB_INTRINSIC(cmp_unord, put(out, _mm512_cmp_ps_mask(get<Vec>(a), get<Vec>(b), _CMP_UNORD_Q))),
    CRUMB_INTRINSIC(max_ps, put(out, _mm512_max_ps(get<Vec>(a), get<Vec>(b)))),
    CRUMB_INTRINSIC(min_ps, put(out, _mm512_min_ps(get<Vec>(a), get<Vec>(b)))),
    CRUMB_INTRINSIC(max_epi32, put(out, _mm512_max_epi32(get<I>(a), get<I>(b)))),
    CRUMB_INTRINSIC(fmadd_ps, put(out, _mm512_fmadd_ps(get<Vec>(a), get<Vec>(b), get<Vec>(c)))),
    CRUMB_INTRINSIC(fnmadd_ps, put(out, _mm512_fnmadd_ps(get<Vec>(a), get<Vec>(b), get<Vec>(c)))),
    CRUMB_INTRINSIC(fmadd_pd, put(out, _mm512_fmadd_pd(get<__m512d>(a), get<__m512d>(b), get<__m512d>(c)))),
    CRUMB_INTRINSIC(abs_ps, put(out, _mm512_abs_ps(get<Vec>(a)))),
    CRUMB_INTRINSIC(sqrt_ps, put(out, _mm512_sqrt_ps(get<Vec>(a)))),
    CRUMB_INTRINSIC(roundscale_ps, put(out, round_even(get<Vec>(a)))),
    CRUMB_INTRINSIC(scalef_ps, put(out, _mm512_scalef_ps(get<Vec>(a), get<Vec>(b)))),
    CRUMB_INTRINSIC(add_epi32, put(out, _mm512_add_epi32(get<I>(a), get<I>(b)))),
    CRUMB_INTRINSIC(madd_epi16, put(out, _mm512_madd_epi16(get<I>(a), get<I>(b)))),
    CRUMB_INTRINSIC(srai_epi32, put(out, _mm512_srai_epi32(get<I>(a), 2))),
    CRUMB_INTRINSIC(srli_epi32, put(out, _mm512_srli_epi32(get<I>(a), 16))),
    CRUMB_INTRINSIC(slli_epi32, put(out, _mm512_slli_epi32(get<I>(a), 16))),
    CRUMB_INTRINSIC(srli_epi16, put(out, _mm512_srli_epi16(get<I>(a), 6))),
    CRUMB_INTRINSIC(slli_epi16, put(out, _mm512_slli_epi16(get<I>(a), 2))),
    CRUMB_INTRINSIC(srlv_epi32, put(out, _mm512_srlv_epi32(get<I>(a), get<I>(b)))),
    CRUMB_INTRINSIC(ternarylogic_f8,
                    put(out, _mm512_ternarylogic_epi32(get<I>(a), get<I>(b), get<I>(c), 0xf8))),
    CRUMB_INTRINSIC(cvtepi32_ps, put(out, _mm512_cvtepi32_ps(get<I>(a)))),
    CRUMB_INTRINSIC(cvtps_epi32, put(out, _mm512_cvtps_epi32(get<Vec>(a)))),
    CRUMB_INTRINSIC(cvtps_pd, put(out, _mm512_cvtps_pd(get<__m256>(a)))),
    CRUMB_INTRINSIC(cvtph_ps, put(out, _mm512_cvtph_ps(get<__m256i>(a)))),
    CRUMB_INTRINSIC(cvtps_ph, put(out, _mm512_cvtps_ph(get<Vec>(a), _MM_FROUND_TO_NEAREST_INT))),
    CRUMB_INTRINSIC(cvtepi8_epi32, put(out, _mm512_cvtepi8_epi32(get<__m128i>(a)))),
    CRUMB_INTRINSIC(cvtepu8_epi32, put(out, _mm512_cvtepu8_epi32(get<__m128i>(a)))),
    CRUMB_INTRINSIC(cvtepu16_epi32, put(out, _mm512_cvtepu16_epi32(get<__m256i>(a)))),
    CRUMB_INTRINSIC(cvtepi32_epi16, put(out, _mm512_cvtepi32_epi16(get<I>(a)))),
    CRUMB_INTRINSIC(cvtepi32_epi8, put(out, _mm512_cvtepi32_epi8(get<I>(a)))),
    CRUMB_INTRINSIC(cvtsepi32_epi8, put(out, _mm512_cvtsepi32_epi8(get<I>(a)))),
    CRUMB_INTRINSIC(extractf32x8_ps, put(out, _mm512_extractf32x8_ps(get<Vec>(a), 1))),
    CRUMB_INTRINSIC(inserti64x4, put(out, _mm512_inserti64x4(get<I>(a), get<__m256i>(b), 1))),
    CRUMB_INTRINSIC(shuffle_f32x4_88, put(out, _mm512_shuffle_f32x4(get<Vec>(a), get<Vec>(b), 0x88))),
    CRUMB_INTRINSIC(shuffle_f32x4_dd, put(out, _mm512_shuffle_f32x4(get<Vec>(a), get<Vec>(b), 0xdd))),
    CRUMB_INTRINSIC(unpacklo_ps, put(out, _mm512_unpacklo_ps(get<Vec>(a), get<Vec>(b)))),
    CRUMB_INTRINSIC(unpackhi_ps, put(out, _mm512_unpackhi_ps(get<Vec>(a), get<Vec>(b)))),
    CRUMB_INTRINSIC(unpacklo_pd, put(out, _mm512_unpacklo_pd(get<__m512d>(a), get<__m512d>(b)))),
    CRUMB_INTRINSIC(unpackhi_pd, put(out, _mm512_unpackhi_pd(get<__m512d>(a), get<__m512d>(b)))),
    CRUMB_INTRINSIC(reduce_add_ps, put(out, _mm512_reduce_add_ps(get<Vec>(a)))),
    CRUMB_INTRINSIC(reduce_add_pd, put(out, _mm512_reduce_add_pd(_mm512_cvtps_pd(get<__m256>(a))))),
    CRUMB_INTRINSIC(reduce_add_epi32, put(out, _mm512_reduce_add_epi32(get<I>(a)))),
    CRUMB_INTRINSIC(reduce_max_epi32, put(out, _mm512_reduce_max_epi32(get<I>(a)))),
    CRUMB_INTRINSIC(reduce_max_ps, put(out, _mm512_reduce_max_ps(get<Vec>(a)))),
    CRUMB_INTRINSIC(reduce_min_ps, put(out, _mm512_reduce_min_ps(get<Vec>(a)))),
};
#undef CRUMB_INTRINSIC

}  // namespace

namespace test {

Intrinsics intrinsics_avx512() noexcept {
  return {kList, sizeof(kList) / sizeof(kList[0])};
}

}  // namespace test
}  // namespace crumb::kernels
