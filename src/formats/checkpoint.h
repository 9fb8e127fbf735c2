// One view of a model on disk, whichever of three kinds it is: HF directory, GGUF file, packed directory
// (crumb's own, GPTQ, auto-round, compressed-tensors, AWQ, MLX).
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "formats/gptq.h"
#include "model/config.h"
#include "model/family.h"
#include "quant/activation_scheme.h"
#include "quant/quantized_linear.h"

namespace crumb::formats {

enum class CheckpointKind { kHuggingFace, kGguf, kPacked };

/// What the user knows and the files do not say.
struct OpenOptions {
  /// How GPTQ tensors store zero points, over what a configuration says. Directories without one
  /// (EfficientQAT writes such) open with it: bits and group size are those of the tensors' shapes.
  std::optional<GptqZeros> gptq_zeros;
};

struct StoredTensor {
  std::string name, type;  // "F16", "I32", "Q4_1"
  std::vector<std::int64_t> shape;
  std::int64_t bytes = 0;
};

/// Tensors are asked for by their HF names whatever the file calls them
/// ("model.layers.0.self_attn.q_proj.weight"); GGUF's row permutation of q and k is undone. Reading is
/// thread-safe. Shards are mapped, not read, so a 70B checkpoint opens at once.
class Checkpoint {
 public:
  /// Throws NotFound (path, missing shard), Corrupt, Unsupported (architecture, tensor type, quantization
  /// method). Every tensor that the configuration promises is looked up here, with its shape, so that a run
  /// cannot fail at block 60.
  static std::unique_ptr<Checkpoint> open(const std::filesystem::path& path, const OpenOptions& options = {});
  virtual ~Checkpoint() = default;

  virtual CheckpointKind kind() const = 0;
  virtual const std::filesystem::path& path() const = 0;
  virtual const model::ModelConfig& config() const = 0;
  /// config.json verbatim; for GGUF one made from its metadata.
  virtual std::string config_json() const = 0;

  virtual bool has(std::string_view name) const = 0;
  virtual std::vector<std::int64_t> shape(std::string_view name) const = 0;
  /// The float dtype that a copy of this tensor keeps without loss: F32, F16 or BF16; F16 for GGUF's block
  /// types.
  virtual DType float_dtype(std::string_view name) const = 0;
  /// Values as f32. Throws Numerics when a value is NaN or infinite, naming tensor and index.
  virtual std::vector<float> read_f32(std::string_view name) const = 0;
  /// Rows [first, first + count) of read_f32, or that many elements of a vector; memory: these, where the
  /// file holds floats in the model's order. Indices in messages count from the first row.
  virtual std::vector<float> read_f32_rows(std::string_view name, std::int64_t first,
                                           std::int64_t count) const;

  /// A linear "model.layers.3.self_attn.q_proj" (no ".weight") stored as codes. nullopt for float linears.
  virtual std::optional<quant::QuantizedLinear> read_packed(std::string_view linear) const = 0;
  /// Bits, group size and grid of most linears of a packed checkpoint.
  virtual std::optional<quant::AffineSpec> packed_spec() const = 0;
  /// Of this one: linears may differ. nullopt for float linears, as read_packed.
  virtual std::optional<quant::AffineSpec> packed_spec_of(std::string_view) const { return std::nullopt; }
  /// Whether the scales of a linear stored as codes are binary16 numbers, as engines keep them.
  virtual bool scales_fit_f16(std::string_view) const { return true; }
  /// Whether the file holds codes of the linear, whose parts then have the shapes that [n, k] and its spec
  /// give; throws NotFound, Corrupt or InvalidArgument where they have not.
  virtual bool check_codes(const std::string&, std::int64_t, std::int64_t) const { return false; }
  /// The grid of a float matrix ("….weight") whose file holds codes and scales of it, as GGUF's Q4_0 does: a
  /// reader of floats need not know, an engine may keep the codes.
  virtual std::optional<quant::AffineSpec> grid_of(std::string_view) const { return std::nullopt; }
  /// The codes of a matrix that has a grid; quant::dequantize of them gives read_f32. Throws as read_f32.
  virtual quant::QuantizedLinear read_codes(std::string_view name) const;
  /// At which an engine is to keep embedding and head, where the checkpoint says so: 8, 6, 4 or 0 (floats).
  virtual std::optional<int> head_bits() const { return std::nullopt; }
  /// How activations are to be rounded when the model runs, where the checkpoint says so.
  virtual std::optional<quant::ActivationScheme> activation_scheme() const { return std::nullopt; }
  /// The grid of a linear's inputs, where the scheme is static (nullopt elsewhere, and for linears of
  /// floats). Throws Corrupt.
  virtual std::optional<quant::StaticGrid> input_grid(std::string_view) const { return std::nullopt; }
  /// Bits of the grid of weights, where the file's fields have more (W6 in 8); 0: as many.
  virtual int weight_bits() const { return 0; }

  /// What lies in the file, by Hugging Face names: "….qweight" where there are codes. In the order of names;
  /// empty where there is no file.
  virtual std::vector<StoredTensor> stored_tensors() const { return {}; }
  /// Bytes of all tensor data on disk, and the name of what holds the weights: "safetensors bf16, 2 shards",
  /// "GGUF Q4_1".
  virtual std::int64_t tensor_bytes() const = 0;
  virtual std::string describe() const = 0;

  /// Files beside the weights that a copy carries along verbatim (tokenizer, generation config, chat
  /// template, licence); empty for GGUF.
  virtual std::vector<std::filesystem::path> companion_files() const = 0;
};

}  // namespace crumb::formats
