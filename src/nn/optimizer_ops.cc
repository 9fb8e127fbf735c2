#include "nn/optimizer_ops.h"

#include "kernels/adamw.h"
#include "nn/composed.h"

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
  composed::adamw_step(w, g, m, v, step, lr, s);
}

double sum_of_squares(const at::Tensor& x_in) {
  const at::Tensor x = x_in.contiguous();
  if (x.is_cpu()) return kernels::sum_of_squares(x.const_data_ptr<float>(), x.numel());
  return x.square().sum(at::kDouble).item<double>();
}

}  // namespace crumb::nn
