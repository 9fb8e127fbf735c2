#include <algorithm>
#include <cmath>
#include <limits>

#include "base/half.h"
#include "kernels/cached_attention.h"
#include "kernels/cached_attention/tiles.h"

namespace crumb::kernels {
namespace {

double key_at(const KvBlock& b, const KvHead& h, std::int64_t token, std::int64_t i) {
  const std::byte* group = h.keys + token / kKvTokenGroup * key_group_bytes(b);
  const std::int64_t half = b.head_dim / 2,
                     at =
                         (b.format == KvFormat::kInt4 ? i % half : i) * kKvTokenGroup + token % kKvTokenGroup;
  switch (b.format) {
    case KvFormat::kF32:
      return reinterpret_cast<const float*>(group)[at];
    case KvFormat::kF16:
      return f16_to_float(reinterpret_cast<const std::uint16_t*>(group)[at]);
    case KvFormat::kInt8:
      return static_cast<double>(static_cast<std::int8_t>(group[at])) * h.key_scales[token];
    case KvFormat::kInt4: {
      const int byte = static_cast<int>(group[at]);
      return static_cast<double>((i >= half ? byte >> 4 : byte & 15) - h.key_zeros[token]) *
             h.key_scales[token];
    }
  }
  return 0;
}

double value_at(const KvBlock& b, const KvHead& h, std::int64_t token, std::int64_t i) {
  const std::byte* row = h.values + token * value_row_bytes(b);
  const std::int64_t half = value_stride(b.head_dim) / 2;
  switch (b.format) {
    case KvFormat::kF32:
      return reinterpret_cast<const float*>(row)[i];
    case KvFormat::kF16:
      return f16_to_float(reinterpret_cast<const std::uint16_t*>(row)[i]);
    case KvFormat::kInt8:
      return static_cast<double>(static_cast<std::int8_t>(row[i])) * h.value_scales[token];
    case KvFormat::kInt4: {
      const int byte = static_cast<int>(row[i % half]);
      return static_cast<double>((i >= half ? byte >> 4 : byte & 15) - h.value_zeros[token]) *
             h.value_scales[token];
    }
  }
  return 0;
}

void attend(const CachedAttentionArgs& a, std::int64_t t0, std::int64_t t1, std::int64_t h0, std::int64_t h1,
            float* workspace) noexcept {
  const std::int64_t d = a.cache.head_dim, group = a.query_heads / a.cache.kv_heads;
  double* sums = reinterpret_cast<double*>(workspace);  // [D], which fits
  for (std::int64_t t = t0; t < t1; ++t) {
    for (std::int64_t head = h0; head < h1; ++head) {
      const KvHead h = kv_head(a.cache, head / group);
      const float* q = a.q + t * a.q_stride + head * d;
      const std::int64_t last = a.first + t,
                         begin = a.window == 0 ? 0 : std::max<std::int64_t>(0, last - a.window + 1);
      const auto score = [&](std::int64_t token) {
        double sum = 0;
        for (std::int64_t i = 0; i < d; ++i) sum += q[i] * key_at(a.cache, h, token, i);
        return sum * a.scale;
      };
      double largest = -std::numeric_limits<double>::infinity(), total = 0;
      for (std::int64_t token = begin; token <= last; ++token) largest = std::max(largest, score(token));
      std::fill(sums, sums + d, 0.0);
      for (std::int64_t token = begin; token <= last; ++token) {
        const double p = std::exp(score(token) - largest);
        total += p;
        for (std::int64_t i = 0; i < d; ++i) sums[i] += p * value_at(a.cache, h, token, i);
      }
      for (std::int64_t i = 0; i < d; ++i)
        a.o[t * a.o_stride + head * d + i] = static_cast<float>(sums[i] / total);
    }
  }
}

}  // namespace

const CachedAttentionFunctions* cached_attention_ref() noexcept {
  static constexpr CachedAttentionFunctions kFunctions = {attend};
  return &kFunctions;
}

}  // namespace crumb::kernels
