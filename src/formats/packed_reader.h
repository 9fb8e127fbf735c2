// The directory formats whose linears are codes: one reader each behind one interface. A new format is a new
// reader, and a line in packed_reader.cc.
#pragma once
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/gptq.h"
#include "formats/linear_specs.h"
#include "formats/tensor_table.h"
#include "model/config.h"
#include "quant/activation_scheme.h"
#include "quant/codes.h"
#include "quant/quantized_linear.h"

namespace crumb::formats {

/// Made from a directory's configuration, then asked linear by linear ("model.layers.3.mlp.up_proj").
/// Immutable, so it may be used from several threads.
class PackedReader {
 public:
  virtual ~PackedReader() = default;

  /// "GPTQ", "compressed-tensors", for lists.
  virtual std::string_view name() const = 0;
  const LinearSpecs& specs() const { return specs_; }
  /// At which an engine is to keep embedding and head, where the configuration says so.
  virtual std::optional<int> head_bits() const { return std::nullopt; }
  /// How activations are rounded, where the configuration says so. Static grids are tensors beside the
  /// codes: "….input_scale", and "….input_zero_point" where they are asymmetric (docs/formats/gptq.md).
  virtual std::optional<quant::ActivationScheme> activation_scheme() const { return std::nullopt; }
  /// Bits of the grid, where the fields have more; 0: as many.
  virtual int weight_bits() const { return 0; }

  /// "scales": what the tensor of a linear's scales is called.
  virtual std::string_view scales_part() const { return "scales"; }

  /// Whether the directory has codes of this linear.
  virtual bool holds(const TensorTable& tensors, std::string_view linear) const = 0;
  /// Throws NotFound or Corrupt, naming tensor and shapes, unless every part of an [n, k] linear at `spec` is
  /// there with its shape.
  virtual void check(const TensorTable& tensors, const std::string& linear, std::int64_t n, std::int64_t k,
                     const quant::AffineSpec& spec) const = 0;
  /// What check() accepts, unpacked. Throws Corrupt, Numerics (a scale that is NaN or infinite) and
  /// Unsupported (what crumb's grid cannot hold), naming the linear.
  virtual quant::QuantizedLinear read(const TensorTable& tensors, const std::string& linear, std::int64_t n,
                                      std::int64_t k, const quant::AffineSpec& spec) const = 0;

  /// Shape of an embedding or head ("lm_head.weight") that the directory holds as codes; empty where it
  /// is floats.
  virtual std::vector<std::int64_t> matrix_shape(const TensorTable&, std::string_view) const { return {}; }
  /// Its values; only asked where matrix_shape() is not empty.
  virtual std::vector<float> read_matrix(const TensorTable&, std::string_view) const { return {}; }

 protected:
  LinearSpecs specs_;
};

/// The reader for a config.json, or nullptr when it speaks of no quantization. `subject` is the file named in
/// errors. Throws Unsupported for a method that crumb does not read, naming those that it does, Corrupt for a
/// configuration that contradicts itself.
std::unique_ptr<PackedReader> make_packed_reader(const nlohmann::ordered_json& config,
                                                 std::string_view subject);
/// The same for a quantization configuration itself, as quantize_config.json has it.
std::unique_ptr<PackedReader> make_method_reader(const nlohmann::ordered_json& quantization,
                                                 std::string_view subject);

std::unique_ptr<PackedReader> make_gptq_reader(const nlohmann::ordered_json& quantization,
                                               std::string_view subject);
/// GPTQ tensors whose bits and group sizes are those that their shapes allow, whatever a configuration says.
/// Throws NotFound when no linear has any, Corrupt when the shapes of one fit no bits.
std::unique_ptr<PackedReader> make_inferring_gptq_reader(const TensorTable& tensors,
                                                         const model::ModelConfig& config, GptqZeros zeros);
std::unique_ptr<PackedReader> make_auto_round_reader(const nlohmann::ordered_json& quantization,
                                                     std::string_view subject);
std::unique_ptr<PackedReader> make_compressed_tensors_reader(const nlohmann::ordered_json& quantization,
                                                             std::string_view subject);
std::unique_ptr<PackedReader> make_awq_reader(const nlohmann::ordered_json& quantization,
                                              std::string_view subject);
/// From the object "quantization" of MLX.
std::unique_ptr<PackedReader> make_mlx_reader(const nlohmann::ordered_json& quantization,
                                              std::string_view subject);

/// Which of the two layouts `count` codes of `bits` take in `words` words: kPadded where only that fits.
/// EfficientQAT's 3-bit files and compressed-tensors up to 0.17 hold ten codes a word, everybody else a dense
/// stream. kDense when neither fits.
quant::WordLayout layout_of_words(std::int64_t words, std::int64_t count, int bits);

}  // namespace crumb::formats
