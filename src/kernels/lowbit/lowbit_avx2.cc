// AVX2 without VNNI: vpmaddubsw sums pairs in int16, vpmaddwd widens them before they can overflow.
#include "kernels/simd/vec_avx2.h"

#include "kernels/lowbit/avx2_codes.h"
#include "kernels/lowbit/avx2_prefill.h"

namespace crumb::kernels {
namespace {

// ------------------------------------------------------------------------------------------ activations

CRUMB_INLINE void prepare_chunk(const float* x, std::int64_t count, std::int64_t steps, std::int8_t* codes,
                                float* scale, std::int32_t* sum) {
  Vec v[8];
  __m256i largest = _mm256_setzero_si256();
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    v[i] = load_n(x + 8 * i, count - 8 * i);
    // As integers, magnitudes order like the numbers, with infinity and NaN above all.
    largest =
        _mm256_max_epi32(largest, _mm256_and_si256(_mm256_castps_si256(v[i]), _mm256_set1_epi32(0x7fffffff)));
  }
  alignas(32) std::int32_t lanes[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), largest);
  std::int32_t bits = 0;
  for (const std::int32_t lane : lanes) bits = lane > bits ? lane : bits;
  float absmax = 0, inverse = 0;
  __builtin_memcpy(&absmax, &bits, 4);
  const bool finite = bits < 0x7f800000;
  *scale = !finite ? __builtin_nanf("") : absmax < 0x1p-100f ? 0.0f : absmax / 127.0f;
  if (*scale > 0) inverse = 127.0f / absmax;
  __m256i total = _mm256_setzero_si256();
  for (int i = 0; i < 4 * steps; ++i) {
    __m256i q = _mm256_cvtps_epi32(v[i] * splat(inverse));
    if (!finite) q = _mm256_setzero_si256();
    total = _mm256_add_epi32(total, q);
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(codes + 8 * i), _mm_packs_epi16(words, words));
  }
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), total);
  *sum = 0;
  for (const std::int32_t lane : lanes) *sum += lane;
}

void prepare(const float* x, std::int64_t ldx, const LowbitActivations& out, std::int64_t begin,
             std::int64_t end) noexcept {
  const LowbitGeometry g = lowbit_geometry({1, out.k, out.group_size, 8, quant::Grid::kAsym});
  for (std::int64_t m = begin; m < end; ++m) {
    for (std::int64_t group = 0; group < g.groups; ++group) {
      const float* const from = x + m * ldx + group * out.group_size;
      const std::int64_t at = m * out.stride + activation_offset(g, group);
      if (out.mode == LowbitMode::kExact) {
        for (std::int64_t j = 0; j < g.steps * kStep; j += 8)
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

// ------------------------------------------------------------------------------------------ decode

/// One chunk of 16 rows times `tokens` tokens, added to y.
template <int bits, int steps, int tokens>
CRUMB_INLINE void decode_chunk(Bytes codes, const LowbitActivations& x, const std::int8_t* a,
                               const float* x_scales, const std::int32_t* x_sums, const Vec (&scales)[2],
                               const Unit& zero_points, Vec (&y)[tokens][2]) {
  constexpr int kAtOnce = bits >= 6 ? 1 : steps;
  __m256i sum[tokens][2];
#pragma GCC unroll 4
  for (int t = 0; t < tokens; ++t) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half)
      sum[t][half] = zero_point_term(zero_points.half[half], x_sums[t * x.chunks]);
  }
#pragma GCC unroll 2
  for (int s = 0; s < steps; s += kAtOnce) {
    __m256i pairs[tokens][2][2];
#pragma GCC unroll 4
    for (int t = 0; t < tokens; ++t) {
      pairs[t][0][0] = pairs[t][0][1] = pairs[t][1][0] = pairs[t][1][1] = _mm256_setzero_si256();
    }
#pragma GCC unroll 2
    for (int i = s; i < s + kAtOnce; ++i) {
      for_quads_in_place<bits>(codes + i * 64 * bits, [&](int which, int quad, Unit v) CRUMB_INLINE_LAMBDA {
#pragma GCC unroll 2
        for (int t = 0; t < tokens; ++t) {
          const __m256i four = splat_quad(a + t * x.stride + i * kStep + 4 * quad);
#pragma GCC unroll 2
          for (int half = 0; half < 2; ++half) {
            add_products(pairs[t][which][half], v.half[half], four);
          }
        }
      });
    }
#pragma GCC unroll 4
    for (int t = 0; t < tokens; ++t) {
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        sum[t][half] =
            _mm256_add_epi32(sum[t][half], total_in_place<bits>(pairs[t][0][half], pairs[t][1][half]));
      }
    }
  }
#pragma GCC unroll 4
  for (int t = 0; t < tokens; ++t) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half)
      y[t][half] = add_chunk(y[t][half], sum[t][half], scales[half], x_scales[t * x.chunks]);
  }
}

template <int bits, int streams, int tokens>
void decode_tiles(const LowbitMatrix& w, const LowbitGeometry& g, const LowbitActivations& x, std::int64_t m,
                  const std::int64_t* tiles, float* y, std::int64_t ldy) {
  const bool symmetric = w.shape.grid == quant::Grid::kSignedSym;
  Bytes tile[streams];
  Vec sum[streams][tokens][2];
#pragma GCC unroll 2
  for (int s = 0; s < streams; ++s) {
    tile[s] = w.data + tiles[s] * g.tile_bytes;
#pragma GCC unroll 4
    for (int t = 0; t < tokens; ++t) sum[s][t][0] = sum[s][t][1] = zero();
  }
  const std::int8_t* a = x.codes + m * x.stride;
  const float* x_scales = x.scales + m * x.chunks;
  const std::int32_t* x_sums = x.sums + m * x.chunks;
  for (GroupWalk at(g); !at.done(); at.next()) {
    if (at.group % kBlockGroups == 0) {  // the lines of scales and zero points are a part of the stream
      for (std::int64_t i = at.scales; i < at.codes; i += 64) {
        for (int s = 0; s < streams; ++s) unit(tile[s] + i);
      }
    }
    Vec scales[streams][2];
    Unit zero_points[streams];
#pragma GCC unroll 2
    for (int s = 0; s < streams; ++s) {
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        scales[s][half] = scales_of(tile[s] + at.scales, half);
        zero_points[s].half[half] = zero_points_of<bits>(tile[s] + at.zeros, half, symmetric);
      }
    }
    std::int64_t codes = at.codes, steps = g.steps;
    for (; steps >= 2; steps -= 2, codes += 128 * bits, a += kChunk, ++x_scales, ++x_sums) {
#pragma GCC unroll 2
      for (int s = 0; s < streams; ++s)
        decode_chunk<bits, 2, tokens>(tile[s] + codes, x, a, x_scales, x_sums, scales[s], zero_points[s],
                                      sum[s]);
    }
    if (steps == 1) {
#pragma GCC unroll 2
      for (int s = 0; s < streams; ++s)
        decode_chunk<bits, 1, tokens>(tile[s] + codes, x, a, x_scales, x_sums, scales[s], zero_points[s],
                                      sum[s]);
      a += kStep, ++x_scales, ++x_sums;
    }
  }
#pragma GCC unroll 2
  for (int s = 0; s < streams; ++s) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const std::int64_t n = tiles[s] * kRows + 8 * half;
#pragma GCC unroll 4
      for (int t = 0; t < tokens; ++t) store_n(y + (m + t) * ldy + n, sum[s][t][half], w.shape.n - n);
    }
  }
}

template <int bits, int streams>
void decode_tokens(const LowbitMatrix& w, const LowbitGeometry& g, const LowbitActivations& x,
                   const std::int64_t* tiles, float* y, std::int64_t ldy) {
  std::int64_t m = 0;
  for (; m + 2 <= x.m; m += 2) decode_tiles<bits, streams, 2>(w, g, x, m, tiles, y, ldy);
  for (; m < x.m; ++m) decode_tiles<bits, streams, 1>(w, g, x, m, tiles, y, ldy);
}

/// The range's two halves are walked side by side: two streams for the memory system.
template <int bits>
void decode(const LowbitMatrix& w, const LowbitGeometry& g, const LowbitActivations& x, std::int64_t begin,
            std::int64_t end, float* y, std::int64_t ldy) {
  const std::int64_t half = (end - begin) / 2;
  for (std::int64_t i = 0; i < half; ++i) {
    const std::int64_t tiles[2] = {begin + i, begin + half + i};
    decode_tokens<bits, 2>(w, g, x, tiles, y, ldy);
  }
  if ((end - begin) % 2 != 0) {
    const std::int64_t last = end - 1;
    decode_tokens<bits, 1>(w, g, x, &last, y, ldy);
  }
}

constexpr std::int64_t kDecodeTokens = 8;

template <int bits>
void multiply_int8_bits(const LowbitMatrix& w, const LowbitActivations& x, std::int64_t begin,
                        std::int64_t end, float* y, std::int64_t ldy) {
  const LowbitGeometry g = lowbit_geometry(w.shape);
  if (x.m <= kDecodeTokens)
    decode<bits>(w, g, x, begin, end, y, ldy);
  else
    prefill<bits>(w, g, x, begin, end, y, ldy);
}

// ------------------------------------------------------------------------------------------ exact

/// One token: four sums for each half.
template <int bits>
void exact_tile(const LowbitMatrix& w, const LowbitGeometry& g, const LowbitActivations& x, std::int64_t m,
                std::int64_t index, float* y, std::int64_t ldy) {
  const bool symmetric = w.shape.grid == quant::Grid::kSignedSym;
  const Bytes tile = w.data + index * g.tile_bytes;
  Vec sum[2] = {zero(), zero()};
  const float* a = x.values + m * x.stride;
  for (GroupWalk at(g); !at.done(); at.next()) {
    Vec zero_points[2], d[2][4];
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      zero_points[half] = _mm256_cvtepi32_ps(zero_points_of<bits>(tile + at.zeros, half, symmetric));
      d[half][0] = d[half][1] = d[half][2] = d[half][3] = zero();
    }
    for (std::int64_t s = 0; s < g.steps; ++s, a += kStep) {
      for_quads<bits>(tile + at.codes + s * 64 * bits, [&](int quad, Unit v) CRUMB_INLINE_LAMBDA {
#pragma GCC unroll 4
        for (int b = 0; b < 4; ++b) {
          const Vec value = splat(a[4 * quad + b]);
#pragma GCC unroll 2
          for (int half = 0; half < 2; ++half) {
            const __m256i code =
                _mm256_and_si256(_mm256_srli_epi32(v.half[half], 8 * b), _mm256_set1_epi32(0xff));
            d[half][b] = fma(_mm256_cvtepi32_ps(code) - zero_points[half], value, d[half][b]);
          }
        }
      });
    }
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      sum[half] = fma((d[half][0] + d[half][1]) + (d[half][2] + d[half][3]),
                      scales_of(tile + at.scales, half), sum[half]);
    }
  }
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    const std::int64_t n = index * kRows + 8 * half;
    store_n(y + m * ldy + n, sum[half], w.shape.n - n);
  }
}

template <int bits>
void multiply_exact_bits(const LowbitMatrix& w, const LowbitActivations& x, std::int64_t begin,
                         std::int64_t end, float* y, std::int64_t ldy) {
  const LowbitGeometry g = lowbit_geometry(w.shape);
  for (std::int64_t index = begin; index < end; ++index) {
    for (std::int64_t m = 0; m < x.m; ++m) exact_tile<bits>(w, g, x, m, index, y, ldy);
  }
}

// ------------------------------------------------------------------------------------------ by bits

void multiply_int8(const LowbitMatrix& w, const LowbitActivations& x, std::int64_t begin, std::int64_t end,
                   float* y, std::int64_t ldy) noexcept {
  switch (w.shape.bits) {
    case 2:
      return multiply_int8_bits<2>(w, x, begin, end, y, ldy);
    case 3:
      return multiply_int8_bits<3>(w, x, begin, end, y, ldy);
    case 4:
      return multiply_int8_bits<4>(w, x, begin, end, y, ldy);
    case 6:
      return multiply_int8_bits<6>(w, x, begin, end, y, ldy);
    default:
      return multiply_int8_bits<8>(w, x, begin, end, y, ldy);
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

const LowbitFunctions* lowbit_avx2() noexcept {
  static constexpr LowbitFunctions kFunctions = {prepare, {multiply_int8, multiply_exact}};
  return &kFunctions;
}

}  // namespace crumb::kernels
