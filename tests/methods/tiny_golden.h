// The tiny Llama of the golden files as nn's structures.
#pragma once
#include "base/str.h"
#include "io/safetensors.h"
#include "model/config.h"
#include "nn/causal_lm.h"
#include "nn/decoder_block.h"
#include "support/golden_file.h"

namespace crumb::test {

inline at::Tensor tensor(const io::SafetensorsFile& file, const std::string& name) {
  const auto values = file.read_f32(name);
  return at::tensor(at::ArrayRef<float>(values.data(), values.size())).view(file.at(name).shape);
}

inline model::ModelConfig tiny_config(const io::SafetensorsFile& file) {
  model::ModelConfig c;
  c.family = "llama";
  c.hidden_size = int_setting(file, "hidden");
  c.intermediate_size = int_setting(file, "intermediate");
  c.num_hidden_layers = int_setting(file, "layers");
  c.num_attention_heads = int_setting(file, "heads");
  c.num_key_value_heads = int_setting(file, "kv_heads");
  c.head_dim = int_setting(file, "head_dim");
  c.vocab_size = int_setting(file, "vocab");
  c.max_position_embeddings = 2048;
  c.rms_norm_eps = setting(file, "rms_eps");
  c.rope.theta = setting(file, "rope_theta");
  return c;
}

/// Float linears and norms under `prefix` ("init.model.layers.0.").
inline nn::DecoderBlock tiny_block(const io::SafetensorsFile& file, const model::ModelConfig& config,
                                   const std::string& prefix) {
  nn::DecoderBlock block(config);
  for (auto& [name, norm] : block.norms()) *norm = tensor(file, prefix + name);
  for (const model::LinearRole role : model::kLinearRoles) {
    nn::QuantLinear& linear = block.linear(role);
    linear.weight = tensor(file, cat(prefix, model::hf_name(role), ".weight"));
    linear.n = linear.weight.size(0);
    linear.k = linear.weight.size(1);
  }
  return block;
}

}  // namespace crumb::test
