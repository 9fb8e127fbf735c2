// The numbers that describe a decoder-only model, whatever file they came from.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace crumb::model {

/// Rotary position embedding: angle = position * inv_freq[i] for the pair (i, i + head_dim / 2) ("rotate
/// half").
struct RopeConfig {
  enum class Type { kDefault, kLinear, kLlama3, kYarn };
  Type type = Type::kDefault;
  double theta = 10000.0;
  double factor = 1.0;                                // linear, llama3, yarn
  double low_freq_factor = 1.0;                       // llama3
  double high_freq_factor = 4.0;                      // llama3
  double beta_fast = 32.0, beta_slow = 1.0;           // yarn
  double attention_factor = 0.0;                      // yarn; 0: 0.1 ln(factor) + 1
  std::int64_t original_max_position_embeddings = 0;  // llama3, yarn
};

/// kRms: x / sqrt(mean(x^2) + eps) * w. kLayer: LayerNorm, (x - mean) / sqrt(var + eps) * w + b.
enum class NormKind { kRms, kLayer };
/// kSwiglu: down(silu(gate) * up). kRelu: down(max(up, 0)); such blocks have no gate.
enum class MlpKind { kSwiglu, kRelu };
/// kRope: queries and keys are rotated. kLearned: a row of a table is added to the embedding.
enum class PositionKind { kRope, kLearned };
/// Position p of kLearned is row p + 2 of the table (OPT's first rows are those of padding).
inline constexpr std::int64_t kLearnedPositionOffset = 2;

/// Field names are Hugging Face's; where families differ, Llama's.
struct ModelConfig {
  std::string family;  // name in the family table: "llama", "mistral", "qwen2", "qwen3", "opt"
  NormKind norm = NormKind::kRms;
  MlpKind mlp = MlpKind::kSwiglu;
  PositionKind positions = PositionKind::kRope;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t num_hidden_layers = 0;
  std::int64_t num_attention_heads = 0;
  std::int64_t num_key_value_heads = 0;
  std::int64_t head_dim = 0;  // may differ from hidden_size / num_attention_heads
  std::int64_t vocab_size = 0;
  std::int64_t max_position_embeddings = 0;
  std::int64_t sliding_window = 0;  // positions that are attended to, the own included; 0: all
  double rms_norm_eps = 1e-5;       // of the norms, whichever kind they are
  bool tie_word_embeddings = false;
  bool attention_bias = false;  // q, k, v (and o when attention_output_bias) have a bias
  bool attention_output_bias = false;
  bool mlp_bias = false;
  bool qk_norm = false;  // RMSNorm per head on q and k before RoPE
  RopeConfig rope;
  std::int64_t bos_token_id = -1;  // -1: none
  std::vector<std::int64_t> eos_token_ids;
};

/// From a config.json of any supported family (transformers 4 and 5 spellings). `subject` is the file named
/// in errors. Throws Unsupported for an unknown architecture or rope type (naming those known), for blocks
/// that differ in their window, for activations other than the family's, and for the OPT variants whose norms
/// follow (350m) or have no weights; Corrupt for missing or contradicting fields.
ModelConfig parse_hf_config(const nlohmann::json& config, std::string_view subject);

/// Inverse frequencies [head_dim / 2] in f64 and the factor that cos and sin are multiplied by (1 except
/// yarn). Formulas: docs/math.md (R1) default, (R2) linear, (R3) llama3, (R4) yarn (arXiv:2309.00071 §3).
struct RopeFrequencies {
  std::vector<double> inv_freq;
  double attention_scaling = 1.0;
};
RopeFrequencies rope_frequencies(const ModelConfig& config);

/// Parameters of the block linears, of everything else, and in total.
struct ParameterCount {
  std::int64_t block_linears = 0, embeddings = 0, other = 0;
  std::int64_t total() const { return block_linears + embeddings + other; }
};
ParameterCount count_parameters(const ModelConfig& config);

}  // namespace crumb::model
