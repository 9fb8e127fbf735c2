#pragma once
#include "kernels/rope.h"
#include "kernels/simd/vec_math.h"

namespace crumb::kernels {
namespace {

void rotate(const RopeArgs& a, float sign, std::int64_t begin, std::int64_t end) noexcept {
  const std::int64_t half = a.rotary_dim / 2;
  const Vec signs = splat(sign);
  for (std::int64_t token = begin; token < end; ++token) {
    const float *cos = a.cos + token % a.tokens * half, *sin = a.sin + token % a.tokens * half;
    for (std::int64_t head = 0; head < a.heads; ++head) {
      const float* x = a.x + token * a.x_stride + head * a.head_dim;
      float* y = a.y + token * a.y_stride + head * a.head_dim;
      for_vectors(
          half,
          [&](std::int64_t i) {
            const Vec low = load(x + i), high = load(x + i + half), c = load(cos + i),
                      s = load(sin + i) * signs;
            store(y + i, fnma(high, s, low * c));
            store(y + i + half, fma(low, s, high * c));
          },
          [&](std::int64_t i, std::int64_t rest) {
            const Vec low = load_n(x + i, rest), high = load_n(x + i + half, rest);
            const Vec c = load_n(cos + i, rest), s = load_n(sin + i, rest) * signs;
            store_n(y + i, fnma(high, s, low * c), rest);
            store_n(y + i + half, fma(low, s, high * c), rest);
          });
      for (std::int64_t i = a.rotary_dim; i < a.head_dim; ++i) y[i] = x[i];
    }
  }
}

}  // namespace
}  // namespace crumb::kernels
