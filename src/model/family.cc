#include "model/family.h"

#include <algorithm>
#include <array>

#include "base/str.h"

namespace crumb::model {
namespace {

struct LinearNames {
  LinearRole role;
  std::string_view hf, gguf;
};
constexpr LinearNames kLinearNames[] = {
    {LinearRole::kQ, "self_attn.q_proj", "attn_q"},   {LinearRole::kK, "self_attn.k_proj", "attn_k"},
    {LinearRole::kV, "self_attn.v_proj", "attn_v"},   {LinearRole::kO, "self_attn.o_proj", "attn_output"},
    {LinearRole::kGate, "mlp.gate_proj", "ffn_gate"}, {LinearRole::kUp, "mlp.up_proj", "ffn_up"},
    {LinearRole::kDown, "mlp.down_proj", "ffn_down"}};

struct GgufPair {
  std::string_view hf, gguf;
};
// Inside a block, without ".weight".
constexpr GgufPair kNormNames[] = {{"input_layernorm", "attn_norm"},
                                   {"post_attention_layernorm", "ffn_norm"},
                                   {"self_attn.q_norm", "attn_q_norm"},
                                   {"self_attn.k_norm", "attn_k_norm"}};
constexpr GgufPair kOuterNames[] = {{kEmbeddingName, "token_embd.weight"},
                                    {kFinalNormName, "output_norm.weight"},
                                    {kHeadName, "output.weight"}};

constexpr NamePair kOptInside[] = {{"self_attn.o_proj", "self_attn.out_proj"},
                                   {"mlp.up_proj", "fc1"},
                                   {"mlp.down_proj", "fc2"},
                                   {"input_layernorm", "self_attn_layer_norm"},
                                   {"post_attention_layernorm", "final_layer_norm"}};
constexpr NamePair kOptOutside[] = {{"model.embed_tokens", "model.decoder.embed_tokens"},
                                    {"model.embed_positions", "model.decoder.embed_positions"},
                                    {"model.norm", "model.decoder.final_layer_norm"}};

// Defaults are those of transformers' configuration classes, which config.json files rely on. GGUF calls
// Mistral "llama".
constexpr Family kFamilies[] = {
    {.name = "llama",
     .hf_architecture = "LlamaForCausalLM",
     .gguf_architecture = "llama",
     .qkv_bias = false,
     .qk_norm = false,
     .gguf_permutes_qk = true,
     .default_rope_theta = 10000.0,
     .default_rms_norm_eps = 1e-6,
     .bias_keys = true,
     .default_head_dim = 0,
     .window = Family::Window::kNone,
     .default_sliding_window = 0},
    {.name = "mistral",
     .hf_architecture = "MistralForCausalLM",
     .gguf_architecture = "",
     .qkv_bias = false,
     .qk_norm = false,
     .gguf_permutes_qk = true,
     .default_rope_theta = 10000.0,
     .default_rms_norm_eps = 1e-6,
     .bias_keys = false,
     .default_head_dim = 0,
     .window = Family::Window::kAlways,
     .default_sliding_window = 4096},
    {.name = "qwen2",
     .hf_architecture = "Qwen2ForCausalLM",
     .gguf_architecture = "qwen2",
     .qkv_bias = true,
     .qk_norm = false,
     .gguf_permutes_qk = false,
     .default_rope_theta = 10000.0,
     .default_rms_norm_eps = 1e-6,
     .bias_keys = false,
     .default_head_dim = 0,
     .window = Family::Window::kWithUseKey,
     .default_sliding_window = 4096},
    {.name = "qwen3",
     .hf_architecture = "Qwen3ForCausalLM",
     .gguf_architecture = "qwen3",
     .qkv_bias = false,
     .qk_norm = true,
     .gguf_permutes_qk = false,
     .default_rope_theta = 10000.0,
     .default_rms_norm_eps = 1e-6,
     .bias_keys = true,
     .default_head_dim = 128,
     .window = Family::Window::kWithUseKey,
     .default_sliding_window = 4096},
    {.name = "opt",
     .hf_architecture = "OPTForCausalLM",
     .gguf_architecture = "",
     .qkv_bias = false,
     .qk_norm = false,
     .gguf_permutes_qk = false,
     .default_rope_theta = 0.0,
     .default_rms_norm_eps = 1e-5,
     .bias_keys = false,
     .default_head_dim = 0,
     .window = Family::Window::kNone,
     .default_sliding_window = 0,
     .norm = NormKind::kLayer,
     .mlp = MlpKind::kRelu,
     .positions = PositionKind::kLearned,
     .stored_blocks = "model.decoder.layers.",
     .stored_inside = kOptInside,
     .stored_outside = kOptOutside},
};

const Family* find(std::string_view Family::*field, std::string_view wanted) {
  if (wanted.empty()) return nullptr;
  const auto found = std::find_if(std::begin(kFamilies), std::end(kFamilies),
                                  [&](const Family& f) { return f.*field == wanted; });
  return found == std::end(kFamilies) ? nullptr : found;
}

// "3.rest" -> block number and rest; false unless the number is plain decimal without leading zeros.
bool split_block(std::string_view text, std::string_view& number, std::string_view& rest) {
  const std::size_t dot = text.find('.');
  if (dot == std::string_view::npos || dot == 0 || dot > 9) return false;
  number = text.substr(0, dot);
  rest = text.substr(dot + 1);
  if (number.size() > 1 && number.front() == '0') return false;
  return std::all_of(number.begin(), number.end(), [](char c) { return c >= '0' && c <= '9'; });
}

constexpr std::string_view kHfBlocks = kBlocksName;
constexpr std::string_view kGgufBlocks = "blk.";

// Name inside a block from one spelling to the other; empty when unknown.
std::string translate_inner(std::string_view inner, bool to_hf) {
  const std::size_t dot = inner.rfind('.');
  if (dot == std::string_view::npos) return {};
  const std::string_view stem = inner.substr(0, dot), suffix = inner.substr(dot);
  const bool weight = suffix == ".weight", bias = suffix == ".bias";
  if (!weight && !bias) return {};
  for (const LinearNames& names : kLinearNames) {
    if ((to_hf ? names.gguf : names.hf) == stem) return cat(to_hf ? names.hf : names.gguf, suffix);
  }
  if (!weight) return {};
  for (const GgufPair& names : kNormNames) {
    if ((to_hf ? names.gguf : names.hf) == stem) return cat(to_hf ? names.hf : names.gguf, suffix);
  }
  return {};
}

std::string translate(std::string_view name, bool to_hf) {
  for (const GgufPair& names : kOuterNames) {
    if ((to_hf ? names.gguf : names.hf) == name) return std::string(to_hf ? names.hf : names.gguf);
  }
  const std::string_view from = to_hf ? kGgufBlocks : kHfBlocks, into = to_hf ? kHfBlocks : kGgufBlocks;
  std::string_view number, inner;
  if (!name.starts_with(from) || !split_block(name.substr(from.size()), number, inner)) return {};
  const std::string other = translate_inner(inner, to_hf);
  return other.empty() ? std::string() : cat(into, number, ".", other);
}

// `name` with its module translated; empty when no pair has it.
std::string translate_module(std::string_view name, std::span<const NamePair> pairs, bool to_stored) {
  for (const NamePair& pair : pairs) {
    const std::string_view from = to_stored ? pair.ours : pair.stored,
                           into = to_stored ? pair.stored : pair.ours;
    if (name == from || (name.starts_with(from) && name[from.size()] == '.'))
      return cat(into, name.substr(from.size()));
  }
  return {};
}

std::string between_names(const ModelConfig& config, std::string_view name, bool to_stored) {
  const Family* const family = find_family_by_model_type(config.family);
  if (family == nullptr || family->stored_blocks == kHfBlocks) return std::string(name);
  const std::string_view from = to_stored ? kHfBlocks : family->stored_blocks,
                         into = to_stored ? family->stored_blocks : kHfBlocks;
  if (name == from) return std::string(into);
  std::string_view number, inner;
  if (name.starts_with(from) && split_block(name.substr(from.size()), number, inner)) {
    const std::string other = translate_module(inner, family->stored_inside, to_stored);
    return cat(into, number, ".", other.empty() ? inner : std::string_view(other));
  }
  const std::string outer = translate_module(name, family->stored_outside, to_stored);
  return outer.empty() ? std::string(name) : outer;
}

}  // namespace

std::span<const LinearRole> linear_roles(const ModelConfig& config) {
  static constexpr LinearRole kWithoutGate[] = {LinearRole::kQ, LinearRole::kK,  LinearRole::kV,
                                                LinearRole::kO, LinearRole::kUp, LinearRole::kDown};
  if (config.mlp == MlpKind::kRelu) return kWithoutGate;
  return kLinearRoles;
}

std::string_view hf_name(LinearRole role) noexcept {
  return kLinearNames[static_cast<int>(role)].hf;
}
std::string_view gguf_name(LinearRole role) noexcept {
  return kLinearNames[static_cast<int>(role)].gguf;
}

std::span<const Family> families() {
  return kFamilies;
}
const Family* find_family_by_model_type(std::string_view model_type) {
  return find(&Family::name, model_type);
}
const Family* find_family_by_hf_architecture(std::string_view architecture) {
  return find(&Family::hf_architecture, architecture);
}
const Family* find_family_by_gguf(std::string_view architecture) {
  return find(&Family::gguf_architecture, architecture);
}

std::string known_families() {
  std::vector<std::string> names;
  for (const Family& family : kFamilies) names.emplace_back(family.name);
  return join(names, ", ");
}

LinearShape linear_shape(const ModelConfig& config, LinearRole role) {
  const std::int64_t q_rows = config.num_attention_heads * config.head_dim,
                     kv_rows = config.num_key_value_heads * config.head_dim;
  switch (role) {
    case LinearRole::kQ:
      return {q_rows, config.hidden_size};
    case LinearRole::kK:
    case LinearRole::kV:
      return {kv_rows, config.hidden_size};
    case LinearRole::kO:
      return {config.hidden_size, q_rows};
    case LinearRole::kGate:
    case LinearRole::kUp:
      return {config.intermediate_size, config.hidden_size};
    case LinearRole::kDown:
      break;
  }
  return {config.hidden_size, config.intermediate_size};
}

bool has_bias(const ModelConfig& config, LinearRole role) {
  switch (role) {
    case LinearRole::kQ:
    case LinearRole::kK:
    case LinearRole::kV:
      return config.attention_bias;
    case LinearRole::kO:
      return config.attention_output_bias;
    default:
      return config.mlp_bias;
  }
}

std::string block_prefix(std::int64_t block) {
  return cat(kHfBlocks, block, ".");
}
std::string linear_name(std::int64_t block, LinearRole role) {
  return cat(kHfBlocks, block, ".", hf_name(role));
}

std::int64_t block_of(std::string_view hf_tensor) noexcept {
  if (!hf_tensor.starts_with(kHfBlocks)) return -1;
  std::string_view number, rest;
  if (!split_block(hf_tensor.substr(kHfBlocks.size()), number, rest)) return -1;
  std::int64_t block = 0;
  for (const char digit : number) block = block * 10 + (digit - '0');
  return block;
}

std::vector<PromisedTensor> block_tensors(const ModelConfig& config, std::int64_t block) {
  const std::string prefix = block_prefix(block);
  std::vector<PromisedTensor> tensors;
  const auto norm = [&](std::string_view name) {
    tensors.push_back({cat(prefix, name, ".weight"), {config.hidden_size}});
    if (config.norm == NormKind::kLayer)
      tensors.push_back({cat(prefix, name, ".bias"), {config.hidden_size}});
  };
  norm("input_layernorm");
  for (const LinearRole role : linear_roles(config)) {
    const LinearShape shape = linear_shape(config, role);
    tensors.push_back({linear_name(block, role) + ".weight", {shape.n, shape.k}, true});
    if (has_bias(config, role)) tensors.push_back({linear_name(block, role) + ".bias", {shape.n}});
    if (role == LinearRole::kO) norm("post_attention_layernorm");
  }
  if (config.qk_norm) {
    tensors.push_back({prefix + "self_attn.q_norm.weight", {config.head_dim}});
    tensors.push_back({prefix + "self_attn.k_norm.weight", {config.head_dim}});
  }
  return tensors;
}

std::vector<PromisedTensor> outer_tensors(const ModelConfig& config) {
  std::vector<PromisedTensor> tensors;
  tensors.push_back({std::string(kEmbeddingName), {config.vocab_size, config.hidden_size}});
  if (config.positions == PositionKind::kLearned) {
    tensors.push_back({std::string(kPositionsName),
                       {config.max_position_embeddings + kLearnedPositionOffset, config.hidden_size}});
  }
  tensors.push_back({std::string(kFinalNormName), {config.hidden_size}});
  if (config.norm == NormKind::kLayer)
    tensors.push_back({std::string(kFinalNormBiasName), {config.hidden_size}});
  if (!config.tie_word_embeddings)
    tensors.push_back({std::string(kHeadName), {config.vocab_size, config.hidden_size}});
  return tensors;
}

std::string stored_name(const ModelConfig& config, std::string_view name) {
  return between_names(config, name, /*to_stored=*/true);
}
std::string name_from_stored(const ModelConfig& config, std::string_view stored) {
  const Family* const family = find_family_by_model_type(config.family);
  constexpr std::string_view kBase = "model.";  // files of the model without its head leave it out
  if (family != nullptr && stored.starts_with("decoder.") &&
      family->stored_blocks.starts_with("model.decoder."))
    return between_names(config, cat(kBase, stored), /*to_stored=*/false);
  return between_names(config, stored, /*to_stored=*/false);
}

std::string hf_name_from_gguf(std::string_view gguf_tensor) {
  return translate(gguf_tensor, true);
}
std::string gguf_name_from_hf(std::string_view hf_tensor) {
  return translate(hf_tensor, false);
}

}  // namespace crumb::model
