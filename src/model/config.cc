#include "model/config.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "model/family.h"
#include "model/rope_config.h"

namespace crumb::model {
namespace {

using nlohmann::json;
constexpr std::string_view kWhere = "model.parse_hf_config";
constexpr std::int64_t kLargest = std::int64_t{1}
                                  << 31;  // no dimension of a model comes near it; products stay inside i64

// Reads typed values; an absent key and null are the same thing, as in Hugging Face's own configuration
// classes.
class Reader {
 public:
  Reader(const json& object, std::string_view subject) : object_(object), subject_(subject) {}

  bool has(const char* key) const {
    const auto found = object_.find(key);
    return found != object_.end() && !found->is_null();
  }
  std::int64_t positive(const char* key) const {
    if (!has(key)) {
      std::vector<std::string> keys;
      for (const auto& item : object_.items()) keys.push_back(item.key());
      const std::string near = nearest_word(key, keys);
      fail(ErrorKind::kCorrupt, kWhere, subject_, ": key '", key, "' is missing; expected a positive integer",
           near.empty() ? std::string(". Is this the config.json of the model itself?")
                        : cat("; did you mean '", near, "'?"));
    }
    return positive(key, 0);
  }
  std::int64_t positive(const char* key, std::int64_t otherwise) const {
    if (!has(key)) return otherwise;
    const json& value = object_.at(key);
    if (!value.is_number_integer() || value.get<double>() < 1.0 ||
        value.get<double>() > static_cast<double>(kLargest)) {
      fail(ErrorKind::kCorrupt, kWhere, subject_, ": ", key, " is ", value.dump(),
           "; expected a positive integer below 2^31");
    }
    return value.get<std::int64_t>();
  }
  double number(const char* key, double otherwise) const {
    if (!has(key)) return otherwise;
    const json& value = object_.at(key);
    if (!value.is_number() || !(value.get<double>() > 0.0) || !std::isfinite(value.get<double>())) {
      fail(ErrorKind::kCorrupt, kWhere, subject_, ": ", key, " is ", value.dump(),
           "; expected a positive number");
    }
    return value.get<double>();
  }
  bool flag(const char* key, bool otherwise) const {
    if (!has(key)) return otherwise;
    const json& value = object_.at(key);
    if (!value.is_boolean())
      fail(ErrorKind::kCorrupt, kWhere, subject_, ": ", key, " is ", value.dump(),
           "; expected true or false");
    return value.get<bool>();
  }
  std::string text(const char* key) const {
    if (!has(key)) return {};
    const json& value = object_.at(key);
    if (!value.is_string())
      fail(ErrorKind::kCorrupt, kWhere, subject_, ": ", key, " is ", value.dump(), "; expected a string");
    return value.get<std::string>();
  }

 private:
  const json& object_;
  std::string_view subject_;
};

const Family& find_family(const json& config, const Reader& read, std::string_view subject) {
  std::string architecture;
  if (read.has("architectures")) {
    const json& list = config.at("architectures");
    if (!list.is_array() || list.empty() || !list.front().is_string()) {
      fail(ErrorKind::kCorrupt, kWhere, subject, ": architectures is ", list.dump(),
           "; expected a list with one name");
    }
    architecture = list.front().get<std::string>();
  }
  const std::string model_type = read.text("model_type");
  if (architecture.empty() && model_type.empty()) {
    fail(ErrorKind::kCorrupt, kWhere, subject,
         ": neither architectures nor model_type is there; expected one of the families ", known_families());
  }
  const Family* by_architecture = find_family_by_hf_architecture(architecture);
  const Family* by_type = find_family_by_model_type(model_type);
  if ((!architecture.empty() && by_architecture == nullptr) || (!model_type.empty() && by_type == nullptr)) {
    fail(ErrorKind::kUnsupported, kWhere, subject, ": architecture '", architecture, "', model_type '",
         model_type, "' is not known; known families: ", known_families(),
         ". A new one is a row in src/model/family.cc");
  }
  if (by_architecture != nullptr && by_type != nullptr && by_architecture != by_type) {
    fail(ErrorKind::kCorrupt, kWhere, subject, ": architecture '", architecture, "' and model_type '",
         model_type, "' belong to different families; correct one of them");
  }
  return by_type != nullptr ? *by_type : *by_architecture;
}

std::vector<std::int64_t> token_ids(const json& config, const char* key, std::int64_t vocab_size,
                                    std::string_view subject) {
  std::vector<std::int64_t> ids;
  const auto found = config.find(key);
  if (found == config.end() || found->is_null()) return ids;
  const json list = found->is_array() ? *found : json::array({*found});
  for (const json& id : list) {
    if (!id.is_number_integer() || id.get<double>() < 0 ||
        id.get<double>() >= static_cast<double>(vocab_size)) {
      fail(ErrorKind::kCorrupt, kWhere, subject, ": ", key, " has ", id.dump(),
           "; expected token ids in [0, ", vocab_size, ")");
    }
    ids.push_back(id.get<std::int64_t>());
  }
  return ids;
}

void check_attention(const ModelConfig& c, std::string_view subject) {
  if (c.num_attention_heads % c.num_key_value_heads != 0) {
    fail(ErrorKind::kCorrupt, kWhere, subject, ": num_attention_heads ", c.num_attention_heads,
         " is no multiple of num_key_value_heads ", c.num_key_value_heads,
         "; every key/value head serves the same number of query heads");
  }
  if (c.positions == PositionKind::kRope && c.head_dim % 2 != 0) {
    fail(ErrorKind::kCorrupt, kWhere, subject, ": head_dim ", c.head_dim,
         " is odd; rotary embedding needs pairs");
  }
}

// 0 when no block has a window. Qwen's max_window_layers counts the first blocks, which attend to everything;
// layer_types (transformers 5) says the same block by block.
std::int64_t sliding_window(const json& config, const Reader& read, const Family& family, std::int64_t blocks,
                            std::string_view subject) {
  if (family.window == Family::Window::kNone) return 0;
  if (family.window == Family::Window::kWithUseKey && !read.flag("use_sliding_window", false)) return 0;
  const std::int64_t window =
      config.contains("sliding_window") ? read.positive("sliding_window", 0) : family.default_sliding_window;
  if (window == 0) return 0;
  std::int64_t full = 0;  // blocks without a window
  if (read.has("layer_types")) {
    const json& types = config.at("layer_types");
    if (!types.is_array() || static_cast<std::int64_t>(types.size()) != blocks) {
      fail(ErrorKind::kCorrupt, kWhere, subject, ": layer_types is no list of ", blocks,
           " names; expected one for each block");
    }
    for (const json& type : types) {
      if (type != "full_attention" && type != "sliding_attention") {
        fail(ErrorKind::kUnsupported, kWhere, subject, ": layer_types has ", type.dump(),
             "; known are full_attention and sliding_attention");
      }
      full += type == "full_attention" ? 1 : 0;
    }
  } else if (family.window == Family::Window::kWithUseKey) {
    constexpr std::int64_t kDefaultFullBlocks = 28;
    if (!read.has("max_window_layers")) {
      full = std::min(blocks, kDefaultFullBlocks);
    } else if (config.at("max_window_layers") != 0) {
      full = std::min(blocks, read.positive("max_window_layers"));
    }
  }
  if (full == 0) return window;
  if (full == blocks) return 0;
  fail(ErrorKind::kUnsupported, kWhere, subject, ": ", full, " of ", blocks,
       " blocks attend to everything and the others to a window of ", window,
       "; crumb gives all blocks the same attention");
}

// Names of OPT's configuration class. Its defaults are transformers': biases everywhere, tied.
void read_opt(const Reader& read, ModelConfig& c, std::string_view subject) {
  const auto only = [&](const char* key, bool wanted, std::string_view meaning) {
    if (read.flag(key, wanted) == wanted) return;
    fail(ErrorKind::kUnsupported, kWhere, subject, ": ", key, " is ", wanted ? "false" : "true", ": ",
         meaning, "; crumb computes the other kind only");
  };
  c.intermediate_size = read.positive("ffn_dim");
  only("do_layer_norm_before", true, "norms that follow the attention and the MLP (OPT-350m)");
  only("_remove_final_layer_norm", false, "a model without its last norm");
  only("layer_norm_elementwise_affine", true, "norms without weights");
  if (const std::int64_t width = read.positive("word_embed_proj_dim", c.hidden_size);
      width != c.hidden_size) {
    fail(ErrorKind::kUnsupported, kWhere, subject, ": word_embed_proj_dim is ", width, " and hidden_size ",
         c.hidden_size, ": embeddings that are projected (OPT-350m); crumb takes those of equal width only");
  }
  c.attention_bias = c.attention_output_bias = c.mlp_bias = read.flag("enable_bias", true);
  c.tie_word_embeddings = read.flag("tie_word_embeddings", true);
}

void check_activation(const Reader& read, const Family& family, std::string_view subject) {
  const bool relu = family.mlp == MlpKind::kRelu;
  const std::string found = read.text(relu ? "activation_function" : "hidden_act");
  if (found.empty() || (relu ? found == "relu" : found == "silu" || found == "swish")) return;
  fail(ErrorKind::kUnsupported, kWhere, subject, ": ", relu ? "activation_function" : "hidden_act", " is '",
       found, "'; crumb computes ", relu ? "relu" : "silu", " only in ", family.name, " models");
}

}  // namespace

ModelConfig parse_hf_config(const json& config, std::string_view subject) {
  if (!config.is_object())
    fail(ErrorKind::kCorrupt, kWhere, subject, ": no JSON object; expected a model's config.json");
  const Reader read(config, subject);
  const Family& family = find_family(config, read, subject);

  ModelConfig c;
  c.family = family.name;
  c.norm = family.norm;
  c.mlp = family.mlp;
  c.positions = family.positions;
  const bool opt = family.name == "opt";
  c.hidden_size = read.positive("hidden_size");
  if (!opt) c.intermediate_size = read.positive("intermediate_size");
  c.num_hidden_layers = read.positive("num_hidden_layers");
  c.num_attention_heads = read.positive("num_attention_heads");
  c.num_key_value_heads =
      opt ? c.num_attention_heads : read.positive("num_key_value_heads", c.num_attention_heads);
  c.vocab_size = read.positive("vocab_size");
  c.max_position_embeddings = read.positive("max_position_embeddings");
  c.head_dim = read.positive("head_dim", family.default_head_dim);
  if (c.head_dim == 0) {
    if (c.hidden_size % c.num_attention_heads != 0) {
      fail(ErrorKind::kCorrupt, kWhere, subject, ": hidden_size ", c.hidden_size,
           " is no multiple of num_attention_heads ", c.num_attention_heads,
           " and there is no head_dim; give head_dim");
    }
    c.head_dim = c.hidden_size / c.num_attention_heads;
  }
  check_attention(c, subject);

  c.rms_norm_eps = read.number("rms_norm_eps", family.default_rms_norm_eps);
  c.tie_word_embeddings = read.flag("tie_word_embeddings", false);
  c.qk_norm = family.qk_norm;
  const bool bias_key = family.bias_keys && read.flag("attention_bias", false);
  c.attention_bias = family.qkv_bias || bias_key;
  c.attention_output_bias = bias_key;
  c.mlp_bias = family.bias_keys && read.flag("mlp_bias", false);
  if (opt) read_opt(read, c, subject);
  check_activation(read, family, subject);

  c.sliding_window = sliding_window(config, read, family, c.num_hidden_layers, subject);
  if (c.positions == PositionKind::kRope)
    c.rope = parse_rope(config, family, c.max_position_embeddings, subject);
  const std::vector<std::int64_t> bos = token_ids(config, "bos_token_id", c.vocab_size, subject);
  c.bos_token_id = bos.empty() ? -1 : bos.front();
  c.eos_token_ids = token_ids(config, "eos_token_id", c.vocab_size, subject);
  return c;
}

ParameterCount count_parameters(const ModelConfig& config) {
  ParameterCount count;
  const auto elements = [](const PromisedTensor& tensor) {
    std::int64_t product = 1;
    for (const std::int64_t dim : tensor.shape) product *= dim;
    return product;
  };
  for (const PromisedTensor& tensor : block_tensors(config, 0)) {
    (tensor.linear_weight ? count.block_linears : count.other) += elements(tensor);
  }
  count.block_linears *= config.num_hidden_layers;
  count.other *= config.num_hidden_layers;
  for (const PromisedTensor& tensor : outer_tensors(config)) {
    (tensor.shape.size() == 2 ? count.embeddings : count.other) += elements(tensor);
  }
  return count;
}

}  // namespace crumb::model
