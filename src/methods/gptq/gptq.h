// GPTQ: columns are rounded one after the other, each error spread over the columns that follow.
// arXiv:2210.17323; docs/methods/gptq.md.
#pragma once
#include <cstdint>
#include <vector>

#include "methods/gptq/group_scale.h"
#include "nn/torch.h"
#include "quant/quantized_linear.h"

namespace crumb::methods::gptq {

struct Options {
  quant::AffineSpec spec{4, 128, quant::Grid::kAsym};
  std::int64_t block_size = 128;  // columns whose updates of later columns are made at once; changes no code
                                  // but by rounding, unless `parity`
  double damping = 0.01;          // times the mean of H's diagonal, added to it
  bool act_order = true;          // columns in the order of falling diagonal of H
  bool static_groups = true;  // scales from the original weights, groups of neighbors in the original order.
                              // act_order without it gives groups of scattered columns (Result::g_idx),
                              // which crumb's formats do not store
  RangeSearch range{};
  bool scale_f16 = true;  // scales are rounded to binary16 before codes are chosen
  bool parity = false;    // as auto_gptq: the scale of a group comes from the weights as they were when its
                          // block began, blind to the updates since. Otherwise from the updated weights.
};

struct Result {
  quant::QuantizedLinear linear;    // codes in the original order of columns
  std::vector<std::int32_t> g_idx;  // [K]: the group of each column; empty when column k is in group k / G
  double damping = 0;               // the one that H needed
  double error = 0;                 // tr((W - W_hat) H (W - W_hat)^T) with the damped H, sums in f64
};

/// Quantizes one linear so that the squared error of its outputs is small (arXiv:2210.17323 §3.3, algorithm
/// 1): with U upper triangular and H^-1 = U^T U, for each column j in order
///
///   q_j = Q1(w_j),   e_j = (w_j - Q2(q_j)) / U_jj,   w_k <- w_k - e_j U_jk   for all k > j
///
/// A channel whose diagonal is 0 (no token excites it) gets the weight 0, and the mean of the other diagonals
/// for its own (`parity`: 1).
///
/// w        [N, K] f32
/// hessian  [K, K] f64 or f32, symmetric, any positive factor of X^T X; it is factored on its device in f64,
///          the rest runs on the CPU
///
/// U is the inverse of the Cholesky factor of H with rows and columns reversed: one factorization, no inverse
/// of H. When it fails the damping is raised tenfold, up to the mean of the diagonal; Numerics if that fails
/// too. InvalidArgument for shapes, Numerics for values that are not finite. Deterministic for a fixed number
/// of threads. Memory beside the arguments: 32 K^2 bytes while H is factored, then 8 K^2 + 17 N K; time about
/// 2/3 K^3 + N K^2 / 2 multiply-adds.
Result quantize(const at::Tensor& w, const at::Tensor& hessian, const Options& options);

}  // namespace crumb::methods::gptq
