#include "nn/head_loss.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/logits.h"
#include "nn/matmul.h"

namespace crumb::nn {

using at::Tensor;

namespace {

// Calls rows(begin, count, logits) for chunks of logits and collects the gradient that it leaves in `logits`.
template <class Rows>
HeadLoss over_chunks(const Tensor& hidden, const Tensor& head, std::int64_t chunk, const Compute& compute,
                     bool with_gradient, const Rows& rows) {
  CRUMB_CHECK(hidden.dim() == 2 && head.dim() == 2 && hidden.size(1) == head.size(1) && chunk > 0);
  const at::NoGradGuard no_grad;
  const std::int64_t m = hidden.size(0);
  const Tensor weight = head.to(at::kFloat), states = hidden.detach().contiguous();
  HeadLoss result;
  if (with_gradient) result.grad_hidden = at::empty_like(states);
  for (std::int64_t begin = 0; begin < m; begin += chunk) {
    const std::int64_t count = std::min(chunk, m - begin);
    Tensor logits =
        matmul(states.narrow(0, begin, count), false, weight, true, compute.precision);  // [count, V]
    result.loss += rows(begin, count, logits);
    if (with_gradient) {
      result.grad_hidden.narrow(0, begin, count)
          .copy_(matmul(logits, false, weight, false, compute.precision));
    }
  }
  result.loss /= static_cast<double>(m);
  if (with_gradient) result.grad_hidden.div_(static_cast<double>(m));
  return result;
}

}  // namespace

HeadLoss head_cross_entropy(const Tensor& hidden, const Tensor& head, const Tensor& targets,
                            std::int64_t chunk, const Compute& compute, bool with_gradient) {
  CRUMB_CHECK(targets.is_contiguous() && targets.scalar_type() == at::kLong &&
              targets.numel() == hidden.size(0));
  return over_chunks(hidden, head, chunk, compute, with_gradient,
                     [&](std::int64_t begin, std::int64_t count, Tensor& logits) {
                       if (compute.fused && logits.is_cpu()) {
                         return kernels::cross_entropy_rows(
                             logits.mutable_data_ptr<float>(), targets.const_data_ptr<std::int64_t>() + begin,
                             count, logits.size(1), 1.0f, with_gradient, nullptr);
                       }
                       const Tensor target = targets.narrow(0, begin, count).unsqueeze(1);
                       const Tensor lse = at::logsumexp(logits, -1, /*keepdim=*/true);
                       const double loss = (lse - logits.gather(1, target)).sum(at::kDouble).item<double>();
                       if (with_gradient) {  // softmax - one_hot
                         logits.sub_(lse).exp_();
                         logits.scatter_add_(1, target, at::full({count, 1}, -1.0, logits.options()));
                       }
                       return loss;
                     });
}

HeadLoss head_kl(const Tensor& hidden, const Tensor& teacher_hidden, const Tensor& head, std::int64_t chunk,
                 const Compute& compute, bool with_gradient) {
  const Tensor teacher_states = teacher_hidden.detach().to(hidden.device(), at::kFloat).contiguous();
  const Tensor weight = head.to(at::kFloat);
  return over_chunks(
      hidden, weight, chunk, compute, with_gradient,
      [&](std::int64_t begin, std::int64_t count, Tensor& logits) {
        Tensor teacher =
            matmul(teacher_states.narrow(0, begin, count), false, weight, true, compute.precision);
        if (compute.fused && logits.is_cpu()) {
          return kernels::kl_rows(logits.mutable_data_ptr<float>(), teacher.const_data_ptr<float>(), count,
                                  logits.size(1), 1.0f, with_gradient, nullptr);
        }
        teacher.sub_(at::logsumexp(teacher, -1, true));  // log p_t
        logits.sub_(at::logsumexp(logits, -1, true));    // log p_s
        const Tensor p = teacher.exp();
        const double loss = teacher.sub_(logits).mul_(p).sum(at::kDouble).item<double>();
        if (with_gradient) logits.exp_().sub_(p);  // p_s - p_t
        return loss;
      });
}

}  // namespace crumb::nn
