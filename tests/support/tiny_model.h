// Models small enough to quantize in a second: random weights, one token per byte.
#pragma once
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/half.h"
#include "base/rng.h"
#include "io/safetensors.h"

namespace crumb::test {

inline constexpr std::int64_t kTinyVocabulary = 258;  // 256 bytes, <s>, </s>

/// The GPT-2 alphabet of byte-level tokenizers: printable bytes stand for themselves, the others for U+0100
/// and up.
inline std::string byte_symbol(int byte) {
  const auto printable = [](int b) {
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
  };
  int code = byte;
  if (!printable(byte)) {
    code = 256;
    for (int b = 0; b < byte; ++b) code += printable(b) ? 0 : 1;
  }
  if (code < 128) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};
}

inline void write_tiny_tokenizer(const std::filesystem::path& folder) {
  nlohmann::ordered_json vocabulary, added = nlohmann::ordered_json::array();
  for (int byte = 0; byte < 256; ++byte) vocabulary[byte_symbol(byte)] = byte;
  for (const auto& [id, word] : {std::pair{256, "<s>"}, std::pair{257, "</s>"}}) {
    vocabulary[word] = id;
    added.push_back({{"id", id},
                     {"content", word},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  const nlohmann::ordered_json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  const nlohmann::ordered_json tokenizer = {{"version", "1.0"},
                                            {"truncation", nullptr},
                                            {"padding", nullptr},
                                            {"added_tokens", added},
                                            {"normalizer", nullptr},
                                            {"pre_tokenizer", byte_level},
                                            {"post_processor", nullptr},
                                            {"decoder", byte_level},
                                            {"model",
                                             {{"type", "BPE"},
                                              {"dropout", nullptr},
                                              {"unk_token", nullptr},
                                              {"continuing_subword_prefix", nullptr},
                                              {"end_of_word_suffix", nullptr},
                                              {"fuse_unk", false},
                                              {"byte_fallback", false},
                                              {"vocab", vocabulary},
                                              {"merges", nlohmann::ordered_json::array()}}}};
  std::ofstream(folder / "tokenizer.json") << tokenizer.dump();
  std::ofstream(folder / "tokenizer_config.json")
      << R"({"tokenizer_class":"PreTrainedTokenizerFast","bos_token":"<s>","eos_token":"</s>"})";
}

/// What a tiny model is like. The names of its tensors are spelled out below and not taken from src/model,
/// which they test.
struct TinyModel {
  std::string family = "llama", architecture = "LlamaForCausalLM";
  std::int64_t hidden = 64, intermediate = 128, blocks = 2, heads = 4, kv_heads = 2, head_dim = 16;
  std::int64_t vocabulary = kTinyVocabulary;
  bool tied = false, qkv_bias = false, output_bias = false, mlp_bias = false, qk_norm = false;
  std::uint64_t seed = 5;
  nlohmann::ordered_json changes = nlohmann::ordered_json::object();  // members of config.json set last
};

struct TinyTensor {
  std::vector<std::int64_t> shape;
  std::vector<float> values;
};
using TinyTensors = std::map<std::string, TinyTensor>;

/// About a normal distribution of standard deviation `spread` around `center`; every value is exact in F32,
/// F16 and BF16.
inline TinyTensor tiny_tensor(std::vector<std::int64_t> shape, double center, double spread,
                              SplitMix64& random) {
  std::int64_t count = 1;
  for (const std::int64_t dim : shape) count *= dim;
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& v : values) {
    const double noise = 2 * (random.uniform() + random.uniform() + random.uniform() - 1.5);
    v = bf16_to_float(float_to_bf16(static_cast<float>(center + spread * noise)));
    if (std::abs(v) < 0x1p-14f) v = 0;  // binary16's subnormal range
  }
  return {std::move(shape), std::move(values)};
}

/// All tensors by their Hugging Face names.
inline TinyTensors tiny_tensors(const TinyModel& m = {}) {
  SplitMix64 random(m.seed);
  TinyTensors tensors;
  const auto norm = [&](const std::string& name, std::int64_t size) {
    tensors[name] = tiny_tensor({size}, 1.0, 0.1, random);
  };
  tensors["model.embed_tokens.weight"] = tiny_tensor({m.vocabulary, m.hidden}, 0, 1.0, random);
  if (!m.tied) tensors["lm_head.weight"] = tiny_tensor({m.vocabulary, m.hidden}, 0, 0.2, random);
  norm("model.norm.weight", m.hidden);
  for (std::int64_t block = 0; block < m.blocks; ++block) {
    const std::string prefix = "model.layers." + std::to_string(block) + ".";
    const auto linear = [&](const std::string& name, std::int64_t n, std::int64_t k, bool bias) {
      tensors[prefix + name + ".weight"] =
          tiny_tensor({n, k}, 0, 1.0 / std::sqrt(static_cast<double>(k)), random);
      if (bias) tensors[prefix + name + ".bias"] = tiny_tensor({n}, 0, 0.1, random);
    };
    linear("self_attn.q_proj", m.heads * m.head_dim, m.hidden, m.qkv_bias);
    linear("self_attn.k_proj", m.kv_heads * m.head_dim, m.hidden, m.qkv_bias);
    linear("self_attn.v_proj", m.kv_heads * m.head_dim, m.hidden, m.qkv_bias);
    linear("self_attn.o_proj", m.hidden, m.heads * m.head_dim, m.output_bias);
    linear("mlp.gate_proj", m.intermediate, m.hidden, m.mlp_bias);
    linear("mlp.up_proj", m.intermediate, m.hidden, m.mlp_bias);
    linear("mlp.down_proj", m.hidden, m.intermediate, m.mlp_bias);
    norm(prefix + "input_layernorm.weight", m.hidden);
    norm(prefix + "post_attention_layernorm.weight", m.hidden);
    if (m.qk_norm) {
      norm(prefix + "self_attn.q_norm.weight", m.head_dim);
      norm(prefix + "self_attn.k_norm.weight", m.head_dim);
    }
  }
  return tensors;
}

inline nlohmann::ordered_json tiny_config(const TinyModel& m = {}) {
  nlohmann::ordered_json config = {{"architectures", {m.architecture}},
                                   {"model_type", m.family},
                                   {"hidden_size", m.hidden},
                                   {"intermediate_size", m.intermediate},
                                   {"num_hidden_layers", m.blocks},
                                   {"num_attention_heads", m.heads},
                                   {"num_key_value_heads", m.kv_heads},
                                   {"head_dim", m.head_dim},
                                   {"vocab_size", m.vocabulary},
                                   {"max_position_embeddings", 256},
                                   {"rms_norm_eps", 1e-5},
                                   {"rope_theta", 10000.0},
                                   {"hidden_act", "silu"},
                                   {"tie_word_embeddings", m.tied},
                                   {"attention_bias", m.output_bias},
                                   {"mlp_bias", m.mlp_bias},
                                   {"bos_token_id", 256},
                                   {"eos_token_id", 257},
                                   {"torch_dtype", "float32"}};
  config.update(m.changes);
  return config;
}

inline std::vector<io::TensorToWrite> tiny_tensors_to_write(const TinyTensors& tensors, DType dtype) {
  std::vector<io::TensorToWrite> out;
  for (const auto& [name, tensor] : tensors) {
    out.push_back({name, dtype, tensor.shape,
                   [values = tensor.values, dtype] { return io::convert_from_f32(values, dtype); }});
  }
  return out;
}

/// config.json, the weights (sharded when shard_bytes is positive) and a byte-level tokenizer.
inline void write_tiny_model(const std::filesystem::path& folder, const TinyModel& model,
                             const TinyTensors& tensors, DType dtype = DType::kF32,
                             std::int64_t shard_bytes = 0) {
  std::filesystem::create_directories(folder);
  if (shard_bytes > 0) {
    io::write_sharded_safetensors(folder, tiny_tensors_to_write(tensors, dtype), shard_bytes);
  } else {
    io::write_safetensors(folder / "model.safetensors", tiny_tensors_to_write(tensors, dtype),
                          {{"format", "pt"}});
  }
  std::ofstream(folder / "config.json") << tiny_config(model).dump(2);
  write_tiny_tokenizer(folder);
}

inline void write_tiny_model(const std::filesystem::path& folder, const TinyModel& model = {}) {
  write_tiny_model(folder, model, tiny_tensors(model));
}

/// Token ids "train" [8, 32], "val" [2, 32], "e2e" [4, 32].
inline void write_tiny_tokens(const std::filesystem::path& file) {
  std::vector<io::TensorToWrite> tensors;
  SplitMix64 random(9);
  for (const auto& [name, rows] : {std::pair{"train", 8}, std::pair{"val", 2}, std::pair{"e2e", 4}}) {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(rows) * 32);
    for (std::int32_t& id : ids) id = static_cast<std::int32_t>(random.next() % 256);
    tensors.push_back({name, DType::kI32, {rows, 32}, [ids] {
                         std::vector<std::byte> bytes(ids.size() * 4);
                         std::memcpy(bytes.data(), ids.data(), bytes.size());
                         return bytes;
                       }});
  }
  io::write_safetensors(file, std::move(tensors), {});
}

}  // namespace crumb::test
