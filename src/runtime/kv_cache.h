// What a sequence has said so far: its tokens, and their keys and values in every block.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/kv_store.h"
#include "model/config.h"
#include "runtime/memory.h"

namespace crumb::runtime {

/// Bytes of keys and values for `capacity` tokens (rounded up to 64) of one sequence.
std::int64_t kv_cache_bytes(const model::ModelConfig& config, kernels::KvFormat format,
                            std::int64_t capacity);

/// One sequence. Memory is taken from the system when tokens are stored, all of it is reserved at once.
class KvCache {
 public:
  /// capacity  tokens, 1 … max_position_embeddings. Throws InvalidArgument outside of that; OutOfMemory, with
  /// what is needed and what is there, when kv_cache_bytes() is more than the machine has left.
  KvCache(const model::ModelConfig& config, kernels::KvFormat format, std::int64_t capacity);

  std::int64_t length() const { return static_cast<std::int64_t>(tokens_.size()); }
  std::int64_t capacity() const { return capacity_; }
  std::int64_t bytes() const { return static_cast<std::int64_t>(memory_.size()); }
  kernels::KvFormat format() const { return format_; }
  std::span<const std::int32_t> tokens() const { return tokens_; }

  /// The keys and values of one block. Tokens [0, length()) are valid.
  kernels::KvBlock block(std::int64_t index) const;

  /// The engine has stored keys and values of these tokens behind the present ones, in every block. Throws
  /// InvalidArgument past the capacity.
  void append(std::span<const std::int32_t> tokens);
  /// Forgets everything from `length` on. Throws InvalidArgument above the present length.
  void truncate(std::int64_t length);
  /// Keeps the longest prefix that this sequence shares with `prompt`, but leaves at least the prompt's last
  /// token to be computed, whose logits are wanted. Returns the tokens kept: the engine goes on with the
  /// rest.
  std::int64_t reuse_prefix(std::span<const std::int32_t> prompt);

 private:
  kernels::KvFormat format_;
  std::int64_t blocks_, kv_heads_, head_dim_, capacity_, block_bytes_;
  std::vector<std::int32_t> tokens_;
  Memory memory_;
};

}  // namespace crumb::runtime
