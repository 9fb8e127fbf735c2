#include "nn/decoder_block.h"

#include <cmath>
#include <cstring>

#include "base/check.h"
#include "base/half.h"
#include "base/parallel_for.h"
#include "model/rope_table.h"
#include "nn/matmul.h"
#include "quant/affine.h"
#include "quant/codes.h"

namespace crumb::nn {

using at::Tensor;
using model::LinearRole;

// ------------------------------------------------------------------------------------------------------------------
// QuantLinear

Tensor QuantLinear::forward(const Tensor& x, const Compute& compute) const {
  switch (state) {
    case State::kFloat:
      return nn::linear(x, weight, bias, compute);
    case State::kFakeQuant:
      return fake_quant_linear(x, weight, scale, zero_point, bias, spec, compute);
    case State::kPacked:
      return packed_linear(x, words, scale, zero_point, bias, spec, compute);
  }
  CRUMB_CHECK(false);
}

Tensor QuantLinear::forward_scaled(const Tensor& x, const Tensor& scaled, const Tensor& channel,
                                   const Compute& compute) const {
  CRUMB_CHECK(state == State::kFakeQuant);
  return scaled_fake_quant_linear(x, scaled, channel, weight, scale, zero_point, bias, spec, compute);
}

Tensor QuantLinear::forward_swiglu(const Tensor& gate, const Tensor& up, const Compute& compute) const {
  switch (state) {
    case State::kFloat:
      return nn::linear(swiglu(gate, up, compute), weight, bias, compute);
    case State::kFakeQuant:
      return swiglu_fake_quant_linear(gate, up, weight, scale, zero_point, bias, spec, compute);
    case State::kPacked:
      return swiglu_packed_linear(gate, up, words, scale, zero_point, bias, spec, compute);
  }
  CRUMB_CHECK(false);
}

void QuantLinear::start_fake_quant(const quant::AffineSpec& new_spec, Tensor new_scale,
                                   Tensor new_zero_point) {
  CRUMB_CHECK(state == State::kFloat);
  spec = new_spec;
  scale = std::move(new_scale);
  zero_point = std::move(new_zero_point);
  state = State::kFakeQuant;
}

quant::QuantizedLinear QuantLinear::quantized(bool scale_f16) const {
  CRUMB_CHECK(state == State::kFakeQuant);
  const Tensor w = weight.detach().to(at::kCPU).contiguous(), s = scale.detach().to(at::kCPU).contiguous(),
               z = zero_point.detach().to(at::kCPU).contiguous();
  quant::QuantizedLinear out{n, k, spec, {}, {}, {}};
  const std::int64_t groups = spec.groups(k);
  out.codes.resize(static_cast<std::size_t>(n * k));
  out.scales.resize(static_cast<std::size_t>(n * groups));
  out.zero_points.resize(out.scales.size());
  std::vector<float> zeros(out.scales.size());
  for (std::size_t i = 0; i < out.scales.size(); ++i) {
    const float effective = quant::effective_scale(s.const_data_ptr<float>()[i]);
    out.scales[i] = scale_f16 ? round_to_f16(effective) : effective;
    zeros[i] = quant::effective_zero_point(z.const_data_ptr<float>()[i], spec);
    out.zero_points[i] = static_cast<std::uint8_t>(zeros[i]);
  }
  const float* weights = w.const_data_ptr<float>();
  parallel_for(n, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      for (std::int64_t j = 0; j < groups; ++j) {
        const auto group = static_cast<std::size_t>(row * groups + j);
        for (std::int64_t c = j * spec.group_of(k); c < (j + 1) * spec.group_of(k); ++c) {
          out.codes[static_cast<std::size_t>(row * k + c)] = static_cast<std::uint8_t>(
              quant::quantize_one(weights[row * k + c], out.scales[group], zeros[group], spec.max_code()));
        }
      }
    }
  });
  return out;
}

void QuantLinear::set_packed(const quant::QuantizedLinear& quantized, const at::Device& device) {
  n = quantized.n;
  k = quantized.k;
  spec = quantized.spec;
  const std::int64_t groups = spec.groups(k),
                     row_words = quant::packed_words(k, spec.bits, quant::WordLayout::kDense);
  Tensor packed = at::empty({n, row_words}, at::kInt);
  quant::pack_rows(quantized.codes.data(), n, k, spec.bits,
                   reinterpret_cast<std::uint32_t*>(packed.mutable_data_ptr<std::int32_t>()));
  words = packed.to(device);
  Tensor s = at::empty({n, groups}, at::kFloat), z = at::empty({n, groups}, at::kByte);
  std::memcpy(s.mutable_data_ptr<float>(), quantized.scales.data(), quantized.scales.size() * sizeof(float));
  std::memcpy(z.mutable_data_ptr<std::uint8_t>(), quantized.zero_points.data(), quantized.zero_points.size());
  scale = s.to(device);
  zero_point = z.to(device);
  weight = Tensor();
  state = State::kPacked;
}

void QuantLinear::set_dequantized(const quant::QuantizedLinear& quantized, const at::Device& device) {
  n = quantized.n;
  k = quantized.k;
  spec = quantized.spec;
  Tensor w = at::empty({n, k}, at::kFloat);
  quant::dequantize(quantized.codes, quantized.scales, quantized.zero_points, n, k, spec,
                    {w.mutable_data_ptr<float>(), static_cast<std::size_t>(n * k)});
  weight = w.to(device);
  scale = zero_point = words = Tensor();
  state = State::kFloat;
}

// -----------------------------------------------------------------------------------------------------------------
// DecoderBlock

std::size_t input_of(LinearRole role) {
  switch (role) {
    case LinearRole::kQ:
    case LinearRole::kK:
    case LinearRole::kV:
      return 0;
    case LinearRole::kO:
      return 1;
    case LinearRole::kGate:
    case LinearRole::kUp:
      return 2;
    case LinearRole::kDown:
      return 3;
  }
  CRUMB_CHECK(false);
}

std::vector<std::pair<std::string, Tensor*>> DecoderBlock::norms() {
  std::vector<std::pair<std::string, Tensor*>> all = {
      {"input_layernorm.weight", &input_norm}, {"post_attention_layernorm.weight", &post_attention_norm}};
  const bool biases = config_.norm == model::NormKind::kLayer;
  if (biases || input_norm_bias.defined()) all.emplace_back("input_layernorm.bias", &input_norm_bias);
  if (biases || post_attention_norm_bias.defined())
    all.emplace_back("post_attention_layernorm.bias", &post_attention_norm_bias);
  if (config_.qk_norm) {
    all.emplace_back("self_attn.q_norm.weight", &q_norm);
    all.emplace_back("self_attn.k_norm.weight", &k_norm);
  }
  return all;
}

namespace {

// [B, t, heads * D] with the cache's past -> [B, t, heads * D]. No gradient; decoding only.
Tensor attend_cached(const Tensor& q, const Tensor& k, const Tensor& v, const model::ModelConfig& c,
                     KvCache& cache) {
  const std::int64_t batch = q.size(0), t = q.size(1), past = cache.length, total = past + t;
  CRUMB_CHECK(total <= cache.keys.size(2));
  const auto heads_first = [&](const Tensor& x, std::int64_t heads) {
    return x.view({batch, t, heads, c.head_dim}).transpose(1, 2);
  };
  cache.keys.narrow(2, past, t).copy_(heads_first(k, c.num_key_value_heads));
  cache.values.narrow(2, past, t).copy_(heads_first(v, c.num_key_value_heads));
  cache.length = total;
  const std::int64_t per_kv = c.num_attention_heads / c.num_key_value_heads;
  // Queries of one key/value head stand together: [B, kv_heads, per_kv * t, D].
  const Tensor query =
      heads_first(q, c.num_attention_heads).reshape({batch, c.num_key_value_heads, per_kv * t, c.head_dim});
  Tensor scores = at::matmul(query, cache.keys.narrow(2, 0, total).transpose(2, 3)) /
                  std::sqrt(static_cast<double>(c.head_dim));
  const bool windowed = c.sliding_window > 0 && total > c.sliding_window;
  if (t > 1 || windowed) {
    const Tensor row = at::arange(past, total, q.options().dtype(at::kLong)).unsqueeze(1);
    const Tensor column = at::arange(total, q.options().dtype(at::kLong)).unsqueeze(0);
    Tensor hidden = column > row;
    if (windowed) hidden = hidden.logical_or(column <= row - c.sliding_window);
    scores = scores.view({batch, c.num_key_value_heads, per_kv, t, total})
                 .masked_fill(hidden, -std::numeric_limits<float>::infinity())
                 .view({batch, c.num_key_value_heads, per_kv * t, total});
  }
  return at::matmul(at::softmax(scores, -1), cache.values.narrow(2, 0, total))
      .view({batch, c.num_attention_heads, t, c.head_dim})
      .transpose(1, 2)
      .reshape({batch, t, c.num_attention_heads * c.head_dim});
}

}  // namespace

Tensor norm(const model::ModelConfig& config, const Tensor& x, const Tensor& weight, const Tensor& bias,
            const Compute& compute) {
  if (config.norm == model::NormKind::kLayer) return layer_norm(x, weight, bias, config.rms_norm_eps);
  const Tensor y = rms_norm(x, weight, config.rms_norm_eps, compute);
  return bias.defined() ? y + bias : y;
}

Tensor DecoderBlock::run(const Tensor& x, const RopeTable& table, const Compute& compute, KvCache* cache,
                         LinearInputs* inputs) const {
  const model::ModelConfig& c = config_;
  const std::int64_t batch = x.size(0), t = x.size(1), tokens = batch * t;
  const std::int64_t first = cache == nullptr ? 0 : cache->length;
  const auto project = [&](LinearRole role, const Tensor& input) {
    return linear(role).forward(input, compute);
  };  // [M, K] -> [M, N]

  // [..., heads * D] -> the same, quantized head by head
  const auto quantize_heads = [&](const Tensor& y, const ActivationQuant& how) {
    return how.on() ? fake_quant_activation(y.view({-1, c.head_dim}), how).view(y.sizes()) : y;
  };

  // Attention half. In Block-AP the block's input is a constant of the step, which saves the gradient of its
  // norm.
  const bool constant_input = c.norm == model::NormKind::kRms && at::GradMode::is_enabled() &&
                              !x.requires_grad() && input_norm.requires_grad() &&
                              !input_norm_bias.defined() && !activations.any() &&
                              linear(LinearRole::kQ).state == QuantLinear::State::kFakeQuant;
  Tensor normed, unit;  // [M, hidden_size]; unit: before the norm's weight
  if (constant_input) {
    const at::NoGradGuard no_grad;
    unit = rms_norm(x, at::ones_like(input_norm), c.rms_norm_eps, compute).view({tokens, c.hidden_size});
    normed = unit * input_norm;
  } else {
    normed = norm(c, x, input_norm, input_norm_bias, compute).view({tokens, c.hidden_size});
  }
  const Tensor attention_in = fake_quant_activation(normed, activations.linear_inputs[0]);
  const auto from_norm = [&](LinearRole role) {
    return constant_input ? linear(role).forward_scaled(unit, normed, input_norm, compute)
                          : project(role, attention_in);
  };
  Tensor q = from_norm(LinearRole::kQ), k = from_norm(LinearRole::kK);
  const Tensor v = quantize_heads(
      from_norm(LinearRole::kV).view({batch, t, c.num_key_value_heads * c.head_dim}), activations.value);
  if (c.qk_norm) {  // per head, before RoPE
    q = rms_norm(q.view({tokens, c.num_attention_heads, c.head_dim}), q_norm, c.rms_norm_eps, compute);
    k = rms_norm(k.view({tokens, c.num_key_value_heads, c.head_dim}), k_norm, c.rms_norm_eps, compute);
  }
  q = q.view({batch, t, c.num_attention_heads * c.head_dim});
  k = k.view({batch, t, c.num_key_value_heads * c.head_dim});
  if (c.positions == model::PositionKind::kRope) {
    q = rope(q, table, c.head_dim, first, compute);
    k = rope(k, table, c.head_dim, first, compute);
  }
  q = quantize_heads(q, activations.query);
  k = quantize_heads(k, activations.key);
  const Tensor attended =
      (cache != nullptr ? attend_cached(q, k, v, c, *cache)
                        : causal_attention(q, k, v, c.num_attention_heads, c.num_key_value_heads, c.head_dim,
                                           c.sliding_window, compute))
          .view({tokens, c.num_attention_heads * c.head_dim});
  const Tensor o_in = fake_quant_activation(attended, activations.linear_inputs[1]);
  const Tensor after_attention = x + project(LinearRole::kO, o_in).view_as(x);

  // MLP half.
  const Tensor mlp_normed = norm(c, after_attention, post_attention_norm, post_attention_norm_bias, compute)
                                .view({tokens, c.hidden_size});
  const Tensor mlp_in = fake_quant_activation(mlp_normed, activations.linear_inputs[2]);
  const ActivationQuant& down_in = activations.linear_inputs[3];
  const Tensor up = project(LinearRole::kUp, mlp_in);  // [M, F]
  Tensor gate, product;                                // product: down's input, where it must exist
  if (c.mlp == model::MlpKind::kRelu) {
    product = at::relu(up);
  } else {
    gate = project(LinearRole::kGate, mlp_in);
    if (inputs != nullptr || down_in.on()) product = swiglu(gate, up, compute);
  }
  if (inputs != nullptr) *inputs = {normed, attended, mlp_normed, product};
  const Tensor down = product.defined() ? project(LinearRole::kDown, fake_quant_activation(product, down_in))
                                        : linear(LinearRole::kDown).forward_swiglu(gate, up, compute);
  return after_attention + down.view_as(x);
}

Tensor DecoderBlock::forward(const Tensor& x, const RopeTable& rope, const Compute& compute,
                             KvCache* cache) const {
  return run(x, rope, compute, cache, nullptr);
}

DecoderBlock::LinearInputs DecoderBlock::linear_inputs(const Tensor& x, const RopeTable& rope,
                                                       const Compute& compute) const {
  LinearInputs inputs;
  run(x, rope, compute, nullptr, &inputs);
  return inputs;
}

RopeTable make_rope_table(const model::ModelConfig& config, std::int64_t length, const at::Device& device) {
  if (config.positions != model::PositionKind::kRope) return {};
  const model::RopeFrequencies frequencies = model::rope_frequencies(config);
  const auto half = static_cast<std::int64_t>(frequencies.inv_freq.size());
  Tensor cos = at::empty({length, half}, at::kFloat), sin = at::empty({length, half}, at::kFloat);
  model::fill_rope_table(frequencies, 0, length, cos.mutable_data_ptr<float>(),
                         sin.mutable_data_ptr<float>());
  return {cos.to(device), sin.to(device)};
}

}  // namespace crumb::nn
