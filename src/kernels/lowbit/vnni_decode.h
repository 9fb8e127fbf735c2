// A few tokens: weights pass once, from memory to registers.
#pragma once
#include "kernels/lowbit/vnni_codes.h"

namespace crumb::kernels {
namespace {

/// The integer sums of one chunk at 4 bits for one token, in halves of 8 rows: with whole registers the reads
/// come faster than Zen 4's memory takes them, 0.82 of the read bandwidth against 0.95 (bench/lowbit_bench).
template <int steps>
CRUMB_INLINE __m512i four_bit_sums_in_halves(Bytes codes, const std::int8_t* a, __m512i start) {
  const __m256i low = _mm256_set1_epi8(0x0f), high = _mm256_set1_epi8(static_cast<char>(0xf0));
  __m256i sum[4][2];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) sum[i][0] = sum[i][1] = _mm256_setzero_si256();
#pragma GCC unroll 8
  for (int u = 0; u < 4 * steps; ++u, a += 8) {
    prefetch(codes + 64 * u);
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      __m256i v = _mm256_load_si256(reinterpret_cast<const __m256i*>(codes + 64 * u + 32 * half));
      keep(v);
      add_products(sum[u % 2 * 2][half], _mm256_and_si256(v, low), a);
      add_products(sum[u % 2 * 2 + 1][half], _mm256_and_si256(v, high), a + 4);
    }
  }
  __m512i whole[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) whole[i] = _mm512_inserti64x4(_mm512_castsi256_si512(sum[i][0]), sum[i][1], 1);
  whole[0] = _mm512_add_epi32(whole[0], start);
  return total_in_place<4>(whole);
}

/// One chunk of 16 rows times `tokens` tokens, added to y. a, x_scales and x_sums are the first token's.
template <int bits, int steps, int tokens>
CRUMB_INLINE void decode_chunk(Bytes codes, const LowbitActivations& x, const std::int8_t* a,
                               const float* x_scales, const std::int32_t* x_sums, Vec scales,
                               __m512i zero_points, Vec (&y)[tokens]) {
  if constexpr (bits == 4 && tokens == 1) {
    const __m512i sum = four_bit_sums_in_halves<steps>(codes, a, zero_point_term(zero_points, x_sums[0]));
    y[0] = add_chunk(y[0], sum, scales, x_scales[0]);
  } else if constexpr (tokens <= 2) {
    __m512i sum[tokens][4];
#pragma GCC unroll 2
    for (int t = 0; t < tokens; ++t) {
      sum[t][0] = zero_point_term(zero_points, x_sums[t * x.chunks]);
      sum[t][1] = sum[t][2] = sum[t][3] = _mm512_setzero_si512();
    }
#pragma GCC unroll 2
    for (int s = 0; s < steps; ++s) {
      for_quads_in_place<bits>(codes + s * 64 * bits,
                               [&](int which, int quad, __m512i v) CRUMB_INLINE_LAMBDA {
#pragma GCC unroll 2
                                 for (int t = 0; t < tokens; ++t) {
                                   add_products(sum[t][which], v, a + t * x.stride + s * kStep + 4 * quad);
                                 }
                               });
    }
#pragma GCC unroll 2
    for (int t = 0; t < tokens; ++t)
      y[t] = add_chunk(y[t], total_in_place<bits>(sum[t]), scales, x_scales[t * x.chunks]);
  } else {
    __m512i sum[tokens];
#pragma GCC unroll 8
    for (int t = 0; t < tokens; ++t) sum[t] = zero_point_term(zero_points, x_sums[t * x.chunks]);
#pragma GCC unroll 2
    for (int s = 0; s < steps; ++s) {
      for_quads<bits>(codes + s * 64 * bits, [&](int quad, __m512i v) CRUMB_INLINE_LAMBDA {
#pragma GCC unroll 8
        for (int t = 0; t < tokens; ++t) add_products(sum[t], v, a + t * x.stride + s * kStep + 4 * quad);
      });
    }
#pragma GCC unroll 8
    for (int t = 0; t < tokens; ++t) y[t] = add_chunk(y[t], sum[t], scales, x_scales[t * x.chunks]);
  }
}

/// `streams` tiles in lockstep, tokens m … m + tokens - 1.
template <int bits, int streams, int tokens>
void decode_tiles(const LowbitMatrix& w, const LowbitGeometry& g, const LowbitActivations& x, std::int64_t m,
                  const std::int64_t* tiles, float* y, std::int64_t ldy) {
  const bool symmetric = w.shape.grid == quant::Grid::kSignedSym;
  Bytes tile[streams];
  Vec sum[streams][tokens];
#pragma GCC unroll 2
  for (int s = 0; s < streams; ++s) {
    tile[s] = w.data + tiles[s] * g.tile_bytes;
#pragma GCC unroll 8
    for (int t = 0; t < tokens; ++t) sum[s][t] = zero();
  }
  const std::int8_t* a = x.codes + m * x.stride;
  const float* x_scales = x.scales + m * x.chunks;
  const std::int32_t* x_sums = x.sums + m * x.chunks;
  for (GroupWalk at(g); !at.done(); at.next()) {
    if (at.group % kBlockGroups == 0) {  // the lines of scales and zero points are a part of the stream
      for (std::int64_t i = at.scales; i < at.codes; i += 64) {
#pragma GCC unroll 2
        for (int s = 0; s < streams; ++s) prefetch(tile[s] + i);
      }
    }
    Vec scales[streams];
    __m512i zero_points[streams];
#pragma GCC unroll 2
    for (int s = 0; s < streams; ++s) {
      scales[s] = scales_of(tile[s] + at.scales);
      zero_points[s] = zero_points_of<bits>(tile[s] + at.zeros, symmetric);
    }
    std::int64_t codes = at.codes;
    std::int64_t steps = g.steps;
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
    const std::int64_t n = tiles[s] * kRows;
#pragma GCC unroll 8
    for (int t = 0; t < tokens; ++t) store_n(y + (m + t) * ldy + n, sum[s][t], w.shape.n - n);
  }
}

/// More than four tokens go in passes of four: the second finds the weights in the cache, and eight would not
/// fit the registers.
template <int bits, int streams>
void decode_tokens(const LowbitMatrix& w, const LowbitGeometry& g, const LowbitActivations& x,
                   const std::int64_t* tiles, float* y, std::int64_t ldy) {
  std::int64_t m = 0;
  for (; m + 4 <= x.m; m += 4) decode_tiles<bits, streams, 4>(w, g, x, m, tiles, y, ldy);
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

}  // namespace
}  // namespace crumb::kernels
