#include "methods/gram.h"

#include <algorithm>

#include "base/check.h"
#include "base/error.h"
#include "methods/arguments.h"

namespace crumb::methods {

using at::Tensor;

namespace {

constexpr std::int64_t kStrip = 1024;  // rows of one f32 product, and columns of the result at a time

}  // namespace

Gram::Gram(std::int64_t k) : k_(k) {
  CRUMB_CHECK(k >= 1);
}

void Gram::add(const Tensor& x, std::int64_t samples) {
  const at::NoGradGuard no_grad;
  check_matrix(x, k_, "inputs", "methods.gram");
  CRUMB_CHECK(samples >= 1);
  if (!sum_.defined()) sum_ = at::zeros({k_, k_}, x.options().dtype(at::kDouble));
  for (std::int64_t row = 0; row < x.size(0); row += kStrip) {
    const Tensor part = x.narrow(0, row, std::min(kStrip, x.size(0) - row));
    for (std::int64_t c = 0; c < k_; c += kStrip) {
      const std::int64_t width = std::min(kStrip, k_ - c);
      sum_.narrow(0, c, k_ - c)
          .narrow(1, c, width)
          .add_(at::mm(part.narrow(1, c, k_ - c).t(), part.narrow(1, c, width)));  // [K - c, width]
    }
  }
  tokens_ += x.size(0);
  samples_ += samples;
}

Tensor Gram::sum() {
  const at::NoGradGuard no_grad;
  if (!sum_.defined()) {
    fail(ErrorKind::kInvalidArgument, "methods.gram", "inputs: none were added; expected at least one batch");
  }
  for (std::int64_t c = 0; c + kStrip < k_; c += kStrip) {  // strips below the diagonal, mirrored
    const std::int64_t next = c + kStrip;
    sum_.narrow(0, c, kStrip)
        .narrow(1, next, k_ - next)
        .copy_(sum_.narrow(0, next, k_ - next).narrow(1, c, kStrip).t());
  }
  return sum_;
}

Tensor Gram::hessian() {
  return sum() * (2.0 / static_cast<double>(samples_));
}

double quadratic_error(const Tensor& difference, const Tensor& gram) {
  const at::NoGradGuard no_grad;
  double sum = 0;
  for (std::int64_t row = 0; row < difference.size(0); row += kStrip) {
    const Tensor d =
        difference.narrow(0, row, std::min(kStrip, difference.size(0) - row)).to(gram.scalar_type());
    sum += (at::mm(d, gram) * d).sum(at::kDouble).item<double>();
  }
  return sum;
}

Tensor gram_of_divided(const Tensor& gram, const Tensor& scales) {
  const Tensor s = scales.to(gram.scalar_type());
  return gram / s.unsqueeze(1) / s.unsqueeze(0);
}

}  // namespace crumb::methods
