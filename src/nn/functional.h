// The operators of a Llama-like block beside its linears. Each has two forms chosen by Compute::fused:
// crumb's kernel behind an autograd function, and its twin composed of ATen operators.
#pragma once
#include <vector>

#include "nn/compute.h"

namespace crumb::nn {

/// y = x * rsqrt(mean(x^2) + eps) * w, over the last dimension. x [..., H] f32, w [H].
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, const Compute& compute);

/// LayerNorm: y = (x - mean(x)) / sqrt(var(x) + eps) * w + b, over the last dimension; ATen's own kernel.
at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps);

/// cos and sin of position * inv_freq, each [T, head_dim / 2], times the family's attention scaling.
struct RopeTable {
  at::Tensor cos, sin;
};

/// Rotates the pairs (i, i + head_dim / 2) of every head. x [B, T, heads * head_dim]; token t has position
/// `first` + t.
at::Tensor rope(const at::Tensor& x, const RopeTable& table, std::int64_t head_dim, std::int64_t first,
                const Compute& compute);

/// Causal attention with grouped key/value heads, softmax(q k^T / sqrt(head_dim)) v.
/// q [B, T, heads * head_dim], k and v [B, T, kv_heads * head_dim]; returns [B, T, heads * head_dim].
/// `window` > 0: a token sees itself and the window - 1 tokens before it.
at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t heads,
                            std::int64_t kv_heads, std::int64_t head_dim, std::int64_t window,
                            const Compute& compute);

/// silu(gate) * up. Both [..., F].
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up, const Compute& compute);

/// mean((y - target)^2) over all elements, summed in f64 when fused; a 0-dimensional f32 tensor. y, target
/// [..., H] f32.
/// `token_cap` > 0: with e_t the mean square of target's token t and c = token_cap * median(e), the errors of
/// a token above c are multiplied by c / e_t, so that it counts as one of energy c with the same relative
/// error (docs/numerics.md, massive activations). 0: plain.
at::Tensor mse_loss(const at::Tensor& y, const at::Tensor& target, const Compute& compute,
                    double token_cap = 0);

/// Energies of each token, in f64, for reports: sum over the hidden dimension of target^2 and of (y -
/// target)^2. y, target [..., H] f32.
struct TokenEnergies {
  std::vector<double> target, error;  // one per token
};
TokenEnergies token_energies(const at::Tensor& y, const at::Tensor& target);

}  // namespace crumb::nn
