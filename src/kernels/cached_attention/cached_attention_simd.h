#pragma once
#include "kernels/cached_attention.h"
#include "kernels/cached_attention/tiles.h"
#include "kernels/simd/vec_math.h"

// Before this header: kScoreRows x kScoreVectors and kOutputRows x kOutputVectors, the register tiles of a
// variant.

namespace crumb::kernels {
namespace {

/// Keys of kLanes tokens at `place`, counted in numbers of the format.
template <KvFormat format>
inline Vec load_narrow(const std::byte* at, std::int64_t place) {
  if constexpr (format == KvFormat::kF32) return load(reinterpret_cast<const float*>(at) + place);
  if constexpr (format == KvFormat::kF16) return load_f16(reinterpret_cast<const std::uint16_t*>(at) + place);
  if constexpr (format == KvFormat::kInt8) return load_i8(at + place);
}

/// s[r][j] = sum_d q[r][d] * code of key j, channel d, for R rows and the C vectors of keys from
/// `keys` on; `group_bytes` apart when a vector begins a new group of sixteen. Channels are summed in order
/// (int4: i and i + D/2 by turns), so a row's bits do not depend on R.
template <KvFormat format, int R, int C>
inline void score_tile(const std::byte* keys, std::int64_t group_bytes, std::int64_t d, const float* const* q,
                       float* s) {
  constexpr int kPerGroup = static_cast<int>(kKvTokenGroup) / kLanes;
  Vec sum[R][C];
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) sum[r][c] = zero();
  if constexpr (format == KvFormat::kInt4) {
    const std::int64_t half = d / 2;
    for (std::int64_t i = 0; i < half; ++i) {
      Vec low[C], high[C];
      for (int c = 0; c < C; ++c)
        load_nibbles(keys + c / kPerGroup * group_bytes + i * kKvTokenGroup + c % kPerGroup * kLanes, low[c],
                     high[c]);
      for (int r = 0; r < R; ++r) {
        const Vec a = splat(q[r][i]), b = splat(q[r][i + half]);
        for (int c = 0; c < C; ++c) sum[r][c] = fma(b, high[c], fma(a, low[c], sum[r][c]));
      }
    }
  } else {
    for (std::int64_t i = 0; i < d; ++i) {
      Vec k[C];
      for (int c = 0; c < C; ++c)
        k[c] = load_narrow<format>(keys + c / kPerGroup * group_bytes,
                                   i * kKvTokenGroup + c % kPerGroup * kLanes);
      for (int r = 0; r < R; ++r) {
        const Vec a = splat(q[r][i]);
        for (int c = 0; c < C; ++c) sum[r][c] = fma(a, k[c], sum[r][c]);
      }
    }
  }
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) store(s + r * kKeyTile + c * kLanes, sum[r][c]);
}

/// C vectors of keys against up to kScoreRows rows.
template <KvFormat format, int C>
inline void score_some_rows(const std::byte* keys, std::int64_t group_bytes, std::int64_t d,
                            const float* const* q, std::int64_t rows, float* s) {
  switch (rows) {
    case 1:
      return score_tile<format, 1, C>(keys, group_bytes, d, q, s);
    case 2:
      return score_tile<format, 2, C>(keys, group_bytes, d, q, s);
    case 3:
      return score_tile<format, 3, C>(keys, group_bytes, d, q, s);
    case 4:
      return score_tile<format, 4, C>(keys, group_bytes, d, q, s);
    case 5:
      if constexpr (kScoreRows > 4) return score_tile<format, 5, C>(keys, group_bytes, d, q, s);
      return;
    default:
      if constexpr (kScoreRows > 5) return score_tile<format, 6, C>(keys, group_bytes, d, q, s);
      return;
  }
}

/// Groups beyond `groups` are not read: while decoding, keys come from memory.
template <KvFormat format>
inline void score_rows(const std::byte* keys, std::int64_t group_bytes, std::int64_t groups, std::int64_t d,
                       const float* const* q, std::int64_t rows, float* s) {
  constexpr int kOneGroup = static_cast<int>(kKvTokenGroup) / kLanes, kGroups = kScoreVectors / kOneGroup;
  for (std::int64_t r = 0; r < rows; r += kScoreRows) {
    const std::int64_t count = least(kScoreRows, rows - r);
    float* to = s + r * kKeyTile;
    std::int64_t g = 0;
    for (; g + kGroups <= groups; g += kGroups)
      score_some_rows<format, kScoreVectors>(keys + g * group_bytes, group_bytes, d, q + r, count,
                                             to + g * kKvTokenGroup);
    for (; g < groups; ++g)
      score_some_rows<format, kOneGroup>(keys + g * group_bytes, group_bytes, d, q + r, count,
                                         to + g * kKvTokenGroup);
  }
}

/// o[r][0 … C kLanes) += sum_t p[r][t] * value code (C vectors; int4: C vectors of low and C of high halves,
/// the latter `half` further on). Tokens are summed in order.
template <KvFormat format, int R, int C>
inline void output_tile(const std::byte* values, std::int64_t row_bytes, std::int64_t tokens, const float* p,
                        float* o, std::int64_t stride, std::int64_t half) {
  constexpr int kParts = format == KvFormat::kInt4 ? 2 : 1;
  Vec sum[R][kParts * C];
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < kParts * C; ++c) sum[r][c] = load(o + r * stride + c % C * kLanes + c / C * half);
  for (std::int64_t t = 0; t < tokens; ++t) {
    Vec v[kParts * C];
    for (int c = 0; c < C; ++c) {
      if constexpr (format == KvFormat::kInt4) {
        load_nibbles(values + t * row_bytes + c * kLanes, v[c], v[C + c]);
      } else {
        v[c] = load_narrow<format>(values + t * row_bytes, c * kLanes);
      }
    }
    for (int r = 0; r < R; ++r) {
      const Vec a = splat(p[r * kKeyTile + t]);
      for (int c = 0; c < kParts * C; ++c) sum[r][c] = fma(a, v[c], sum[r][c]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < kParts * C; ++c) store(o + r * stride + c % C * kLanes + c / C * half, sum[r][c]);
}

template <KvFormat format, int R>
inline void output_width(const std::byte* values, std::int64_t row_bytes, std::int64_t tokens, const float* p,
                         float* o, std::int64_t stride) {
  constexpr bool kNibbles = format == KvFormat::kInt4;
  constexpr int kWide = kNibbles ? kOutputVectors / 2 : kOutputVectors, kNarrow = 16 / kLanes;
  const std::int64_t width = kNibbles ? stride / 2 : stride;  // a multiple of 16
  const auto place = [&](std::int64_t i) {
    return values + (format == KvFormat::kF32 ? 4 * i : format == KvFormat::kF16 ? 2 * i : i);
  };
  std::int64_t i = 0;
  for (; i + kWide * kLanes <= width; i += kWide * kLanes)
    output_tile<format, R, kWide>(place(i), row_bytes, tokens, p, o + i, stride, stride / 2);
  for (; i < width; i += kNarrow * kLanes)
    output_tile<format, R, kNarrow>(place(i), row_bytes, tokens, p, o + i, stride, stride / 2);
}

template <KvFormat format>
inline void output_rows(const std::byte* values, std::int64_t row_bytes, std::int64_t tokens, const float* p,
                        float* o, std::int64_t stride, std::int64_t rows) {
  for (std::int64_t r = 0; r < rows; r += kOutputRows) {
    const float* from = p + r * kKeyTile;
    float* to = o + r * stride;
    switch (least(kOutputRows, rows - r)) {
      case 1:
        output_width<format, 1>(values, row_bytes, tokens, from, to, stride);
        break;
      case 2:
        output_width<format, 2>(values, row_bytes, tokens, from, to, stride);
        break;
      case 3:
        if constexpr (kOutputRows > 2) output_width<format, 3>(values, row_bytes, tokens, from, to, stride);
        break;
      default:
        if constexpr (kOutputRows > 3) output_width<format, 4>(values, row_bytes, tokens, from, to, stride);
        break;
    }
  }
}

/// What a row has gathered.
struct RowState {
  float *maximum, *sum, *zeros,
      *q_sum;  // zeros: sum of p * value scale * zero point, to be taken off the output
};

/// Scores of one row become probabilities times the values' scale; the row's state and outputs follow.
/// `seen` tokens of the tile from `hidden` on count.
template <KvFormat format>
inline void softmax_row(float* s, std::int64_t hidden, std::int64_t seen, float scale, const KvHead& head,
                        std::int64_t token, RowState row, float* o, std::int64_t stride) {
  constexpr bool kScaled = format == KvFormat::kInt8 || format == KvFormat::kInt4;
  constexpr int kVectors = static_cast<int>(kKeyTile) / kLanes;
  const Vec nothing = splat(-__builtin_inff());
  Vec x[kVectors], most_of = nothing;
  // Every vector: what lies beyond `seen` may be anything.
  for (int c = 0; c < kVectors; ++c) {
    const std::int64_t at = c * kLanes;
    if (at >= seen || at + kLanes <= hidden) {
      x[c] = nothing;
      continue;
    }
    Vec v = load(s + at);
    if constexpr (format == KvFormat::kInt4)
      v = fnma(load_u8(head.key_zeros + token + at), splat(*row.q_sum), v);
    v = v * splat(scale);
    if constexpr (kScaled) v = v * load(head.key_scales + token + at);
    if (at + kLanes > seen) v = choose(first_lanes(seen - at), v, nothing);
    if (at < hidden) v = choose(first_lanes(hidden - at), nothing, v);
    x[c] = v;
    most_of = at_least(v, most_of);
  }
  const float before = *row.maximum, now = max_lanes(most_of) > before ? max_lanes(most_of) : before;
  if (now == -__builtin_inff()) {  // sees nothing yet
    for (int c = 0; c < kVectors; ++c) store(s + c * kLanes, zero());
    return;
  }
  if (now != before) {
    const float factor = exponential(before - now);
    *row.maximum = now;
    *row.sum *= factor;
    *row.zeros *= factor;
    for (std::int64_t i = 0; i < stride; i += kLanes) store(o + i, load(o + i) * splat(factor));
  }
  Vec sum = zero(), zeros = zero();
  for (int c = 0; c < kVectors; ++c) {
    const std::int64_t at = c * kLanes;
    Vec p = zero();
    if (at < seen && at + kLanes > hidden) {
      p = exponential(x[c] - splat(now));
      sum = sum + p;
      if constexpr (kScaled) {
        p = p * load(head.value_scales + token + at);
        // The scales of tokens that are not there may be anything.
        if (at + kLanes > seen) p = choose(first_lanes(seen - at), p, zero());
      }
      if constexpr (format == KvFormat::kInt4) zeros = fma(p, load_u8(head.value_zeros + token + at), zeros);
    }
    store(s + at, p);
  }
  *row.sum += sum_lanes(sum);
  if constexpr (format == KvFormat::kInt4) *row.zeros += sum_lanes(zeros);
}

template <KvFormat format>
void attend_as(const CachedAttentionArgs& a, std::int64_t t0, std::int64_t t1, std::int64_t h0,
               std::int64_t h1, float* workspace) {
  const std::int64_t d = a.cache.head_dim, stride = value_stride(d), heads = h1 - h0;
  const KvHead head = kv_head(a.cache, h0 / (a.query_heads / a.cache.kv_heads));
  const std::int64_t group_bytes = key_group_bytes(a.cache), row_bytes = value_row_bytes(a.cache);
  float *s = workspace, *o = s + kRowTile * kKeyTile, *state = o + kRowTile * stride;
  const float* q[kRowTile];
  const std::int64_t all = (t1 - t0) * heads;
  for (std::int64_t r0 = 0; r0 < all; r0 += kRowTile) {
    const std::int64_t rows = least(kRowTile, all - r0);
    const auto position = [&](std::int64_t r) { return a.first + t0 + (r0 + r) / heads; };
    const auto first_seen = [&](std::int64_t r) {
      return a.window == 0 ? 0 : most(0, position(r) - a.window + 1);
    };
    const auto row_state = [&](std::int64_t r) {
      return RowState{state + r, state + kRowTile + r, state + 2 * kRowTile + r, state + 3 * kRowTile + r};
    };
    for (std::int64_t r = 0; r < rows; ++r) {
      q[r] = a.q + (t0 + (r0 + r) / heads) * a.q_stride + (h0 + (r0 + r) % heads) * d;
      const RowState row = row_state(r);
      *row.maximum = -__builtin_inff();
      *row.sum = *row.zeros = *row.q_sum = 0;
      if constexpr (format == KvFormat::kInt4) {
        Vec sum = zero();
        for_vectors(
            d, [&](std::int64_t i) { sum = sum + load(q[r] + i); },
            [&](std::int64_t i, std::int64_t rest) { sum = sum + load_n(q[r] + i, rest); });
        *row.q_sum = sum_lanes(sum);
      }
      for (std::int64_t i = 0; i < stride; i += kLanes) store(o + r * stride + i, zero());
    }
    const std::int64_t end = position(rows - 1) + 1;
    for (std::int64_t tile = first_seen(0) / kKeyTile * kKeyTile; tile < end; tile += kKeyTile) {
      const std::int64_t tokens = least(kKeyTile, end - tile);
      // Decoding waits for memory: the values are on their way while the keys are met.
      for (std::int64_t at = 0; at < tokens * row_bytes; at += 64)
        __builtin_prefetch(head.values + tile * row_bytes + at);
      score_rows<format>(head.keys + tile / kKvTokenGroup * group_bytes, group_bytes,
                         (tokens + kKvTokenGroup - 1) / kKvTokenGroup, d, q, rows, s);
      for (std::int64_t r = 0; r < rows; ++r) {
        softmax_row<format>(s + r * kKeyTile, most(0, first_seen(r) - tile),
                            least(tokens, position(r) + 1 - tile), a.scale, head, tile, row_state(r),
                            o + r * stride, stride);
      }
      output_rows<format>(head.values + tile * row_bytes, row_bytes, tokens, s, o, stride, rows);
    }
    for (std::int64_t r = 0; r < rows; ++r) {
      const RowState row = row_state(r);
      const Vec inverse = splat(1.0f / *row.sum), zeros = splat(*row.zeros);
      float* to = a.o + (t0 + (r0 + r) / heads) * a.o_stride + (h0 + (r0 + r) % heads) * d;
      const float* from = o + r * stride;
      for_vectors(
          d, [&](std::int64_t i) { store(to + i, (load(from + i) - zeros) * inverse); },
          [&](std::int64_t i, std::int64_t rest) {
            store_n(to + i, (load(from + i) - zeros) * inverse, rest);
          });
    }
  }
}

void attend(const CachedAttentionArgs& a, std::int64_t t0, std::int64_t t1, std::int64_t h0, std::int64_t h1,
            float* workspace) noexcept {
  switch (a.cache.format) {
    case KvFormat::kF32:
      return attend_as<KvFormat::kF32>(a, t0, t1, h0, h1, workspace);
    case KvFormat::kF16:
      return attend_as<KvFormat::kF16>(a, t0, t1, h0, h1, workspace);
    case KvFormat::kInt8:
      return attend_as<KvFormat::kInt8>(a, t0, t1, h0, h1, workspace);
    case KvFormat::kInt4:
      return attend_as<KvFormat::kInt4>(a, t0, t1, h0, h1, workspace);
  }
}

}  // namespace
}  // namespace crumb::kernels
