// Packed models of random weights, for measuring speed: every byte has its place, and none a meaning.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/hf_output.h"
#include "model/config.h"
#include "quant/spec.h"

namespace crumb::formats {

/// Shapes of common models: grouped-query attention, a SwiGLU MLP, no biases ("llama").
///
///          hidden  mlp    blocks  heads  kv  head_dim  vocabulary  tied  like
///   135m   576     1536   30      9      3   64        49152       yes   SmolLM2-135M
///   1b     2048    8192   16      32     8   64        128256      yes   Llama-3.2-1B
///   3b     3072    8192   28      24     8   128       128256      yes   Llama-3.2-3B
///   7b     4096    14336  32      32     8   128       32000       no    Mistral-7B
std::vector<std::string> synthetic_shapes();
/// Throws NotFound with the known names. The context is 8192 tokens.
model::ModelConfig synthetic_config(std::string_view shape);
/// Its config.json.
std::string synthetic_config_json(const model::ModelConfig& config);

/// Writes a GPTQ-v2 directory without a tokenizer into the empty `folder`, block by block (at most one block
/// and one shard are in memory). Codes are uniform, zero points one of the two middle codes, scales such that
/// w_hat has a standard deviation near K^-1/2: a normed input gives an output of its own size, so activations
/// stay finite and plausible through all blocks. Embedding and head are F16. The bytes depend on config, spec
/// and seed alone. `activations` are recorded as the model's.
///
/// Throws as write_hf_gptq; InvalidArgument where the group size does not fit the shape.
HfOutputReport write_synthetic(const model::ModelConfig& config, const quant::AffineSpec& spec,
                               std::uint64_t seed, const std::filesystem::path& folder,
                               const std::optional<quant::ActivationScheme>& activations = {});

}  // namespace crumb::formats
