// A whole decoder-only model: embedding, blocks, final norm, head.
#pragma once
#include <vector>

#include "nn/decoder_block.h"

namespace crumb::nn {

struct CausalLm {
  model::ModelConfig config;
  at::Tensor embedding;  // [V, hidden_size], any float dtype
  std::vector<DecoderBlock> blocks;
  at::Tensor final_norm;  // [hidden_size] f32
  at::Tensor head;        // [V, hidden_size]; the embedding itself when tied
  Compute compute;

  at::Device device() const { return embedding.device(); }
};

/// ids [B, T] i64 -> [B, T, hidden_size] f32.
at::Tensor embed(const at::Tensor& embedding, const at::Tensor& ids);

/// Ids as a [rows, columns] i64 tensor on `device`.
at::Tensor ids_tensor(std::span<const std::int32_t> ids, std::int64_t rows, std::int64_t columns,
                      const at::Device& device);

}  // namespace crumb::nn
