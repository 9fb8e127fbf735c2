#include "kernels/cached_attention.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/cached_attention/tiles.h"

namespace crumb::kernels {

std::span<const Variant<CachedAttentionFunctions>> cached_attention_variants() {
  static const Variant<CachedAttentionFunctions> kVariants[] = {{Isa::kAvx512, cached_attention_avx512()},
                                                                {Isa::kAvx2, cached_attention_avx2()},
                                                                {Isa::kRef, cached_attention_ref()}};
  return kVariants;
}

std::int64_t cached_attention_items(const CachedAttentionArgs& args) {
  return (args.tokens + kTokenTile - 1) / kTokenTile * args.query_heads;
}

std::int64_t cached_attention_workspace_floats(std::int64_t head_dim) {
  return workspace_floats(head_dim);
}

void cached_attention(const CachedAttentionArgs& args, std::int64_t begin, std::int64_t end,
                      float* workspace) {
  CRUMB_CHECK(args.query_heads > 0 && args.query_heads % args.cache.kv_heads == 0 && args.window >= 0);
  CRUMB_CHECK(args.first >= 0 && args.first + args.tokens <= args.cache.capacity);
  CRUMB_CHECK(begin >= 0 && end <= cached_attention_items(args));
  const auto attend = choose(cached_attention_variants()).run->attend;
  const std::int64_t heads = args.query_heads, group = heads / args.cache.kv_heads;
  for (std::int64_t item = begin; item < end;) {
    // Heads of one key/value head go together, as far as the range has them.
    const std::int64_t tile = item / heads, h0 = item % heads;
    const std::int64_t h1 = std::min(std::min((h0 / group + 1) * group, heads), h0 + end - item);
    attend(args, tile * kTokenTile, std::min((tile + 1) * kTokenTile, args.tokens), h0, h1, workspace);
    item += h1 - h0;
  }
}

}  // namespace crumb::kernels
