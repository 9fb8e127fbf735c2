// Hugging Face directories: float weights, or codes in one of the formats of packed_reader.h (crumb's own
// output among them).
#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/half.h"
#include "formats/checkpoint_readers.h"
#include "formats/companions.h"
#include "formats/input_grid.h"
#include "formats/packed_reader.h"
#include "formats/tensor_table.h"
#include "io/json.h"

namespace crumb::formats {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kWhere = "formats.checkpoint";

class HfCheckpoint final : public Checkpoint {
 public:
  HfCheckpoint(const fs::path& folder, const OpenOptions& options)
      : path_(folder), config_text_(io::read_text_file(folder / "config.json")) {
    const std::string subject = (folder / "config.json").string();
    config_ = model::parse_hf_config(io::parse_json(config_text_, subject), subject);
    tensors_ = std::make_unique<TensorTable>(folder, config_);
    if (options.gptq_zeros) {
      reader_ = make_inferring_gptq_reader(*tensors_, config_, *options.gptq_zeros);
      return;
    }
    reader_ = make_packed_reader(io::parse_ordered_json(config_text_, subject), subject);
    if (const fs::path file = folder / "quantize_config.json"; !reader_ && fs::exists(file)) {
      reader_ =
          make_method_reader(io::parse_ordered_json(io::read_text_file(file), file.string()), file.string());
    }
  }

  CheckpointKind kind() const override {
    return reader_ ? CheckpointKind::kPacked : CheckpointKind::kHuggingFace;
  }
  const fs::path& path() const override { return path_; }
  const model::ModelConfig& config() const override { return config_; }
  std::string config_json() const override { return config_text_; }

  bool has(std::string_view name) const override {
    return tensors_->has(name) && !(name.ends_with(kWeight) && holds_codes(linear_of(name)));
  }
  std::vector<std::int64_t> shape(std::string_view name) const override {
    if (auto shape = matrix_shape(name); !shape.empty()) return shape;
    return tensors_->info(name).shape;
  }

  DType float_dtype(std::string_view name) const override {
    if (!matrix_shape(name).empty()) return DType::kF32;
    const DType dtype = tensors_->info(name).dtype;
    return dtype == DType::kF16 || dtype == DType::kBF16 ? dtype : DType::kF32;
  }

  std::vector<float> read_f32(std::string_view name) const override {
    return matrix_shape(name).empty() ? tensors_->floats(name) : reader_->read_matrix(*tensors_, name);
  }
  std::vector<float> read_f32_rows(std::string_view name, std::int64_t first,
                                   std::int64_t count) const override {
    return matrix_shape(name).empty() ? tensors_->float_rows(name, first, count)
                                      : Checkpoint::read_f32_rows(name, first, count);
  }

  std::optional<quant::QuantizedLinear> read_packed(std::string_view linear) const override {
    if (!holds_codes(linear)) return std::nullopt;
    const auto [n, k] = expected_shape(linear);
    return reader_->read(*tensors_, std::string(linear), n, k, spec_of(linear));
  }
  std::optional<quant::AffineSpec> packed_spec() const override {
    if (!reader_) return std::nullopt;
    if (const auto& most = reader_->specs().otherwise()) return most;
    for (std::int64_t i = 0; i < config_.num_hidden_layers; ++i) {
      for (const model::LinearRole role : model::linear_roles(config_)) {
        if (const auto spec = packed_spec_of(model::linear_name(i, role))) return spec;
      }
    }
    return std::nullopt;
  }
  std::optional<quant::AffineSpec> packed_spec_of(std::string_view linear) const override {
    return holds_codes(linear) ? std::optional(spec_of(linear)) : std::nullopt;
  }
  bool scales_fit_f16(std::string_view linear) const override {
    const std::string scales = cat(linear, ".", reader_->scales_part());
    if (tensors_->info(scales).dtype == DType::kF16) return true;
    const std::vector<float> values = tensors_->floats(scales);
    return std::all_of(values.begin(), values.end(), [](float s) { return round_to_f16(s) == s; });
  }
  bool check_codes(const std::string& linear, std::int64_t n, std::int64_t k) const override {
    if (!holds_codes(linear)) return false;
    const quant::AffineSpec spec = spec_of(linear);
    quant::check_spec(spec, k, linear);
    reader_->check(*tensors_, linear, n, k, spec);
    input_grid(linear);  // whose sizes and values are looked at
    return true;
  }
  std::optional<int> head_bits() const override { return reader_ ? reader_->head_bits() : std::nullopt; }
  std::optional<quant::ActivationScheme> activation_scheme() const override {
    return reader_ ? reader_->activation_scheme() : std::nullopt;
  }
  std::optional<quant::StaticGrid> input_grid(std::string_view linear) const override {
    const auto scheme = activation_scheme();
    if (!scheme || !scheme->is_static() || !holds_codes(linear)) return std::nullopt;
    return read_input_grid(*tensors_, std::string(linear), *scheme, expected_shape(linear).k);
  }
  int weight_bits() const override { return reader_ ? reader_->weight_bits() : 0; }

  std::vector<StoredTensor> stored_tensors() const override {
    std::vector<StoredTensor> out;
    for (const auto& shard : tensors_->shards()) {
      for (const io::TensorInfo& tensor : shard.tensors())
        out.push_back({tensor.name, std::string(to_string(tensor.dtype)), tensor.shape,
                       static_cast<std::int64_t>(tensor.size)});
    }
    std::sort(out.begin(), out.end(),
              [](const StoredTensor& a, const StoredTensor& b) { return a.name < b.name; });
    return out;
  }
  std::int64_t tensor_bytes() const override { return tensors_->bytes(); }

  std::string describe() const override {
    std::string what;
    if (reader_) {
      const auto spec = packed_spec();
      what =
          cat(reader_->name(), spec ? cat(" ", quant::scheme_name(*spec)) : std::string(), mixed_words(spec));
      if (const auto a = reader_->activation_scheme()) {
        if (a->bits < 16)
          what += cat(", activations of ", a->bits, " bits",
                      a->is_static() ? cat(" (", quant::to_string(a->inputs), ")") : "");
        if (a->kv_bits < 16) what += cat(", keys and values of ", a->kv_bits, " bits");
      }
    } else {
      what = cat("safetensors ", to_string(float_dtype(model::kEmbeddingName)));
    }
    const std::size_t shards = tensors_->shards().size();
    return shards == 1 ? what : cat(what, ", ", shards, " shards");
  }

  std::vector<fs::path> companion_files() const override { return companions_in(path_); }

 private:
  static constexpr std::string_view kWeight = ".weight";

  static std::string_view linear_of(std::string_view weight) {
    return weight.substr(0, weight.size() - kWeight.size());
  }
  bool holds_codes(std::string_view linear) const {
    return reader_ != nullptr && model::block_of(linear) >= 0 && reader_->holds(*tensors_, linear);
  }
  std::vector<std::int64_t> matrix_shape(std::string_view name) const {
    return reader_ ? reader_->matrix_shape(*tensors_, name) : std::vector<std::int64_t>{};
  }
  quant::AffineSpec spec_of(std::string_view linear) const {
    const auto spec = reader_->specs().of(model::stored_name(config_, linear));
    if (!spec)
      fail(ErrorKind::kCorrupt, kWhere, path_.string(), ": '", linear,
           "' is stored as codes, but the quantization configuration calls it a float linear; want bits and "
           "group size for it");
    return *spec;
  }
  /// Of a linear, from the configuration: packed shapes are checked against it.
  model::LinearShape expected_shape(std::string_view linear) const {
    for (const model::LinearRole role : model::linear_roles(config_)) {
      if (linear.ends_with(model::hf_name(role))) return model::linear_shape(config_, role);
    }
    fail(ErrorKind::kNotFound, kWhere, path_.string(), ": '", linear, "' is no linear of a block");
  }
  /// " and others" where linears differ.
  std::string mixed_words(const std::optional<quant::AffineSpec>& most) const {
    for (std::int64_t i = 0; i < config_.num_hidden_layers; ++i) {
      for (const model::LinearRole role : model::linear_roles(config_)) {
        const auto spec = packed_spec_of(model::linear_name(i, role));
        if (spec && spec != most) return ", mixed";
      }
    }
    return "";
  }

  fs::path path_;
  std::string config_text_;
  model::ModelConfig config_;
  std::unique_ptr<TensorTable> tensors_;
  std::unique_ptr<PackedReader> reader_;  // nullptr: floats
};

}  // namespace

std::unique_ptr<Checkpoint> open_hf_directory(const fs::path& folder, const OpenOptions& options) {
  return std::make_unique<HfCheckpoint>(folder, options);
}

}  // namespace crumb::formats
