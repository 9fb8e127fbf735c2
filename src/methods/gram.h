// X^T X of a linear's inputs, collected batch by batch: all that GPTQ, AWQ and layer-wise losses know of X.
#pragma once
#include <cstdint>

#include "nn/torch.h"

namespace crumb::methods {

/// Adds up X^T X. Products of at most 1024 rows are taken in f32 and summed in f64, so an entry differs from
/// the exact sum by at most 1024 * 2^-24 times the sum of |x_i x_j|, and in practice by its square root. Only
/// columns at and below the diagonal are multiplied. Memory: 8 K^2 bytes, and 4 * 1024 * K while adding; time
/// K^2 multiply-adds a token.
class Gram {
 public:
  explicit Gram(std::int64_t k);

  /// x [M, K] f32, on the device of the first call. One call counts as `samples` samples: the scaling of
  /// hessian(). Throws InvalidArgument for another shape or dtype, Numerics for values that are not finite.
  void add(const at::Tensor& x, std::int64_t samples = 1);

  std::int64_t k() const { return k_; }
  std::int64_t tokens() const { return tokens_; }
  std::int64_t samples() const { return samples_; }

  /// X^T X, [K, K] f64. Shares memory with this object: valid until the next add(). Throws InvalidArgument
  /// before the first add().
  at::Tensor sum();
  /// H = 2 / samples * X^T X, as GPTQ's authors scale it (arXiv:2210.17323 eq. (1): the factor cancels). A
  /// copy, f64.
  at::Tensor hessian();

 private:
  std::int64_t k_, tokens_ = 0, samples_ = 0;
  at::Tensor sum_;
};

/// tr(D G D^T) = ||X D^T||^2 for D [N, K] and G = X^T X [K, K]: the squared output error of a weight that is
/// off by D, over all tokens. The product is taken in G's dtype, the trace in f64; blocks of rows, so that
/// memory stays at 1024 * K values.
double quadratic_error(const at::Tensor& difference, const at::Tensor& gram);

/// The Gram matrix of x / scales: G_ij / (s_i s_j). scales [K] f32, > 0.
at::Tensor gram_of_divided(const at::Tensor& gram, const at::Tensor& scales);

}  // namespace crumb::methods
