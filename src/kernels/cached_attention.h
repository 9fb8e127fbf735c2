// Attention of new tokens over a cache of keys and values, read as it is stored.
#pragma once
#include <cstdint>
#include <span>

#include "kernels/kv_store.h"
#include "kernels/registry.h"

namespace crumb::kernels {

/// o[t, h] = sum_p softmax_p(scale * q[t, h] k[p]) v[p] over the positions p that token t sees.
///
/// cache   one block of one sequence, of which tokens [0, first + tokens) are stored
/// q       [tokens, query_heads, head_dim] f32 after RoPE, tokens q_stride floats apart
/// o (out) the same shape, tokens o_stride floats apart; aliases no input
///
/// Token t has position first + t and sees (first + t - window, first + t], everything up to itself when
/// window is 0. Query head h reads key/value head h / (query_heads / kv_heads).
struct CachedAttentionArgs {
  KvBlock cache;
  const float* q = nullptr;
  float* o = nullptr;
  std::int64_t q_stride = 0, o_stride = 0;
  std::int64_t query_heads = 0;  // a multiple of cache.kv_heads
  std::int64_t first = 0, tokens = 0, window = 0;
  float scale = 0;
};

/// Items that a caller spreads over its threads: tiles of tokens x query heads, heads running fastest.
std::int64_t cached_attention_items(const CachedAttentionArgs& args);
/// Floats of workspace for one thread.
std::int64_t cached_attention_workspace_floats(std::int64_t head_dim);

/// Items [begin, end) on the calling thread, best usable variant. Blocks of 64 keys, cut at multiples of 64
/// from the start of the sequence; the softmax is kept on line (arXiv:2205.14135 Algorithm 1); sums in f32.
/// The bits of a token's output depend on its query and the cache alone: not on the range, nor on the tokens
/// that come with it.
///
/// Error against f64 over the stored numbers, u = 2^-24, T positions seen, c codes (the numbers themselves in
/// f32 and f16) and z zero points:   2 (1.1 (D + 8) u A + (T + 16) u) V
/// with A = max_p scale * key_scale_p * sum_d |q_d| (|c| + z)  and  V = max_p value_scale_p (|c| + z).
void cached_attention(const CachedAttentionArgs& args, std::int64_t begin, std::int64_t end,
                      float* workspace);

/// Tokens [t0, t1) of query heads [h0, h1), which share one key/value head.
struct CachedAttentionFunctions {
  void (*attend)(const CachedAttentionArgs& args, std::int64_t t0, std::int64_t t1, std::int64_t h0,
                 std::int64_t h1, float* workspace) noexcept;
};
std::span<const Variant<CachedAttentionFunctions>> cached_attention_variants();
const CachedAttentionFunctions* cached_attention_ref() noexcept;
const CachedAttentionFunctions* cached_attention_avx2() noexcept;
const CachedAttentionFunctions* cached_attention_avx512() noexcept;

}  // namespace crumb::kernels
