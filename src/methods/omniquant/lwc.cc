#include "methods/omniquant/lwc.h"

#include <cmath>

#include "base/check.h"
#include "base/error.h"
#include "base/half.h"
#include "base/parallel_for.h"
#include "methods/range_search.h"
#include "quant/affine.h"

namespace crumb::methods::omniquant {

using at::Tensor;
using Scheme = nn::RangeQuant::Scheme;

namespace {

constexpr double kStart = 4;  // logit

nn::RangeQuant range_quant(const WeightQuant& how) {
  const bool parity = how.mode == Mode::kParity;
  return {how.bits, how.scheme, /*holds_zero=*/!parity, parity ? 1e-5 : kMinScale};
}

std::int64_t group_of(const WeightQuant& how, std::int64_t k) {
  return how.group_size == -1 ? k : how.group_size;
}

// [N, K] -> [N * groups, G], rows filled up with zeros.
Tensor in_groups(const Tensor& w, const WeightQuant& how) {
  const std::int64_t k = w.size(1), g = group_of(how, k), missing = how.groups(k) * g - k;
  if (missing != 0 && how.scheme == Scheme::kAsymmetric) {
    fail(ErrorKind::kInvalidArgument, "methods.lwc_fake_quant", "group_size ", g, ": does not divide the ", k,
         " inputs of a linear; expected a divisor (only symmetric grids may fill the last group with zeros)");
  }
  return (missing == 0 ? w : at::constant_pad_nd(w, {0, missing})).reshape({-1, g});
}

struct Factors {
  Tensor gamma, beta;  // undefined without clipping
};
Factors factors_of(const LwcParameters& p) {
  return p.up.defined() ? Factors{at::sigmoid(p.up), at::sigmoid(p.low)} : Factors{};
}

nn::RangeGrid grid_of(const Tensor& w, const LwcParameters& p, const WeightQuant& how) {
  const at::NoGradGuard no_grad;
  const Factors f = factors_of(p);
  nn::RangeGrid grid = nn::range_grid(in_groups(w, how), f.gamma, f.beta, range_quant(how));
  grid.scale = grid.scale.to(at::kCPU).contiguous();
  grid.zero_point = grid.zero_point.to(at::kCPU).contiguous();
  return grid;
}

// codes[n][k] = Q1 with the group's scale and zero point.
void choose_codes(const float* w, const float* scale, const float* zero_point, std::int64_t n, std::int64_t k,
                  std::int64_t group, int bits, std::uint8_t* codes) {
  const std::int64_t groups = k / group;
  parallel_for(n, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin * k; i < end * k; ++i) {
      const std::int64_t j = i / k * groups + i % k / group;
      codes[i] =
          static_cast<std::uint8_t>(quant::quantize_one(w[i], scale[j], zero_point[j], (1 << bits) - 1));
    }
  });
}

void check_whole_groups(const WeightQuant& how, std::int64_t k) {
  if (k % group_of(how, k) != 0) {
    fail(ErrorKind::kUnsupported, "methods.lwc_codes", "group_size ", how.group_size,
         ": does not divide the ", k,
         " inputs of a linear; no format stores a group in part. Choose a divisor or -1");
  }
}

}  // namespace

std::int64_t WeightQuant::groups(std::int64_t k) const {
  return group_size == -1 ? 1 : (k + group_size - 1) / group_size;
}

quant::AffineSpec WeightQuant::spec() const {
  return {bits, group_size, scheme == Scheme::kAsymmetric ? quant::Grid::kAsym : quant::Grid::kSignedSym};
}

LwcParameters start_lwc(std::int64_t n, std::int64_t k, const WeightQuant& how, const at::Device& device) {
  const auto logits = [&] {
    return at::full({n * how.groups(k), 1}, kStart, at::TensorOptions().dtype(at::kFloat).device(device));
  };
  return {logits(), logits()};
}

LwcParameters search_lwc(const Tensor& weight, const WeightQuant& how, std::span<const float> energy) {
  const std::int64_t n = weight.size(0), k = weight.size(1), group = group_of(how, k);
  const LwcParameters start = start_lwc(n, k, how, weight.device());
  if (k % group != 0) return start;
  const Tensor w = in_groups(weight.detach(), how),  // [N * groups, G]
      weights = error_weights(energy, k, w.options()).view({1, k / group, group});
  std::vector<double> logits = range_ratios(1 / (1 + std::exp(-kStart)));
  for (double& ratio : logits) ratio = std::log(ratio / (1 - ratio));
  const RangeEnds best = search_range_ends({start.up, start.low}, logits, [&](const RangeEnds& ends) {
    const Factors f = factors_of({ends.upper, ends.lower});
    const Tensor off = nn::range_fake_quant(w, f.gamma, f.beta, range_quant(how)) - w;
    return (off.square_().view({n, k / group, group}) * weights).sum(-1).view({-1, 1});
  });
  return {best.upper, best.lower};
}

Tensor lwc_fake_quant(const Tensor& w, const LwcParameters& parameters, const WeightQuant& how) {
  const std::int64_t n = w.size(0), k = w.size(1);
  const Factors f = factors_of(parameters);
  const Tensor w_hat =
      nn::range_fake_quant(in_groups(w, how), f.gamma, f.beta, range_quant(how)).view({n, -1});
  return w_hat.size(1) == k ? w_hat : w_hat.narrow(1, 0, k);
}

LwcCodes lwc_codes(const Tensor& w, const LwcParameters& parameters, const WeightQuant& how) {
  const std::int64_t n = w.size(0), k = w.size(1);
  check_whole_groups(how, k);
  const nn::RangeGrid grid = grid_of(w, parameters, how);
  const Tensor weights = w.detach().to(at::kCPU).contiguous();
  LwcCodes out{at::empty({n, k}, at::kByte), grid.scale, grid.zero_point};
  choose_codes(weights.const_data_ptr<float>(), out.scale.const_data_ptr<float>(),
               out.zero_point.const_data_ptr<float>(), n, k, group_of(how, k), how.bits,
               out.codes.mutable_data_ptr<std::uint8_t>());
  return out;
}

StoredLwc lwc_quantized(const Tensor& w, const LwcParameters& parameters, const WeightQuant& how,
                        bool scale_f16) {
  const std::int64_t n = w.size(0), k = w.size(1);
  check_whole_groups(how, k);
  nn::RangeGrid grid = grid_of(w, parameters, how);
  StoredLwc out;
  if (how.mode == Mode::kParity && how.scheme == Scheme::kAsymmetric) {
    const Tensor outside = grid.zero_point.lt(0).logical_or(grid.zero_point.gt(how.spec().max_code()));
    out.moved_groups = outside.sum().item<std::int64_t>();
    if (out.moved_groups > 0) {
      WeightQuant corrected = how;
      corrected.mode = Mode::kDefault;
      const nn::RangeGrid other = grid_of(w, parameters, corrected);
      grid.scale = at::where(outside, other.scale, grid.scale).contiguous();
      grid.zero_point = at::where(outside, other.zero_point, grid.zero_point).contiguous();
    }
  }
  quant::QuantizedLinear& linear = out.linear;
  linear = {n, k, how.spec(), {}, {}, {}};
  const float *scale = grid.scale.const_data_ptr<float>(),
              *zero_point = grid.zero_point.const_data_ptr<float>();
  for (std::int64_t i = 0; i < grid.scale.numel(); ++i) {
    const float stored = scale_f16 ? round_to_f16(scale[i]) : scale[i];
    if (!std::isfinite(stored)) {
      fail(ErrorKind::kNumerics, "methods.lwc_quantized", "scale of group ", i, ": ", scale[i],
           scale_f16 ? " in binary16" : "",
           "; expected a finite number. The weights or the training diverged");
    }
    linear.scales.push_back(stored);
    linear.zero_points.push_back(static_cast<std::uint8_t>(zero_point[i]));
  }
  const Tensor weights = w.detach().to(at::kCPU).contiguous();
  linear.codes.resize(static_cast<std::size_t>(n * k));
  choose_codes(weights.const_data_ptr<float>(), linear.scales.data(), zero_point, n, k, group_of(how, k),
               how.bits, linear.codes.data());
  return out;
}

}  // namespace crumb::methods::omniquant
