#include "nn/fake_quant.h"

#include "base/check.h"
#include "kernels/fake_quant.h"
#include "kernels/packed.h"
#include "nn/composed.h"
#include "nn/matmul.h"

namespace crumb::nn {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

// What the backward passes need of spec and precision, as saved_data can hold it.
struct Settings {
  quant::AffineSpec spec;
  Precision precision;
  std::vector<std::int64_t> pack() const {
    return {spec.bits, spec.group_size, static_cast<std::int64_t>(spec.grid),
            static_cast<std::int64_t>(precision)};
  }
  static Settings unpack(const std::vector<std::int64_t>& v) {
    return {{static_cast<int>(v[0]), v[1], static_cast<quant::Grid>(v[2])}, static_cast<Precision>(v[3])};
  }
};

kernels::FakeQuantArgs args_of(const Tensor& w, const Tensor& scale, const Tensor& zero_point,
                               const quant::AffineSpec& spec) {
  return kernels::fake_quant_args(w.const_data_ptr<float>(), scale.const_data_ptr<float>(),
                                  zero_point.const_data_ptr<float>(), w.size(0), w.size(1), spec);
}

// f32, or bf16 where the product takes that.
Tensor forward_weight(const Tensor& w, const Tensor& scale, const Tensor& zero_point,
                      const Settings& settings) {
  const kernels::FakeQuantArgs args = args_of(w, scale, zero_point, settings.spec);
  if (settings.precision == Precision::kBf16) {
    Tensor w_hat = at::empty(w.sizes(), at::kBFloat16);
    kernels::fake_quant_bf16(args, reinterpret_cast<std::uint16_t*>(w_hat.mutable_data_ptr<at::BFloat16>()));
    return w_hat;
  }
  Tensor w_hat = at::empty_like(w);
  kernels::fake_quant(args, w_hat.mutable_data_ptr<float>());
  return w_hat;
}

// Gradients of w, scale and zero point from that of w_hat, which is overwritten: the first is returned in its
// place.
variable_list weight_gradients(const Tensor& w, const Tensor& scale, const Tensor& zero_point,
                               Tensor grad_w_hat, bool want_zero_point, const quant::AffineSpec& spec) {
  Tensor grad_scale = at::empty_like(scale), grad_zero_point;
  if (want_zero_point) grad_zero_point = at::empty_like(zero_point);
  float* g = grad_w_hat.mutable_data_ptr<float>();
  kernels::fake_quant_backward(args_of(w, scale, zero_point, spec), g, g,
                               grad_scale.mutable_data_ptr<float>(),
                               want_zero_point ? grad_zero_point.mutable_data_ptr<float>() : nullptr);
  return {grad_w_hat, grad_scale, grad_zero_point};
}

struct FakeQuant : torch::autograd::Function<FakeQuant> {
  static Tensor forward(AutogradContext* ctx, const Tensor& w, const Tensor& scale, const Tensor& zero_point,
                        std::vector<std::int64_t> settings) {
    ctx->save_for_backward({w, scale, zero_point});
    ctx->saved_data["settings"] = settings;
    Settings s = Settings::unpack(settings);
    s.precision = Precision::kF32;
    return forward_weight(w, scale, zero_point, s);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Settings s = Settings::unpack(ctx->saved_data["settings"].toIntVector());
    auto result = weight_gradients(saved[0], saved[1], saved[2], grads[0].clone(at::MemoryFormat::Contiguous),
                                   ctx->needs_input_grad(2), s.spec);
    result.emplace_back();
    return result;
  }
};

struct FakeQuantLinear : torch::autograd::Function<FakeQuantLinear> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& w, const Tensor& scale,
                        const Tensor& zero_point, std::vector<std::int64_t> settings) {
    ctx->save_for_backward({x, w, scale, zero_point});
    ctx->saved_data["settings"] = settings;
    const Settings s = Settings::unpack(settings);
    return matmul(x, false, forward_weight(w, scale, zero_point, s), true, s.precision);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &w = saved[1], &scale = saved[2], &zero_point = saved[3],
                 g = grads[0].contiguous();
    const Settings s = Settings::unpack(ctx->saved_data["settings"].toIntVector());
    Tensor grad_x;
    if (ctx->needs_input_grad(0))
      grad_x = matmul(g, false, forward_weight(w, scale, zero_point, s), false, s.precision);
    const auto of_weight = weight_gradients(w, scale, zero_point, matmul(g, true, x, false, s.precision),
                                            ctx->needs_input_grad(3), s.spec);
    return {grad_x, of_weight[0], of_weight[1], of_weight[2], Tensor()};
  }
};

kernels::PackedArgs packed_args_of(const Tensor& words, const Tensor& scale, const Tensor& zero_point,
                                   std::int64_t k, const quant::AffineSpec& spec) {
  return kernels::packed_args(reinterpret_cast<const std::uint32_t*>(words.const_data_ptr<std::int32_t>()),
                              zero_point.const_data_ptr<std::uint8_t>(), scale.const_data_ptr<float>(),
                              words.size(0), k, spec);
}

Tensor packed_weight(const Tensor& words, const Tensor& scale, const Tensor& zero_point, std::int64_t k,
                     const Settings& s) {
  const kernels::PackedArgs args = packed_args_of(words, scale, zero_point, k, s.spec);
  if (s.precision == Precision::kBf16) {
    Tensor w_hat = at::empty({words.size(0), k}, at::kBFloat16);
    kernels::dequantize_packed_bf16(args,
                                    reinterpret_cast<std::uint16_t*>(w_hat.mutable_data_ptr<at::BFloat16>()));
    return w_hat;
  }
  Tensor w_hat = at::empty({words.size(0), k}, at::kFloat);
  kernels::dequantize_packed(args, w_hat.mutable_data_ptr<float>());
  return w_hat;
}

struct PackedLinear : torch::autograd::Function<PackedLinear> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& words, const Tensor& scale,
                        const Tensor& zero_point, std::vector<std::int64_t> settings) {
    ctx->save_for_backward({x, words, scale, zero_point});
    ctx->saved_data["settings"] = settings;
    const Settings s = Settings::unpack(settings);
    return matmul(x, false, packed_weight(words, scale, zero_point, x.size(1), s), true, s.precision);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &words = saved[1], &scale = saved[2], &zero_point = saved[3],
                 g = grads[0].contiguous();
    const Settings s = Settings::unpack(ctx->saved_data["settings"].toIntVector());
    Tensor grad_x, grad_scale;
    if (ctx->needs_input_grad(0))
      grad_x = matmul(g, false, packed_weight(words, scale, zero_point, x.size(1), s), false, s.precision);
    if (ctx->needs_input_grad(2)) {
      const Tensor grad_w_hat = matmul(g, true, x, false, s.precision);
      grad_scale = at::empty_like(scale);
      kernels::packed_scale_gradient(packed_args_of(words, scale, zero_point, x.size(1), s.spec),
                                     grad_w_hat.const_data_ptr<float>(),
                                     grad_scale.mutable_data_ptr<float>());
    }
    return {grad_x, Tensor(), grad_scale, Tensor(), Tensor()};
  }
};

// [N, K] codes as f32 with ATen operators only: any device, and the twin of the kernels. `words` [N, K * bits
// / 32] i32.
Tensor composed_packed_weight(const Tensor& words, const Tensor& scale, const Tensor& zero_point,
                              std::int64_t k, const quant::AffineSpec& spec) {
  const std::int64_t n = words.size(0), groups = spec.groups(k);
  const Tensor bits = at::bitwise_and(words.unsqueeze(2).bitwise_right_shift(at::arange(32, words.options())),
                                      1);  // [N, words, 32]
  const Tensor planes = bits.reshape({n, k, spec.bits})
                            .bitwise_left_shift(at::arange(spec.bits, words.options()));  // [N, K, bits]
  const Tensor codes = planes.sum(-1).to(at::kFloat).view({n, groups, -1});
  return ((codes - zero_point.to(at::kFloat).unsqueeze(2)) * scale.unsqueeze(2)).reshape({n, k});
}

}  // namespace

Tensor fake_quant(const Tensor& w, const Tensor& scale, const Tensor& zero_point,
                  const quant::AffineSpec& spec, const Compute& compute) {
  if (!compute.fused || !w.is_cpu()) return composed::fake_quant(w, scale, zero_point, spec);
  return FakeQuant::apply(w, scale, zero_point, Settings{spec, compute.precision}.pack());
}

Tensor fake_quant_linear(const Tensor& x, const Tensor& w, const Tensor& scale, const Tensor& zero_point,
                         const Tensor& bias, const quant::AffineSpec& spec, const Compute& compute) {
  if (!compute.fused || !w.is_cpu())
    return linear(x, composed::fake_quant(w, scale, zero_point, spec), bias, compute);
  Tensor y = FakeQuantLinear::apply(x, w, scale, zero_point, Settings{spec, compute.precision}.pack());
  if (bias.defined()) y.add_(bias);
  return y;
}

Tensor packed_linear(const Tensor& x, const Tensor& words, const Tensor& scale, const Tensor& zero_point,
                     const Tensor& bias, const quant::AffineSpec& spec, const Compute& compute) {
  if (!compute.fused || !words.is_cpu())
    return linear(x, composed_packed_weight(words, scale, zero_point, x.size(1), spec), bias, compute);
  Tensor y = PackedLinear::apply(x, words, scale, zero_point, Settings{spec, compute.precision}.pack());
  if (bias.defined()) y.add_(bias);
  return y;
}

Tensor dequantize_packed(const Tensor& words, const Tensor& scale, const Tensor& zero_point, std::int64_t k,
                         const quant::AffineSpec& spec) {
  if (!words.is_cpu()) return composed_packed_weight(words, scale, zero_point, k, spec);
  return packed_weight(words, scale, zero_point, k, {spec, Precision::kF32});
}

}  // namespace crumb::nn
