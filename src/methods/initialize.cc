#include "methods/initialize.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "methods/linear_inputs.h"
#include "quant/affine.h"
#include "quant/clip_search.h"

namespace crumb::methods {

using at::Tensor;
using model::LinearRole;

const std::vector<float>& InputEnergies::of(LinearRole role) const {
  return mean_square[nn::input_of(role)];
}

InputEnergies collect_input_energies(const nn::DecoderBlock& block, const calib::ActivationStore& inputs,
                                     std::int64_t batch, const nn::RopeTable& rope,
                                     const nn::Compute& compute, const at::Device& device) {
  std::array<Tensor, 4> sums;
  const auto add = [&](std::int64_t, const nn::DecoderBlock::LinearInputs& in) {
    const auto all = in.all();
    for (std::size_t i = 0; i < all.size(); ++i) {
      const Tensor square = all[i]->square().sum(at::IntArrayRef{0}, false, at::kDouble);
      sums[i] = sums[i].defined() ? sums[i] + square : square;
    }
  };
  for_each_linear_inputs(block, inputs, batch, rope, compute, device, "methods.initialize", add);
  InputEnergies energies;
  const double tokens = static_cast<double>(inputs.windows() * inputs.tokens());
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const Tensor mean = (sums[i] / tokens).to(at::kCPU, at::kFloat).contiguous();
    energies.mean_square[i].assign(mean.const_data_ptr<float>(), mean.const_data_ptr<float>() + mean.numel());
  }
  return energies;
}

void start_block(nn::DecoderBlock& block, const quant::AffineSpec& spec, const recipe::Rounding& how,
                 const InputEnergies* energies) {
  for (const LinearRole role : block.roles()) {
    nn::QuantLinear& linear = block.linear(role);
    const std::int64_t groups = spec.groups(linear.k);
    const Tensor w = linear.weight.detach().to(at::kCPU).contiguous();
    Tensor scale = at::empty({linear.n, groups}, at::kFloat),
           zero_point = at::empty({linear.n, groups}, at::kFloat);
    const std::span<const float> weights{w.const_data_ptr<float>(), static_cast<std::size_t>(w.numel())};
    const std::span<float> s{scale.mutable_data_ptr<float>(), static_cast<std::size_t>(scale.numel())},
        z{zero_point.mutable_data_ptr<float>(), static_cast<std::size_t>(zero_point.numel())};
    if (how.method == recipe::InitMethod::kMinMax) {
      quant::init_minmax(weights, linear.n, linear.k, spec, s, z);
    } else {
      CRUMB_CHECK(how.method != recipe::InitMethod::kAbsMax);  // which chooses codes at once
      const bool weighted = how.method == recipe::InitMethod::kClipSearchActivation;
      CRUMB_CHECK(!weighted || energies != nullptr);
      quant::init_clip_search(
          weights, linear.n, linear.k, spec, {how.min_ratio, how.steps},
          weighted ? std::span<const float>(energies->of(role)) : std::span<const float>(),
          /*scale_f16=*/true, s, z);
    }
    linear.start_fake_quant(spec, scale.to(linear.weight.device()), zero_point.to(linear.weight.device()));
  }
}

void start_from_codes(nn::DecoderBlock& block, const LinearCodes& codes) {
  constexpr float kReach = 0.49f;  // of a step, so that rounding of the product cannot pass the boundary
  constexpr float kFar = std::numeric_limits<float>::infinity();
  for (const LinearRole role : block.roles()) {
    nn::QuantLinear& linear = block.linear(role);
    const quant::QuantizedLinear& from = codes[static_cast<std::size_t>(role)];
    CRUMB_CHECK(from.n == linear.n && from.k == linear.k);
    const std::int64_t groups = from.spec.groups(from.k), group = from.spec.group_of(from.k);
    Tensor weight = linear.weight.detach().to(at::kCPU).contiguous().clone();
    Tensor scale = at::empty({from.n, groups}, at::kFloat), zero_point = at::empty_like(scale);
    float* const w = weight.mutable_data_ptr<float>();
    float *const s = scale.mutable_data_ptr<float>(), *const z = zero_point.mutable_data_ptr<float>();
    for (std::int64_t g = 0; g < from.n * groups; ++g) {
      s[g] = quant::effective_scale(from.scales[static_cast<std::size_t>(g)]);
      z[g] = from.zero_points[static_cast<std::size_t>(g)];
      for (std::int64_t i = g * group; i < (g + 1) * group; ++i) {
        const int code = from.codes[static_cast<std::size_t>(i)];
        const float middle = static_cast<float>(code) - z[g];
        const float low = code == 0 ? -kFar : (middle - kReach) * s[g],
                    high = code == from.spec.max_code() ? kFar : (middle + kReach) * s[g];
        w[i] = std::clamp(w[i], low, high);
      }
    }
    const at::Device device = linear.weight.device();
    linear.weight = weight.to(device);
    linear.start_fake_quant(from.spec, scale.to(device), zero_point.to(device));
  }
}

}  // namespace crumb::methods
