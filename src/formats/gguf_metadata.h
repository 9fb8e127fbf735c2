// What a GGUF file says about a model beside its tensors. docs/formats/gguf.md.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/gguf.h"
#include "model/config.h"

namespace crumb::formats {

using GgufMetadata = std::vector<std::pair<std::string, io::GgufValue>>;

/// general.* and ARCHITECTURE.* keys for the configuration: what checkpoint_gguf.cc reads back, in
/// llama.cpp's names. Mistral is a "llama". A model with a sliding window gets it as its context length,
/// since GGUF's llama and qwen attend to everything: up to there both are the same.
///
/// name       general.name; left out when empty
/// main_type  the type that holds the block linears ("Q2_0"), for general.file_type, which is informational
///
/// Throws Unsupported for yarn with an attention factor or betas of its own and for a Qwen3 with biases:
/// llama.cpp would compute another model.
GgufMetadata gguf_metadata(const model::ModelConfig& config, std::string_view name,
                           std::string_view main_type);

/// Llama-3's rope scaling as rope_freqs.weight [head_dim / 2], the divisor of each frequency; empty for other
/// scalings.
std::vector<float> gguf_rope_divisors(const model::ModelConfig& config);

}  // namespace crumb::formats
