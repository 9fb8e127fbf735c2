// GGUF files: dequantized, and as codes where the type is a grid of ours.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/check.h"
#include "base/error.h"
#include "formats/checkpoint_readers.h"
#include "formats/gguf_rows.h"
#include "formats/gguf_types.h"
#include "io/gguf.h"
#include "io/json.h"

namespace crumb::formats {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kWhere = "formats.checkpoint";

class GgufCheckpoint final : public Checkpoint {
 public:
  explicit GgufCheckpoint(const fs::path& path) : file_(path) {
    check_gguf_tensors(file_);
    config_text_ = config_json_from_gguf(file_);
    config_ = model::parse_hf_config(io::parse_json(config_text_, path.string()), path.string());
    family_ = model::find_family_by_gguf(file_.get_string("general.architecture"));
    std::map<std::string_view, std::int64_t> types;
    for (const io::GgufTensor& tensor : file_.tensors()) {
      const std::int64_t bytes = gguf_tensor_bytes(tensor);
      bytes_ += bytes;
      // Of the blocks: in small models the embedding, in a type of its own, is most of the file.
      types[find_gguf_type(tensor.type)->name] += tensor.name.starts_with("blk.") ? bytes : 0;
      if (std::string name = model::hf_name_from_gguf(tensor.name); !name.empty()) {
        names_[std::move(name)] = &tensor;
      } else if (tensor.name != "rope_freqs.weight" && !tensor.name.ends_with("attn_rot_embd.weight")) {
        fail(ErrorKind::kUnsupported, kWhere, path.string(), ": tensor '", tensor.name, "' is none of a ",
             family_->name,
             "'s; leaving it out would make another model; take the model's Hugging Face directory if its "
             "family is one of ",
             model::known_families());
      }
    }
    if (types.empty())
      fail(ErrorKind::kNotFound, kWhere, path.string(), ": holds no tensors; is this a whole model?");
    main_type_ = std::max_element(types.begin(), types.end(), [](const auto& a, const auto& b) {
                   return a.second < b.second;
                 })->first;
  }

  CheckpointKind kind() const override { return CheckpointKind::kGguf; }
  const fs::path& path() const override { return file_.path(); }
  const model::ModelConfig& config() const override { return config_; }
  std::string config_json() const override { return config_text_; }
  bool has(std::string_view name) const override { return names_.find(name) != names_.end(); }

  std::vector<std::int64_t> shape(std::string_view name) const override {
    const io::GgufTensor& tensor = find(name);
    return {tensor.dims.rbegin(), tensor.dims.rend()};
  }

  DType float_dtype(std::string_view name) const override {
    const std::string_view type = find_gguf_type(find(name).type)->name;
    return type == "F32" ? DType::kF32 : type == "BF16" ? DType::kBF16 : DType::kF16;
  }

  std::vector<float> read_f32_rows(std::string_view name, std::int64_t first,
                                   std::int64_t count) const override {
    const io::GgufTensor& tensor = find(name);
    if (tensor.dims.size() != 2 || permuted_heads(name) > 0)
      return Checkpoint::read_f32_rows(name, first, count);
    CRUMB_CHECK(first >= 0 && count >= 0 && first + count <= tensor.dims[1]);
    const GgufType& type = *find_gguf_type(tensor.type);
    std::vector<float> values(static_cast<std::size_t>(count * tensor.dims[0]));
    const auto row_bytes = static_cast<std::size_t>(gguf_tensor_bytes(type, tensor.dims[0], 1));
    dequantize_gguf(type,
                    file_.bytes(tensor, static_cast<std::uint64_t>(gguf_tensor_bytes(tensor)))
                        .subspan(static_cast<std::size_t>(first) * row_bytes,
                                 static_cast<std::size_t>(count) * row_bytes),
                    values);
    check_finite(values, path().string(), name);
    return values;
  }

  std::vector<float> read_f32(std::string_view name) const override {
    const io::GgufTensor& tensor = find(name);
    std::int64_t elements = 1;
    for (const std::int64_t dim : tensor.dims) elements *= dim;
    std::vector<float> values(static_cast<std::size_t>(elements));
    dequantize_gguf(*find_gguf_type(tensor.type),
                    file_.bytes(tensor, static_cast<std::uint64_t>(gguf_tensor_bytes(tensor))), values);
    if (const std::int64_t heads = permuted_heads(name); heads > 0)  // a bias is a column
      from_gguf_rows(values, heads, config_.head_dim, tensor.dims.size() == 2 ? tensor.dims[0] : 1);
    check_finite(values, path().string(), name);
    return values;
  }

  std::optional<quant::AffineSpec> grid_of(std::string_view name) const override {
    const io::GgufTensor& tensor = find(name);
    return tensor.dims.size() == 2 ? gguf_grid(*find_gguf_type(tensor.type)) : std::nullopt;
  }

  quant::QuantizedLinear read_codes(std::string_view name) const override {
    CRUMB_CHECK(grid_of(name).has_value());
    const io::GgufTensor& tensor = find(name);
    const std::int64_t n = tensor.dims[1], k = tensor.dims[0];
    quant::QuantizedLinear linear =
        read_gguf_codes(*find_gguf_type(tensor.type),
                        file_.bytes(tensor, static_cast<std::uint64_t>(gguf_tensor_bytes(tensor))), n, k);
    if (const std::int64_t heads = permuted_heads(name); heads > 0) {  // zero points are all the same
      from_gguf_rows(linear.codes, heads, config_.head_dim, k);
      from_gguf_rows(linear.scales, heads, config_.head_dim, linear.spec.groups(k));
    }
    check_finite(linear.scales, path().string(), name);
    return linear;
  }

  std::optional<quant::QuantizedLinear> read_packed(std::string_view) const override { return std::nullopt; }
  std::optional<quant::AffineSpec> packed_spec() const override { return std::nullopt; }
  std::vector<StoredTensor> stored_tensors() const override {
    std::vector<StoredTensor> out;
    for (const auto& [name, tensor] : names_)
      out.push_back(
          {name, std::string(find_gguf_type(tensor->type)->name), shape(name), gguf_tensor_bytes(*tensor)});
    return out;
  }
  std::int64_t tensor_bytes() const override { return bytes_; }
  std::string describe() const override { return cat("GGUF ", main_type_); }
  std::vector<fs::path> companion_files() const override { return {}; }

 private:
  /// Of a tensor whose rows llama.cpp stores in another order; else 0.
  std::int64_t permuted_heads(std::string_view name) const {
    if (!family_->gguf_permutes_qk) return 0;
    if (name.find(".q_proj.") != std::string_view::npos) return config_.num_attention_heads;
    return name.find(".k_proj.") != std::string_view::npos ? config_.num_key_value_heads : 0;
  }

  const io::GgufTensor& find(std::string_view name) const {
    const auto found = names_.find(name);
    if (found == names_.end())
      fail(ErrorKind::kNotFound, kWhere, path().string(), ": tensor '", name,
           "' is missing; the download may be incomplete");
    return *found->second;
  }

  io::GgufFile file_;
  std::string config_text_;
  model::ModelConfig config_;
  const model::Family* family_ = nullptr;
  std::map<std::string, const io::GgufTensor*, std::less<>> names_;
  std::int64_t bytes_ = 0;
  std::string main_type_;
};

// Metadata floats are f32; the shortest decimal that gives the same f32 is what the model's own config.json
// had (1e-05, not 9.99999975e-06).
double shortest(const io::GgufFile& file, const std::string& key, std::optional<double> otherwise = {}) {
  const double value = otherwise ? file.get_float(key, *otherwise) : file.get_float(key);
  if (!std::isfinite(value) ||
      value <= 0) {  // JSON could not hold it, and an absent value would mean a default
    fail(ErrorKind::kCorrupt, kWhere, file.path().string(), ": ", key, " is ", value,
         "; expected a positive number");
  }
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, static_cast<float>(value)).ptr;
  double result = value;
  std::from_chars(text, end, result);
  return result;
}

// Throws for what the configuration made here could not say.
void refuse_variants(const io::GgufFile& file, const std::string& architecture, std::int64_t head_dim) {
  const auto key = [&](std::string_view name) { return cat(architecture, ".", name); };
  const auto only = [&](std::string_view name, double found, double expected) {
    if (found == expected) return;
    fail(ErrorKind::kUnsupported, kWhere, file.path().string(), ": ", key(name), " is ", found,
         "; crumb reads models where it is ", expected);
  };
  only("rope.dimension_count", static_cast<double>(file.get_int(key("rope.dimension_count"), head_dim)),
       static_cast<double>(head_dim));
  only("attention.value_length", static_cast<double>(file.get_int(key("attention.value_length"), head_dim)),
       static_cast<double>(head_dim));
  only("expert_count", static_cast<double>(file.get_int(key("expert_count"), 0)), 0);
  only("rope.scaling.attn_factor", file.get_float(key("rope.scaling.attn_factor"), 1), 1);
  only("rope.scaling.yarn_log_multiplier", file.get_float(key("rope.scaling.yarn_log_multiplier"), 0), 0);
  only("rope.scaling.yarn_ext_factor", file.get_float(key("rope.scaling.yarn_ext_factor"), 1), 1);
  only("rope.scaling.yarn_attn_factor", file.get_float(key("rope.scaling.yarn_attn_factor"), 1), 1);
  only("rope.scale_linear", file.get_float(key("rope.scale_linear"), 1), 1);
  if (file.get_int("split.count", 1) > 1) {
    fail(ErrorKind::kUnsupported, kWhere, file.path().string(),
         ": is one part of a split GGUF; want a whole file; merge the parts with gguf-split");
  }
}

// GGUF stores llama3 rope scaling as one divisor per frequency. The parameters that give these divisors;
// throws Unsupported when none of the published ones does.
nlohmann::ordered_json llama3_scaling(const io::GgufFile& file, const io::GgufTensor& tensor, double theta,
                                      std::int64_t head_dim) {
  std::vector<float> divisors(static_cast<std::size_t>(head_dim / 2));
  const std::int64_t bytes = gguf_tensor_bytes(tensor);
  if (tensor.dims.size() != 1 || tensor.dims[0] != head_dim / 2) {
    fail(ErrorKind::kCorrupt, kWhere, file.path().string(), ": rope_freqs.weight has shape ",
         shape_string(tensor.dims), "; want [", head_dim / 2, "]");
  }
  dequantize_gguf(*find_gguf_type(tensor.type), file.bytes(tensor, static_cast<std::uint64_t>(bytes)),
                  divisors);
  const double factor = std::round(*std::max_element(divisors.begin(), divisors.end()));
  for (const std::int64_t original : {8192, 4096, 2048, 16384, 32768}) {
    model::ModelConfig plain, scaled;
    plain.head_dim = scaled.head_dim = head_dim;
    plain.rope.theta = scaled.rope.theta = theta;
    scaled.rope.type = model::RopeConfig::Type::kLlama3;
    scaled.rope.factor = factor;
    scaled.rope.original_max_position_embeddings = original;
    const auto base = model::rope_frequencies(plain).inv_freq,
               wanted = model::rope_frequencies(scaled).inv_freq;
    bool equal = true;
    for (std::size_t i = 0; i < divisors.size(); ++i)
      equal = equal && std::abs(base[i] / wanted[i] / divisors[i] - 1) < 1e-4;
    if (equal) {
      return {{"rope_type", "llama3"},
              {"factor", factor},
              {"low_freq_factor", 1.0},
              {"high_freq_factor", 4.0},
              {"original_max_position_embeddings", original}};
    }
  }
  fail(
      ErrorKind::kUnsupported, kWhere, file.path().string(),
      ": rope_freqs.weight fits no llama3 scaling that crumb knows; take the model's Hugging Face directory");
}

}  // namespace

std::string config_json_from_gguf(const io::GgufFile& file) {
  const std::string architecture = file.get_string("general.architecture");
  const model::Family* family = model::find_family_by_gguf(architecture);
  if (family == nullptr) {
    fail(ErrorKind::kUnsupported, kWhere, file.path().string(), ": general.architecture is '", architecture,
         "'; known families: ", model::known_families());
  }
  const auto key = [&](const char* name) { return cat(architecture, ".", name); };
  const io::GgufTensor* embedding = file.find("token_embd.weight");
  if (embedding == nullptr || embedding->dims.size() != 2) {
    fail(ErrorKind::kNotFound, kWhere, file.path().string(),
         ": token_embd.weight is missing or no matrix; is this a whole model?");
  }
  const std::int64_t hidden = file.get_int(key("embedding_length")),
                     heads = file.get_int(key("attention.head_count"));
  const std::int64_t head_dim = file.get_int(key("attention.key_length"), heads > 0 ? hidden / heads : 0);
  if (head_dim <= 0 || head_dim > (std::int64_t{1} << 31)) {
    fail(ErrorKind::kCorrupt, kWhere, file.path().string(), ": ", hidden, " inputs, ", heads,
         " heads and a head size of ", head_dim, "; expected positive numbers");
  }
  refuse_variants(file, architecture, head_dim);
  const double theta =
      shortest(file, key("rope.freq_base"), 10000.0);  // llama.cpp's default, whatever the family
  nlohmann::ordered_json config = {
      {"architectures", {family->hf_architecture}},
      {"model_type", family->name},
      {"hidden_act", "silu"},
      {"hidden_size", hidden},
      {"intermediate_size", file.get_int(key("feed_forward_length"))},
      {"num_hidden_layers", file.get_int(key("block_count"))},
      {"num_attention_heads", heads},
      {"num_key_value_heads", file.get_int(key("attention.head_count_kv"), heads)},
      {"head_dim", head_dim},
      {"vocab_size", embedding->dims[1]},
      {"max_position_embeddings", file.get_int(key("context_length"))},
      {"rms_norm_eps", shortest(file, key("attention.layer_norm_rms_epsilon"))},
      {"rope_theta", theta},
      {"tie_word_embeddings", file.find("output.weight") == nullptr},
      {"torch_dtype", "float16"}};
  const std::string scaling = file.get_string(key("rope.scaling.type"), "none");
  if (scaling != "none" && scaling != "linear" && scaling != "yarn") {
    fail(ErrorKind::kUnsupported, kWhere, file.path().string(), ": rope.scaling.type is '", scaling,
         "'; want none, linear or yarn");
  }
  if (const io::GgufTensor* divisors = file.find("rope_freqs.weight")) {
    if (scaling != "none") {
      fail(ErrorKind::kUnsupported, kWhere, file.path().string(),
           ": rope_freqs.weight together with rope.scaling.type '", scaling, "'; want one of them");
    }
    config["rope_scaling"] = llama3_scaling(file, *divisors, theta, head_dim);
  } else if (scaling != "none") {
    config["rope_scaling"] = {{"rope_type", scaling}, {"factor", shortest(file, key("rope.scaling.factor"))}};
    if (scaling == "yarn") {
      config["rope_scaling"]["original_max_position_embeddings"] =
          file.get_int(key("rope.scaling.original_context_length"));
      config["rope_scaling"]["beta_fast"] = shortest(file, key("rope.scaling.yarn_beta_fast"), 32);
      config["rope_scaling"]["beta_slow"] = shortest(file, key("rope.scaling.yarn_beta_slow"), 1);
    }
  }
  // Mistral is a "llama" in GGUF, without its window; a file that has one has it for all blocks.
  if (file.get_int(key("attention.sliding_window"), 0) > 0) {
    fail(ErrorKind::kUnsupported, kWhere, file.path().string(), ": ", key("attention.sliding_window"), " is ",
         file.get_int(key("attention.sliding_window")),
         "; crumb reads windowed models from their Hugging Face directory");
  }
  if (family->bias_keys && file.find("blk.0.attn_q.bias") != nullptr) config["attention_bias"] = true;
  if (family->bias_keys && file.find("blk.0.ffn_up.bias") != nullptr) config["mlp_bias"] = true;
  if (const std::int64_t bos = file.get_int("tokenizer.ggml.bos_token_id", -1); bos >= 0)
    config["bos_token_id"] = bos;
  if (const std::int64_t eos = file.get_int("tokenizer.ggml.eos_token_id", -1); eos >= 0) {
    const std::int64_t end_of_turn =
        file.get_int("tokenizer.ggml.eot_token_id", eos);  // generation stops at either
    config["eos_token_id"] =
        end_of_turn == eos ? nlohmann::ordered_json(eos) : nlohmann::ordered_json({eos, end_of_turn});
  }
  return config.dump(2) + "\n";
}

std::unique_ptr<Checkpoint> open_gguf(const fs::path& file) {
  return std::make_unique<GgufCheckpoint>(file);
}

}  // namespace crumb::formats
