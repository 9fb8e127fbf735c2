#include "nn/activation_quant.h"

#include <algorithm>

#include "base/check.h"
#include "nn/range_fake_quant.h"

namespace crumb::nn {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

RangeQuant range_quant(const ActivationQuant& how) {
  RangeQuant range;
  range.bits = how.bits;
  range.scheme = how.symmetric ? RangeQuant::Scheme::kNoZeroPoint : RangeQuant::Scheme::kAsymmetric;
  range.holds_zero = how.holds_zero;
  return range;
}

// scale, zero_point broadcast against x [M, K].
struct StaticFakeQuant : torch::autograd::Function<StaticFakeQuant> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& scale, const Tensor& zero_point,
                        std::int64_t bits) {
    const Tensor u = (x / scale).round_().add_(zero_point), code = u.clamp(0, (1 << bits) - 1);
    ctx->save_for_backward({u == code});
    return (code - zero_point).mul_(scale);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    return {grads[0] * ctx->get_saved_variables()[0], Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace

bool ActivationQuants::any() const {
  return query.on() || key.on() || value.on() ||
         std::any_of(linear_inputs.begin(), linear_inputs.end(),
                     [](const ActivationQuant& how) { return how.on(); });
}

ActivationQuants ActivationQuants::dynamic(int bits, int kv_bits, bool symmetric, bool holds_zero) {
  ActivationQuant how;
  how.bits = bits;
  how.symmetric = symmetric;
  how.holds_zero = holds_zero;
  ActivationQuants all;
  all.linear_inputs.fill(how);
  if (kv_bits < 16) all.query = how;
  how.bits = kv_bits;
  all.key = all.value = how;
  return all;
}

Tensor fake_quant_activation(const Tensor& x, const ActivationQuant& how) {
  if (!how.on()) return x;
  const Tensor rows = x.reshape({-1, x.size(-1)});
  if (how.granularity == ActivationQuant::Granularity::kPerToken)
    return range_fake_quant(rows, {}, {}, range_quant(how)).view(x.sizes());
  CRUMB_CHECK(how.scale.defined() && how.zero_point.defined());
  CRUMB_CHECK(how.scale.numel() ==
              (how.granularity == ActivationQuant::Granularity::kPerTensor ? 1 : x.size(-1)));
  return StaticFakeQuant::apply(rows, how.scale, how.zero_point, static_cast<std::int64_t>(how.bits))
      .view(x.sizes());
}

ActivationQuant static_activation_quant(int bits, ActivationQuant::Granularity granularity, bool symmetric,
                                        const Tensor& low, const Tensor& high) {
  CRUMB_CHECK(granularity != ActivationQuant::Granularity::kPerToken && low.dim() == 1 &&
              low.sizes() == high.sizes());
  ActivationQuant how;
  how.bits = bits;
  how.granularity = granularity;
  how.symmetric = symmetric;
  Tensor extremes = at::stack({low, high}, 1);  // [K, 2]: a row of these has the wanted range
  if (granularity == ActivationQuant::Granularity::kPerTensor) extremes = extremes.view({1, -1});
  const RangeGrid grid = range_grid(extremes, {}, {}, range_quant(how));
  how.scale = grid.scale.flatten();
  how.zero_point = grid.zero_point.flatten();
  return how;
}

ActivationQuant static_activation_quant(const quant::ActivationScheme& scheme, const quant::StaticGrid& grid,
                                        const at::Device& device) {
  CRUMB_CHECK(scheme.is_static());
  const auto tensor = [&](const std::vector<float>& values) {
    return at::tensor(values).to(device, at::kFloat);
  };
  ActivationQuant how;
  how.bits = scheme.bits;
  how.granularity = scheme.inputs;
  how.symmetric = scheme.symmetric;
  how.scale = tensor(grid.scales);
  how.zero_point = tensor(grid.zero_points);
  return how;
}

quant::StaticGrid static_grid(const ActivationQuant& how) {
  const auto values = [](const Tensor& tensor) {
    const Tensor t = tensor.to(at::kCPU, at::kFloat).contiguous();
    return std::vector<float>(t.const_data_ptr<float>(), t.const_data_ptr<float>() + t.numel());
  };
  return {values(how.scale), values(how.zero_point)};
}

}  // namespace crumb::nn
