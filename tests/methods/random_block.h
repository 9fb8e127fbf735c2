// A float block with random weights for any configuration.
#pragma once
#include "methods/transform_sites.h"
#include "nn/decoder_block.h"

namespace crumb::test {

/// Llama with grouped heads unless changed.
inline model::ModelConfig small_config(std::int64_t heads = 4, std::int64_t kv_heads = 2) {
  model::ModelConfig c;
  c.family = "llama";
  c.hidden_size = 32;
  c.intermediate_size = 48;
  c.num_attention_heads = heads;
  c.num_key_value_heads = kv_heads;
  c.head_dim = 8;
  c.num_hidden_layers = 1;
  return c;
}

/// Weights of size 1/sqrt(K), norms near 1, biases where the configuration has them.
inline nn::DecoderBlock random_block(const model::ModelConfig& c) {
  nn::DecoderBlock block(c);
  for (auto& [name, norm] : block.norms())
    *norm = (name.ends_with("bias") ? 0 : 1) +
            0.3 * at::randn({name.starts_with("self_attn") ? c.head_dim : c.hidden_size});
  for (const model::LinearRole role : block.roles()) {
    const model::LinearShape shape = model::linear_shape(c, role);
    nn::QuantLinear& linear = block.linear(role);
    linear.weight = at::randn({shape.n, shape.k}) / std::sqrt(static_cast<double>(shape.k));
    if (model::has_bias(c, role)) linear.bias = at::randn({shape.n});
    linear.n = shape.n;
    linear.k = shape.k;
  }
  return block;
}

}  // namespace crumb::test
