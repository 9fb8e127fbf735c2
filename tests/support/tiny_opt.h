// A small OPT: learned positions, LayerNorm, ReLU, biases everywhere. Its files, and what it computes,
// written out once more in plain loops of f64 from the names of its files.
#pragma once
#include <algorithm>
#include <cmath>
#include <span>

#include "support/tiny_model.h"

namespace crumb::test {

struct TinyOpt {
  std::size_t hidden = 64, ffn = 128, blocks = 2, heads = 4, positions = 64;
  std::size_t vocabulary = static_cast<std::size_t>(kTinyVocabulary);
  std::uint64_t seed = 23;
  bool biases = true;
  std::string prefix = "model.decoder.";  // "decoder." in files of the model without its head
  nlohmann::ordered_json changes = nlohmann::ordered_json::object();
};

/// All tensors by the names of the files.
inline TinyTensors tiny_opt_tensors(const TinyOpt& m = {}) {
  SplitMix64 random(m.seed);
  TinyTensors t;
  const auto matrix = [&](const std::string& name, std::size_t n, std::size_t k, double spread) {
    t[m.prefix + name] =
        tiny_tensor({static_cast<std::int64_t>(n), static_cast<std::int64_t>(k)}, 0, spread, random);
  };
  const auto vector = [&](const std::string& name, std::size_t n, double center, double spread) {
    t[m.prefix + name] = tiny_tensor({static_cast<std::int64_t>(n)}, center, spread, random);
  };
  const auto norm = [&](const std::string& name) {
    vector(name + ".weight", m.hidden, 1, 0.1);
    vector(name + ".bias", m.hidden, 0, 0.2);
  };
  matrix("embed_tokens.weight", m.vocabulary, m.hidden, 0.5);
  matrix("embed_positions.weight", m.positions + 2, m.hidden, 0.5);
  norm("final_layer_norm");
  for (std::size_t i = 0; i < m.blocks; ++i) {
    const std::string block = "layers." + std::to_string(i) + ".";
    const auto linear = [&](const std::string& name, std::size_t n, std::size_t k) {
      matrix(block + name + ".weight", n, k, 1.0 / std::sqrt(static_cast<double>(k)));
      if (m.biases) vector(block + name + ".bias", n, 0, 0.3);
    };
    norm(block + "self_attn_layer_norm");
    for (const char* name : {"q_proj", "k_proj", "v_proj", "out_proj"})
      linear(std::string("self_attn.") + name, m.hidden, m.hidden);
    norm(block + "final_layer_norm");
    linear("fc1", m.ffn, m.hidden);
    linear("fc2", m.hidden, m.ffn);
  }
  return t;
}

inline nlohmann::ordered_json tiny_opt_config(const TinyOpt& m = {}) {
  nlohmann::ordered_json config = {{"architectures", {"OPTForCausalLM"}},
                                   {"model_type", "opt"},
                                   {"activation_function", "relu"},
                                   {"hidden_size", m.hidden},
                                   {"ffn_dim", m.ffn},
                                   {"num_hidden_layers", m.blocks},
                                   {"num_attention_heads", m.heads},
                                   {"vocab_size", m.vocabulary},
                                   {"max_position_embeddings", m.positions},
                                   {"word_embed_proj_dim", m.hidden},
                                   {"do_layer_norm_before", true},
                                   {"enable_bias", m.biases},
                                   {"bos_token_id", 256},
                                   {"eos_token_id", 257},
                                   {"pad_token_id", 1},
                                   {"torch_dtype", "float32"}};
  config.update(m.changes);
  return config;
}

inline void write_tiny_opt(const std::filesystem::path& folder, const TinyOpt& model,
                           const TinyTensors& tensors) {
  std::filesystem::create_directories(folder);
  io::write_safetensors(folder / "model.safetensors", tiny_tensors_to_write(tensors, DType::kF32),
                        {{"format", "pt"}});
  std::ofstream(folder / "config.json") << tiny_opt_config(model).dump(2);
  write_tiny_tokenizer(folder);
}

/// Logits [tokens, vocabulary] of one sequence from position 0.
inline std::vector<std::vector<double>> plain_opt(const TinyOpt& m, const TinyTensors& tensors,
                                                  std::span<const std::int32_t> ids) {
  using Row = std::vector<double>;
  const auto at = [&](const std::string& name) -> const std::vector<float>& {
    return tensors.at(m.prefix + name).values;
  };
  const auto linear = [&](const std::string& name, const Row& x) {
    const std::vector<float>& w = at(name + ".weight");
    Row y(w.size() / x.size());
    for (std::size_t n = 0; n < y.size(); ++n) {
      for (std::size_t k = 0; k < x.size(); ++k) y[n] += static_cast<double>(w[n * x.size() + k]) * x[k];
      if (m.biases && name != "embed_tokens") y[n] += static_cast<double>(at(name + ".bias")[n]);
    }
    return y;
  };
  const auto norm = [&](const std::string& name, const Row& x) {
    double mean = 0, variance = 0;
    for (const double v : x) mean += v / static_cast<double>(x.size());
    for (const double v : x) variance += (v - mean) * (v - mean) / static_cast<double>(x.size());
    Row y;
    for (std::size_t i = 0; i < x.size(); ++i)
      y.push_back((x[i] - mean) / std::sqrt(variance + 1e-5) * static_cast<double>(at(name + ".weight")[i]) +
                  static_cast<double>(at(name + ".bias")[i]));
    return y;
  };
  const std::size_t h = m.hidden, d = h / m.heads, count = ids.size();
  std::vector<Row> x(count, Row(h));
  for (std::size_t p = 0; p < count; ++p)
    for (std::size_t i = 0; i < h; ++i)
      x[p][i] = static_cast<double>(at("embed_tokens.weight")[static_cast<std::size_t>(ids[p]) * h + i]) +
                static_cast<double>(at("embed_positions.weight")[(p + 2) * h + i]);
  for (std::size_t b = 0; b < m.blocks; ++b) {
    const std::string block = "layers." + std::to_string(b) + ".", attention = block + "self_attn.";
    std::vector<Row> q, k, v;
    for (std::size_t p = 0; p < count; ++p) {
      const Row in = norm(block + "self_attn_layer_norm", x[p]);
      q.push_back(linear(attention + "q_proj", in));
      k.push_back(linear(attention + "k_proj", in));
      v.push_back(linear(attention + "v_proj", in));
    }
    for (std::size_t p = 0; p < count; ++p) {
      Row attended(h);
      for (std::size_t head = 0; head < m.heads; ++head) {
        Row score;
        for (std::size_t s = 0; s <= p; ++s) {
          double sum = 0;
          for (std::size_t i = head * d; i < (head + 1) * d; ++i) sum += q[p][i] * k[s][i];
          score.push_back(sum / std::sqrt(static_cast<double>(d)));
        }
        const double largest = *std::max_element(score.begin(), score.end());
        double total = 0;
        for (double& s : score) total += s = std::exp(s - largest);
        for (std::size_t s = 0; s <= p; ++s)
          for (std::size_t i = head * d; i < (head + 1) * d; ++i) attended[i] += score[s] / total * v[s][i];
      }
      const Row o = linear(attention + "out_proj", attended);
      for (std::size_t i = 0; i < h; ++i) x[p][i] += o[i];
      Row middle = linear(block + "fc1", norm(block + "final_layer_norm", x[p]));
      for (double& each : middle) each = std::max(each, 0.0);
      const Row out = linear(block + "fc2", middle);
      for (std::size_t i = 0; i < h; ++i) x[p][i] += out[i];
    }
  }
  std::vector<Row> logits;
  for (const Row& row : x) logits.push_back(linear("embed_tokens", norm("final_layer_norm", row)));
  return logits;
}

}  // namespace crumb::test
