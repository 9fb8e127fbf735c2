// The tiny models of tiny_model.h as GGUF files.
#pragma once
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "base/half.h"
#include "io/gguf.h"
#include "support/tiny_model.h"

namespace crumb::test {

using GgufMetadata = std::vector<std::pair<std::string, io::GgufValue>>;
inline constexpr std::uint32_t kGgufF32 = 0, kGgufF16 = 1, kGgufBf16 = 30, kGgufQ4_0 = 2, kGgufQ8_0 = 8,
                               kGgufQ2_0 = 42;

/// Blocks of Q2_0, Q4_0 or Q8_0: scale first, then codes.
inline std::vector<std::byte> gguf_blocks(const std::vector<float>& values, std::uint32_t type) {
  const std::size_t block = type == kGgufQ2_0 ? 64 : 32;
  const int bits = type == kGgufQ2_0   ? 2
                   : type == kGgufQ4_0 ? 4
                                       : 8,
            zero = type == kGgufQ2_0 ? 1 : 1 << (bits - 1);
  std::vector<std::byte> out;
  for (std::size_t first = 0; first < values.size(); first += block) {
    float largest = 0;
    for (std::size_t j = 0; j < block; ++j) largest = std::max(largest, std::abs(values[first + j]));
    const std::uint16_t half = float_to_f16(largest / static_cast<float>(type == kGgufQ2_0 ? 1 : zero - 1));
    out.push_back(static_cast<std::byte>(half & 255));
    out.push_back(static_cast<std::byte>(half >> 8));
    std::vector<unsigned> packed(type == kGgufQ2_0 || type == kGgufQ4_0 ? 16 : 32);
    for (std::size_t j = 0; j < block; ++j) {
      const float q =
          std::nearbyint(values[first + j] / std::max(f16_to_float(half), 1e-8f)) + static_cast<float>(zero);
      const auto code = static_cast<unsigned>(std::clamp(q, 0.0f, static_cast<float>((1 << bits) - 1)));
      if (type == kGgufQ8_0)
        packed[j] = code - 128u;
      else if (type == kGgufQ4_0)
        packed[j % 16] |= code << 4 * (j / 16);
      else
        packed[j / 4] |= code << 2 * (j % 4);
    }
    for (const unsigned byte : packed) out.push_back(static_cast<std::byte>(byte & 255u));
  }
  return out;
}

inline std::string tiny_gguf_name(std::string name) {
  const std::pair<const char*, const char*> parts[] = {{"model.embed_tokens.", "token_embd."},
                                                       {"model.norm.", "output_norm."},
                                                       {"lm_head.", "output."},
                                                       {"model.layers.", "blk."},
                                                       {"input_layernorm.", "attn_norm."},
                                                       {"post_attention_layernorm.", "ffn_norm."},
                                                       {"self_attn.q_proj.", "attn_q."},
                                                       {"self_attn.k_proj.", "attn_k."},
                                                       {"self_attn.v_proj.", "attn_v."},
                                                       {"self_attn.o_proj.", "attn_output."},
                                                       {"self_attn.q_norm.", "attn_q_norm."},
                                                       {"self_attn.k_norm.", "attn_k_norm."},
                                                       {"mlp.gate_proj.", "ffn_gate."},
                                                       {"mlp.up_proj.", "ffn_up."},
                                                       {"mlp.down_proj.", "ffn_down."}};
  for (const auto& [hf, gguf] : parts) {
    if (const std::size_t at = name.find(hf); at != std::string::npos)
      name.replace(at, std::string(hf).size(), gguf);
  }
  return name;
}

/// Row 2i of a head in the file is row i of the model, row 2i + 1 is row i + head_dim / 2.
inline std::vector<float> permuted_rows(const TinyTensor& tensor, std::int64_t heads) {
  const auto rows = static_cast<std::size_t>(tensor.shape[0]), k = tensor.values.size() / rows,
             head_dim = rows / static_cast<std::size_t>(heads);
  std::vector<float> out;
  for (std::size_t head = 0; head < rows; head += head_dim) {
    for (std::size_t i = 0; i < head_dim / 2; ++i) {
      for (const std::size_t row : {head + i, head + i + head_dim / 2}) {
        out.insert(out.end(), tensor.values.begin() + static_cast<std::ptrdiff_t>(row * k),
                   tensor.values.begin() + static_cast<std::ptrdiff_t>((row + 1) * k));
      }
    }
  }
  return out;
}

inline GgufMetadata tiny_gguf_metadata(const TinyModel& m) {
  const auto u = [](std::int64_t value) { return io::GgufValue(static_cast<std::uint64_t>(value)); };
  const std::string a = m.family == "mistral" ? "llama" : m.family;
  return {{"general.architecture", a},
          {a + ".block_count", u(m.blocks)},
          {a + ".context_length", u(256)},
          {a + ".embedding_length", u(m.hidden)},
          {a + ".feed_forward_length", u(m.intermediate)},
          {a + ".attention.head_count", u(m.heads)},
          {a + ".attention.head_count_kv", u(m.kv_heads)},
          {a + ".attention.key_length", u(m.head_dim)},
          {a + ".attention.value_length", u(m.head_dim)},
          {a + ".attention.layer_norm_rms_epsilon", 1e-5},
          {a + ".rope.dimension_count", u(m.head_dim)},
          {a + ".rope.freq_base", 10000.0},
          {"tokenizer.ggml.bos_token_id", u(256)},
          {"tokenizer.ggml.eos_token_id", u(257)}};
}

/// Matrices in `type`, everything else in F32.
inline std::vector<io::GgufTensorToWrite> tiny_gguf_tensors(const TinyModel& m, const TinyTensors& tensors,
                                                            std::uint32_t type = kGgufF32) {
  std::vector<io::GgufTensorToWrite> out;
  for (const auto& [name, tensor] : tensors) {
    const std::uint32_t stored = tensor.shape.size() == 2 ? type : kGgufF32;
    const bool permuted = m.family == "llama" || m.family == "mistral";
    std::vector<float> values = tensor.values;
    if (permuted && name.find(".q_proj.") != std::string::npos) values = permuted_rows(tensor, m.heads);
    if (permuted && name.find(".k_proj.") != std::string::npos) values = permuted_rows(tensor, m.kv_heads);
    const DType dtype = stored == kGgufF16 ? DType::kF16 : stored == kGgufBf16 ? DType::kBF16 : DType::kF32;
    out.push_back({tiny_gguf_name(name),
                   {tensor.shape.rbegin(), tensor.shape.rend()},
                   stored,
                   stored == kGgufQ2_0 || stored == kGgufQ4_0 || stored == kGgufQ8_0
                       ? gguf_blocks(values, stored)
                       : io::convert_from_f32(values, dtype)});
  }
  return out;
}

inline void write_tiny_gguf(const std::filesystem::path& file, const TinyModel& model,
                            const TinyTensors& tensors, std::uint32_t type = kGgufF32,
                            const GgufMetadata& more = {}) {
  GgufMetadata metadata = tiny_gguf_metadata(model);
  for (const auto& entry : more) {
    const auto same = std::find_if(metadata.begin(), metadata.end(),
                                   [&](const auto& old) { return old.first == entry.first; });
    same == metadata.end() ? metadata.push_back(entry) : void(same->second = entry.second);
  }
  io::write_gguf(file, metadata, tiny_gguf_tensors(model, tensors, type));
}

}  // namespace crumb::test
