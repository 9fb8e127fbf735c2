#include "nn/functional.h"

#include <omp.h>

#include <cmath>

#include "base/check.h"
#include "kernels/attention.h"
#include "kernels/mse.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/swiglu.h"
#include "nn/composed.h"

// Fortran interface of the MKL inside libtorch_cpu.
extern "C" void sgemm_(const char* transa, const char* transb, const int* m, const int* n, const int* k,
                       const float* alpha, const float* a, const int* lda, const float* b, const int* ldb,
                       const float* beta, float* c, const int* ldc);

namespace crumb::nn {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

bool use_kernels(const Tensor& x, const Compute& compute) {
  return compute.fused && x.is_cpu() && x.scalar_type() == at::kFloat;
}

const float* data(const Tensor& x) {
  return x.const_data_ptr<float>();
}
float* out(Tensor& x) {
  return x.mutable_data_ptr<float>();
}

// Row-major C = op(A) op(B) is column-major C^T = op(B)^T op(A)^T.
void mkl_sgemm(const kernels::SgemmArgs& g, float*) {
  const int m = static_cast<int>(g.n), n = static_cast<int>(g.m), k = static_cast<int>(g.k);
  const int lda = static_cast<int>(g.ldb), ldb = static_cast<int>(g.lda), ldc = static_cast<int>(g.ldc);
  const float one = 1, beta = g.accumulate ? 1 : 0;
  sgemm_(g.transpose_b ? "T" : "N", g.transpose_a ? "T" : "N", &m, &n, &k, &one, g.b, &lda, g.a, &ldb, &beta,
         g.c, &ldc);
}

// ----------------------------------------------------------------------------------------------------------------------
// RMSNorm

struct RmsNorm : torch::autograd::Function<RmsNorm> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x_in, const Tensor& weight, double eps) {
    const Tensor x = x_in.contiguous();
    const std::int64_t h = x.size(-1), m = x.numel() / h;
    Tensor y = at::empty_like(x), rstd = at::empty({m}, x.options());
    kernels::rms_norm(data(x), data(weight), static_cast<float>(eps), m, h, out(y), out(rstd));
    ctx->save_for_backward({x, weight, rstd});
    return y;
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], &rstd = saved[2], g = grads[0].contiguous();
    const std::int64_t h = x.size(-1), m = x.numel() / h;
    Tensor grad_x = at::empty_like(x), grad_w;
    if (ctx->needs_input_grad(1)) grad_w = at::empty_like(weight);
    kernels::rms_norm_backward(data(x), data(weight), data(rstd), data(g), m, h, out(grad_x),
                               grad_w.defined() ? out(grad_w) : nullptr);
    return {grad_x, grad_w, Tensor()};
  }
};

// -------------------------------------------------------------------------------------------------------------------------
// RoPE

struct Rope : torch::autograd::Function<Rope> {
  static Tensor rotate(const Tensor& x, const Tensor& cos, const Tensor& sin, std::int64_t head_dim,
                       std::int64_t first, bool backward) {
    const std::int64_t batch = x.size(0), t = x.size(1), width = x.size(2), rotary = 2 * cos.size(1);
    CRUMB_CHECK(first + t <= cos.size(0) && width % head_dim == 0);
    Tensor y = at::empty_like(x);
    const kernels::RopeArgs args{data(x),
                                 data(cos) + first * cos.size(1),
                                 data(sin) + first * cos.size(1),
                                 out(y),
                                 batch,
                                 t,
                                 width / head_dim,
                                 head_dim,
                                 rotary,
                                 width,
                                 width};
    backward ? kernels::rope_backward(args) : kernels::rope(args);
    return y;
  }
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& cos, const Tensor& sin,
                        std::int64_t head_dim, std::int64_t first) {
    ctx->saved_data["cos"] = cos;
    ctx->saved_data["sin"] = sin;
    ctx->saved_data["head_dim"] = head_dim;
    ctx->saved_data["first"] = first;
    return rotate(x.contiguous(), cos, sin, head_dim, first, false);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    auto& kept = ctx->saved_data;
    return {rotate(grads[0].contiguous(), kept["cos"].toTensor(), kept["sin"].toTensor(),
                   kept["head_dim"].toInt(), kept["first"].toInt(), true),
            Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

// --------------------------------------------------------------------------------------------------------------------
// attention

struct CausalAttention : torch::autograd::Function<CausalAttention> {
  static kernels::HeadsView<const float> view(const Tensor& x) {
    return {data(x), x.size(2), x.size(1) * x.size(2)};
  }
  static kernels::HeadsView<float> view_out(Tensor& x) { return {out(x), x.size(2), x.size(1) * x.size(2)}; }
  static kernels::AttentionShape shape(const Tensor& q, std::int64_t heads, std::int64_t kv_heads,
                                       std::int64_t head_dim, std::int64_t window) {
    return {q.size(0),
            q.size(1),
            heads,
            kv_heads,
            head_dim,
            window,
            static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)))};
  }
  static Tensor forward(AutogradContext* ctx, const Tensor& q_in, const Tensor& k_in, const Tensor& v_in,
                        std::int64_t heads, std::int64_t kv_heads, std::int64_t head_dim,
                        std::int64_t window) {
    const Tensor q = q_in.contiguous(), k = k_in.contiguous(), v = v_in.contiguous();
    Tensor o = at::empty_like(q), lse = at::empty({q.size(0), heads, q.size(1)}, q.options());
    kernels::causal_attention(shape(q, heads, kv_heads, head_dim, window), view(q), view(k), view(v),
                              view_out(o), out(lse), mkl_sgemm);
    ctx->save_for_backward({q, k, v, o, lse});
    ctx->saved_data["dims"] = std::vector<std::int64_t>{heads, kv_heads, head_dim, window};
    return o;
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &q = saved[0], &k = saved[1], &v = saved[2], &o = saved[3], &lse = saved[4],
                 g = grads[0].contiguous();
    const auto dims = ctx->saved_data["dims"].toIntVector();
    Tensor grad_q = at::empty_like(q), grad_k = at::empty_like(k), grad_v = at::empty_like(v);
    kernels::causal_attention_backward(shape(q, dims[0], dims[1], dims[2], dims[3]), view(q), view(k),
                                       view(v), view(o), data(lse), view(g), view_out(grad_q),
                                       view_out(grad_k), view_out(grad_v), mkl_sgemm);
    return {grad_q, grad_k, grad_v, Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

// -------------------------------------------------------------------------------------------------------------
// SwiGLU, MSE loss

struct Swiglu : torch::autograd::Function<Swiglu> {
  static Tensor forward(AutogradContext* ctx, const Tensor& gate_in, const Tensor& up_in) {
    const Tensor gate = gate_in.contiguous(), up = up_in.contiguous();
    Tensor y = at::empty_like(gate);
    kernels::swiglu(data(gate), data(up), gate.numel(), out(y));
    ctx->save_for_backward({gate, up});
    return y;
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &gate = saved[0], &up = saved[1], g = grads[0].contiguous();
    Tensor grad_gate = at::empty_like(gate), grad_up = at::empty_like(up);
    kernels::swiglu_backward(data(gate), data(up), data(g), gate.numel(), out(grad_gate), out(grad_up));
    return {grad_gate, grad_up};
  }
};

struct MseLoss : torch::autograd::Function<MseLoss> {
  static Tensor forward(AutogradContext* ctx, const Tensor& y_in, const Tensor& target_in) {
    const Tensor y = y_in.contiguous(), target = target_in.contiguous();
    const std::int64_t h = y.size(-1), m = y.numel() / h;
    Tensor grad = at::empty_like(y);
    const double loss = kernels::mse_loss(data(y), data(target), m, h, 1.0f, out(grad), nullptr, nullptr);
    ctx->saved_data["grad"] = grad;
    return at::scalar_tensor(static_cast<float>(loss),
                             y.options());  // above f32: infinity, as the twin gives
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    return {ctx->saved_data["grad"].toTensor() * grads[0], Tensor()};
  }
};

}  // namespace

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps, const Compute& compute) {
  return use_kernels(x, compute) ? RmsNorm::apply(x, weight, eps) : composed::rms_norm(x, weight, eps);
}

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
  return at::layer_norm(x, weight.sizes(), weight, bias, eps);
}

Tensor rope(const Tensor& x, const RopeTable& table, std::int64_t head_dim, std::int64_t first,
            const Compute& compute) {
  return use_kernels(x, compute) ? Rope::apply(x, table.cos, table.sin, head_dim, first)
                                 : composed::rope(x, table, head_dim, first);
}

Tensor causal_attention(const Tensor& q, const Tensor& k, const Tensor& v, std::int64_t heads,
                        std::int64_t kv_heads, std::int64_t head_dim, std::int64_t window,
                        const Compute& compute) {
  if (!use_kernels(q, compute))
    return composed::causal_attention(q, k, v, heads, kv_heads, head_dim, window, compute.eager_attention);
  return CausalAttention::apply(q, k, v, heads, kv_heads, head_dim, window);
}

Tensor swiglu(const Tensor& gate, const Tensor& up, const Compute& compute) {
  return use_kernels(gate, compute) ? Swiglu::apply(gate, up) : composed::swiglu(gate, up);
}

Tensor mse_loss(const Tensor& y, const Tensor& target, const Compute& compute, double token_cap) {
  if (token_cap > 0) {
    Tensor factor;  // of values: the square root of that of errors
    {
      const at::NoGradGuard no_grad;
      const Tensor energy = target.square().mean({-1}, /*keepdim=*/true);
      const double cap = token_cap * energy.median().item<double>();
      if (cap > 0 && energy.max().item<double>() > cap) factor = (cap / energy.clamp_min(cap)).sqrt_();
    }
    if (factor.defined()) return mse_loss(y * factor, target * factor, compute);
  }
  return use_kernels(y, compute) ? MseLoss::apply(y, target) : composed::mse_loss(y, target);
}

TokenEnergies token_energies(const Tensor& y_in, const Tensor& target_in) {
  const Tensor y = y_in.to(at::kCPU).contiguous(), target = target_in.to(at::kCPU).contiguous();
  const std::int64_t h = y.size(-1), m = y.numel() / h;
  TokenEnergies energies{std::vector<double>(static_cast<std::size_t>(m)),
                         std::vector<double>(static_cast<std::size_t>(m))};
  kernels::mse_loss(data(y), data(target), m, h, 1.0f, nullptr, energies.error.data(),
                    energies.target.data());
  return energies;
}

}  // namespace crumb::nn
