#include "nn/optimizer_ops.h"

#include <cmath>

#include "kernels/adamw.h"

namespace crumb::nn {

void adamw_step(at::Tensor& w, const at::Tensor& g_in, at::Tensor& m, at::Tensor& v, std::int64_t step,
                double lr, const AdamWSettings& s) {
  const at::NoGradGuard no_grad;
  const at::Tensor g = g_in.contiguous();
  if (w.is_cpu()) {
    kernels::adamw_step(w.mutable_data_ptr<float>(), g.const_data_ptr<float>(), m.mutable_data_ptr<float>(),
                        v.mutable_data_ptr<float>(), w.numel(), step,
                        {lr, s.beta1, s.beta2, s.eps, s.weight_decay});
    return;
  }
  const double correction1 = 1 - std::pow(s.beta1, static_cast<double>(step)),
               correction2 = 1 - std::pow(s.beta2, static_cast<double>(step));
  if (s.weight_decay != 0) w.mul_(1 - lr * s.weight_decay);
  m.lerp_(g, 1 - s.beta1);
  v.mul_(s.beta2).addcmul_(g, g, 1 - s.beta2);
  w.addcdiv_(m, v.sqrt().div_(std::sqrt(correction2)).add_(s.eps), -lr / correction1);
}

double sum_of_squares(const at::Tensor& x_in) {
  const at::Tensor x = x_in.contiguous();
  if (x.is_cpu()) return kernels::sum_of_squares(x.const_data_ptr<float>(), x.numel());
  return x.square().sum(at::kDouble).item<double>();
}

}  // namespace crumb::nn
