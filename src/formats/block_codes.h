// The codes of a checkpoint's block linears, wherever it has them, and what readers of parts check.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/checkpoint.h"
#include "quant/quantized_linear.h"

namespace crumb::formats {

/// The codes of a linear: packed, or of a GGUF type that is a grid; nullopt for floats.
std::optional<quant::QuantizedLinear> codes_of(const Checkpoint& source, const std::string& linear);
/// The same for its spec alone.
std::optional<quant::AffineSpec> spec_of_codes(const Checkpoint& source, const std::string& linear);
/// Every block linear's name, in order.
std::vector<std::string> block_linears(const model::ModelConfig& config);

/// Throws Corrupt, naming `linear` and `part`, unless a part of an [n, k] linear has as many elements as
/// expected. `fields`: what the configuration calls bits and groups; `where`: the function of the error.
void check_part_size(std::string_view where, std::string_view linear, std::string_view part,
                     std::size_t found, std::int64_t expected, std::int64_t n, std::int64_t k,
                     const quant::AffineSpec& spec, std::string_view fields);

}  // namespace crumb::formats
