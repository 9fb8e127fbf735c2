// The twins: each operator of functional.h, fake_quant.h, range_fake_quant.h and optimizer_ops.h written with
// ATen operators only, plain and slow. They define what the fused operators must compute (tests/nn), run on
// any device, and are what `Compute::fused = false` selects.
#pragma once
#include "nn/functional.h"
#include "nn/optimizer_ops.h"
#include "nn/range_fake_quant.h"
#include "quant/spec.h"

namespace crumb::nn::composed {

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);
at::Tensor rope(const at::Tensor& x, const RopeTable& table, std::int64_t head_dim, std::int64_t first);
/// `eager`: softmax over explicit scores, as the authors' stack computes it without SDPA; else
/// at::scaled_dot_product_attention.
at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t heads,
                            std::int64_t kv_heads, std::int64_t head_dim, std::int64_t window, bool eager);
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up);
at::Tensor mse_loss(const at::Tensor& y, const at::Tensor& target);
/// See nn/fake_quant.h.
at::Tensor fake_quant(const at::Tensor& w, const at::Tensor& scale, const at::Tensor& zero_point,
                      const quant::AffineSpec& spec);
/// See nn/range_fake_quant.h; gamma, beta undefined: 1.
at::Tensor range_fake_quant(const at::Tensor& x, const at::Tensor& gamma, const at::Tensor& beta,
                            const RangeQuant& how);
/// See nn/optimizer_ops.h.
void adamw_step(at::Tensor& w, const at::Tensor& g, at::Tensor& m, at::Tensor& v, std::int64_t step,
                double lr, const AdamWSettings& settings);

}  // namespace crumb::nn::composed
