#include "nn/composed.h"

#include <cmath>
#include <limits>

#include "quant/affine.h"

namespace crumb::nn::composed {

using at::Tensor;

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  return weight * (x * at::rsqrt(x.pow(2).mean(-1, /*keepdim=*/true) + eps));
}

Tensor rope(const Tensor& x, const RopeTable& table, std::int64_t head_dim, std::int64_t first) {
  const std::int64_t batch = x.size(0), t = x.size(1), half = head_dim / 2;
  const Tensor heads = x.view({batch, t, -1, head_dim});
  const Tensor cos = table.cos.narrow(0, first, t).view({1, t, 1, half}),
               sin = table.sin.narrow(0, first, t).view({1, t, 1, half});
  const Tensor low = heads.narrow(-1, 0, half), high = heads.narrow(-1, half, half);
  return at::cat({low * cos - high * sin, high * cos + low * sin}, -1).view_as(x);
}

Tensor causal_attention(const Tensor& q, const Tensor& k, const Tensor& v, std::int64_t heads,
                        std::int64_t kv_heads, std::int64_t head_dim, std::int64_t window, bool eager) {
  const std::int64_t batch = q.size(0), t = q.size(1);
  const auto split = [&](const Tensor& x, std::int64_t count) {
    return x.view({batch, t, count, head_dim}).transpose(1, 2);
  };
  const Tensor query = split(q, heads), key = split(k, kv_heads).repeat_interleave(heads / kv_heads, 1),
               value = split(v, kv_heads).repeat_interleave(heads / kv_heads, 1);
  const bool windowed = window > 0 && t > window;
  Tensor out;
  if (eager || windowed) {
    const Tensor row = at::arange(t, q.options().dtype(at::kLong)).unsqueeze(1), column = row.transpose(0, 1);
    Tensor hidden = column > row;
    if (windowed) hidden = hidden.logical_or(column <= row - window);
    const Tensor mask =
        at::zeros({t, t}, q.options()).masked_fill(hidden, -std::numeric_limits<float>::infinity());
    const Tensor scores =
        at::matmul(query, key.transpose(2, 3)) / std::sqrt(static_cast<double>(head_dim)) + mask;
    out = at::matmul(at::softmax(scores, -1), value);
  } else {
    out = at::scaled_dot_product_attention(query, key, value, /*attn_mask=*/{}, /*dropout_p=*/0.0,
                                           /*is_causal=*/true);
  }
  return out.transpose(1, 2).reshape({batch, t, heads * head_dim});
}

Tensor swiglu(const Tensor& gate, const Tensor& up) {
  return at::silu(gate) * up;
}

Tensor mse_loss(const Tensor& y, const Tensor& target) {
  return (y - target).pow(2).mean();
}

namespace {

// d rne(x) / dx := 1, and the same for every function that only moves a value: value of `to`, gradient of
// `from`.
Tensor straight_through(const Tensor& to, const Tensor& from) {
  return (to - from).detach() + from;
}

}  // namespace

Tensor fake_quant(const Tensor& w, const Tensor& scale, const Tensor& zero_point,
                  const quant::AffineSpec& spec) {
  const std::int64_t n = w.size(0), k = w.size(1), groups = spec.groups(k);
  const double max_code = spec.max_code();
  const bool signed_sym = spec.grid == quant::Grid::kSignedSym;
  const double z_low = signed_sym ? (1 << (spec.bits - 1)) - 1 : 0,
               z_high = signed_sym ? (1 << (spec.bits - 1)) : max_code;
  const Tensor s_flat = scale.reshape({n, groups, 1}), z_flat = zero_point.reshape({n, groups, 1});
  const Tensor s = straight_through(s_flat.detach().clamp(quant::kMinScale, quant::kMaxScale), s_flat);
  const Tensor z = straight_through(z_flat.detach().round().clamp(z_low, z_high), z_flat);
  const Tensor t = w.reshape({n, groups, -1}) / s;
  const Tensor u = straight_through(t.detach().round(), t) + z;
  // The clamp keeps the gradient on the closed interval [0, max_code].
  const Tensor clamped = u.detach().clamp(0, max_code);
  const Tensor code = at::where(u.detach() == clamped, u, clamped);
  return ((code - z) * s).reshape({n, k});
}

Tensor range_fake_quant(const Tensor& x, const Tensor& gamma, const Tensor& beta, const RangeQuant& how) {
  const double most = (1 << how.bits) - 1, half = 1 << (how.bits - 1);
  Tensor high = x.amax({1}, /*keepdim=*/true), low = x.amin({1}, true), up = gamma, down = beta;
  if (!up.defined()) up = at::ones_like(high).detach();
  if (!down.defined()) down = at::ones_like(low).detach();
  if (how.holds_zero) {
    const Tensor one_value = high == low;
    up = up.masked_fill(one_value, 1);
    down = down.masked_fill(one_value, 1);
    high = high.clamp_min(0);
    low = low.clamp_max(0);
  }
  const Tensor top = up * high, bottom = down * low;
  Tensor scale, zero_point;
  if (how.scheme == RangeQuant::Scheme::kAsymmetric) {
    scale = ((top - bottom) / most).clamp(how.min_scale, quant::kMaxScale);
    zero_point = (-bottom / scale).detach().clamp(-1e4, 1e4).round();
    if (how.holds_zero) zero_point = zero_point.clamp(0, most);
  } else {
    scale = (at::maximum(top.abs(), bottom.abs()) / (half - 1)).clamp(how.min_scale, quant::kMaxScale);
    zero_point =
        at::full_like(scale, how.scheme == RangeQuant::Scheme::kSymmetric ? half - 1 : half).detach();
  }
  const Tensor t = x / scale, u = straight_through(t.detach().round(), t) + zero_point;
  const Tensor clamped = u.detach().clamp(0, most);
  return (at::where(u.detach() == clamped, u, clamped) - zero_point) * scale;
}

void adamw_step(Tensor& w, const Tensor& g, Tensor& m, Tensor& v, std::int64_t step, double lr,
                const AdamWSettings& s) {
  const at::NoGradGuard no_grad;
  const double correction1 = 1 - std::pow(s.beta1, static_cast<double>(step)),
               correction2 = 1 - std::pow(s.beta2, static_cast<double>(step));
  if (s.weight_decay != 0) w.mul_(1 - lr * s.weight_decay);
  m.lerp_(g, 1 - s.beta1);
  v.mul_(s.beta2).addcmul_(g, g, 1 - s.beta2);
  w.addcdiv_(m, v.sqrt().div_(std::sqrt(correction2)).add_(s.eps), -lr / correction1);
}

}  // namespace crumb::nn::composed
