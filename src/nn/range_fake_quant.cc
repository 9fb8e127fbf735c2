#include "nn/range_fake_quant.h"

#include <algorithm>

#include "base/check.h"
#include "quant/affine.h"

namespace crumb::nn {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Scheme = RangeQuant::Scheme;

namespace {

constexpr double kMaxZeroPoint = 1e4;  // the authors' bound, reached by rows far from 0 only

double top_code(const RangeQuant& how) {
  return (1 << how.bits) - 1;
}
// What the range is divided by.
double steps(const RangeQuant& how) {
  return how.scheme == Scheme::kAsymmetric ? top_code(how) : (1 << (how.bits - 1)) - 1;
}

// All [R, 1].
struct Range {
  Tensor high, low;          // of the values, with 0 where how.holds_zero
  Tensor gamma, beta;        // as used: 1 in rows of one value where how.holds_zero
  Tensor scale, zero_point;  // the grid
  Tensor moves;              // f32: 1 where the scale was not clamped, else 0
};

Range range_of(const Tensor& x, const Tensor& gamma, const Tensor& beta, const RangeQuant& how) {
  CRUMB_CHECK(x.dim() == 2 && how.bits >= 2 && how.bits < 16);
  Range r{x.amax({1}, /*keepdim=*/true), x.amin({1}, true), gamma, beta, {}, {}, {}};
  if (how.holds_zero) {
    const Tensor one_value = r.high == r.low;
    r.gamma = gamma.masked_fill(one_value, 1);
    r.beta = beta.masked_fill(one_value, 1);
    r.high.clamp_min_(0);
    r.low.clamp_max_(0);
  }
  const Tensor top = r.gamma * r.high, bottom = r.beta * r.low;
  const Tensor scale =
      (how.scheme == Scheme::kAsymmetric ? top - bottom : at::maximum(top.abs(), bottom.abs())) / steps(how);
  r.moves = scale.ge(how.min_scale).logical_and_(scale.le(quant::kMaxScale)).to(x.scalar_type());
  r.scale = scale.clamp(how.min_scale, quant::kMaxScale);
  if (how.scheme != Scheme::kAsymmetric) {
    r.zero_point = at::full_like(scale, (1 << (how.bits - 1)) - (how.scheme == Scheme::kSymmetric ? 1 : 0));
  } else {
    r.zero_point = (-bottom / r.scale).clamp_(-kMaxZeroPoint, kMaxZeroPoint).round_();
    if (how.holds_zero) r.zero_point.clamp_(0, top_code(how));
  }
  return r;
}

// Calls f(first row, rows) so that the temporaries of a piece stay in the cache.
template <class F>
void for_pieces(std::int64_t rows, std::int64_t columns, const F& f) {
  constexpr std::int64_t kValues = 1 << 18;
  const std::int64_t piece = std::max<std::int64_t>(1, kValues / std::max<std::int64_t>(1, columns));
  for (std::int64_t row = 0; row < rows; row += piece) f(row, std::min(piece, rows - row));
}

struct RangeFakeQuant : torch::autograd::Function<RangeFakeQuant> {
  static RangeQuant unpack(const std::vector<std::int64_t>& v, double min_scale) {
    return {static_cast<int>(v[0]), static_cast<Scheme>(v[1]), v[2] != 0, min_scale};
  }
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                        std::vector<std::int64_t> settings, double min_scale) {
    const RangeQuant how = unpack(settings, min_scale);
    const Range r = range_of(x, gamma, beta, how);
    Tensor y = at::empty_like(x);
    for_pieces(x.size(0), x.size(1), [&](std::int64_t row, std::int64_t rows) {
      const Tensor z = r.zero_point.narrow(0, row, rows), s = r.scale.narrow(0, row, rows);
      Tensor part = y.narrow(0, row, rows);
      at::div_out(part, x.narrow(0, row, rows), s);
      part.round_().add_(z).clamp_(0, top_code(how)).sub_(z).mul_(s);
    });
    ctx->save_for_backward({x, r.high, r.low, r.gamma, r.beta, r.scale, r.zero_point, r.moves});
    ctx->saved_data["settings"] = settings;
    ctx->saved_data["min_scale"] = min_scale;
    return y;
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Range r{saved[1], saved[2], saved[3], saved[4], saved[5], saved[6], saved[7]};
    const Tensor &x = saved[0], &g = grads[0];
    const RangeQuant how =
        unpack(ctx->saved_data["settings"].toIntVector(), ctx->saved_data["min_scale"].toDouble());
    const bool want_x = ctx->needs_input_grad(0);
    Tensor grad_x = want_x ? at::empty_like(x) : Tensor(), grad_scale = at::empty_like(r.scale);
    for_pieces(x.size(0), x.size(1), [&](std::int64_t row, std::int64_t rows) {
      const Tensor z = r.zero_point.narrow(0, row, rows);
      const Tensor t = x.narrow(0, row, rows) / r.scale.narrow(0, row, rows), u = t.round().add_(z),
                   code = u.clamp(0, top_code(how)), inside = u == code, upstream = g.narrow(0, row, rows);
      grad_scale.narrow(0, row, rows).copy_(((code - z).sub_(t * inside)).mul_(upstream).sum(1, true));
      if (want_x) {
        Tensor part = grad_x.narrow(0, row, rows);
        at::mul_out(part, upstream, inside);
      }
    });
    grad_scale.mul_(r.moves).div_(steps(how));
    Tensor d_top = grad_scale, d_bottom = -grad_scale;
    if (how.scheme != Scheme::kAsymmetric) {
      const Tensor top = r.gamma * r.high, bottom = r.beta * r.low, a = top.abs(), b = bottom.abs();
      const Tensor share = (a > b).to(x.scalar_type()).add_((a == b).to(x.scalar_type()), 0.5);
      d_top = grad_scale * share * top.sign();
      d_bottom = grad_scale * (1 - share) * bottom.sign();
    }
    if (want_x) {
      const Tensor d_high = d_top * r.gamma, d_low = d_bottom * r.beta;
      for_pieces(x.size(0), x.size(1), [&](std::int64_t row, std::int64_t rows) {
        const Tensor values = x.narrow(0, row, rows);
        Tensor part = grad_x.narrow(0, row, rows);
        for (const auto& [extreme, gradient] : {std::pair(&r.high, &d_high), std::pair(&r.low, &d_low)}) {
          const Tensor attains = values == extreme->narrow(0, row, rows);
          // None attains an end that was widened to 0.
          const Tensor sharers = attains.sum(1, /*keepdim=*/true).clamp_min_(1);
          part.addcmul_(attains.to(x.scalar_type()), gradient->narrow(0, row, rows) / sharers);
        }
      });
    }
    // In a row of one value that is not clipped, S is 0 but for rounding, and so are these.
    Tensor grad_gamma, grad_beta;
    if (ctx->needs_input_grad(1)) grad_gamma = d_top * r.high;
    if (ctx->needs_input_grad(2)) grad_beta = d_bottom * r.low;
    return {grad_x, grad_gamma, grad_beta, Tensor(), Tensor()};
  }
};

Tensor factor(const Tensor& given, const Tensor& x) {
  return given.defined() ? given : at::ones({x.size(0), 1}, x.options());
}

}  // namespace

RangeGrid range_grid(const Tensor& x, const Tensor& gamma, const Tensor& beta, const RangeQuant& how) {
  const at::NoGradGuard no_grad;
  const Range r = range_of(x, factor(gamma, x), factor(beta, x), how);
  return {r.scale, r.zero_point};
}

Tensor range_fake_quant(const Tensor& x, const Tensor& gamma, const Tensor& beta, const RangeQuant& how) {
  CRUMB_CHECK(x.dim() == 2 && how.bits >= 2 && how.bits < 16);
  return RangeFakeQuant::apply(
      x.contiguous(), factor(gamma, x), factor(beta, x),
      std::vector<std::int64_t>{how.bits, static_cast<std::int64_t>(how.scheme), how.holds_zero ? 1 : 0},
      how.min_scale);
}

}  // namespace crumb::nn
