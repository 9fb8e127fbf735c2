#include "methods/signround/signround.h"

#include <array>
#include <cmath>

#include "base/check.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/parallel_for.h"
#include "methods/arguments.h"
#include "methods/range_search.h"
#include "nn/functional.h"
#include "nn/matmul.h"
#include "quant/affine.h"

namespace crumb::methods::signround {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

constexpr const char* kWhere = "methods.signround";

// The settings that the autograd function carries.
struct Grid {
  int bits;
  bool symmetric, scale_f16;
  double floor;
  std::int64_t max_code() const { return (1 << bits) - 1; }
  std::int64_t half() const { return 1 << (bits - 1); }
};

Grid grid_of(const quant::AffineSpec& spec, const Options& options) {
  return {spec.bits, spec.grid == quant::Grid::kSignedSym, options.scale_f16, options.scale_floor};
}

// Of every group, each [N, K/G].
struct Scales {
  Tensor least, most;  // min(w, 0), max(w, 0)
  Tensor low, high;    // times their factors
  Tensor scale, zero_point;
  Tensor above_floor;  // bool: the scale has a gradient
};

// w [N, K/G, G]
Scales scales_of(const Tensor& w, const Tensor& min_scale, const Tensor& max_scale, const Grid& grid) {
  Scales s;
  s.least = w.amin(-1).clamp_max(0);
  s.most = w.amax(-1).clamp_min(0);
  s.low = s.least * min_scale;
  s.high = s.most * max_scale;
  const auto stored = [&](const Tensor& scale) {
    return grid.scale_f16 ? scale.to(at::kHalf).to(at::kFloat) : scale;
  };
  if (grid.symmetric) {
    const Tensor magnitude = stored(at::maximum(-s.low, s.high) / static_cast<double>(grid.half()));
    const Tensor positive = s.high < -s.low;
    s.above_floor = magnitude >= grid.floor;
    const Tensor floored = magnitude.clamp_min(grid.floor);
    s.scale = at::where(positive, floored, -floored);
    s.zero_point = at::full_like(s.scale, static_cast<double>(grid.half()));
  } else {
    const Tensor scale = stored((s.high - s.low) / static_cast<double>(grid.max_code()));
    s.above_floor = scale >= grid.floor;
    s.scale = scale.clamp_min(grid.floor);
    s.zero_point = at::round(-s.low / s.scale);
  }
  return s;
}

// [N, K] -> [N, K/G, G], the groups that `like` [N, K/G] has.
Tensor in_groups(const Tensor& x, const Tensor& like) {
  return x.view({x.size(0), like.size(1), x.size(1) / like.size(1)});
}

struct FakeQuant : torch::autograd::Function<FakeQuant> {
  static Tensor forward(AutogradContext* ctx, const Tensor& w, const Tensor& value, const Tensor& min_scale,
                        const Tensor& max_scale, std::int64_t bits, bool symmetric, bool scale_f16,
                        double floor) {
    ctx->save_for_backward({w, value, min_scale, max_scale});
    ctx->saved_data["bits"] = bits;
    ctx->saved_data["symmetric"] = symmetric;
    ctx->saved_data["scale_f16"] = scale_f16;
    ctx->saved_data["floor"] = floor;
    const Grid grid{static_cast<int>(bits), symmetric, scale_f16, floor};
    const Tensor groups = in_groups(w, min_scale);
    const Scales s = scales_of(groups, min_scale, max_scale, grid);
    const Tensor scale = s.scale.unsqueeze(-1), zero_point = s.zero_point.unsqueeze(-1);
    Tensor q = (groups / scale).add_(in_groups(value, min_scale)).round_().add_(zero_point);
    q.clamp_(0, grid.max_code()).sub_(zero_point).mul_(scale);
    return q.view_as(w);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &w = saved[0], &value = saved[1], &min_scale = saved[2], &max_scale = saved[3];
    const Grid grid{static_cast<int>(ctx->saved_data["bits"].toInt()), ctx->saved_data["symmetric"].toBool(),
                    ctx->saved_data["scale_f16"].toBool(), ctx->saved_data["floor"].toDouble()};
    const Tensor groups = in_groups(w, min_scale), g = in_groups(grads[0].contiguous(), min_scale);
    const Scales s = scales_of(groups, min_scale, max_scale, grid);
    const Tensor scale = s.scale.unsqueeze(-1), zero_point = s.zero_point.unsqueeze(-1);

    const Tensor ratio = groups / scale;
    const Tensor u = (ratio + in_groups(value, min_scale)).round_().add_(zero_point);
    const Tensor q = u.clamp(0, grid.max_code());
    const Tensor inside = u == q;
    Tensor grad_value;
    if (ctx->needs_input_grad(1)) grad_value = (g * scale).mul_(inside).view_as(w);
    if (!ctx->needs_input_grad(2) && !ctx->needs_input_grad(3)) {
      return {Tensor(), grad_value, Tensor(), Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
    }

    const auto group_sum = [](const Tensor& x) { return x.sum(at::IntArrayRef{-1}, false, at::kDouble); };
    const Tensor outside_term = grid.symmetric ? at::zeros_like(scale) : s.low.unsqueeze(-1) / scale;
    const Tensor grad_scale =
        group_sum(g * (q - zero_point - at::where(inside, ratio, outside_term))) * s.above_floor;
    Tensor grad_low, grad_high;  // [N, K/G] f64
    if (grid.symmetric) {
      // s = sign * max(-low, high) / 2^(bits-1); at::maximum gives each of two equal numbers half.
      const Tensor grad_largest = grad_scale * at::sign(s.scale) / static_cast<double>(grid.half());
      const Tensor negative_side = (-s.low).sub(s.high).sign().add(1).div(2);  // 1, 1/2 or 0
      grad_low = -grad_largest * negative_side;
      grad_high = grad_largest * (1 - negative_side);
    } else {
      const Tensor through_range = grad_scale / static_cast<double>(grid.max_code());
      grad_low = group_sum(g * inside.logical_not()) - through_range;  // the first term by the zero point
      grad_high = through_range;
    }
    return {Tensor(),
            grad_value,
            (grad_low * s.least).to(at::kFloat),
            (grad_high * s.most).to(at::kFloat),
            Tensor(),
            Tensor(),
            Tensor(),
            Tensor()};
  }
};

Parameters start(const Tensor& w, const quant::AffineSpec& spec, bool tune_ranges) {
  const std::array<std::int64_t, 2> groups = {w.size(0), spec.groups(w.size(1))};
  return {at::zeros_like(w).requires_grad_(true), at::ones(groups, w.options()).requires_grad_(tune_ranges),
          at::ones(groups, w.options()).requires_grad_(tune_ranges)};
}

void move_against_sign(Tensor& parameter, double lr) {
  if (!parameter.grad().defined()) return;
  parameter.sub_(parameter.grad().sign_(), lr);
  parameter.mutable_grad() = Tensor();
}

}  // namespace

Tensor fake_quant(const Tensor& w, const Parameters& p, const quant::AffineSpec& spec,
                  const Options& options) {
  const Grid grid = grid_of(spec, options);
  return FakeQuant::apply(w, p.value, p.min_scale, p.max_scale, static_cast<std::int64_t>(grid.bits),
                          grid.symmetric, grid.scale_f16, grid.floor);
}

quant::QuantizedLinear quantize(const Tensor& w, const Parameters& p, const quant::AffineSpec& spec,
                                const Options& options) {
  const at::NoGradGuard no_grad;
  check_weight(w, spec, kWhere);
  const std::int64_t n = w.size(0), k = w.size(1), group = spec.group_of(k), groups = spec.groups(k);
  const auto cpu = [](const Tensor& x) { return x.detach().to(at::kCPU).contiguous(); };
  const Tensor weight = cpu(w), value = cpu(p.value);
  const Scales s =
      scales_of(in_groups(weight, p.min_scale), cpu(p.min_scale), cpu(p.max_scale), grid_of(spec, options));
  const Tensor scale = s.scale.contiguous(), zero_point = s.zero_point.contiguous();

  quant::QuantizedLinear out{n, k, spec, {}, {}, {}};
  out.codes.resize(static_cast<std::size_t>(n * k));
  out.scales.resize(static_cast<std::size_t>(n * groups));
  out.zero_points.resize(out.scales.size());
  parallel_for(n * groups, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const float si = scale.const_data_ptr<float>()[i], zi = zero_point.const_data_ptr<float>()[i];
      const bool negative = si < 0;
      for (std::int64_t j = i * group; j < (i + 1) * group; ++j) {
        const float shifted = weight.const_data_ptr<float>()[j] / si + value.const_data_ptr<float>()[j];
        const std::int32_t code = quant::quantize_one(shifted, 1.0f, zi, spec.max_code());
        out.codes[static_cast<std::size_t>(j)] =
            static_cast<std::uint8_t>(negative ? spec.max_code() - code : code);
      }
      const auto zero = static_cast<std::uint8_t>(zi);
      out.scales[static_cast<std::size_t>(i)] = std::abs(si);
      out.zero_points[static_cast<std::size_t>(i)] =
          negative ? static_cast<std::uint8_t>(spec.max_code() - zero) : zero;
    }
  });
  quant::check_quantized_linear(out, kWhere);
  return out;
}

Parameters search_ranges(const Tensor& weight, const quant::AffineSpec& spec, const Options& options,
                         std::span<const float> energy) {
  const Tensor w = weight.detach().contiguous(),
               weights = error_weights(energy, w.size(1), w.options()).view({1, -1});
  Parameters p = start(w, spec, options.tune_ranges);
  const RangeEnds best =
      search_range_ends({p.max_scale, p.min_scale}, range_ratios(1), [&](const RangeEnds& ends) {
        const Tensor off = fake_quant(w, {p.value, ends.lower, ends.upper}, spec, options) - w;
        return in_groups(off.square_().mul_(weights), ends.lower).sum(-1);
      });
  p.min_scale = best.lower.detach().requires_grad_(options.tune_ranges);
  p.max_scale = best.upper.detach().requires_grad_(options.tune_ranges);
  return p;
}

Trainer::Trainer(std::vector<Tensor> weights, const quant::AffineSpec& spec, const Options& options,
                 std::vector<Parameters> starts)
    : spec_(spec), options_(options), weights_(std::move(weights)) {
  if (options_.iterations < 1 || !(options_.lr >= 0) || !(options_.range_lr >= 0) ||
      !(options_.scale_floor > 0)) {
    fail(ErrorKind::kInvalidArgument, kWhere, "options: ", options_.iterations, " iterations, lr ",
         options_.lr, ", range_lr ", options_.range_lr, ", scale_floor ", options_.scale_floor,
         "; expected at least one iteration, rates that are not negative and a positive floor");
  }
  if (options_.lr == 0) options_.lr = 1.0 / static_cast<double>(options_.iterations);
  if (options_.range_lr == 0) options_.range_lr = options_.lr;
  lr_ = static_cast<float>(options_.lr);
  range_lr_ = static_cast<float>(options_.range_lr);
  CRUMB_CHECK(starts.empty() || starts.size() == weights_.size());
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    Tensor& w = weights_[i];
    check_weight(w, spec_, kWhere);
    w = w.detach().contiguous();
    current_.push_back(starts.empty() ? start(w, spec_, options_.tune_ranges) : starts[i]);
    const Parameters& p = current_.back();
    best_.push_back({p.value.detach().clone(), p.min_scale.detach().clone(), p.max_scale.detach().clone()});
  }
}

Tensor Trainer::weight(std::size_t i) const {
  return fake_quant(weights_[i], current_[i], spec_, options_);
}

bool Trainer::step(const Tensor& loss) {
  CRUMB_CHECK(steps_taken() < options_.iterations);
  const double value = loss.item<double>();
  if (!std::isfinite(value)) return false;
  const bool better = losses_.empty() || value < losses_[static_cast<std::size_t>(best_iteration_)];
  if (better) best_iteration_ = steps_taken();
  losses_.push_back(value);
  loss.backward();
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < current_.size(); ++i) {
    Parameters& p = current_[i];
    if (better) {
      best_[i].value.copy_(p.value);
      best_[i].min_scale.copy_(p.min_scale);
      best_[i].max_scale.copy_(p.max_scale);
    }
    move_against_sign(p.value, lr_);
    move_against_sign(p.min_scale, range_lr_);
    move_against_sign(p.max_scale, range_lr_);
    p.min_scale.clamp_(0, 1);
    p.max_scale.clamp_(0, 1);
  }
  // lr (1 - k / T) as the package's scheduler computes it, in f32: one rounding of a rate moves offsets over
  // ties.
  const auto falls = static_cast<float>(1 - 1 / static_cast<double>(options_.iterations - steps_taken() + 1));
  lr_ *= falls;
  range_lr_ *= falls;
  return true;
}

quant::QuantizedLinear Trainer::quantized(std::size_t i) const {
  return quantize(weights_[i], best_[i], spec_, options_);
}

LinearResult train_linear(const Tensor& w, const Tensor& x, const Tensor& y, const quant::AffineSpec& spec,
                          const Options& options, const nn::Compute& compute) {
  Trainer trainer({w}, spec, options);
  check_matrix(x, w.size(1), "inputs", kWhere);
  check_matrix(y, w.size(0), "targets", kWhere);
  if (x.size(0) != y.size(0)) {
    fail(ErrorKind::kInvalidArgument, kWhere, "targets: ", y.size(0), " rows for ", x.size(0),
         " inputs; expected as many");
  }
  for (std::int64_t k = 0; k < options.iterations; ++k) {
    throw_if_interrupted(kWhere);
    const Tensor loss = nn::mse_loss(nn::linear(x, trainer.weight(0), Tensor(), compute), y, compute);
    if (!trainer.step(loss)) {
      fail(ErrorKind::kNumerics, kWhere, "loss of iteration ", k, " is ", loss.item<double>(),
           "; expected a finite number; check the inputs, whose products overflow");
    }
  }
  return {trainer.quantized(0), trainer.best(0), trainer.losses(), trainer.best_iteration()};
}

}  // namespace crumb::methods::signround
