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

/// The same against the teacher's `top` largest logits. With teacher_lse the tokens left out are one more
/// outcome whose probability is what remains on either side (teacher: 1 - sum exp(value - lse)); without it
/// the teacher's probabilities are renormalized over the `top`.
///
/// values   [M, top] f32;  indices [M, top] i32, distinct, in [0, V);  teacher_lse [M] f32 or nullptr
double kl_top_rows(float* logits, const float* values, const std::int32_t* indices, const float* teacher_lse,
                   std::int64_t top, std::int64_t m, std::int64_t v, float grad_scale, bool with_grad,
                   double* row_loss);

/// log(sum exp(logits)) of each row, for caching a teacher: lse (out) [M] f32.
void log_sum_exp_rows(const float* logits, std::int64_t m, std::int64_t v, float* lse);

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
