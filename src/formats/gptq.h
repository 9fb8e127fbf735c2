// GPTQ tensors: qweight, qzeros, scales, g_idx of one linear. docs/formats/gptq.md.
#pragma once
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/linear_specs.h"
#include "io/safetensors.h"
#include "quant/activation_scheme.h"
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

/// Throws InvalidArgument unless dense words hold whole rows and columns of this shape; asked before a run,
/// not after it.
void check_gptq_shape(std::int64_t n, std::int64_t k, int bits);

/// Packs, by default dense and v2. Layout kPadded is EfficientQAT's own (equal at 2, 4, 8 bits). With kDense,
/// K and N must be multiples of 32 (of 32/bits where bits divides 32); throws InvalidArgument otherwise. v1
/// refuses z = 0.
GptqTensors pack_gptq(const quant::QuantizedLinear& linear,
                      quant::WordLayout layout = quant::WordLayout::kDense, GptqZeros zeros = GptqZeros::kV2);

/// Unpacks; sizes are checked against n, k and the spec. g_idx must be k / G (act-order: Unsupported) or
/// empty, where a file has none.
quant::QuantizedLinear unpack_gptq(const GptqTensors& tensors, const quant::AffineSpec& spec,
                                   quant::WordLayout layout, GptqZeros zeros, std::string_view name);

/// The tensors of one linear to be written, scales as F16 (`linear.scales` must be binary16 numbers; throws
/// InvalidArgument otherwise).
std::vector<io::TensorToWrite> gptq_tensors_to_write(const std::string& linear_name,
                                                     const quant::QuantizedLinear& linear);

/// Bytes of the four tensors of an [n, k] linear in the layout that crumb writes (dense, F16 scales, I32 the
/// rest).
std::int64_t gptq_bytes(std::int64_t n, std::int64_t k, const quant::AffineSpec& spec);

/// What a quantization_config is to say.
struct GptqConfigToWrite {
  quant::AffineSpec spec;  // of every linear that `others` does not name
  GptqZeros zeros = GptqZeros::kV2;
  bool symmetric = false;  // "sym": every zero point is 2^(bits-1)
  std::optional<int>
      head_bits;  // "meta": at which an engine is to keep the float embedding and head, 0: as they are
  std::optional<quant::ActivationScheme> activations = {};  // "meta": what the model was made to run with
  int weight_bits = 0;  // "meta": of the grid, where fewer than the fields have; 0: as many
  /// Linears with bits or groups of their own, written as "dynamic"; nullopt: floats.
  std::vector<std::pair<std::string, std::optional<quant::AffineSpec>>> others;
};
/// The object that GPTQModel and transformers load. `meta` keeps crumb's own words.
nlohmann::ordered_json gptq_quantization_config(const GptqConfigToWrite& config);

/// What a quantization_config promises.
struct GptqConfig {
  quant::AffineSpec spec;  // of most linears
  LinearSpecs specs;       // of each, "dynamic" included
  /// nullopt: not said, but "sym" is true: every zero point is 2^(bits-1), and the field tells v1 from v2.
  std::optional<GptqZeros> zeros;
  std::optional<int> head_bits;                        // 0, 4, 6 or 8; nullopt: not said
  std::optional<quant::ActivationScheme> activations;  // nullopt: not said
  int weight_bits = 0;                                 // of the grid, where fewer than spec.bits; 0: as many
  bool act_order = false;  // "desc_act", of any linear: only the g_idx of each tells whether groups are plain
};
/// Reads quantization_config or quantize_config.json. `subject` is the file named in errors. Throws
/// Unsupported for another method, a quantized head and unknown formats; Corrupt for missing
/// fields, among them checkpoint_format where "sym" is false and no known tool is named: z and z - 1 cannot
/// be told apart by looking, and the wrong guess is a wrong model.
GptqConfig parse_gptq_config(const nlohmann::ordered_json& config, std::string_view subject);

}  // namespace crumb::formats
