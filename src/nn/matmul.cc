#include "nn/matmul.h"

#include "base/check.h"
#include "kernels/gemm_bf16.h"

namespace crumb::nn {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

Tensor matmul(const Tensor& a, bool transpose_a, const Tensor& b, bool transpose_b, Precision precision) {
  const at::NoGradGuard no_grad;
  CRUMB_CHECK(a.dim() == 2 && b.dim() == 2);
  if (precision == Precision::kBf16 && a.is_cpu()) {
    const Tensor left = a.contiguous(), right = b.contiguous();
    kernels::GemmBf16Args args;
    args.m = left.size(transpose_a ? 1 : 0);
    args.k = left.size(transpose_a ? 0 : 1);
    args.n = right.size(transpose_b ? 0 : 1);
    CRUMB_CHECK(args.k == right.size(transpose_b ? 1 : 0));
    const auto operand = [](const Tensor& x, bool transpose) {
      kernels::Bf16Operand out;
      if (x.scalar_type() == at::kBFloat16) {
        out.bf16 = reinterpret_cast<const std::uint16_t*>(x.const_data_ptr<at::BFloat16>());
      } else {
        out.f32 = x.const_data_ptr<float>();
      }
      out.ld = x.size(1);
      out.transpose = transpose;
      return out;
    };
    args.a = operand(left, transpose_a);
    args.b = operand(right, transpose_b);
    Tensor c = at::empty({args.m, args.n}, at::kFloat);
    args.c = c.mutable_data_ptr<float>();
    args.ldc = args.n;
    kernels::gemm_bf16(args);
    return c;
  }
  Tensor left = transpose_a ? a.t() : a, right = transpose_b ? b.t() : b;
  if (precision == Precision::kBf16) {
    return at::mm(left.to(at::kBFloat16), right.to(at::kBFloat16)).to(at::kFloat);
  }
  return at::mm(left.to(at::kFloat), right.to(at::kFloat));
}

namespace {

struct Linear : torch::autograd::Function<Linear> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& w, std::int64_t precision) {
    ctx->save_for_backward({x, w});
    ctx->saved_data["precision"] = precision;
    return matmul(x, false, w, true, static_cast<Precision>(precision));
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &w = saved[1], g = grads[0].contiguous();
    const auto precision = static_cast<Precision>(ctx->saved_data["precision"].toInt());
    Tensor grad_x, grad_w;
    if (ctx->needs_input_grad(0)) grad_x = matmul(g, false, w, false, precision);
    if (ctx->needs_input_grad(1)) grad_w = matmul(g, true, x, false, precision);
    return {grad_x, grad_w, Tensor()};
  }
};

}  // namespace

Tensor linear(const Tensor& x, const Tensor& w, const Tensor& bias, const Compute& compute) {
  Tensor y = Linear::apply(x, w.scalar_type() == at::kFloat ? w : w.to(at::kFloat),
                           static_cast<std::int64_t>(compute.precision));
  if (bias.defined()) y.add_(bias);
  return y;
}

}  // namespace crumb::nn
