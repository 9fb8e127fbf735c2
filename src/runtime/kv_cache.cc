#include "runtime/kv_cache.h"

#include <algorithm>

#include "base/check.h"
#include "base/error.h"

namespace crumb::runtime {
namespace {

std::int64_t rounded(std::int64_t capacity) {
  return (capacity + kernels::kKvCapacityStep - 1) / kernels::kKvCapacityStep * kernels::kKvCapacityStep;
}

std::int64_t checked_capacity(const model::ModelConfig& config, std::int64_t capacity) {
  if (capacity < 1 || capacity > config.max_position_embeddings) {
    fail(ErrorKind::kInvalidArgument, "runtime.kv_cache", "context of ", capacity,
         " tokens: out of range; this model takes 1 … ", config.max_position_embeddings);
  }
  if (config.head_dim > kernels::kKvLongestHead) {
    fail(ErrorKind::kUnsupported, "runtime.kv_cache", "heads of ", config.head_dim, " channels; at most ",
         kernels::kKvLongestHead, " are supported");
  }
  return capacity;
}

}  // namespace

std::int64_t kv_cache_bytes(const model::ModelConfig& config, kernels::KvFormat format,
                            std::int64_t capacity) {
  return config.num_hidden_layers * kernels::kv_block_bytes(format, config.num_key_value_heads,
                                                            config.head_dim,
                                                            rounded(checked_capacity(config, capacity)));
}

KvCache::KvCache(const model::ModelConfig& config, kernels::KvFormat format, std::int64_t capacity)
    : format_(format),
      blocks_(config.num_hidden_layers),
      kv_heads_(config.num_key_value_heads),
      head_dim_(config.head_dim),
      capacity_(checked_capacity(config, capacity)),
      block_bytes_(kernels::kv_block_bytes(format, kv_heads_, head_dim_, rounded(capacity))),
      memory_(static_cast<std::size_t>(kv_cache_bytes(config, format, capacity)),
              cat("key/value cache of ", capacity, " tokens in ", to_string(format))) {
  tokens_.reserve(static_cast<std::size_t>(capacity));
}

kernels::KvBlock KvCache::block(std::int64_t index) const {
  CRUMB_DCHECK(index >= 0 && index < blocks_);
  return {format_, kv_heads_, head_dim_, rounded(capacity_), memory_.data() + index * block_bytes_};
}

void KvCache::append(std::span<const std::int32_t> tokens) {
  if (length() + static_cast<std::int64_t>(tokens.size()) > capacity_) {
    fail(ErrorKind::kInvalidArgument, "runtime.kv_cache", length() + static_cast<std::int64_t>(tokens.size()),
         " tokens: the sequence was opened for ", capacity_, "; open a longer one or drop tokens");
  }
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
}

void KvCache::truncate(std::int64_t length) {
  if (length < 0 || length > this->length()) {
    fail(ErrorKind::kInvalidArgument, "runtime.kv_cache", "truncate to ", length,
         " tokens: the sequence has ", this->length());
  }
  tokens_.resize(static_cast<std::size_t>(length));
}

std::int64_t KvCache::reuse_prefix(std::span<const std::int32_t> prompt) {
  if (prompt.empty())
    fail(ErrorKind::kInvalidArgument, "runtime.kv_cache", "empty prompt: there is nothing to compute");
  const auto [mine, theirs] = std::mismatch(tokens_.begin(), tokens_.end(), prompt.begin(), prompt.end() - 1);
  truncate(mine - tokens_.begin());
  return length();
}

}  // namespace crumb::runtime
