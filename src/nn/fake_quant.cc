#include "nn/fake_quant.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/fake_quant.h"
#include "kernels/packed.h"
#include "kernels/swiglu.h"
#include "nn/composed.h"
#include "nn/matmul.h"

namespace crumb::nn {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

// What the backward passes need beside tensors, as saved_data can hold it.
struct Settings {
  quant::AffineSpec spec;
  Precision precision;
  std::int64_t k;
  std::vector<std::int64_t> pack() const {
    return {spec.bits, spec.group_size, static_cast<std::int64_t>(spec.grid),
            static_cast<std::int64_t>(precision), k};
  }
  static Settings unpack(const std::vector<std::int64_t>& v) {
    return {
        {static_cast<int>(v[0]), v[1], static_cast<quant::Grid>(v[2])}, static_cast<Precision>(v[3]), v[4]};
  }
};

// A weight as its three tensors: `body` holds the trainable weights or the packed codes.
struct Parts {
  Tensor body, scale, zero_point;
};

// [N, K] to be written: f32, or bf16 where the product takes that.
template <class ToF32, class ToBf16>
Tensor materialize(std::int64_t n, const Settings& s, const ToF32& to_f32, const ToBf16& to_bf16) {
  if (s.precision == Precision::kBf16) {
    Tensor w_hat = at::empty({n, s.k}, at::kBFloat16);
    to_bf16(reinterpret_cast<std::uint16_t*>(w_hat.mutable_data_ptr<at::BFloat16>()));
    return w_hat;
  }
  Tensor w_hat = at::empty({n, s.k}, at::kFloat);
  to_f32(w_hat.mutable_data_ptr<float>());
  return w_hat;
}

// body [N, K] f32: weights, scales and zero points are trained.
struct Trainable {
  static kernels::FakeQuantArgs args(const Parts& p, const Settings& s) {
    return kernels::fake_quant_args(p.body.const_data_ptr<float>(), p.scale.const_data_ptr<float>(),
                                    p.zero_point.const_data_ptr<float>(), p.body.size(0), s.k, s.spec);
  }
  static Tensor weight(const Parts& p, const Settings& s) {
    const kernels::FakeQuantArgs a = args(p, s);
    return materialize(
        p.body.size(0), s, [&](float* out) { kernels::fake_quant(a, out); },
        [&](std::uint16_t* out) { kernels::fake_quant_bf16(a, out); });
  }
  // Of body, scale and zero point from that of w_hat, which is overwritten: the first is returned in its
  // place.
  static variable_list gradients(const Parts& p, Tensor grad_w_hat, bool want_zero_point, const Settings& s) {
    Tensor grad_scale = at::empty_like(p.scale), grad_zero_point;
    if (want_zero_point) grad_zero_point = at::empty_like(p.zero_point);
    float* g = grad_w_hat.mutable_data_ptr<float>();
    kernels::fake_quant_backward(args(p, s), g, g, grad_scale.mutable_data_ptr<float>(),
                                 want_zero_point ? grad_zero_point.mutable_data_ptr<float>() : nullptr);
    return {grad_w_hat, grad_scale, grad_zero_point};
  }
};

// body [N, K * bits / 32] i32 of codes: scales are trained.
struct Packed {
  static kernels::PackedArgs args(const Parts& p, const Settings& s) {
    return kernels::packed_args(reinterpret_cast<const std::uint32_t*>(p.body.const_data_ptr<std::int32_t>()),
                                p.zero_point.const_data_ptr<std::uint8_t>(), p.scale.const_data_ptr<float>(),
                                p.body.size(0), s.k, s.spec);
  }
  static Tensor weight(const Parts& p, const Settings& s) {
    const kernels::PackedArgs a = args(p, s);
    return materialize(
        p.body.size(0), s, [&](float* out) { kernels::dequantize_packed(a, out); },
        [&](std::uint16_t* out) { kernels::dequantize_packed_bf16(a, out); });
  }
  static variable_list gradients(const Parts& p, const Tensor& grad_w_hat, bool, const Settings& s) {
    Tensor grad_scale = at::empty_like(p.scale);
    kernels::packed_scale_gradient(args(p, s), grad_w_hat.const_data_ptr<float>(),
                                   grad_scale.mutable_data_ptr<float>());
    return {Tensor(), grad_scale, Tensor()};
  }
};

struct FakeQuant : torch::autograd::Function<FakeQuant> {
  static Tensor forward(AutogradContext* ctx, const Tensor& w, const Tensor& scale, const Tensor& zero_point,
                        std::vector<std::int64_t> settings) {
    ctx->save_for_backward({w, scale, zero_point});
    ctx->saved_data["settings"] = settings;
    return Trainable::weight({w, scale, zero_point}, Settings::unpack(settings));
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    auto result = Trainable::gradients({saved[0], saved[1], saved[2]},
                                       grads[0].clone(at::MemoryFormat::Contiguous), ctx->needs_input_grad(2),
                                       Settings::unpack(ctx->saved_data["settings"].toIntVector()));
    result.emplace_back();
    return result;
  }
};

// y = x w_hat^T
template <class Kind>
struct LinearOf : torch::autograd::Function<LinearOf<Kind>> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& body, const Tensor& scale,
                        const Tensor& zero_point, std::vector<std::int64_t> settings) {
    ctx->save_for_backward({x, body, scale, zero_point});
    ctx->saved_data["settings"] = settings;
    const Settings s = Settings::unpack(settings);
    return matmul(x, false, Kind::weight({body, scale, zero_point}, s), true, s.precision);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Parts parts{saved[1], saved[2], saved[3]};
    const Tensor &x = saved[0], g = grads[0].contiguous();
    const Settings s = Settings::unpack(ctx->saved_data["settings"].toIntVector());
    Tensor grad_x;
    variable_list of_weight(3);
    if (ctx->needs_input_grad(0)) grad_x = matmul(g, false, Kind::weight(parts, s), false, s.precision);
    if (ctx->needs_input_grad(2)) {
      of_weight = Kind::gradients(parts, matmul(g, true, x, false, s.precision), ctx->needs_input_grad(3), s);
    }
    return {grad_x, of_weight[0], of_weight[1], of_weight[2], Tensor()};
  }
};

// y = (x * channel) w_hat^T for an x that needs no gradient. With D = g^T x, which is [N, K] as the weight
// is,
//   dL/d w_hat = D * channel,   dL/d channel[k] = sum over n of w_hat[n, k] * D[n, k]:
// the gradient of x * channel, a product as large as the other two, is never made.
struct ScaledInputLinear : torch::autograd::Function<ScaledInputLinear> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& scaled, const Tensor& channel,
                        const Tensor& w, const Tensor& scale, const Tensor& zero_point,
                        std::vector<std::int64_t> settings) {
    ctx->save_for_backward({x, channel, w, scale, zero_point});
    ctx->saved_data["settings"] = settings;
    const Settings s = Settings::unpack(settings);
    return matmul(scaled, false, Trainable::weight({w, scale, zero_point}, s), true, s.precision);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &channel = saved[1], g = grads[0].contiguous();
    const Parts parts{saved[2], saved[3], saved[4]};
    const Settings s = Settings::unpack(ctx->saved_data["settings"].toIntVector());
    Tensor d = matmul(g, true, x, false, s.precision);  // [N, K]
    Settings exact = s;
    exact.precision = Precision::kF32;
    const Tensor grad_channel = Trainable::weight(parts, exact).mul_(d).sum(0);
    const auto of_weight = Trainable::gradients(parts, d.mul_(channel), ctx->needs_input_grad(5), s);
    return {Tensor(), Tensor(), grad_channel, of_weight[0], of_weight[1], of_weight[2], Tensor()};
  }
};

// y = swiglu(gate, up) w_hat^T. The product of gate and up is made again in the backward pass, and their
// gradients take their place: of all that is [M, K], two tensors live from the forward pass on, and one more
// for a moment.
template <class Kind>
struct SwigluLinearOf : torch::autograd::Function<SwigluLinearOf<Kind>> {
  // Rows whose gradient of the product is in memory at once.
  static constexpr std::int64_t kRows = 512;

  static Tensor activated(const Tensor& gate, const Tensor& up) {
    Tensor y = at::empty_like(gate);
    kernels::swiglu(gate.const_data_ptr<float>(), up.const_data_ptr<float>(), gate.numel(),
                    y.mutable_data_ptr<float>());
    return y;
  }
  static Tensor forward(AutogradContext* ctx, const Tensor& gate_in, const Tensor& up_in, const Tensor& body,
                        const Tensor& scale, const Tensor& zero_point, std::vector<std::int64_t> settings) {
    const Tensor gate = gate_in.contiguous(), up = up_in.contiguous();
    ctx->save_for_backward({gate, up, body, scale, zero_point});
    ctx->saved_data["settings"] = settings;
    ctx->saved_data["spent"] = false;
    const Settings s = Settings::unpack(settings);
    return matmul(activated(gate, up), false, Kind::weight({body, scale, zero_point}, s), true, s.precision);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    CRUMB_CHECK(!ctx->saved_data["spent"].toBool());  // gate and up are gone after the first time
    ctx->saved_data["spent"] = true;
    const auto saved = ctx->get_saved_variables();
    Tensor gate = saved[0].detach(), up = saved[1].detach();
    const Parts parts{saved[2], saved[3], saved[4]};
    const Tensor g = grads[0].contiguous();
    const Settings s = Settings::unpack(ctx->saved_data["settings"].toIntVector());
    variable_list of_weight(3);
    if (ctx->needs_input_grad(3)) {
      of_weight = Kind::gradients(parts, matmul(g, true, activated(gate, up), false, s.precision),
                                  ctx->needs_input_grad(4), s);
    }
    const Tensor w_hat = Kind::weight(parts, s);
    for (std::int64_t row = 0; row < g.size(0); row += kRows) {
      const std::int64_t rows = std::min(kRows, g.size(0) - row);
      const Tensor grad = matmul(g.narrow(0, row, rows), false, w_hat, false, s.precision);
      float *const gate_rows = gate.mutable_data_ptr<float>() + row * s.k, *const up_rows =
                                                                               up.mutable_data_ptr<float>() +
                                                                               row * s.k;
      kernels::swiglu_backward(gate_rows, up_rows, grad.const_data_ptr<float>(), rows * s.k, gate_rows,
                               up_rows);
    }
    return {gate, up, of_weight[0], of_weight[1], of_weight[2], Tensor()};
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

Tensor plus_bias(Tensor y, const Tensor& bias) {
  if (bias.defined()) y.add_(bias);
  return y;
}

}  // namespace

Tensor fake_quant(const Tensor& w, const Tensor& scale, const Tensor& zero_point,
                  const quant::AffineSpec& spec, const Compute& compute) {
  if (!compute.fused || !w.is_cpu()) return composed::fake_quant(w, scale, zero_point, spec);
  return FakeQuant::apply(w, scale, zero_point, Settings{spec, Precision::kF32, w.size(1)}.pack());
}

Tensor fake_quant_linear(const Tensor& x, const Tensor& w, const Tensor& scale, const Tensor& zero_point,
                         const Tensor& bias, const quant::AffineSpec& spec, const Compute& compute) {
  if (!compute.fused || !w.is_cpu())
    return linear(x, composed::fake_quant(w, scale, zero_point, spec), bias, compute);
  return plus_bias(LinearOf<Trainable>::apply(x, w, scale, zero_point,
                                              Settings{spec, compute.precision, w.size(1)}.pack()),
                   bias);
}

Tensor scaled_fake_quant_linear(const Tensor& x, const Tensor& scaled, const Tensor& channel, const Tensor& w,
                                const Tensor& scale, const Tensor& zero_point, const Tensor& bias,
                                const quant::AffineSpec& spec, const Compute& compute) {
  CRUMB_CHECK(!x.requires_grad() && !scaled.requires_grad());
  if (!compute.fused || !w.is_cpu())
    return fake_quant_linear(x * channel, w, scale, zero_point, bias, spec, compute);
  return plus_bias(ScaledInputLinear::apply(x, scaled, channel, w, scale, zero_point,
                                            Settings{spec, compute.precision, w.size(1)}.pack()),
                   bias);
}

Tensor swiglu_fake_quant_linear(const Tensor& gate, const Tensor& up, const Tensor& w, const Tensor& scale,
                                const Tensor& zero_point, const Tensor& bias, const quant::AffineSpec& spec,
                                const Compute& compute) {
  if (!compute.fused || !w.is_cpu())
    return fake_quant_linear(composed::swiglu(gate, up), w, scale, zero_point, bias, spec, compute);
  return plus_bias(SwigluLinearOf<Trainable>::apply(gate, up, w, scale, zero_point,
                                                    Settings{spec, compute.precision, w.size(1)}.pack()),
                   bias);
}

Tensor packed_linear(const Tensor& x, const Tensor& words, const Tensor& scale, const Tensor& zero_point,
                     const Tensor& bias, const quant::AffineSpec& spec, const Compute& compute) {
  if (!compute.fused || !words.is_cpu())
    return linear(x, composed_packed_weight(words, scale, zero_point, x.size(1), spec), bias, compute);
  return plus_bias(LinearOf<Packed>::apply(x, words, scale, zero_point,
                                           Settings{spec, compute.precision, x.size(1)}.pack()),
                   bias);
}

Tensor swiglu_packed_linear(const Tensor& gate, const Tensor& up, const Tensor& words, const Tensor& scale,
                            const Tensor& zero_point, const Tensor& bias, const quant::AffineSpec& spec,
                            const Compute& compute) {
  if (!compute.fused || !words.is_cpu())
    return packed_linear(composed::swiglu(gate, up), words, scale, zero_point, bias, spec, compute);
  return plus_bias(SwigluLinearOf<Packed>::apply(gate, up, words, scale, zero_point,
                                                 Settings{spec, compute.precision, gate.size(1)}.pack()),
                   bias);
}

Tensor dequantize_packed(const Tensor& words, const Tensor& scale, const Tensor& zero_point, std::int64_t k,
                         const quant::AffineSpec& spec) {
  if (!words.is_cpu()) return composed_packed_weight(words, scale, zero_point, k, spec);
  return Packed::weight({words, scale, zero_point}, {spec, Precision::kF32, k});
}

}  // namespace crumb::nn
