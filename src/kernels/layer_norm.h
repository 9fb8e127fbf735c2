// LayerNorm, for models whose norms subtract the mean (OPT). Forward only: training uses ATen's.
#pragma once
#include <cstdint>

namespace crumb::kernels {

/// y[m, h] = (x[m, h] - mean[m]) / sqrt(mean_h((x[m, h] - mean[m])^2) + eps) * weight[h] + bias[h]
///
/// x [M, H], weight and bias [H], y (out) [M, H], may be x. All f32 and contiguous. Both means are summed in
/// f64. Portable code for every processor: a row is read three times from the cache, and its linears cost
/// hundreds of times more.
void layer_norm(const float* x, const float* weight, const float* bias, float eps, std::int64_t m,
                std::int64_t h, float* y) noexcept;

}  // namespace crumb::kernels
