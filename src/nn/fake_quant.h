// Fake quantization with trainable weights, scales and zero points, and the linears that use it.
#pragma once
#include "nn/compute.h"
#include "quant/spec.h"

namespace crumb::nn {

using at::Tensor;

/// w_hat = Q2(Q1(w)) with the straight-through gradients Q3 (quant/affine.h). Fused: one pass each way, and
/// only w, scale and zero_point are kept for the backward pass. Composed (composed.h): the definition it is
/// tested against, and what runs on CUDA. The clamp's gradient is 1 on the closed interval; at::clamp changed
/// that in torch 2.14, so it is written by hand in both.
///
/// w [N, K] f32, scale and zero_point [N, K/G] f32. Returns [N, K].
Tensor fake_quant(const Tensor& w, const Tensor& scale, const Tensor& zero_point,
                  const quant::AffineSpec& spec, const Compute& compute);

/// y = x w_hat^T (+ bias) with w_hat rebuilt in the backward pass instead of kept.
/// x [M, K] f32; returns [M, N].
Tensor fake_quant_linear(const Tensor& x, const Tensor& w, const Tensor& scale, const Tensor& zero_point,
                         const Tensor& bias, const quant::AffineSpec& spec, const Compute& compute);

/// y = (x * channel) w_hat^T (+ bias) with a trained `channel` [K] f32 (a norm's weight) and an x [M, K] f32
/// that is a constant: channel gets its gradient without that of x * channel being made, which saves one of
/// three products. `scaled` holds x * channel, so that several linears share it; it takes no part in the
/// gradient.
Tensor scaled_fake_quant_linear(const Tensor& x, const Tensor& scaled, const Tensor& channel, const Tensor& w,
                                const Tensor& scale, const Tensor& zero_point, const Tensor& bias,
                                const quant::AffineSpec& spec, const Compute& compute);

/// y = swiglu(gate, up) w_hat^T (+ bias), without keeping the activated product for the backward pass.
/// gate, up [M, K] f32; returns [M, N]. The backward pass overwrites gate and up with their gradients: nobody
/// else may read them afterwards, and it runs once (CRUMB_CHECK).
Tensor swiglu_fake_quant_linear(const Tensor& gate, const Tensor& up, const Tensor& w, const Tensor& scale,
                                const Tensor& zero_point, const Tensor& bias, const quant::AffineSpec& spec,
                                const Compute& compute);

/// y = x ((codes - zero_point) * scale)^T (+ bias): codes stay packed, only `scale` has a gradient,
///   d scale[n, j] = sum over group j of (code - zero_point) * dW[n, k]        arXiv:2407.11062 §3.3
///
/// words [N, K * bits / 32] i32, a dense bit stream along K (quant::WordLayout::kDense); zero_point [N, K/G]
/// u8; scale [N, K/G] f32.
Tensor packed_linear(const Tensor& x, const Tensor& words, const Tensor& scale, const Tensor& zero_point,
                     const Tensor& bias, const quant::AffineSpec& spec, const Compute& compute);

/// packed_linear() of swiglu(gate, up), under the terms of swiglu_fake_quant_linear().
Tensor swiglu_packed_linear(const Tensor& gate, const Tensor& up, const Tensor& words, const Tensor& scale,
                            const Tensor& zero_point, const Tensor& bias, const quant::AffineSpec& spec,
                            const Compute& compute);

/// [N, K] f32 of a packed weight.
Tensor dequantize_packed(const Tensor& words, const Tensor& scale, const Tensor& zero_point, std::int64_t k,
                         const quant::AffineSpec& spec);

}  // namespace crumb::nn
