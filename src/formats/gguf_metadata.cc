#include "formats/gguf_metadata.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/error.h"
#include "model/family.h"

namespace crumb::formats {
namespace {

constexpr std::string_view kWhere = "formats.gguf_export";

struct FileType {
  std::string_view type;
  std::uint64_t number;
};
// llama.cpp's enum llama_ftype: "mostly" this type.
constexpr FileType kFileTypes[] = {{"F32", 0},   {"F16", 1},   {"Q4_0", 2},  {"Q4_1", 3},
                                   {"Q8_0", 7},  {"Q5_0", 8},  {"Q2_K", 10}, {"Q3_K", 11},
                                   {"Q4_K", 14}, {"BF16", 32}, {"Q2_0", 41}};

void add_rope(const model::RopeConfig& rope, const std::string& prefix, GgufMetadata& out) {
  using Type = model::RopeConfig::Type;
  out.emplace_back(prefix + "rope.freq_base", rope.theta);
  if (rope.type != Type::kLinear && rope.type != Type::kYarn) return;
  out.emplace_back(prefix + "rope.scaling.type", std::string(rope.type == Type::kLinear ? "linear" : "yarn"));
  out.emplace_back(prefix + "rope.scaling.factor", rope.factor);
  if (rope.type == Type::kLinear) return;
  const double usual = 0.1 * std::log(rope.factor) + 1.0;
  if (rope.attention_factor > 0 && std::abs(rope.attention_factor / usual - 1) > 1e-6) {
    fail(ErrorKind::kUnsupported, kWhere, "yarn with attention_factor ", rope.attention_factor,
         "; llama.cpp computes 0.1 ln(factor) + 1 = ", usual, " itself; export to a Hugging Face format");
  }
  if (rope.beta_fast != 32 || rope.beta_slow != 1) {
    fail(ErrorKind::kUnsupported, kWhere, "yarn with beta_fast ", rope.beta_fast, " and beta_slow ",
         rope.beta_slow,
         "; llama.cpp takes 32 and 1 whatever the file says; export to a Hugging Face format");
  }
  out.emplace_back(prefix + "rope.scaling.original_context_length",
                   static_cast<std::uint64_t>(rope.original_max_position_embeddings));
}

}  // namespace

GgufMetadata gguf_metadata(const model::ModelConfig& config, std::string_view name,
                           std::string_view main_type) {
  const model::Family* const family = model::find_family_by_model_type(config.family);
  CRUMB_CHECK(family != nullptr);
  const std::string architecture(family->gguf_architecture.empty() ? "llama" : family->gguf_architecture);
  const std::string prefix = architecture + ".";
  if (architecture == "qwen3" && config.attention_bias) {
    fail(ErrorKind::kUnsupported, kWhere,
         "a qwen3 with attention_bias; llama.cpp's has none; export to a Hugging Face format");
  }
  const auto number = [](std::int64_t value) { return io::GgufValue(static_cast<std::uint64_t>(value)); };
  GgufMetadata out;
  out.emplace_back("general.architecture", architecture);
  out.emplace_back("general.type", std::string("model"));
  if (!name.empty()) out.emplace_back("general.name", std::string(name));
  const auto found = std::find_if(std::begin(kFileTypes), std::end(kFileTypes),
                                  [&](const FileType& each) { return each.type == main_type; });
  if (found != std::end(kFileTypes)) out.emplace_back("general.file_type", found->number);
  out.emplace_back("general.quantization_version", std::uint64_t{2});
  std::int64_t context = config.max_position_embeddings;
  if (config.sliding_window > 0) context = std::min(context, config.sliding_window);
  out.emplace_back(prefix + "context_length", number(context));
  out.emplace_back(prefix + "embedding_length", number(config.hidden_size));
  out.emplace_back(prefix + "block_count", number(config.num_hidden_layers));
  out.emplace_back(prefix + "feed_forward_length", number(config.intermediate_size));
  out.emplace_back(prefix + "attention.head_count", number(config.num_attention_heads));
  out.emplace_back(prefix + "attention.head_count_kv", number(config.num_key_value_heads));
  out.emplace_back(prefix + "attention.key_length", number(config.head_dim));
  out.emplace_back(prefix + "attention.value_length", number(config.head_dim));
  out.emplace_back(prefix + "attention.layer_norm_rms_epsilon", config.rms_norm_eps);
  out.emplace_back(prefix + "rope.dimension_count", number(config.head_dim));
  add_rope(config.rope, prefix, out);
  out.emplace_back(prefix + "vocab_size", number(config.vocab_size));
  return out;
}

std::vector<float> gguf_rope_divisors(const model::ModelConfig& config) {
  if (config.rope.type != model::RopeConfig::Type::kLlama3) return {};
  model::ModelConfig plain = config;
  plain.rope.type = model::RopeConfig::Type::kDefault;
  const std::vector<double> base = model::rope_frequencies(plain).inv_freq,
                            wanted = model::rope_frequencies(config).inv_freq;
  std::vector<float> divisors;
  for (std::size_t i = 0; i < base.size(); ++i) divisors.push_back(static_cast<float>(base[i] / wanted[i]));
  return divisors;
}

}  // namespace crumb::formats
