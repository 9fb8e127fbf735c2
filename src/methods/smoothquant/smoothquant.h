// SmoothQuant: the range of activations moves into weights, channel by channel; then both are 8-bit integers.
// arXiv:2211.10438; docs/methods/smoothquant.md.
#pragma once
#include <cstdint>
#include <vector>

#include "nn/torch.h"
#include "quant/quantized_linear.h"

namespace crumb::methods::smoothquant {

/// Largest |w| of each input channel over the rows of all linears that read a site. weights [N_i, K] f32; [K]
/// f32. Throws InvalidArgument for an empty list or another K, Numerics for values that are not finite.
at::Tensor weight_absmax(const std::vector<at::Tensor>& weights);

/// s = max(|x|_max, 1e-5)^alpha / max(|w|_max, 1e-5)^(1 - alpha), at least 1e-5     arXiv:2211.10438 eq. (4)
///
/// Consumers become W' = W diag(s), their input x' = x / s: the producer, a norm's weight and bias, is
/// divided.
///
/// x_absmax  [K] f32 >= 0: largest |x| of each channel over the calibration tokens
/// w_absmax  [K] f32 >= 0: weight_absmax()
/// alpha     in [0, 1]: how much of the difficulty moves
/// Returns [K] f32 > 0. Throws InvalidArgument, Numerics.
at::Tensor smoothing_scales(const at::Tensor& x_absmax, const at::Tensor& w_absmax, double alpha);

/// Symmetric 8-bit codes of one weight, a scale a row: step = max(|w|_max, 1e-5) / 127, and rne(w / step) in
/// [-127, 127] is the code. The result has bits 8, one group a row and zero point 128: its codes are 128
/// more.
///
/// w [N, K] f32, smoothed. scale_f16: the step is rounded to binary16 first, as files store it.
quant::QuantizedLinear quantize_weight(const at::Tensor& w, bool scale_f16);

/// Tokens as integers, each with its own step: x = codes * scales.
struct QuantizedTokens {
  at::Tensor codes;   // [M, K] i8, in [-127, 127]
  at::Tensor scales;  // [M] f32, > 0
};

/// Dynamic per-token quantization by the rule of quantize_weight(). x [M, K] f32.
QuantizedTokens quantize_tokens(const at::Tensor& x);

/// What an integer runtime computes, and the truth it is tested against:
///
///   y[m][n] = (f32(sum over k of x_code[m][k] * w_code[n][k]) * x_scale[m]) * w_scale[n]
///
/// The sum is exact: |sum| <= 127^2 K needs K <= 133,000 to fit 32 bits (InvalidArgument above). It is made
/// as an f64 product, which holds these integers, 8 (M K + N K) bytes. Returns [M, N] f32.
at::Tensor w8a8_product(const QuantizedTokens& x, const quant::QuantizedLinear& w);

}  // namespace crumb::methods::smoothquant
