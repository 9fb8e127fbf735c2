#include <cmath>

#include "base/half.h"
#include "kernels/kv_store/kv_layout.h"

namespace crumb::kernels {
namespace {

/// What codes are quotients with; a row of zeros has a scale of 0.
float divisor(float scale) {
  return scale > 0 ? scale : 1.0f;
}

/// One row of `count` numbers: its scale, its zero point and where each code goes.
template <class Put>
void quantize_int8(const float* x, std::int64_t count, float least_scale, float& scale, const Put& put) {
  float largest = 0;
  for (std::int64_t i = 0; i < count; ++i) largest = std::fmax(largest, std::fabs(x[i]));
  scale = std::fmax(largest / 127.0f, least_scale);
  for (std::int64_t i = 0; i < count; ++i) {
    const float code = std::fmin(std::fmax(std::nearbyint(x[i] / divisor(scale)), -127.0f), 127.0f);
    put(i, static_cast<std::uint8_t>(static_cast<std::int8_t>(code)));
  }
}

template <class Put>
void quantize_int4(const float* x, std::int64_t count, float least_scale, float& scale, std::uint8_t& zero,
                   const Put& put) {
  float low = 0, high = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    low = std::fmin(low, x[i]);
    high = std::fmax(high, x[i]);
  }
  scale = std::fmax((high - low) / 15.0f, least_scale);
  const float z = std::fmin(std::fmax(std::nearbyint(-low / divisor(scale)), 0.0f), 15.0f);
  zero = static_cast<std::uint8_t>(z);
  for (std::int64_t i = 0; i < count; ++i) {
    put(i, static_cast<std::uint8_t>(
               std::fmin(std::fmax(std::nearbyint(x[i] / divisor(scale)) + z, 0.0f), 15.0f)));
  }
}

void put_nibble(std::byte& byte, bool high, std::uint8_t code) {
  byte = high ? (byte & std::byte{0x0f}) | static_cast<std::byte>(code << 4)
              : (byte & std::byte{0xf0}) | static_cast<std::byte>(code);
}

void store(const KvBlock& block, std::int64_t first, std::int64_t count, const float* k, const float* v,
           std::int64_t stride) noexcept {
  const std::int64_t d = block.head_dim, s = value_stride(d), half = d / 2;
  for (std::int64_t head = 0; head < block.kv_heads; ++head) {
    const KvHead h = kv_head(block, head);
    for (std::int64_t t = 0; t < count; ++t) {
      const std::int64_t token = first + t, lane = token % kKvTokenGroup;
      const float *key = k + t * stride + head * d, *value = v + t * stride + head * d;
      std::byte* keys = h.keys + token / kKvTokenGroup * key_group_bytes(block);
      std::byte* values = h.values + token * value_row_bytes(block);
      switch (block.format) {
        case KvFormat::kF32:
          for (std::int64_t i = 0; i < d; ++i)
            reinterpret_cast<float*>(keys)[i * kKvTokenGroup + lane] = key[i];
          for (std::int64_t i = 0; i < s; ++i) reinterpret_cast<float*>(values)[i] = i < d ? value[i] : 0.0f;
          break;
        case KvFormat::kF16:
          for (std::int64_t i = 0; i < d; ++i)
            reinterpret_cast<std::uint16_t*>(keys)[i * kKvTokenGroup + lane] = float_to_f16(key[i]);
          for (std::int64_t i = 0; i < s; ++i)
            reinterpret_cast<std::uint16_t*>(values)[i] = i < d ? float_to_f16(value[i]) : std::uint16_t{0};
          break;
        case KvFormat::kInt8:
          quantize_int8(key, d, block.least_scale, h.key_scales[token],
                        [&](std::int64_t i, std::uint8_t code) {
                          keys[i * kKvTokenGroup + lane] = static_cast<std::byte>(code);
                        });
          for (std::int64_t i = d; i < s; ++i) values[i] = std::byte{0};
          quantize_int8(value, d, block.least_scale, h.value_scales[token],
                        [&](std::int64_t i, std::uint8_t code) { values[i] = static_cast<std::byte>(code); });
          break;
        case KvFormat::kInt4:
          quantize_int4(key, d, block.least_scale, h.key_scales[token], h.key_zeros[token],
                        [&](std::int64_t i, std::uint8_t code) {
                          put_nibble(keys[i % half * kKvTokenGroup + lane], i >= half, code);
                        });
          quantize_int4(
              value, d, block.least_scale, h.value_scales[token], h.value_zeros[token],
              [&](std::int64_t i, std::uint8_t code) { put_nibble(values[i % (s / 2)], i >= s / 2, code); });
          for (std::int64_t i = d; i < s; ++i)
            put_nibble(values[i % (s / 2)], i >= s / 2, h.value_zeros[token]);
          break;
      }
    }
  }
}

}  // namespace

const KvStoreFunctions* kv_store_ref() noexcept {
  static constexpr KvStoreFunctions kFunctions = {store};
  return &kFunctions;
}

}  // namespace crumb::kernels
