// Matrix products at a chosen precision.
#pragma once
#include "nn/compute.h"

namespace crumb::nn {

/// op(a) op(b) as f32. a, b 2-D f32; `transpose_a` takes a as [K, M], `transpose_b` takes b as [N, K].
/// kF32: ATen (MKL on a CPU). kBf16: operands rounded to bf16, sums in f32; crumb's AMX kernel on a CPU that
/// has it.
at::Tensor matmul(const at::Tensor& a, bool transpose_a, const at::Tensor& b, bool transpose_b,
                  Precision precision);

/// y = x w^T (+ bias), differentiable in x and w. x [M, K], w [N, K].
at::Tensor linear(const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias, const Compute& compute);

}  // namespace crumb::nn
