// Products with many tokens on AVX2: codes are unpacked once for a block of tokens.
//
// 2 to 4 bits: vpmaddubsw wants one unsigned factor. It is the activation, as code + 128, and the weight is
// code - zero point, so that zero points cost nothing for each token; the sums start at -128 times the sum of
// the weights. They wrap around on the way and are exact at the end: modulo 2^16 nothing is lost, and a true
// sum is below 2^15 (2 and 3 bits: 32 products of at most 7 * 128 in a chunk; 4 bits: 16 of 15 * 128 in a
// step).
//
// 6 and 8 bits: sums of such products do not fit 16 bits. Cut into two halves of four bits they would, for
// two products and two sums for 32 numbers; vpmaddwd on 16-bit numbers takes as many, and neither sums to put
// together nor starting values.
#pragma once
#include <type_traits>

#include "kernels/lowbit/avx2_codes.h"
#include "kernels/lowbit/layout.h"
#include "kernels/simd/vec_avx2.h"

namespace crumb::kernels {
namespace {

constexpr int kPanelTokens = 128;  // that unpacked weights serve
constexpr int kPanelTiles = 16;    // that packed activations serve
constexpr int kQuads = kChunk / 4;

/// Where a chunk lies: bytes from the tile's begin, activations from a row's begin.
struct ChunkPlace {
  std::int64_t scales, zeros, codes, steps, activations, index;
};

/// The chunks of a row in the order of K.
struct ChunkWalk {
  ChunkWalk(const LowbitGeometry& geometry, int bits) : group_(geometry), bits_(bits) {}
  bool done() const { return group_.done(); }
  ChunkPlace next() {
    const LowbitGeometry& g = group_.g;
    const std::int64_t left = g.steps - 2 * chunk_;
    const ChunkPlace place{group_.scales,
                           group_.zeros,
                           group_.codes + chunk_ * 128 * bits_,
                           left < 2 ? left : 2,
                           activation_offset(g, group_.group) + chunk_ * kChunk,
                           group_.group * g.chunks + chunk_};
    if (++chunk_ == g.chunks) {
      chunk_ = 0;
      group_.next();
    }
    return place;
  }

 private:
  GroupWalk group_;
  std::int64_t chunk_ = 0;
  int bits_;
};

/// A chunk of kPanelTokens tokens as code + 128, quads of four tokens side by side; tokens beyond the last
/// are 0 times a scale of 0.
struct PanelActivations {
  alignas(64) std::uint8_t quads[kPanelTokens / 4][kQuads][4][4];
  float scales[kPanelTokens / 4][4];
};

/// A chunk of a tile, weights as code - zero point one a byte.
struct PanelWeights {
  /// Quads whose int16 sums hold: a chunk at 2 and 3 bits, a step at 4.
  struct Run {
    int first, quads;  // first: quad of the chunk
    __m256i start[2];  // of the sums
  };
  int runs;
  Run run[2];
  Vec scales[2];
  alignas(64) std::int8_t rows[kQuads][2][32];  // run by run
};

/// The same in 16 bits, for 6 and 8 bits: pairs of k, two to a quad.
struct WideActivations {
  alignas(64) std::int16_t quads[kPanelTokens / 4][kQuads][4][4];
  float scales[kPanelTokens / 4][4];
};
struct WideWeights {
  int pairs;
  Vec scales[2];
  alignas(64) std::int16_t rows[2 * kQuads][2][16];
};

CRUMB_INLINE void pack_activations(const LowbitActivations& x, std::int64_t m, std::int64_t count,
                                   const ChunkPlace& place, PanelActivations& out) {
  const __m128i flip = _mm_set1_epi8(static_cast<char>(0x80));
  for (std::int64_t t = 0; t < count; t += 4) {
    for (std::int64_t quad = 0; quad < 8 * place.steps; quad += 4) {
      __m128i row[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        row[i] = flip;
        if (t + i < count) {
          const std::int8_t* const from = x.codes + (m + t + i) * x.stride + place.activations + 4 * quad;
          row[i] = _mm_xor_si128(flip, _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
        }
      }
      const __m128i low01 = _mm_unpacklo_epi32(row[0], row[1]), low23 = _mm_unpacklo_epi32(row[2], row[3]);
      const __m128i high01 = _mm_unpackhi_epi32(row[0], row[1]), high23 = _mm_unpackhi_epi32(row[2], row[3]);
      auto* const to = reinterpret_cast<__m128i*>(out.quads[t / 4][quad]);
      _mm_store_si128(to, _mm_unpacklo_epi64(low01, low23));
      _mm_store_si128(to + 1, _mm_unpackhi_epi64(low01, low23));
      _mm_store_si128(to + 2, _mm_unpacklo_epi64(high01, high23));
      _mm_store_si128(to + 3, _mm_unpackhi_epi64(high01, high23));
    }
    for (int i = 0; i < 4; ++i)
      out.scales[t / 4][i] = t + i < count ? x.scales[(m + t + i) * x.chunks + place.index] : 0.0f;
  }
}

CRUMB_INLINE void pack_activations(const LowbitActivations& x, std::int64_t m, std::int64_t count,
                                   const ChunkPlace& place, WideActivations& out) {
  for (std::int64_t t = 0; t < count; t += 4) {
    for (std::int64_t i = 0; i < 4; ++i) {
      const bool there = t + i < count;
      const std::int8_t* const from = x.codes + (m + (there ? t + i : 0)) * x.stride + place.activations;
      for (std::int64_t quad = 0; quad < 8 * place.steps; quad += 2) {
        const __m128i eight = _mm_cvtepi8_epi16(
            there ? _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from + 4 * quad)) : _mm_setzero_si128());
        _mm_storel_epi64(reinterpret_cast<__m128i*>(out.quads[t / 4][quad][i]), eight);
        _mm_storel_epi64(reinterpret_cast<__m128i*>(out.quads[t / 4][quad + 1][i]),
                         _mm_unpackhi_epi64(eight, eight));
      }
      out.scales[t / 4][i] = there ? x.scales[(m + t + i) * x.chunks + place.index] : 0.0f;
    }
  }
}

template <int bits>
void unpack_weights(Bytes tile, bool symmetric, const ChunkPlace& place, PanelWeights& out) {
  __m256i zeros[2], sums[2][2];
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    out.scales[half] = scales_of(tile + place.scales, half);
    // Every byte of a row's word.
    zeros[half] = _mm256_mullo_epi32(zero_points_of<bits>(tile + place.zeros, half, symmetric),
                                     _mm256_set1_epi32(0x01010101));
    sums[0][half] = sums[1][half] = _mm256_setzero_si256();
  }
#pragma GCC unroll 2
  for (int s = 0; s < 2; ++s) {
    if (s >= place.steps) break;
    for_quads<bits>(tile + place.codes + s * 64 * bits, [&](int quad, Unit v) CRUMB_INLINE_LAMBDA {
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        const __m256i weights = _mm256_sub_epi8(v.half[half], zeros[half]);
        _mm256_store_si256(reinterpret_cast<__m256i*>(out.rows[s * 8 + quad][half]), weights);
        const __m256i term = _mm256_maddubs_epi16(_mm256_set1_epi8(static_cast<char>(0x80)), weights);
        __m256i& sum = sums[bits == 4 ? s : 0][half];
        sum = _mm256_sub_epi16(sum, term);
      }
    });
  }
  out.runs = bits == 4 ? static_cast<int>(place.steps) : 1;
  for (int r = 0; r < out.runs; ++r)
    out.run[r] = {8 * r, bits == 4 ? 8 : static_cast<int>(8 * place.steps), {sums[r][0], sums[r][1]}};
}

template <int bits>
void unpack_weights(Bytes tile, bool symmetric, const ChunkPlace& place, WideWeights& out) {
  // Of a row's four bytes the first two, or the last two, as 16 bits.
  const __m256i spread = _mm256_setr_epi8(0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13, -1,  //
                                          0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13, -1);
  __m256i zeros[2];
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    out.scales[half] = scales_of(tile + place.scales, half);
    zeros[half] = _mm256_mullo_epi32(zero_points_of<bits>(tile + place.zeros, half, symmetric),
                                     _mm256_set1_epi32(0x00010001));
  }
  out.pairs = static_cast<int>(16 * place.steps);
  for (int s = 0; s < place.steps; ++s) {
    for_quads<bits>(tile + place.codes + s * 64 * bits, [&](int quad, Unit v) CRUMB_INLINE_LAMBDA {
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        auto* const to = out.rows + 2 * (s * 8 + quad);
        const __m256i low = _mm256_shuffle_epi8(v.half[half], spread),
                      high = _mm256_shuffle_epi8(_mm256_srli_epi32(v.half[half], 16), spread);
        _mm256_store_si256(reinterpret_cast<__m256i*>(to[0][half]), _mm256_sub_epi16(low, zeros[half]));
        _mm256_store_si256(reinterpret_cast<__m256i*>(to[1][half]), _mm256_sub_epi16(high, zeros[half]));
      }
    });
  }
}

/// sum += quad * weights, in pairs. In assembly: GCC 12 would copy every sum from register to register.
CRUMB_INLINE void add_pairs(__m256i& sum, __m256i quad, __m256i weights) {
  __m256i product;
  asm("vpmaddubsw %2, %3, %1\n\tvpaddw %1, %0, %0" : "+x"(sum), "=&x"(product) : "x"(weights), "x"(quad));
}

/// Sums (out) of a run for four tokens and 16 rows, widened to 32 bits. Written out, since GCC 12 keeps an
/// array in memory here.
CRUMB_INLINE void multiply_run(const PanelWeights::Run& run, const std::int8_t (*weights)[2][32],
                               const std::uint8_t (*quads)[4][4], __m256i (&sums)[4][2]) {
  const __m256i start0 = run.start[0], start1 = run.start[1];
  __m256i s00 = start0, s01 = start1, s10 = start0, s11 = start1;
  __m256i s20 = start0, s21 = start1, s30 = start0, s31 = start1;
  const auto* a = reinterpret_cast<const std::int8_t*>(quads[run.first]);
  for (const auto* const end = weights + run.quads; weights != end; ++weights, a += 16) {
    const __m256i v0 = _mm256_load_si256(reinterpret_cast<const __m256i*>((*weights)[0]));
    const __m256i v1 = _mm256_load_si256(reinterpret_cast<const __m256i*>((*weights)[1]));
    const __m256i a0 = splat_quad(a);
    add_pairs(s00, a0, v0);
    add_pairs(s01, a0, v1);
    const __m256i a1 = splat_quad(a + 4);
    add_pairs(s10, a1, v0);
    add_pairs(s11, a1, v1);
    const __m256i a2 = splat_quad(a + 8);
    add_pairs(s20, a2, v0);
    add_pairs(s21, a2, v1);
    const __m256i a3 = splat_quad(a + 12);
    add_pairs(s30, a3, v0);
    add_pairs(s31, a3, v1);
  }
  sums[0][0] = widen(s00);
  sums[0][1] = widen(s01);
  sums[1][0] = widen(s10);
  sums[1][1] = widen(s11);
  sums[2][0] = widen(s20);
  sums[2][1] = widen(s21);
  sums[3][0] = widen(s30);
  sums[3][1] = widen(s31);
}

/// y [4][16] += the sums of a chunk.
CRUMB_INLINE void add_sums(const __m256i (&sum)[4][2], const Vec (&scales)[2], const float (&x_scales)[4],
                           float (*y)[16]) {
#pragma GCC unroll 4
  for (int t = 0; t < 4; ++t) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      float* const at = y[t] + 8 * half;
      store(at, add_chunk(load(at), sum[t][half], scales[half], x_scales[t]));
    }
  }
}

/// y [4][16] += weights times four tokens.
template <int bits>
CRUMB_INLINE void multiply_chunk(const PanelWeights& w, const PanelActivations& a, std::int64_t four,
                                 float (*y)[16]) {
  __m256i sum[4][2];
  multiply_run(w.run[0], w.rows, a.quads[four], sum);
  if constexpr (bits == 4) {
    if (w.runs == 2) {
      __m256i more[4][2];
      multiply_run(w.run[1], w.rows + w.run[1].first, a.quads[four], more);
#pragma GCC unroll 4
      for (int t = 0; t < 4; ++t) {
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) sum[t][half] = _mm256_add_epi32(sum[t][half], more[t][half]);
      }
    }
  }
  add_sums(sum, w.scales, a.scales[four], y);
}

/// sum += pair * weights. In assembly as add_pairs.
CRUMB_INLINE void add_words(__m256i& sum, __m256i pair, __m256i weights) {
  __m256i product;
  asm("vpmaddwd %2, %3, %1\n\tvpaddd %1, %0, %0" : "+x"(sum), "=&x"(product) : "x"(weights), "x"(pair));
}

template <int bits>
CRUMB_INLINE void multiply_chunk(const WideWeights& w, const WideActivations& activations, std::int64_t four,
                                 float (*y)[16]) {
  const __m256i none = _mm256_setzero_si256();
  __m256i s00 = none, s01 = none, s10 = none, s11 = none, s20 = none, s21 = none, s30 = none, s31 = none;
  const auto* a = reinterpret_cast<const std::int8_t*>(activations.quads[four]);
  const auto multiply_pair = [&](const std::int16_t(&weights)[2][16],
                                 const std::int8_t* at) CRUMB_INLINE_LAMBDA {
    const __m256i v0 = _mm256_load_si256(reinterpret_cast<const __m256i*>(weights[0]));
    const __m256i v1 = _mm256_load_si256(reinterpret_cast<const __m256i*>(weights[1]));
    const __m256i a0 = splat_quad(at);
    add_words(s00, a0, v0);
    add_words(s01, a0, v1);
    const __m256i a1 = splat_quad(at + 8);
    add_words(s10, a1, v0);
    add_words(s11, a1, v1);
    const __m256i a2 = splat_quad(at + 16);
    add_words(s20, a2, v0);
    add_words(s21, a2, v1);
    const __m256i a3 = splat_quad(at + 24);
    add_words(s30, a3, v0);
    add_words(s31, a3, v1);
  };
  for (int pair = 0; pair < w.pairs; pair += 2, a += 32) {
    multiply_pair(w.rows[pair], a);
    multiply_pair(w.rows[pair + 1], a + 4);
  }
  add_sums({{s00, s01}, {s10, s11}, {s20, s21}, {s30, s31}}, w.scales, activations.scales[four], y);
}

/// The product of lowbit_multiply() for more than a few tokens.
template <int bits>
void prefill(const LowbitMatrix& w, const LowbitGeometry& g, const LowbitActivations& x, std::int64_t begin,
             std::int64_t end, float* y, std::int64_t ldy) {
  const bool symmetric = w.shape.grid == quant::Grid::kSignedSym;
  std::conditional_t<(bits < 6), PanelWeights, WideWeights> weights;
  std::conditional_t<(bits < 6), PanelActivations, WideActivations> activations;
  alignas(64) float sums[kPanelTiles][kPanelTokens][16];
  for (std::int64_t first = begin; first < end; first += kPanelTiles) {
    const std::int64_t tiles = end - first < kPanelTiles ? end - first : kPanelTiles;
    for (std::int64_t m = 0; m < x.m; m += kPanelTokens) {
      const std::int64_t count = x.m - m < kPanelTokens ? x.m - m : kPanelTokens;
      for (std::int64_t i = 0; i < tiles; ++i)
        __builtin_memset(sums[i], 0, static_cast<std::size_t>(count + 3) / 4 * sizeof(sums[0][0]) * 4);
      for (ChunkWalk walk(g, bits); !walk.done();) {
        const ChunkPlace place = walk.next();
        pack_activations(x, m, count, place, activations);
        for (std::int64_t i = 0; i < tiles; ++i) {
          unpack_weights<bits>(w.data + (first + i) * g.tile_bytes, symmetric, place, weights);
          for (std::int64_t t = 0; t < count; t += 4)
            multiply_chunk<bits>(weights, activations, t / 4, sums[i] + t);
        }
      }
      for (std::int64_t t = 0; t < count; ++t) {
        for (std::int64_t i = 0; i < tiles; ++i) {
#pragma GCC unroll 2
          for (int half = 0; half < 2; ++half) {
            const std::int64_t n = (first + i) * kRows + 8 * half;
            store_n(y + (m + t) * ldy + n, load(sums[i][t] + 8 * half), w.shape.n - n);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace crumb::kernels
