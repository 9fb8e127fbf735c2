// GPTQ tensors: qweight, qzeros, scales, g_idx of one linear. docs/formats/gptq.md.
#pragma once
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "quant/codes.h"
#include "quant/quantized_linear.h"

namespace crumb::formats {

/// How zero points are stored: v1 stores z - 1, v2 stores z.
enum class GptqZeros { kV1, kV2 };

/// The four tensors, as the file has them.
struct GptqTensors {
  std::int64_t n = 0, k = 0;
  std::vector<std::uint32_t> qweight;  // [words(K), N]
  std::vector<std::uint32_t> qzeros;   // [K/G, words(N)]
  std::vector<float> scales;           // [K/G, N]
  std::vector<std::int32_t> g_idx;     // [K] = k / G
};

/// Packs, by default dense and v2. Layout kPadded is EfficientQAT's own (equal at 2, 4, 8 bits). With kDense, K and N must be multiples of 32
/// (of 32/bits where bits divides 32); throws InvalidArgument otherwise. v1 refuses z = 0.
GptqTensors pack_gptq(const quant::QuantizedLinear& linear, quant::WordLayout layout = quant::WordLayout::kDense,
                      GptqZeros zeros = GptqZeros::kV2);

/// Unpacks; sizes are checked against n, k and the spec. g_idx must be k / G (act-order: Unsupported).
quant::QuantizedLinear unpack_gptq(const GptqTensors& tensors, const quant::AffineSpec& spec, quant::WordLayout layout, GptqZeros zeros,
                                   std::string_view name);

/// The tensors of one linear to be written, scales as F16 (`linear.scales` must be binary16 numbers; throws InvalidArgument otherwise).
std::vector<io::TensorToWrite> gptq_tensors_to_write(const std::string& linear_name, const quant::QuantizedLinear& linear);

/// The quantization_config object that GPTQModel and transformers load.
nlohmann::ordered_json gptq_quantization_config(const quant::AffineSpec& spec);

}  // namespace crumb::formats
