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

struct NamePair {
  std::string_view hf, gguf;
};
// Inside a block, without ".weight".
constexpr NamePair kNormNames[] = {{"input_layernorm", "attn_norm"},
                                   {"post_attention_layernorm", "ffn_norm"},
                                   {"self_attn.q_norm", "attn_q_norm"},
                                   {"self_attn.k_norm", "attn_k_norm"}};
constexpr NamePair kOuterNames[] = {{kEmbeddingName, "token_embd.weight"},
                                    {kFinalNormName, "output_norm.weight"},
                                    {kHeadName, "output.weight"}};

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

constexpr std::string_view kHfBlocks = "model.layers.";
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
  for (const NamePair& names : kNormNames) {
    if ((to_hf ? names.gguf : names.hf) == stem) return cat(to_hf ? names.hf : names.gguf, suffix);
  }
  return {};
}

std::string translate(std::string_view name, bool to_hf) {
  for (const NamePair& names : kOuterNames) {
    if ((to_hf ? names.gguf : names.hf) == name) return std::string(to_hf ? names.hf : names.gguf);
  }
  const std::string_view from = to_hf ? kGgufBlocks : kHfBlocks, into = to_hf ? kHfBlocks : kGgufBlocks;
  std::string_view number, inner;
  if (!name.starts_with(from) || !split_block(name.substr(from.size()), number, inner)) return {};
  const std::string other = translate_inner(inner, to_hf);
  return other.empty() ? std::string() : cat(into, number, ".", other);
}

}  // namespace

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
  tensors.push_back({prefix + "input_layernorm.weight", {config.hidden_size}});
  for (const LinearRole role : kLinearRoles) {
    const LinearShape shape = linear_shape(config, role);
    if (role == LinearRole::kGate)
      tensors.push_back({prefix + "post_attention_layernorm.weight", {config.hidden_size}});
    tensors.push_back({linear_name(block, role) + ".weight", {shape.n, shape.k}, true});
    if (has_bias(config, role)) tensors.push_back({linear_name(block, role) + ".bias", {shape.n}});
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
  tensors.push_back({std::string(kFinalNormName), {config.hidden_size}});
  if (!config.tie_word_embeddings)
    tensors.push_back({std::string(kHeadName), {config.vocab_size, config.hidden_size}});
  return tensors;
}

std::string hf_name_from_gguf(std::string_view gguf_tensor) {
  return translate(gguf_tensor, true);
}
std::string gguf_name_from_hf(std::string_view hf_tensor) {
  return translate(hf_tensor, false);
}

}  // namespace crumb::model
