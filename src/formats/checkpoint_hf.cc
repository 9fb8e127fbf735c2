// Hugging Face directories: float weights, or GPTQ codes (crumb's own output among them).
#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "formats/checkpoint_readers.h"
#include "formats/gptq.h"
#include "io/json.h"
#include "io/safetensors.h"

namespace crumb::formats {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::string_view kWhere = "formats.checkpoint";

// Files that a copy of the model carries along.
constexpr std::string_view kCompanions[] = {"tokenizer.json",
                                            "tokenizer_config.json",
                                            "tokenizer.model",
                                            "special_tokens_map.json",
                                            "added_tokens.json",
                                            "vocab.json",
                                            "merges.txt",
                                            "generation_config.json",
                                            "chat_template.jinja",
                                            "chat_template.json",
                                            "LICENSE",
                                            "LICENSE.txt",
                                            "NOTICE",
                                            "USE_POLICY.md"};

class HfCheckpoint final : public Checkpoint {
 public:
  explicit HfCheckpoint(const fs::path& folder)
      : path_(folder), config_text_(io::read_text_file(folder / "config.json")) {
    const std::string subject = (folder / "config.json").string();
    const json config = io::parse_json(config_text_, subject);
    config_ = model::parse_hf_config(config, subject);
    open_shards();
    read_quantization(config, subject);
  }

  CheckpointKind kind() const override {
    return spec_ ? CheckpointKind::kPacked : CheckpointKind::kHuggingFace;
  }
  const fs::path& path() const override { return path_; }
  const model::ModelConfig& config() const override { return config_; }
  std::string config_json() const override { return config_text_; }
  bool has(std::string_view name) const override { return where_.find(name) != where_.end(); }
  std::vector<std::int64_t> shape(std::string_view name) const override { return info(name).shape; }

  DType float_dtype(std::string_view name) const override {
    const DType dtype = info(name).dtype;
    return dtype == DType::kF16 || dtype == DType::kBF16 ? dtype : DType::kF32;
  }

  std::vector<float> read_f32(std::string_view name) const override {
    const io::TensorInfo& tensor = info(name);
    if (!is_float(tensor.dtype)) {
      fail(ErrorKind::kCorrupt, kWhere, path_.string(), ": tensor '", name, "' is ", to_string(tensor.dtype),
           "; want a float dtype; this is no float checkpoint");
    }
    std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
    const io::SafetensorsFile& file = shards_[where_.find(name)->second];
    file.read_f32(tensor, values);
    check_finite(values, file.path().string(), name);
    return values;
  }

  std::optional<quant::QuantizedLinear> read_packed(std::string_view linear) const override {
    const std::string prefix(linear);
    if (!spec_ || !has(prefix + ".qweight")) return std::nullopt;
    GptqTensors tensors;
    const auto words = [&](const std::string& name) {
      const auto values = file_of(name).read_i32(name);
      return std::vector<std::uint32_t>(values.begin(), values.end());
    };
    const io::TensorInfo &qweight = info(prefix + ".qweight"), &scales = info(prefix + ".scales");
    if (qweight.shape.size() != 2 || scales.shape.size() != 2) {
      fail(ErrorKind::kCorrupt, kWhere, path_.string(), ": ", linear, ": qweight ",
           shape_string(qweight.shape), ", scales ", shape_string(scales.shape),
           "; want two matrices; the checkpoint is damaged");
    }
    tensors.n = qweight.shape[1];
    tensors.k = expected_k(prefix);
    tensors.qweight = words(prefix + ".qweight");
    tensors.qzeros = words(prefix + ".qzeros");
    tensors.scales = file_of(prefix + ".scales").read_f32(prefix + ".scales");
    if (has(prefix + ".g_idx")) tensors.g_idx = file_of(prefix + ".g_idx").read_i32(prefix + ".g_idx");
    check_finite(tensors.scales, path_.string(), prefix + ".scales");
    return unpack_gptq(tensors, *spec_, gptq_layout(qweight.shape, tensors.k, spec_->bits), zeros_, prefix);
  }
  std::optional<quant::AffineSpec> packed_spec() const override { return spec_; }
  std::optional<int> head_bits() const override { return head_bits_; }

  std::int64_t tensor_bytes() const override {
    std::int64_t bytes = 0;
    for (const auto& shard : shards_) {
      for (const auto& tensor : shard.tensors()) bytes += static_cast<std::int64_t>(tensor.size);
    }
    return bytes;
  }

  std::string describe() const override {
    const std::string what = spec_ ? cat("GPTQ ", quant::scheme_name(*spec_))
                                   : cat("safetensors ", to_string(float_dtype(model::kEmbeddingName)));
    return shards_.size() == 1 ? what : cat(what, ", ", shards_.size(), " shards");
  }

  std::vector<fs::path> companion_files() const override {
    std::vector<fs::path> files;
    for (const std::string_view name : kCompanions) {
      if (fs::exists(path_ / name)) files.push_back(path_ / name);
    }
    return files;
  }

 private:
  void open_shards() {
    const fs::path single = path_ / "model.safetensors", index = path_ / "model.safetensors.index.json";
    if (fs::exists(index)) {
      const json map = io::parse_json(io::read_text_file(index), index.string());
      if (!map.is_object() || !map.contains("weight_map") || !map["weight_map"].is_object()) {
        fail(ErrorKind::kCorrupt, kWhere, index.string(),
             ": no weight_map; want the index of a sharded checkpoint");
      }
      std::map<std::string, std::size_t> files;
      for (const auto& [name, file] : map["weight_map"].items()) {
        if (!file.is_string() || file.get<std::string>().find_first_of("/\\") != std::string::npos ||
            !file.get<std::string>().ends_with(".safetensors")) {
          fail(ErrorKind::kCorrupt, kWhere, index.string(), ": '", name, "' lies in ", file.dump(),
               "; want the name of a .safetensors file beside the index");
        }
        const std::string shard = file.get<std::string>();
        if (!files.contains(shard)) {
          if (!fs::exists(path_ / shard)) {
            fail(ErrorKind::kNotFound, kWhere, (path_ / shard).string(),
                 ": shard is missing; the index names it for '", name, "'; download it again");
          }
          files[shard] = shards_.size();
          shards_.emplace_back(path_ / shard);
        }
        if (shards_[files[shard]].find(name) == nullptr) {
          fail(ErrorKind::kCorrupt, kWhere, (path_ / shard).string(), ": tensor '", name,
               "' is not in it; the index says so; download both again");
        }
        where_.emplace(name, files[shard]);
      }
    } else if (fs::exists(single)) {
      shards_.emplace_back(single);
      for (const auto& tensor : shards_.front().tensors()) where_.emplace(tensor.name, 0);
    } else {
      const bool pickle =
          fs::exists(path_ / "pytorch_model.bin") || fs::exists(path_ / "pytorch_model.bin.index.json");
      fail(pickle ? ErrorKind::kUnsupported : ErrorKind::kNotFound, kWhere, path_.string(),
           pickle ? ": holds pytorch_model.bin, a pickle" : ": holds no weights",
           "; want model.safetensors or model.safetensors.index.json; ",
           pickle ? "convert it to safetensors" : "the download may be incomplete");
    }
  }

  void read_quantization(const json& config, const std::string& subject) {
    GptqConfig parsed;
    if (config.contains("quantization_config") && !config["quantization_config"].is_null()) {
      parsed = parse_gptq_config(config["quantization_config"], subject);
    } else if (const fs::path file = path_ / "quantize_config.json"; fs::exists(file)) {
      parsed = parse_gptq_config(io::parse_json(io::read_text_file(file), file.string()), file.string());
    } else {
      return;
    }
    spec_ = parsed.spec;
    zeros_ = parsed.zeros;
    head_bits_ = parsed.head_bits;
  }

  // in_features of a linear from the configuration: packed shapes are checked against it.
  std::int64_t expected_k(std::string_view linear) const {
    for (const model::LinearRole role : model::kLinearRoles) {
      if (linear.ends_with(model::hf_name(role))) return model::linear_shape(config_, role).k;
    }
    fail(ErrorKind::kNotFound, kWhere, path_.string(), ": '", linear, "' is no linear of a block");
  }

  const io::SafetensorsFile& file_of(std::string_view name) const {
    const auto found = where_.find(name);
    if (found == where_.end())
      fail(ErrorKind::kNotFound, kWhere, path_.string(), ": tensor '", name,
           "' is missing; the download may be incomplete");
    return shards_[found->second];
  }
  const io::TensorInfo& info(std::string_view name) const { return file_of(name).at(name); }

  fs::path path_;
  std::string config_text_;
  model::ModelConfig config_;
  std::vector<io::SafetensorsFile> shards_;
  std::map<std::string, std::size_t, std::less<>> where_;
  std::optional<quant::AffineSpec> spec_;
  GptqZeros zeros_ = GptqZeros::kV2;
  std::optional<int> head_bits_;
};

}  // namespace

std::unique_ptr<Checkpoint> open_hf_directory(const fs::path& folder) {
  return std::make_unique<HfCheckpoint>(folder);
}

}  // namespace crumb::formats
