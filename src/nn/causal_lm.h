// A whole decoder-only model: embedding, blocks, final norm, head.
#pragma once
#include <vector>

#include "nn/decoder_block.h"

namespace crumb::nn {

struct CausalLm {
  model::ModelConfig config;
  at::Tensor embedding;  // [V, hidden_size], any float dtype
  at::Tensor positions;  // [max_position_embeddings + 2, hidden_size] where they are learned, else undefined
  std::vector<DecoderBlock> blocks;
  at::Tensor final_norm;       // [hidden_size] f32
  at::Tensor final_norm_bias;  // the same, or undefined
  at::Tensor head;             // [V, hidden_size]; the embedding itself when tied
  Compute compute;

  at::Device device() const { return embedding.device(); }

  /// ids [B, T] i64 of positions first … first + T - 1 -> the first block's input [B, T, hidden_size] f32.
  at::Tensor embed(const at::Tensor& ids, std::int64_t first = 0) const;
  /// x [..., hidden_size] -> the head's input.
  at::Tensor last_norm(const at::Tensor& x) const;
};

/// Ids as a [rows, columns] i64 tensor on `device`.
at::Tensor ids_tensor(std::span<const std::int32_t> ids, std::int64_t rows, std::int64_t columns,
                      const at::Device& device);

}  // namespace crumb::nn
