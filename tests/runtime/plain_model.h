// A decoder-only model written out in plain loops of f64, for what the engine must compute.
#pragma once
#include <algorithm>
#include <cmath>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "model/config.h"

namespace crumb::test {

/// Every tensor by its Hugging Face name; linears that are packed as their w_hat.
using PlainTensors = std::map<std::string, std::vector<double>>;

inline std::vector<double> plain_linear(const PlainTensors& t, const std::string& name,
                                        const std::vector<double>& x) {
  const std::vector<double>& w = t.at(name + ".weight");
  std::vector<double> y(w.size() / x.size());
  for (std::size_t n = 0; n < y.size(); ++n)
    for (std::size_t k = 0; k < x.size(); ++k) y[n] += w[n * x.size() + k] * x[k];
  if (const auto bias = t.find(name + ".bias"); bias != t.end())
    for (std::size_t n = 0; n < y.size(); ++n) y[n] += bias->second[n];
  return y;
}

inline std::vector<double> plain_norm(std::span<const double> x, const std::vector<double>& weight,
                                      double eps) {
  double sum = 0;
  for (const double v : x) sum += v * v;
  const double r = 1 / std::sqrt(sum / static_cast<double>(x.size()) + eps);
  std::vector<double> y;
  for (std::size_t i = 0; i < x.size(); ++i) y.push_back(x[i] * r * weight[i]);
  return y;
}

/// Dynamic rounding of vectors, written out once more: each on the grid of its own range.
struct PlainRounding {
  int bits = 16, kv_bits = 16;
  bool symmetric = true;
  /// How near any quotient came to where rounding changes, as a part of the largest code. What is computed
  /// with smaller errors than that has the same codes everywhere.
  double nearest_tie = 1;

  void round(double* x, std::size_t count, int to_bits) {
    if (to_bits == 16) return;
    double low = 0, high = 0;
    for (std::size_t i = 0; i < count; ++i) {
      low = std::min(low, x[i]);
      high = std::max(high, x[i]);
    }
    const double top = (1 << to_bits) - 1, half = 1 << (to_bits - 1);
    const double scale = std::max(1e-5, symmetric ? std::max(high, -low) / (half - 1) : (high - low) / top);
    const auto nearest = [&](double q) {
      const double distance = std::abs(q - std::floor(q) - 0.5);
      nearest_tie = std::min(nearest_tie, distance / (symmetric ? half - 1 : top));
      return std::nearbyint(q);
    };
    const double zero = symmetric ? half : nearest(-low / scale);
    for (std::size_t i = 0; i < count; ++i)
      x[i] = (std::clamp(nearest(x[i] / scale) + zero, 0.0, top) - zero) * scale;
  }
  void round(std::vector<double>& x) { round(x.data(), x.size(), bits); }
};

/// Logits [tokens, vocabulary] of one sequence from position 0; the inputs of the blocks' linears, queries,
/// keys and values as `rounding` says.
inline std::vector<std::vector<double>> plain_forward(const model::ModelConfig& c, const PlainTensors& t,
                                                      std::span<const std::int32_t> tokens,
                                                      PlainRounding* rounding = nullptr) {
  PlainRounding none;
  PlainRounding& r = rounding != nullptr ? *rounding : none;
  const auto heads = static_cast<std::size_t>(c.num_attention_heads),
             kv_heads = static_cast<std::size_t>(c.num_key_value_heads),
             d = static_cast<std::size_t>(c.head_dim), h = static_cast<std::size_t>(c.hidden_size),
             count = tokens.size();
  const model::RopeFrequencies frequencies = model::rope_frequencies(c);
  const auto rotate = [&](double* x, std::size_t position) {
    for (std::size_t i = 0; i < d / 2; ++i) {
      const float angle = static_cast<float>(position) * static_cast<float>(frequencies.inv_freq[i]);
      const double cos = std::cos(static_cast<double>(angle)) * frequencies.attention_scaling,
                   sin = std::sin(static_cast<double>(angle)) * frequencies.attention_scaling;
      const double low = x[i], high = x[i + d / 2];
      x[i] = low * cos - high * sin;
      x[i + d / 2] = high * cos + low * sin;
    }
  };
  std::vector<std::vector<double>> x;
  const std::vector<double>& embedding = t.at("model.embed_tokens.weight");
  for (const std::int32_t id : tokens) {
    const auto begin = embedding.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(id) * h);
    x.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(h));
  }
  for (std::int64_t block = 0; block < c.num_hidden_layers; ++block) {
    const std::string prefix = "model.layers." + std::to_string(block) + ".";
    std::vector<std::vector<double>> q, k, v;
    for (std::size_t p = 0; p < count; ++p) {
      auto in = plain_norm(x[p], t.at(prefix + "input_layernorm.weight"), c.rms_norm_eps);
      r.round(in);
      q.push_back(plain_linear(t, prefix + "self_attn.q_proj", in));
      k.push_back(plain_linear(t, prefix + "self_attn.k_proj", in));
      v.push_back(plain_linear(t, prefix + "self_attn.v_proj", in));
      for (const auto& [all, number, norm] : {std::tuple{&q, heads, "self_attn.q_norm.weight"},
                                              std::tuple{&k, kv_heads, "self_attn.k_norm.weight"}}) {
        for (std::size_t head = 0; head < number; ++head) {
          double* row = all->back().data() + head * d;
          if (c.qk_norm) {
            const auto normed = plain_norm({row, d}, t.at(prefix + norm), c.rms_norm_eps);
            std::copy(normed.begin(), normed.end(), row);
          }
          rotate(row, p);
          r.round(row, d, all == &q ? (r.kv_bits < 16 ? r.bits : 16) : r.kv_bits);
        }
      }
      for (std::size_t head = 0; head < kv_heads; ++head) r.round(v.back().data() + head * d, d, r.kv_bits);
    }
    for (std::size_t p = 0; p < count; ++p) {
      std::vector<double> attended(heads * d);
      const std::size_t window = static_cast<std::size_t>(c.sliding_window),
                        first = window > 0 && p + 1 > window ? p + 1 - window : 0;
      for (std::size_t head = 0; head < heads; ++head) {
        const std::size_t kv = head / (heads / kv_heads);
        std::vector<double> score;
        for (std::size_t s = first; s <= p; ++s) {
          double sum = 0;
          for (std::size_t i = 0; i < d; ++i) sum += q[p][head * d + i] * k[s][kv * d + i];
          score.push_back(sum / std::sqrt(static_cast<double>(d)));
        }
        const double largest = *std::max_element(score.begin(), score.end());
        double total = 0;
        for (double& s : score) total += s = std::exp(s - largest);
        for (std::size_t s = first; s <= p; ++s)
          for (std::size_t i = 0; i < d; ++i)
            attended[head * d + i] += score[s - first] / total * v[s][kv * d + i];
      }
      r.round(attended);
      const auto o = plain_linear(t, prefix + "self_attn.o_proj", attended);
      for (std::size_t i = 0; i < h; ++i) x[p][i] += o[i];
      auto in = plain_norm(x[p], t.at(prefix + "post_attention_layernorm.weight"), c.rms_norm_eps);
      r.round(in);
      auto gate = plain_linear(t, prefix + "mlp.gate_proj", in);
      const auto up = plain_linear(t, prefix + "mlp.up_proj", in);
      for (std::size_t i = 0; i < gate.size(); ++i) gate[i] *= up[i] / (1 + std::exp(-gate[i]));
      r.round(gate);
      const auto down = plain_linear(t, prefix + "mlp.down_proj", gate);
      for (std::size_t i = 0; i < h; ++i) x[p][i] += down[i];
    }
  }
  PlainTensors head = {
      {"head.weight", t.at(c.tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight")}};
  std::vector<std::vector<double>> logits;
  for (const auto& row : x)
    logits.push_back(plain_linear(head, "head", plain_norm(row, t.at("model.norm.weight"), c.rms_norm_eps)));
  return logits;
}

}  // namespace crumb::test
