// Writes a quantized model as a Hugging Face directory with packed GPTQ-v2 linears. docs/formats/gptq.md.
#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/checkpoint.h"
#include "model/family.h"
#include "quant/quantized_linear.h"

namespace crumb::formats {

/// What one decoder block became.
struct PackedBlock {
  /// By LinearRole, empty where the family has none: codes u8 [N, K], zero points u8 [N, K/G], scales f32 [N,
  /// K/G] that binary16 can hold.
  std::array<quant::QuantizedLinear, std::size(model::kLinearRoles)> linears;
  /// Float tensors of the block that training changed (norms, biases), by their names inside the block
  /// ("input_layernorm.weight"); written as F32. The others are copied.
  std::map<std::string, std::vector<float>> floats;
  /// By LinearRole, where the activation scheme is static; written beside the linear (input_grid.h).
  std::array<std::optional<quant::StaticGrid>, std::size(model::kLinearRoles)> input_grids;
};

struct HfOutputOptions {
  quant::AffineSpec spec;  // of every block linear; what quantization_config says
  int head_bits = 8;       // recorded for engines; embedding and head are written as floats whatever it is
  std::optional<quant::ActivationScheme> activations = {};  // recorded for evaluation and engines
  int weight_bits = 0;  // recorded: of the grid, where fewer than spec.bits; 0: as many
  /// Upper limit of one shard's tensor data, and of the writer's memory beside one block.
  std::int64_t shard_bytes = 1'000'000'000;
  /// Changed tensors outside of the blocks ("model.norm.weight"); written as F32.
  std::map<std::string, std::vector<float>> floats;
  /// Companion files by name, in place of those beside the source's weights: tokenizer.json … made from GGUF
  /// metadata.
  std::map<std::string, std::string> texts;
};

struct HfOutputReport {
  std::int64_t tensor_bytes = 0;         // all tensor data
  std::int64_t packed_linear_bytes = 0;  // qweight, qzeros, scales, g_idx of the block linears
  std::int64_t file_bytes = 0;           // all files written
  std::int64_t shards = 0;
  /// Stored bits of one block-linear weight, scales, zero points and g_idx included.
  double bits_per_linear_weight = 0.0;
};

/// Writes the model into the existing, empty `folder` (the caller's io::AtomicDirectory, who also commits
/// it):
///
///   model.safetensors, or model-0000i-of-0000n.safetensors and model.safetensors.index.json
///   config.json            the source's text with quantization_config added, every other byte as it was
///   quantize_config.json   the same object, for older readers
///   companion files        options.texts first, else the source's, verbatim
///
/// Block linears become qweight, qzeros, scales, g_idx (gptq.h; dense layout, v2 zeros). Norms are written as
/// F32; embeddings, head and biases keep the source's float dtype (F16 where the source is a GGUF block
/// type). A tied head is not written.
///
/// source   the model that was quantized; gives config, float tensors and companions
/// block    called once per block, 0 … num_hidden_layers - 1, in order; its result is packed at once and
/// freed
///
/// Memory: one PackedBlock, and the packed bytes of the shard being filled (at most shard_bytes, or one block
/// when that is larger). Throws InvalidArgument when a linear has another shape or spec than promised, a
/// scale is no binary16 number, a changed tensor is unknown or has another size, or the folder holds weights
/// already; Io when the disk is full (checked before the first byte).
HfOutputReport write_hf_gptq(const Checkpoint& source, const std::filesystem::path& folder,
                             const HfOutputOptions& options,
                             const std::function<PackedBlock(std::int64_t block)>& block);

/// The bytes that write_hf_gptq will write as tensor data; for estimates before a run.
std::int64_t hf_gptq_tensor_bytes(const Checkpoint& source, const quant::AffineSpec& spec);

}  // namespace crumb::formats
