#pragma once
#include "kernels/kv_store/kv_layout.h"
#include "kernels/simd/vec_math.h"

namespace crumb::kernels {
namespace {

constexpr std::int64_t kLongest = kKvLongestHead;

void extremes(const float* x, std::int64_t count, float& low, float& high) {
  Vec least = zero(), greatest = zero();
  const auto take = [&](Vec v) {
    least = at_most(v, least);
    greatest = at_least(v, greatest);
  };
  for_vectors(
      count, [&](std::int64_t i) { take(load(x + i)); },
      [&](std::int64_t i, std::int64_t rest) { take(load_n(x + i, rest)); });
  low = min_lanes(least);
  high = max_lanes(greatest);
}

float most(float a, float b) {
  return a > b ? a : b;
}

/// clamp(rne(x / scale) + zero_point, low, high) as bytes, a scale of 0 being that of a row of zeros; `codes`
/// may be written up to a whole vector.
void round_codes(const float* x, std::int64_t count, float scale, float zero_point, float low, float high,
                 unsigned char* codes) {
  const Vec divisor = splat(scale > 0 ? scale : 1.0f);
  const auto code = [&](Vec v) {
    return at_most(at_least(round_even(v / divisor) + splat(zero_point), splat(low)), splat(high));
  };
  for_vectors(
      count, [&](std::int64_t i) { store_i8(codes + i, code(load(x + i))); },
      [&](std::int64_t i, std::int64_t rest) { store_i8(codes + i, code(load_n(x + i, rest))); });
}

void store_row(const KvBlock& block, const KvHead& h, std::int64_t token, const float* key,
               const float* value) {
  const std::int64_t d = block.head_dim, s = value_stride(d), half = d / 2, lane = token % kKvTokenGroup;
  std::byte* keys = h.keys + token / kKvTokenGroup * key_group_bytes(block);
  std::byte* values = h.values + token * value_row_bytes(block);
  unsigned char codes[kLongest + 32];
  switch (block.format) {
    case KvFormat::kF32: {
      float* to = reinterpret_cast<float*>(keys) + lane;
      for (std::int64_t i = 0; i < d; ++i) to[i * kKvTokenGroup] = key[i];
      float* row = reinterpret_cast<float*>(values);
      for_vectors(
          s, [&](std::int64_t i) { store(row + i, load_n(value + i, d - i)); },
          [](std::int64_t, std::int64_t) {});
      break;
    }
    case KvFormat::kF16: {
      std::uint16_t halves[kLanes];
      std::uint16_t* to = reinterpret_cast<std::uint16_t*>(keys) + lane;
      for (std::int64_t i = 0; i < d; i += kLanes) {
        store_f16(halves, load_n(key + i, d - i));
        for (std::int64_t j = 0; j < least(kLanes, d - i); ++j) to[(i + j) * kKvTokenGroup] = halves[j];
      }
      std::uint16_t* row = reinterpret_cast<std::uint16_t*>(values);
      for (std::int64_t i = 0; i < s; i += kLanes) store_f16(row + i, load_n(value + i, d - i));
      break;
    }
    case KvFormat::kInt8: {
      const auto row = [&](const float* x, float& scale) {
        float low = 0, high = 0;
        extremes(x, d, low, high);
        scale = most((high > -low ? high : -low) / 127.0f, block.least_scale);
        round_codes(x, d, scale, 0.0f, -127.0f, 127.0f, codes);
      };
      row(key, h.key_scales[token]);
      for (std::int64_t i = 0; i < d; ++i) keys[i * kKvTokenGroup + lane] = static_cast<std::byte>(codes[i]);
      row(value, h.value_scales[token]);
      for (std::int64_t i = 0; i < s; ++i)
        values[i] = i < d ? static_cast<std::byte>(codes[i]) : std::byte{0};
      break;
    }
    case KvFormat::kInt4: {
      const auto row = [&](const float* x, float& scale, std::uint8_t& zero_point) {
        float low = 0, high = 0;
        extremes(x, d, low, high);
        scale = most((high - low) / 15.0f, block.least_scale);
        unsigned char z[kLanes];
        const float negative = -low;
        round_codes(&negative, 1, scale, 0.0f, 0.0f, 15.0f, z);
        zero_point = z[0];
        round_codes(x, d, scale, static_cast<float>(zero_point), 0.0f, 15.0f, codes);
        for (std::int64_t i = d; i < s; ++i) codes[i] = zero_point;
      };
      row(key, h.key_scales[token], h.key_zeros[token]);
      for (std::int64_t i = 0; i < half; ++i)
        keys[i * kKvTokenGroup + lane] = static_cast<std::byte>(codes[i] | codes[i + half] << 4);
      row(value, h.value_scales[token], h.value_zeros[token]);
      for (std::int64_t i = 0; i < s / 2; ++i)
        values[i] = static_cast<std::byte>(codes[i] | codes[i + s / 2] << 4);
      break;
    }
  }
}

void store_all(const KvBlock& block, std::int64_t first, std::int64_t count, const float* k, const float* v,
               std::int64_t stride) noexcept {
  for (std::int64_t head = 0; head < block.kv_heads; ++head) {
    const KvHead h = kv_head(block, head);
    for (std::int64_t t = 0; t < count; ++t) {
      store_row(block, h, first + t, k + t * stride + head * block.head_dim,
                v + t * stride + head * block.head_dim);
    }
  }
}

}  // namespace
}  // namespace crumb::kernels
