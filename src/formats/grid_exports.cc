#include "formats/grid_exports.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "base/half.h"
#include "base/rng.h"
#include "formats/block_codes.h"
#include "formats/exporter.h"
#include "formats/synthetic.h"

namespace crumb::formats {
namespace {

/// A small model of one block; every size is a multiple of 256, which suits every format.
class GridCheckpoint final : public Checkpoint {
 public:
  explicit GridCheckpoint(const quant::AffineSpec& spec) : spec_(spec) {
    config_.family = "llama";
    config_.hidden_size = 256;
    config_.intermediate_size = 256;
    config_.num_hidden_layers = 1;
    config_.num_attention_heads = config_.num_key_value_heads = 4;
    config_.head_dim = 64;
    config_.vocab_size = 256;
    config_.tie_word_embeddings = true;
  }

  CheckpointKind kind() const override { return CheckpointKind::kPacked; }
  const std::filesystem::path& path() const override { return path_; }
  const model::ModelConfig& config() const override { return config_; }
  std::string config_json() const override { return synthetic_config_json(config_); }
  bool has(std::string_view name) const override { return !shape(name).empty(); }
  std::vector<std::int64_t> shape(std::string_view name) const override {
    for (const auto& tensor : model::outer_tensors(config_))
      if (tensor.name == name) return tensor.shape;
    for (const auto& tensor : model::block_tensors(config_, 0))
      if (tensor.name == name) return tensor.shape;
    return {};
  }
  DType float_dtype(std::string_view) const override { return DType::kF16; }
  std::vector<float> read_f32(std::string_view name) const override {
    std::int64_t count = 1;
    for (const std::int64_t size : shape(name)) count *= size;
    return std::vector<float>(static_cast<std::size_t>(count), 1.0f);
  }
  std::optional<quant::QuantizedLinear> read_packed(std::string_view linear) const override {
    for (const model::LinearRole role : model::kLinearRoles) {
      if (model::linear_name(0, role) == linear) return random_linear(model::linear_shape(config_, role));
    }
    return std::nullopt;
  }
  std::optional<quant::AffineSpec> packed_spec() const override { return spec_; }
  std::optional<quant::AffineSpec> packed_spec_of(std::string_view) const override { return spec_; }
  std::int64_t tensor_bytes() const override { return 0; }
  std::string describe() const override { return "any weights of a grid"; }
  std::vector<std::filesystem::path> companion_files() const override { return {}; }

 private:
  quant::QuantizedLinear random_linear(const model::LinearShape& shape) const {
    quant::QuantizedLinear linear{shape.n, shape.k, spec_, {}, {}, {}};
    SplitMix64 random(3);
    const auto codes = static_cast<std::uint64_t>(spec_.max_code()) + 1;
    linear.codes.resize(static_cast<std::size_t>(shape.n * shape.k));
    for (std::uint8_t& code : linear.codes) code = static_cast<std::uint8_t>(random.next() % codes);
    linear.scales.resize(static_cast<std::size_t>(shape.n * spec_.groups(shape.k)));
    linear.zero_points.resize(linear.scales.size());
    for (float& scale : linear.scales)
      scale = round_to_f16(static_cast<float>(0.01 + 0.01 * random.uniform()));
    for (std::uint8_t& zero : linear.zero_points) {
      zero = static_cast<std::uint8_t>(spec_.grid == quant::Grid::kAsym ? random.next() % codes
                                                                        : codes / 2 - random.next() % 2);
    }
    return linear;
  }

  quant::AffineSpec spec_;
  model::ModelConfig config_;
  std::filesystem::path path_ = "any weights of a grid";
};

bool keeps_codes(const LinearFit& fit) {
  return fit.lossless && fit.stored_as != "F32" && fit.stored_as != "F16" && fit.stored_as != "BF16";
}

}  // namespace

std::vector<std::string> lossless_exports(const quant::AffineSpec& spec) {
  const GridCheckpoint checkpoint(spec);
  std::map<std::string, quant::QuantizedLinear> linears;
  for (const std::string& linear : block_linears(checkpoint.config()))
    linears[linear] = *checkpoint.read_packed(linear);
  std::vector<std::string> names;
  for (const Exporter* exporter : exporters()) {
    try {
      const std::unique_ptr<FitJudge> judge = exporter->judge(checkpoint);
      for (const auto& [name, codes] : linears) judge->add(name, &codes);
      const std::vector<LinearFit> fits = judge->finish();
      if (!fits.empty() && std::all_of(fits.begin(), fits.end(), keeps_codes))
        names.emplace_back(exporter->name());
    } catch (const Error& error) {  // a format that refuses the grid as a whole
      if (error.kind() != ErrorKind::kUnsupported && error.kind() != ErrorKind::kInvalidArgument) throw;
    }
  }
  return names;
}

}  // namespace crumb::formats
