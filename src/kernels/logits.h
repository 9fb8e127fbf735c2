// Losses over rows of logits, for chunks of the vocabulary's matrix: the gradient takes the logits' place.
#pragma once
#include <cstdint>
#include <span>

#include "kernels/registry.h"

namespace crumb::kernels {

/// Cross entropy of each row. Returns the sum over rows of log(sum exp(logits)) - logits[target], in f64.
///
/// logits (in, out)  [M, V] f32, finite; becomes (softmax - onehot(target)) * grad_scale when with_grad, else
/// is left as it was targets           [M] i64 in [0, V), or negative: the row counts for nothing and its
/// gradient is zero row_loss (out)    [M] f64 or nullptr Error of a loss: 2^-20 * (1 + max |logit|).
/// Independent of the number of threads.
double cross_entropy_rows(float* logits, const std::int64_t* targets, std::int64_t m, std::int64_t v,
                          float grad_scale, bool with_grad, double* row_loss);

/// KL(teacher || student) of each row, from the teacher's logits [M, V]; returns the f64 sum over rows.
/// The gradient is (softmax(student) - softmax(teacher)) * grad_scale.
double kl_rows(float* logits, const float* teacher_logits, std::int64_t m, std::int64_t v, float grad_scale,
               bool with_grad, double* row_loss);

struct LogitsFunctions {
  float (*max)(const float* x, std::int64_t v) noexcept;
  /// sum exp(x - shift) in f64
  double (*sum_exp)(const float* x, std::int64_t v, float shift) noexcept;
  /// x := exp(x - shift) * factor
  void (*exp_scale)(float* x, std::int64_t v, float shift, float factor) noexcept;
  /// With p = exp(t - t_lse), q = exp(x - x_lse): returns sum p * ((t - t_lse) - (x - x_lse)) in f64; x := (q
  /// - p) * factor when `grad`.
  double (*kl)(float* x, const float* t, std::int64_t v, double x_lse, double t_lse, float factor,
               bool grad) noexcept;
};
std::span<const Variant<LogitsFunctions>> logits_variants();
const LogitsFunctions* logits_ref() noexcept;
const LogitsFunctions* logits_avx2() noexcept;
const LogitsFunctions* logits_avx512() noexcept;

}  // namespace crumb::kernels
