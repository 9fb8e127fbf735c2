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

}  // namespace crumb::kernels
