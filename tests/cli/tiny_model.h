// A Llama small enough to quantize in a second: random weights, one token per byte.
#pragma once
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "base/rng.h"
#include "io/safetensors.h"

namespace crumb::test {

inline constexpr std::int64_t kTinyVocabulary = 258;  // 256 bytes, <s>, </s>

/// `weights` in about a normal distribution of standard deviation `spread`; 1 for norms.
inline io::TensorToWrite tiny_tensor(const std::string& name, std::vector<std::int64_t> shape, double spread,
                                     SplitMix64& random) {
  std::int64_t count = 1;
  for (const std::int64_t dim : shape) count *= dim;
  std::vector<float> values(static_cast<std::size_t>(count), 1.0f);
  if (spread > 0) {
    for (float& v : values)
      v = static_cast<float>(spread * (random.uniform() + random.uniform() + random.uniform() - 1.5) * 2);
  }
  return {name, DType::kF32, std::move(shape), [values] {
            std::vector<std::byte> bytes(values.size() * sizeof(float));
            std::memcpy(bytes.data(), values.data(), bytes.size());
            return bytes;
          }};
}

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

/// A Hugging Face directory: 2 blocks, hidden 64, 4 heads of 16, 2 key/value heads, intermediate 128, untied
/// head, context 256.
inline void write_tiny_model(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  SplitMix64 random(5);
  std::vector<io::TensorToWrite> tensors;
  tensors.push_back(tiny_tensor("model.embed_tokens.weight", {kTinyVocabulary, 64}, 1.0, random));
  tensors.push_back(tiny_tensor("lm_head.weight", {kTinyVocabulary, 64}, 0.2, random));
  tensors.push_back(tiny_tensor("model.norm.weight", {64}, 0, random));
  for (int block = 0; block < 2; ++block) {
    const std::string prefix = "model.layers." + std::to_string(block) + ".";
    const auto linear = [&](const std::string& name, std::int64_t n, std::int64_t k) {
      tensors.push_back(
          tiny_tensor(prefix + name + ".weight", {n, k}, 1.0 / std::sqrt(static_cast<double>(k)), random));
    };
    linear("self_attn.q_proj", 64, 64);
    linear("self_attn.k_proj", 32, 64);
    linear("self_attn.v_proj", 32, 64);
    linear("self_attn.o_proj", 64, 64);
    linear("mlp.gate_proj", 128, 64);
    linear("mlp.up_proj", 128, 64);
    linear("mlp.down_proj", 64, 128);
    for (const char* norm : {"input_layernorm", "post_attention_layernorm"})
      tensors.push_back(tiny_tensor(prefix + norm + ".weight", {64}, 0, random));
  }
  io::write_safetensors(folder / "model.safetensors", std::move(tensors), {{"format", "pt"}});
  const nlohmann::ordered_json config = {{"architectures", {"LlamaForCausalLM"}},
                                         {"model_type", "llama"},
                                         {"hidden_size", 64},
                                         {"intermediate_size", 128},
                                         {"num_hidden_layers", 2},
                                         {"num_attention_heads", 4},
                                         {"num_key_value_heads", 2},
                                         {"head_dim", 16},
                                         {"vocab_size", kTinyVocabulary},
                                         {"max_position_embeddings", 256},
                                         {"rms_norm_eps", 1e-5},
                                         {"rope_theta", 10000.0},
                                         {"hidden_act", "silu"},
                                         {"tie_word_embeddings", false},
                                         {"attention_bias", false},
                                         {"mlp_bias", false},
                                         {"bos_token_id", 256},
                                         {"eos_token_id", 257},
                                         {"torch_dtype", "float32"}};
  std::ofstream(folder / "config.json") << config.dump(2);
  write_tiny_tokenizer(folder);
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
