#pragma once
#include "kernels/attention.h"
#include "kernels/simd/vec_math.h"

namespace crumb::kernels {
namespace {

/// Columns [low, high) of a block are seen by `row`.
struct Seen {
  std::int64_t low, high;
};
inline Seen seen_by(const ScoreBlock& b, std::int64_t row) {
  const std::int64_t end = b.first_row + row + 1 - b.first_column;
  const std::int64_t high = most(0, least(b.columns, end));
  return {b.window == 0 ? 0 : least(high, most(0, end - b.window)), high};
}

inline void clear(float* x, std::int64_t begin, std::int64_t end) {
  if (begin < end) __builtin_memset(x + begin, 0, static_cast<std::size_t>(end - begin) * sizeof(float));
}

void online_softmax(const ScoreBlock& b, float* m, float* l, float* o, std::int64_t o_stride,
                    std::int64_t head_dim) noexcept {
  const Vec scale = splat(b.scale);
  for (std::int64_t r = 0; r < b.rows; ++r) {
    float* const row = b.s + r * b.ld;
    const Seen seen = seen_by(b, r);
    clear(row, 0, seen.low);
    clear(row, seen.high, b.columns);
    if (seen.low >= seen.high) continue;
    float* const s = row + seen.low;
    const std::int64_t count = seen.high - seen.low;
    Vec largest = splat(m[r]);
    for_vectors(
        count, [&](std::int64_t j) { largest = at_least(load(s + j) * scale, largest); },
        [&](std::int64_t j, std::int64_t rest) {
          largest = at_least(choose(first_lanes(rest), load_n(s + j, rest) * scale, splat(m[r])), largest);
        });
    const float now = max_lanes(largest);
    const Vec shift = splat(now);
    Vec sum = zero();
    for_vectors(
        count,
        [&](std::int64_t j) {
          const Vec p = exponential(load(s + j) * scale - shift);
          store(s + j, p);
          sum = sum + p;
        },
        [&](std::int64_t j, std::int64_t rest) {
          const Vec p = choose(first_lanes(rest), exponential(load_n(s + j, rest) * scale - shift), zero());
          store_n(s + j, p, rest);
          sum = sum + p;
        });
    if (now != m[r]) {  // also true for NaN
      const float correction = exponential(m[r] - now);
      float* const out = o + r * o_stride;
      for_vectors(
          head_dim, [&](std::int64_t d) { store(out + d, load(out + d) * splat(correction)); },
          [&](std::int64_t d, std::int64_t rest) {
            store_n(out + d, load_n(out + d, rest) * splat(correction), rest);
          });
      l[r] *= correction;
      m[r] = now;
    }
    l[r] += sum_lanes(sum);
  }
}

void finish(const float* m, const float* l, float* o, std::int64_t o_stride, std::int64_t rows,
            std::int64_t head_dim, float* lse) noexcept {
  for (std::int64_t r = 0; r < rows; ++r) {
    float* const out = o + r * o_stride;
    const Vec inverse = splat(1.0f / l[r]);
    for_vectors(
        head_dim, [&](std::int64_t d) { store(out + d, load(out + d) * inverse); },
        [&](std::int64_t d, std::int64_t rest) { store_n(out + d, load_n(out + d, rest) * inverse, rest); });
    lse[r] = m[r] + __builtin_logf(l[r]);
  }
}

void row_dots(const float* o, std::int64_t o_stride, const float* grad_o, std::int64_t grad_o_stride,
              std::int64_t rows, std::int64_t head_dim, float* delta) noexcept {
  for (std::int64_t r = 0; r < rows; ++r) {
    const float *a = o + r * o_stride, *b = grad_o + r * grad_o_stride;
    Sum64 sum;
    for_vectors(
        head_dim, [&](std::int64_t d) { add_product_f64(sum, load(a + d), load(b + d)); },
        [&](std::int64_t d, std::int64_t rest) {
          add_product_f64(sum, load_n(a + d, rest), load_n(b + d, rest));
        });
    delta[r] = static_cast<float>(total(sum));
  }
}

void backward_scores(const ScoreBlock& b, const float* lse, const float* delta, float* ds) noexcept {
  const Vec scale = splat(b.scale);
  for (std::int64_t r = 0; r < b.rows; ++r) {
    const Seen seen = seen_by(b, r);
    float *const s = b.s + r * b.ld, *const d = ds + r * b.ld;
    clear(s, 0, seen.low);
    clear(s, seen.high, b.columns);
    clear(d, 0, seen.low);
    clear(d, seen.high, b.columns);
    const Vec shift = splat(lse[r]), mean = splat(delta[r]);
    float *const s_seen = s + seen.low, *const d_seen = d + seen.low;
    for_vectors(
        most(0, seen.high - seen.low),
        [&](std::int64_t j) {
          const Vec p = exponential(load(s_seen + j) * scale - shift);
          store(s_seen + j, p);
          store(d_seen + j, p * (load(d_seen + j) - mean) * scale);
        },
        [&](std::int64_t j, std::int64_t rest) {
          const Vec p = exponential(load_n(s_seen + j, rest) * scale - shift);
          store_n(s_seen + j, p, rest);
          store_n(d_seen + j, p * (load_n(d_seen + j, rest) - mean) * scale, rest);
        });
  }
}

}  // namespace
}  // namespace crumb::kernels
