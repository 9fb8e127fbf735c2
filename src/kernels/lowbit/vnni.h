// The functions of the variants with VNNI, over the class that multiplies panels in prefill: VnniProducts or
// TileProducts.
#pragma once
#include "kernels/lowbit/vnni_decode.h"
#include "kernels/lowbit/vnni_prefill.h"

namespace crumb::kernels {
namespace {

CRUMB_INLINE void prepare_chunk(const float* x, std::int64_t count, std::int64_t steps, std::int8_t* codes,
                                float* scale, std::int32_t* sum) {
  Vec v[4];
  __m512i largest = _mm512_setzero_si512();
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    v[i] = load_n(x + 16 * i, count - 16 * i);
    // As integers, magnitudes order like the numbers, with infinity and NaN above all.
    largest =
        _mm512_max_epi32(largest, _mm512_and_si512(_mm512_castps_si512(v[i]), _mm512_set1_epi32(0x7fffffff)));
  }
  const std::int32_t bits = _mm512_reduce_max_epi32(largest);
  float absmax = 0, inverse = 0;
  __builtin_memcpy(&absmax, &bits, 4);
  const bool finite = bits < 0x7f800000;
  *scale = !finite ? __builtin_nanf("") : absmax < 0x1p-100f ? 0.0f : absmax / 127.0f;
  if (*scale > 0) inverse = 127.0f / absmax;
  __m512i total = _mm512_setzero_si512();
  for (int i = 0; i < 2 * steps; ++i) {
    __m512i q = _mm512_cvtps_epi32(v[i] * splat(inverse));
    if (!finite) q = _mm512_setzero_si512();
    total = _mm512_add_epi32(total, q);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + 16 * i), _mm512_cvtsepi32_epi8(q));
  }
  *sum = _mm512_reduce_add_epi32(total);
}

void prepare(const float* x, std::int64_t ldx, const LowbitActivations& out, std::int64_t begin,
             std::int64_t end) noexcept {
  const LowbitGeometry g = lowbit_geometry({1, out.k, out.group_size, 8, quant::Grid::kAsym});
  for (std::int64_t m = begin; m < end; ++m) {
    for (std::int64_t group = 0; group < g.groups; ++group) {
      const float* const from = x + m * ldx + group * out.group_size;
      const std::int64_t at = m * out.stride + activation_offset(g, group);
      if (out.mode == LowbitMode::kExact) {
        for (std::int64_t j = 0; j < g.steps * kStep; j += 16)
          store(out.values + at + j, load_n(from + j, out.group_size - j));
        continue;
      }
      for (std::int64_t c = 0; c < g.chunks; ++c) {
        const std::int64_t chunk = m * out.chunks + group * g.chunks + c, left_steps = g.steps - 2 * c;
        prepare_chunk(from + c * kChunk, out.group_size - c * kChunk, left_steps < 2 ? 1 : 2,
                      out.codes + at + c * kChunk, out.scales + chunk, out.sums + chunk);
      }
    }
  }
}

template <int bits, int tokens>
void exact_tile(const LowbitMatrix& w, const LowbitGeometry& g, const LowbitActivations& x, std::int64_t m,
                std::int64_t index, float* y, std::int64_t ldy) {
  const bool symmetric = w.shape.grid == quant::Grid::kSignedSym;
  const Bytes tile = w.data + index * g.tile_bytes;
  Vec sum[tokens];
#pragma GCC unroll 8
  for (int t = 0; t < tokens; ++t) sum[t] = zero();
  const float* a = x.values + m * x.stride;
  for (GroupWalk at(g); !at.done(); at.next()) {
    const Vec zero_points = _mm512_cvtepi32_ps(zero_points_of<bits>(tile + at.zeros, symmetric));
    Vec d[tokens][4];
#pragma GCC unroll 6
    for (int t = 0; t < tokens; ++t) d[t][0] = d[t][1] = d[t][2] = d[t][3] = zero();
    for (std::int64_t s = 0; s < g.steps; ++s, a += kStep) {
      for_quads<bits>(tile + at.codes + s * 64 * bits, [&](int quad, __m512i v) CRUMB_INLINE_LAMBDA {
#pragma GCC unroll 4
        for (int b = 0; b < 4; ++b) {
          const __m512i code =
              _mm512_and_si512(_mm512_srli_epi32(v, static_cast<unsigned>(8 * b)), _mm512_set1_epi32(0xff));
          const Vec centered = _mm512_cvtepi32_ps(code) - zero_points;
#pragma GCC unroll 6
          for (int t = 0; t < tokens; ++t)
            d[t][b] = fma(centered, splat(a[t * x.stride + 4 * quad + b]), d[t][b]);
        }
      });
    }
    const Vec scales = scales_of(tile + at.scales);
#pragma GCC unroll 6
    for (int t = 0; t < tokens; ++t) sum[t] = fma((d[t][0] + d[t][1]) + (d[t][2] + d[t][3]), scales, sum[t]);
  }
  const std::int64_t n = index * kRows;
#pragma GCC unroll 8
  for (int t = 0; t < tokens; ++t) store_n(y + (m + t) * ldy + n, sum[t], w.shape.n - n);
}

template <int bits>
void multiply_exact_bits(const LowbitMatrix& w, const LowbitActivations& x, std::int64_t begin,
                         std::int64_t end, float* y, std::int64_t ldy) {
  const LowbitGeometry g = lowbit_geometry(w.shape);
  for (std::int64_t index = begin; index < end; ++index) {
    std::int64_t m = 0;
    for (; m + 5 <= x.m; m += 5) exact_tile<bits, 5>(w, g, x, m, index, y, ldy);
    for (; m + 2 <= x.m; m += 2) exact_tile<bits, 2>(w, g, x, m, index, y, ldy);
    for (; m < x.m; ++m) exact_tile<bits, 1>(w, g, x, m, index, y, ldy);
  }
}

constexpr std::int64_t kDecodeTokens = 8;

template <int bits, class Products>
void multiply_int8_bits(const LowbitMatrix& w, const LowbitActivations& x, std::int64_t begin,
                        std::int64_t end, float* y, std::int64_t ldy) {
  const LowbitGeometry g = lowbit_geometry(w.shape);
  if (x.m <= kDecodeTokens)
    decode<bits>(w, g, x, begin, end, y, ldy);
  else
    prefill<bits, Products>(w, g, x, begin, end, y, ldy);
}

template <class Products>
void multiply_int8(const LowbitMatrix& w, const LowbitActivations& x, std::int64_t begin, std::int64_t end,
                   float* y, std::int64_t ldy) noexcept {
  switch (w.shape.bits) {
    case 2:
      return multiply_int8_bits<2, Products>(w, x, begin, end, y, ldy);
    case 3:
      return multiply_int8_bits<3, Products>(w, x, begin, end, y, ldy);
    case 4:
      return multiply_int8_bits<4, Products>(w, x, begin, end, y, ldy);
    case 6:
      return multiply_int8_bits<6, Products>(w, x, begin, end, y, ldy);
    default:
      return multiply_int8_bits<8, Products>(w, x, begin, end, y, ldy);
  }
}

void multiply_exact(const LowbitMatrix& w, const LowbitActivations& x, std::int64_t begin, std::int64_t end,
                    float* y, std::int64_t ldy) noexcept {
  switch (w.shape.bits) {
    case 2:
      return multiply_exact_bits<2>(w, x, begin, end, y, ldy);
    case 3:
      return multiply_exact_bits<3>(w, x, begin, end, y, ldy);
    case 4:
      return multiply_exact_bits<4>(w, x, begin, end, y, ldy);
    case 6:
      return multiply_exact_bits<6>(w, x, begin, end, y, ldy);
    default:
      return multiply_exact_bits<8>(w, x, begin, end, y, ldy);
  }
}

}  // namespace
}  // namespace crumb::kernels
