// How the keys and values of one decoder block of one sequence lie in memory, whole or rounded to 8 or 4
// bits.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "kernels/registry.h"

namespace crumb::kernels {

/// One grid per token and head, as quant/token_grid.h makes it (docs/math.md T1; Q1, Q2) but for the floor of
/// the scale, which is KvBlock's: kInt8 the symmetric one of 8 bits, kInt4 the asymmetric one of 4, its range
/// widened to hold 0. Both: |x_hat - x| <= scale / 2 up to f32 rounding. Keys are stored after RoPE.
enum class KvFormat { kF32, kF16, kInt8, kInt4 };
/// "f32", "f16", "int8", "int4".
std::string_view to_string(KvFormat format) noexcept;
/// Throws InvalidArgument, naming the known ones.
KvFormat parse_kv_format(std::string_view text);

/// Tokens that share a group of keys.
inline constexpr std::int64_t kKvTokenGroup = 16;
/// Capacities are multiples of it: attention reads keys in tiles of so many tokens.
inline constexpr std::int64_t kKvCapacityStep = 64;
/// Longest head that a cache takes.
inline constexpr std::int64_t kKvLongestHead = 1024;

/// Keys and values of `capacity` tokens of one block. Heads one after the other; in a head, in this order:
///
///   keys          [capacity / 16, D, 16]    f32, f16 or i8; int4: [capacity / 16, D / 2, 16] bytes, channel
///   i in the
///                                           low and channel i + D / 2 in the high four bits
///   values        [capacity, S]             S = D rounded up to 32; the rest is filled with zeros (int4:
///   zero points);
///                                           int4: [capacity, S / 2] bytes, i low, i + S / 2 high
///   key scales, value scales  f32 [capacity]   int8, int4
///   key zeros, value zeros    u8 [capacity]    int4
///
/// Sixteen tokens of a channel lie together so that a query meets sixteen keys without a sum across lanes.
struct KvBlock {
  KvFormat format = KvFormat::kF16;
  std::int64_t kv_heads = 0, head_dim = 0, capacity = 0;  // head_dim even and <= 1024, capacity % 64 == 0
  std::byte* data = nullptr;                              // kv_block_bytes(), aligned to 64
  /// Of kInt8 and kInt4. 0 keeps the precision of rows of tiny numbers; quant::kMinTokenScale gives the codes
  /// that a model with rounded keys and values was made for.
  float least_scale = 0;
};
/// Bytes of one block; a multiple of 64.
std::int64_t kv_block_bytes(KvFormat format, std::int64_t kv_heads, std::int64_t head_dim,
                            std::int64_t capacity);

/// Writes tokens [first, first + count) of every head on the calling thread.
/// k, v  f32, head h of token t at [t * stride + h * head_dim]. Bits do not differ between variants.
void kv_store(const KvBlock& block, std::int64_t first, std::int64_t count, const float* k, const float* v,
              std::int64_t stride);
/// Token t of head h as the attention sees it: key and value [head_dim]. The scalar truth of the formats.
void kv_load(const KvBlock& block, std::int64_t token, std::int64_t head, float* key, float* value);

struct KvStoreFunctions {
  void (*store)(const KvBlock& block, std::int64_t first, std::int64_t count, const float* k, const float* v,
                std::int64_t stride) noexcept;
};
std::span<const Variant<KvStoreFunctions>> kv_store_variants();
const KvStoreFunctions* kv_store_ref() noexcept;
const KvStoreFunctions* kv_store_avx2() noexcept;
const KvStoreFunctions* kv_store_avx512() noexcept;

}  // namespace crumb::kernels
