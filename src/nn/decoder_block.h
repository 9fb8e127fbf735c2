// One decoder block: the unit that Block-AP trains.
#pragma once
#include <array>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/family.h"
#include "nn/activation_quant.h"
#include "nn/fake_quant.h"
#include "nn/functional.h"
#include "quant/quantized_linear.h"

namespace crumb::nn {

/// One weight matrix in one of three states.
struct QuantLinear {
  enum class State { kFloat, kFakeQuant, kPacked };
  State state = State::kFloat;
  quant::AffineSpec spec;
  at::Tensor weight;      // [N, K] f32          kFloat, kFakeQuant (trainable)
  at::Tensor bias;        // [N] f32, or undefined; never trained
  at::Tensor scale;       // [N, K/G] f32        kFakeQuant, kPacked (trainable)
  at::Tensor zero_point;  // [N, K/G] f32        kFakeQuant (trainable); u8 in kPacked
  at::Tensor words;       // [N, K * bits / 32] i32   kPacked
  std::int64_t n = 0, k = 0;

  /// x [M, K] -> [M, N]
  at::Tensor forward(const at::Tensor& x, const Compute& compute) const;
  /// forward(x * channel) of a kFakeQuant linear and a constant x; `scaled` is x * channel (fake_quant.h).
  at::Tensor forward_scaled(const at::Tensor& x, const at::Tensor& scaled, const at::Tensor& channel,
                            const Compute& compute) const;
  /// forward(swiglu(gate, up)); gate, up [M, K] may not be used again when a gradient has flowed
  /// (fake_quant.h).
  at::Tensor forward_swiglu(const at::Tensor& gate, const at::Tensor& up, const Compute& compute) const;

  /// kFloat -> kFakeQuant with the given start (both [N, K/G], f32).
  void start_fake_quant(const quant::AffineSpec& spec, at::Tensor scale, at::Tensor zero_point);
  /// The codes of a kFakeQuant linear. `scale_f16`: scales are rounded to binary16 before the codes are
  /// chosen, so that the codes fit the scale a file stores.
  quant::QuantizedLinear quantized(bool scale_f16) const;
  /// To kPacked with these codes; the float weight is let go.
  void set_packed(const quant::QuantizedLinear& quantized, const at::Device& device);
  /// To kFloat with w_hat: what a packed linear computes, at float speed.
  void set_dequantized(const quant::QuantizedLinear& quantized, const at::Device& device);
};

/// Place of a linear's input in DecoderBlock::LinearInputs: 0 for q, k, v; 1 for o; 2 for gate and up; 3 for
/// down.
std::size_t input_of(model::LinearRole role);

/// Keys and values of one block for a batch of growing sequences. [B, kv_heads, capacity, head_dim]
struct KvCache {
  at::Tensor keys, values;
  std::int64_t length = 0;
};

class DecoderBlock {
 public:
  explicit DecoderBlock(const model::ModelConfig& config) : config_(config) {}

  /// x [B, T, hidden_size] -> the same shape. With a cache the T tokens follow the cache's length, and no
  /// gradient flows.
  at::Tensor forward(const at::Tensor& x, const RopeTable& rope, const Compute& compute,
                     KvCache* cache = nullptr) const;

  /// forward() that also reports the input of each linear, in the order q (= k = v), o, gate (= up), down,
  /// before it is quantized; for activation statistics.
  struct LinearInputs {
    at::Tensor attention_in, o_in, mlp_in, down_in;  // each [B * T, K]
    std::array<const at::Tensor*, 4> all() const { return {&attention_in, &o_in, &mlp_in, &down_in}; }
  };
  LinearInputs linear_inputs(const at::Tensor& x, const RopeTable& rope, const Compute& compute) const;

  QuantLinear& linear(model::LinearRole role) { return linears_[static_cast<std::size_t>(role)]; }
  const QuantLinear& linear(model::LinearRole role) const { return linears_[static_cast<std::size_t>(role)]; }

  /// The linears that this configuration has; the others stay empty.
  std::span<const model::LinearRole> roles() const { return model::linear_roles(config_); }

  /// Norm weights by their names inside the block ("input_layernorm.weight", "self_attn.q_norm.weight"); q/k
  /// norms only where the family has them, biases there or where a transformation made them. Pointers stay
  /// valid while the block lives.
  std::vector<std::pair<std::string, at::Tensor*>> norms();

  at::Tensor input_norm, post_attention_norm;            // [hidden_size]
  at::Tensor input_norm_bias, post_attention_norm_bias;  // [hidden_size], or undefined
  at::Tensor q_norm, k_norm;                             // [head_dim], or undefined
  ActivationQuants activations;                          // off unless a method switches them on
  const model::ModelConfig& config() const { return config_; }

 private:
  at::Tensor run(const at::Tensor& x, const RopeTable& rope, const Compute& compute, KvCache* cache,
                 LinearInputs* inputs) const;

  model::ModelConfig config_;
  std::array<QuantLinear, 7> linears_;
};

/// The configuration's norm over the last dimension of x. `bias` may be undefined.
at::Tensor norm(const model::ModelConfig& config, const at::Tensor& x, const at::Tensor& weight,
                const at::Tensor& bias, const Compute& compute);

/// cos and sin for positions 0 … length - 1, computed in f64, stored f32; undefined where the configuration
/// rotates nothing.
RopeTable make_rope_table(const model::ModelConfig& config, std::int64_t length, const at::Device& device);

}  // namespace crumb::nn
