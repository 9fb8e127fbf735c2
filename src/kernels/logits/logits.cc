#include "kernels/logits.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/parallel_for.h"

namespace crumb::kernels {
namespace {

double log_sum_exp(const LogitsFunctions& run, const float* x, std::int64_t v) {
  const float shift = run.max(x, v);
  return static_cast<double>(shift) + std::log(run.sum_exp(x, v, shift));
}

// body(row, run) returns a row's loss. The sum runs over rows in order.
template <class Body>
double sum_rows(std::int64_t m, double* row_loss, const Body& body) {
  const LogitsFunctions& run = *choose(logits_variants()).run;
  std::vector<double> own(row_loss == nullptr ? static_cast<std::size_t>(m) : 0);
  double* const loss = row_loss == nullptr ? own.data() : row_loss;
  parallel_for(m, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) loss[i] = body(i, run);
  });
  double sum = 0;
  for (std::int64_t i = 0; i < m; ++i) sum += loss[i];
  return sum;
}

// The teacher's distribution over its listed tokens and the rest, against the student's; x becomes the
// gradient when asked.
double kl_top_row(const LogitsFunctions& run, float* x, const float* values, const std::int32_t* indices,
                  const float* teacher_lse, std::int64_t top, std::int64_t v, float grad_scale,
                  bool with_grad) {
  const double lse = log_sum_exp(run, x, v);
  double teacher = teacher_lse == nullptr ? 0.0 : static_cast<double>(*teacher_lse);
  if (teacher_lse == nullptr) {
    const double shift = *std::max_element(values, values + top);
    double sum = 0;
    for (std::int64_t j = 0; j < top; ++j) sum += std::exp(values[j] - shift);
    teacher = shift + std::log(sum);
  }
  double loss = 0, p_sum = 0, q_sum = 0;
  for (std::int64_t j = 0; j < top; ++j) {
    const double log_p = values[j] - teacher, log_q = x[indices[j]] - lse, p = std::exp(log_p);
    loss += p * (log_p - log_q);
    p_sum += p;
    q_sum += std::exp(log_q);
  }
  // What is left of either distribution. Below 1e-6 it is the rounding of the f32 sums, and the student's
  // share must not vanish under a logarithm.
  constexpr double kLeast = 1e-6;
  const double p_rest = teacher_lse == nullptr ? 0.0 : std::max(0.0, 1.0 - p_sum),
               q_rest = std::max(kLeast, 1.0 - q_sum);
  const bool rest = p_rest > kLeast;
  if (rest) loss += p_rest * std::log(p_rest / q_rest);
  if (!with_grad) return loss;
  // d/dx_i: q_i - p_i for a listed token, q_i (1 - p_rest / q_rest) for another. Student probabilities of
  // listed tokens are taken before x changes.
  const double other = rest ? 1.0 - p_rest / q_rest : 1.0;
  thread_local std::vector<float> listed;
  listed.resize(static_cast<std::size_t>(top));
  for (std::int64_t j = 0; j < top; ++j) {
    const double p = std::exp(values[j] - teacher), q = std::exp(x[indices[j]] - lse);
    listed[static_cast<std::size_t>(j)] = static_cast<float>((q - p) * grad_scale);
  }
  run.exp_scale(x, v, static_cast<float>(lse), static_cast<float>(other * grad_scale));
  for (std::int64_t j = 0; j < top; ++j) x[indices[j]] = listed[static_cast<std::size_t>(j)];
  return loss;
}

}  // namespace

std::span<const Variant<LogitsFunctions>> logits_variants() {
  static const Variant<LogitsFunctions> kVariants[] = {
      {Isa::kAvx512, logits_avx512()}, {Isa::kAvx2, logits_avx2()}, {Isa::kRef, logits_ref()}};
  return kVariants;
}

double cross_entropy_rows(float* logits, const std::int64_t* targets, std::int64_t m, std::int64_t v,
                          float grad_scale, bool with_grad, double* row_loss) {
  return sum_rows(m, row_loss, [&](std::int64_t i, const LogitsFunctions& run) {
    float* x = logits + i * v;
    if (targets[i] < 0) {
      if (with_grad) std::fill(x, x + v, 0.0f);
      return 0.0;
    }
    const float shift = run.max(x, v);
    const double sum = run.sum_exp(x, v, shift);
    const double loss = static_cast<double>(shift) + std::log(sum) - x[targets[i]];
    if (with_grad) {
      run.exp_scale(x, v, shift, static_cast<float>(grad_scale / sum));
      x[targets[i]] -= grad_scale;
    }
    return loss;
  });
}

double kl_rows(float* logits, const float* teacher_logits, std::int64_t m, std::int64_t v, float grad_scale,
               bool with_grad, double* row_loss) {
  return sum_rows(m, row_loss, [&](std::int64_t i, const LogitsFunctions& run) {
    float* x = logits + i * v;
    const float* t = teacher_logits + i * v;
    return run.kl(x, t, v, log_sum_exp(run, x, v), log_sum_exp(run, t, v), grad_scale, with_grad);
  });
}

double kl_top_rows(float* logits, const float* values, const std::int32_t* indices, const float* teacher_lse,
                   std::int64_t top, std::int64_t m, std::int64_t v, float grad_scale, bool with_grad,
                   double* row_loss) {
  return sum_rows(m, row_loss, [&](std::int64_t i, const LogitsFunctions& run) {
    return kl_top_row(run, logits + i * v, values + i * top, indices + i * top,
                      teacher_lse == nullptr ? nullptr : teacher_lse + i, top, v, grad_scale, with_grad);
  });
}

void log_sum_exp_rows(const float* logits, std::int64_t m, std::int64_t v, float* lse) {
  const LogitsFunctions& run = *choose(logits_variants()).run;
  parallel_for(m, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      lse[i] = static_cast<float>(log_sum_exp(run, logits + i * v, v));
  });
}

}  // namespace crumb::kernels
