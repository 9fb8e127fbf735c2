// Quantization of activations: what a decoder block does with the inputs of its linears and with q, k and v.
#pragma once
#include <array>

#include "nn/torch.h"
#include "quant/activation_scheme.h"

namespace crumb::nn {

/// One quantizer of activations. OmniQuant (arXiv:2308.13137 §4.1) uses dynamic asymmetric ones per token;
/// SmoothQuant (arXiv:2211.10438) symmetric ones, dynamic per token or static.
struct ActivationQuant {
  using Granularity = quant::Granularity;
  int bits = 16;                                     // 2 … 15; 16 means off
  Granularity granularity = Granularity::kPerToken;  // of rows of the last dimension, K
  bool symmetric = false;                            // signed codes, zero_point 2^(bits-1)
  bool holds_zero = true;        // of the dynamic kind: RangeQuant::holds_zero (nn/range_fake_quant.h)
  at::Tensor scale, zero_point;  // f32, of the static kinds only: [1] per tensor, [K] per channel

  bool on() const { return bits < 16; }
};

/// Those of a block. All off by default, and free when off.
struct ActivationQuants {
  std::array<ActivationQuant, 4> linear_inputs;  // in the order of DecoderBlock::LinearInputs
  ActivationQuant query, key, value;  // per token and head; query and key after RoPE; key and value as cached

  bool any() const;
  /// Dynamic per token: `bits` for the inputs of all linears, `kv_bits` for keys and values; where these are
  /// on, queries have `bits` too, so that their product is one of integers.
  static ActivationQuants dynamic(int bits, int kv_bits, bool symmetric, bool holds_zero);
};

/// x [..., K] f32 -> the same shape, fake-quantized; x itself when `how` is off. Gradients are
/// straight-through: of the dynamic kind also through the scale (range_fake_quant), of the static kinds 1
/// where the code was not clipped.
at::Tensor fake_quant_activation(const at::Tensor& x, const ActivationQuant& how);

/// A static quantizer for values in [low, high], given per channel, each [K] f32. kPerTensor takes the
/// extremes of all channels. The range is widened to hold 0.
ActivationQuant static_activation_quant(int bits, ActivationQuant::Granularity granularity, bool symmetric,
                                        const at::Tensor& low, const at::Tensor& high);
/// To and from what a checkpoint stores.
ActivationQuant static_activation_quant(const quant::ActivationScheme& scheme, const quant::StaticGrid& grid,
                                        const at::Device& device);
quant::StaticGrid static_grid(const ActivationQuant& how);

}  // namespace crumb::nn
