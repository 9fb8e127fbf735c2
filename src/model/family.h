// A family is data: architecture names, which linears and norms a block has, what they are called. The next
// family is a row here.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/config.h"

namespace crumb::model {

/// The linears of a block, in the order of the forward pass. Not every family has them all: linear_roles().
enum class LinearRole { kQ, kK, kV, kO, kGate, kUp, kDown };
inline constexpr LinearRole kLinearRoles[] = {LinearRole::kQ,   LinearRole::kK,    LinearRole::kV,
                                              LinearRole::kO,   LinearRole::kGate, LinearRole::kUp,
                                              LinearRole::kDown};

/// Those that blocks of a configuration have, in the same order.
std::span<const LinearRole> linear_roles(const ModelConfig& config);

/// Name inside a block, Llama's in Hugging Face and in GGUF: "self_attn.q_proj" / "attn_q".
std::string_view hf_name(LinearRole role) noexcept;
std::string_view gguf_name(LinearRole role) noexcept;

/// Our name of a module, which is Llama's, and the one in a family's files.
struct NamePair {
  std::string_view ours, stored;
};

struct Family {
  /// Where sliding_window of a config.json counts: nowhere, always, or with "use_sliding_window": true.
  enum class Window { kNone, kAlways, kWithUseKey };

  std::string_view name;             // ours and HF's model_type
  std::string_view hf_architecture;  // config.json "architectures"[0]
  std::string_view gguf_architecture;
  bool qkv_bias;          // without a config key (Qwen2)
  bool qk_norm;           // q_norm, k_norm per head (Qwen3)
  bool gguf_permutes_qk;  // GGUF stores q and k rows for interleaved RoPE pairs (llama)
  double default_rope_theta;
  double default_rms_norm_eps;
  bool bias_keys;                 // config.json's attention_bias and mlp_bias count
  std::int64_t default_head_dim;  // 0: hidden_size / num_attention_heads
  Window window;
  std::int64_t default_sliding_window;  // where the window counts and config.json has no such key; 0: none
  // How the blocks differ from Llama's, and what their files call things.
  NormKind norm = NormKind::kRms;
  MlpKind mlp = MlpKind::kSwiglu;
  PositionKind positions = PositionKind::kRope;
  std::string_view stored_blocks = "model.layers.";
  std::span<const NamePair> stored_inside = {};  // modules of a block
  std::span<const NamePair> stored_outside = {};
};

std::span<const Family> families();
/// nullptr when unknown.
const Family* find_family_by_model_type(std::string_view model_type);
const Family* find_family_by_hf_architecture(std::string_view architecture);
const Family* find_family_by_gguf(std::string_view architecture);
/// "llama, mistral, qwen2, qwen3"
std::string known_families();

/// [N, K] of a block's linear.
struct LinearShape {
  std::int64_t n, k;
};
LinearShape linear_shape(const ModelConfig& config, LinearRole role);
bool has_bias(const ModelConfig& config, LinearRole role);

/// Full names of tensors. Inside crumb they are Llama's for every family; formats translate at the files'
/// edge.
std::string block_prefix(std::int64_t block);  // "model.layers.3."
std::string linear_name(std::int64_t block,
                        LinearRole role);  // "model.layers.3.self_attn.q_proj" (append ".weight")
std::int64_t block_of(std::string_view hf_tensor) noexcept;       // 3; -1 outside of the blocks
inline constexpr std::string_view kBlocksName = "model.layers.";  // what block_prefix() begins with
inline constexpr std::string_view kEmbeddingName = "model.embed_tokens.weight";
inline constexpr std::string_view kFinalNormName = "model.norm.weight";
inline constexpr std::string_view kFinalNormBiasName = "model.norm.bias";
inline constexpr std::string_view kPositionsName = "model.embed_positions.weight";
inline constexpr std::string_view kHeadName = "lm_head.weight";

/// What files of the family call one of our tensors or modules, and the reverse:
/// "model.layers.3.mlp.up_proj.qweight" <-> OPT's "model.decoder.layers.3.fc1.qweight". kBlocksName is a
/// name too. A name without a translation stays. OPT's files may leave out the leading "model.".
std::string stored_name(const ModelConfig& config, std::string_view name);
std::string name_from_stored(const ModelConfig& config, std::string_view stored);

/// A tensor that a configuration promises, by our name.
struct PromisedTensor {
  std::string name;
  std::vector<std::int64_t> shape;
  bool linear_weight = false;  // of a block: a packed checkpoint stores it as codes
};
/// Of one block, in the order of the forward pass: norms, linears, biases.
std::vector<PromisedTensor> block_tensors(const ModelConfig& config, std::int64_t block);
/// Embedding, learned positions, final norm and, unless tied, head.
std::vector<PromisedTensor> outer_tensors(const ModelConfig& config);

/// HF name for a GGUF tensor name and the reverse, for the families above: "blk.3.attn_q.weight" <->
/// "model.layers.3.self_attn.q_proj.weight". Empty when the name belongs to no known tensor.
std::string hf_name_from_gguf(std::string_view gguf_tensor);
std::string gguf_name_from_hf(std::string_view hf_tensor);

}  // namespace crumb::model
