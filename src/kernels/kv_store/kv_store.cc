#include "kernels/kv_store.h"

#include "base/check.h"
#include "base/error.h"
#include "base/half.h"
#include "kernels/kv_store/kv_layout.h"

namespace crumb::kernels {

std::string_view to_string(KvFormat format) noexcept {
  switch (format) {
    case KvFormat::kF32:
      return "f32";
    case KvFormat::kF16:
      return "f16";
    case KvFormat::kInt8:
      return "int8";
    case KvFormat::kInt4:
      return "int4";
  }
  return "?";
}

KvFormat parse_kv_format(std::string_view text) {
  for (const KvFormat format : {KvFormat::kF32, KvFormat::kF16, KvFormat::kInt8, KvFormat::kInt4}) {
    if (text == to_string(format)) return format;
  }
  fail(ErrorKind::kInvalidArgument, "kernels.kv_store", "cache format '", text,
       "': no such format; want f32, f16, int8 or int4");
}

std::span<const Variant<KvStoreFunctions>> kv_store_variants() {
  static const Variant<KvStoreFunctions> kVariants[] = {
      {Isa::kAvx512, kv_store_avx512()}, {Isa::kAvx2, kv_store_avx2()}, {Isa::kRef, kv_store_ref()}};
  return kVariants;
}

std::int64_t kv_block_bytes(KvFormat format, std::int64_t kv_heads, std::int64_t head_dim,
                            std::int64_t capacity) {
  CRUMB_CHECK(kv_heads > 0 && head_dim > 0 && head_dim % 2 == 0 && head_dim <= kKvLongestHead &&
              capacity >= 0 && capacity % kKvCapacityStep == 0);
  return kv_heads * kv_head_bytes(format, head_dim, capacity);
}

void kv_store(const KvBlock& block, std::int64_t first, std::int64_t count, const float* k, const float* v,
              std::int64_t stride) {
  CRUMB_CHECK(first >= 0 && count >= 0 && first + count <= block.capacity &&
              stride >= block.kv_heads * block.head_dim);
  choose(kv_store_variants()).run->store(block, first, count, k, v, stride);
}

void kv_load(const KvBlock& block, std::int64_t token, std::int64_t head, float* key, float* value) {
  CRUMB_CHECK(token >= 0 && token < block.capacity && head >= 0 && head < block.kv_heads);
  const KvHead h = kv_head(block, head);
  const std::int64_t d = block.head_dim, s = value_stride(d), lane = token % kKvTokenGroup;
  const std::byte* keys = h.keys + token / kKvTokenGroup * key_group_bytes(block);
  const std::byte* values = h.values + token * value_row_bytes(block);
  const auto nibble = [](const std::byte* bytes, std::int64_t i, bool high) {
    const auto byte = static_cast<int>(bytes[i]);
    return high ? byte >> 4 : byte & 15;
  };
  for (std::int64_t i = 0; i < d; ++i) {
    switch (block.format) {
      case KvFormat::kF32:
        key[i] = reinterpret_cast<const float*>(keys)[i * kKvTokenGroup + lane];
        value[i] = reinterpret_cast<const float*>(values)[i];
        break;
      case KvFormat::kF16:
        key[i] = f16_to_float(reinterpret_cast<const std::uint16_t*>(keys)[i * kKvTokenGroup + lane]);
        value[i] = f16_to_float(reinterpret_cast<const std::uint16_t*>(values)[i]);
        break;
      case KvFormat::kInt8:
        key[i] = static_cast<float>(static_cast<std::int8_t>(keys[i * kKvTokenGroup + lane])) *
                 h.key_scales[token];
        value[i] = static_cast<float>(static_cast<std::int8_t>(values[i])) * h.value_scales[token];
        break;
      case KvFormat::kInt4: {
        const std::int64_t half = d / 2;
        const int kc = nibble(keys, i % half * kKvTokenGroup + lane, i >= half),
                  vc = nibble(values, i % (s / 2), i >= s / 2);
        key[i] = static_cast<float>(kc - h.key_zeros[token]) * h.key_scales[token];
        value[i] = static_cast<float>(vc - h.value_zeros[token]) * h.value_scales[token];
        break;
      }
    }
  }
}

}  // namespace crumb::kernels
