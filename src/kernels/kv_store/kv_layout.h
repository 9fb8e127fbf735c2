// Places inside a KvBlock. Internal linkage: variant files include it.
#pragma once
#include "kernels/kv_store.h"

namespace crumb::kernels {
namespace {

inline std::int64_t value_stride(std::int64_t head_dim) {
  return (head_dim + 31) / 32 * 32;
}
inline std::int64_t element_bits(KvFormat format) {
  return format == KvFormat::kF32 ? 32 : format == KvFormat::kF16 ? 16 : format == KvFormat::kInt8 ? 8 : 4;
}

struct KvHead {
  std::byte *keys, *values;
  float *key_scales, *value_scales;  // nullptr where the format has none
  std::uint8_t *key_zeros, *value_zeros;
};
inline std::int64_t kv_head_bytes(KvFormat format, std::int64_t head_dim, std::int64_t capacity) {
  std::int64_t bytes = (head_dim + value_stride(head_dim)) * capacity * element_bits(format) / 8;
  if (format == KvFormat::kInt8 || format == KvFormat::kInt4) bytes += 2 * 4 * capacity;
  if (format == KvFormat::kInt4) bytes += 2 * capacity;
  return (bytes + 63) / 64 * 64;
}
inline KvHead kv_head(const KvBlock& b, std::int64_t head) {
  KvHead h{};
  std::byte* at = b.data + head * kv_head_bytes(b.format, b.head_dim, b.capacity);
  h.keys = at;
  at += b.head_dim * b.capacity * element_bits(b.format) / 8;
  h.values = at;
  at += value_stride(b.head_dim) * b.capacity * element_bits(b.format) / 8;
  if (b.format == KvFormat::kInt8 || b.format == KvFormat::kInt4) {
    h.key_scales = reinterpret_cast<float*>(at);
    h.value_scales = h.key_scales + b.capacity;
    at += 2 * 4 * b.capacity;
  }
  if (b.format == KvFormat::kInt4) {
    h.key_zeros = reinterpret_cast<std::uint8_t*>(at);
    h.value_zeros = h.key_zeros + b.capacity;
  }
  return h;
}
/// Bytes of the keys of sixteen tokens, and of one token's values.
inline std::int64_t key_group_bytes(const KvBlock& b) {
  return b.head_dim * kKvTokenGroup * element_bits(b.format) / 8;
}
inline std::int64_t value_row_bytes(const KvBlock& b) {
  return value_stride(b.head_dim) * element_bits(b.format) / 8;
}

}  // namespace
}  // namespace crumb::kernels
