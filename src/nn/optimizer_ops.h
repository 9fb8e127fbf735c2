// The optimizer's loops over tensors: crumb's kernels on a CPU, ATen elsewhere.
#pragma once
#include "nn/torch.h"

namespace crumb::nn {

struct AdamWSettings {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
};

/// One AdamW step (arXiv:1711.05101) in the operation order of torch.optim.AdamW, eps outside of the root;
/// `step` counts from 1.
///
///   w <- w (1 - lr wd);  m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
///   w <- w - lr / (1 - b1^step) * m / (sqrt(v) / sqrt(1 - b2^step) + eps)
///
/// w, m, v (in, out) and g: f32, contiguous, equal shapes.
void adamw_step(at::Tensor& w, const at::Tensor& g, at::Tensor& m, at::Tensor& v, std::int64_t step,
                double lr, const AdamWSettings& settings);

/// sum x^2 in f64.
double sum_of_squares(const at::Tensor& x);

}  // namespace crumb::nn
