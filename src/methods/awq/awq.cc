#include "methods/awq/awq.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "base/check.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/parallel_for.h"
#include "methods/arguments.h"
#include "methods/gram.h"
#include "quant/affine.h"
#include "quant/stored_scale.h"

namespace crumb::methods::awq {

using at::Tensor;

namespace {

constexpr const char* kWhere = "methods.awq";
constexpr float kMinRange = 1e-5f;

struct GroupScale {
  float scale, zero_point;
};

GroupScale scale_of(float low, float high, const quant::AffineSpec& spec, bool scale_f16) {
  if (spec.grid == quant::Grid::kSignedSym) {
    const int half = 1 << (spec.bits - 1);
    const float largest = std::max({-low, high, kMinRange});
    return {quant::stored_scale(largest / static_cast<float>(half - 1), scale_f16), static_cast<float>(half)};
  }
  low = std::min(low, 0.0f);
  high = std::max(high, 0.0f);
  const float range = std::max(high - low, kMinRange);
  const float scale = quant::stored_scale(range / static_cast<float>(spec.max_code()), scale_f16);
  return {scale, quant::effective_zero_point(-low / scale, spec)};
}

// One group: `limit` clamps the weights; codes and w_hat may be null.
GroupScale round_group(std::span<const float> w, float limit, const quant::AffineSpec& spec, bool scale_f16,
                       std::uint8_t* codes, float* w_hat) {
  const auto [least, most] = std::minmax_element(w.begin(), w.end());
  const GroupScale g =
      scale_of(std::clamp(*least, -limit, limit), std::clamp(*most, -limit, limit), spec, scale_f16);
  for (std::size_t i = 0; i < w.size(); ++i) {
    const std::int32_t code =
        quant::quantize_one(std::clamp(w[i], -limit, limit), g.scale, g.zero_point, spec.max_code());
    if (codes != nullptr) codes[i] = static_cast<std::uint8_t>(code);
    if (w_hat != nullptr) w_hat[i] = (static_cast<float>(code) - g.zero_point) * g.scale;
  }
  return g;
}

// w_hat [N, K] of w [N, K], both contiguous on the CPU; `limits` [N, K/G] or null.
void round_rows(const Tensor& w, const float* limits, const quant::AffineSpec& spec, bool scale_f16,
                Tensor& w_hat) {
  const std::int64_t group = spec.group_of(w.size(1)), groups = w.numel() / group;
  const float* from = w.const_data_ptr<float>();
  float* to = w_hat.mutable_data_ptr<float>();
  parallel_for(groups, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      round_group({from + i * group, static_cast<std::size_t>(group)},
                  limits == nullptr ? std::numeric_limits<float>::infinity() : limits[i], spec, scale_f16,
                  nullptr, to + i * group);
    }
  });
}

Tensor on_cpu(const Tensor& w) {
  return w.detach().to(at::kCPU).contiguous();
}

Tensor concatenated(const std::vector<Tensor>& weights, const quant::AffineSpec& spec) {
  if (weights.empty()) {
    fail(ErrorKind::kInvalidArgument, kWhere,
         "weights: none; expected those of the linears that read the site");
  }
  std::vector<Tensor> all;
  for (const Tensor& w : weights) {
    check_weight(w, spec, kWhere);
    if (w.size(1) != weights.front().size(1)) {
      fail(ErrorKind::kInvalidArgument, kWhere, "weights: ", w.size(1), " and ", weights.front().size(1),
           " input channels; expected consumers of one site, which share their inputs");
    }
    all.push_back(on_cpu(w));
  }
  return all.size() == 1 ? all.front() : at::cat(all);
}

}  // namespace

quant::QuantizedLinear round_to_nearest(const Tensor& w, const Tensor& clip_max,
                                        const quant::AffineSpec& spec, bool scale_f16) {
  const at::NoGradGuard no_grad;
  check_weight(w, spec, kWhere);
  const Tensor weight = on_cpu(w);
  const std::int64_t n = w.size(0), k = w.size(1), group = spec.group_of(k), groups = spec.groups(k);
  const Tensor limits = clip_max.defined() ? on_cpu(clip_max) : Tensor();
  if (limits.defined()) check_channels(limits.flatten(), n * groups, 0, "clip_max", kWhere);
  quant::QuantizedLinear out{n, k, spec, {}, {}, {}};
  out.codes.resize(static_cast<std::size_t>(n * k));
  out.scales.resize(static_cast<std::size_t>(n * groups));
  out.zero_points.resize(out.scales.size());
  parallel_for(n * groups, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const float limit =
          limits.defined() ? limits.const_data_ptr<float>()[i] : std::numeric_limits<float>::infinity();
      const GroupScale g =
          round_group({weight.const_data_ptr<float>() + i * group, static_cast<std::size_t>(group)}, limit,
                      spec, scale_f16, out.codes.data() + i * group, nullptr);
      out.scales[static_cast<std::size_t>(i)] = g.scale;
      out.zero_points[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(g.zero_point);
    }
  });
  quant::check_quantized_linear(out, kWhere);
  return out;
}

Tensor weight_mean(const std::vector<Tensor>& weights, const quant::AffineSpec& spec) {
  const at::NoGradGuard no_grad;
  const Tensor w = concatenated(weights, spec);
  const std::int64_t n = w.size(0), k = w.size(1);
  const Tensor groups = w.abs().view({n, spec.groups(k), spec.group_of(k)});
  return (groups / (groups.amax(-1, /*keepdim=*/true) + 1e-6)).view({n, k}).mean(at::IntArrayRef{0});
}

ScaleSearchResult search_scales(const std::vector<Tensor>& weights, const Tensor& x_mean, const Tensor& gram,
                                std::int64_t tokens, const quant::AffineSpec& spec,
                                const ScaleSearch& search) {
  const at::NoGradGuard no_grad;
  const Tensor w = concatenated(weights, spec);
  const std::int64_t n = w.size(0), k = w.size(1);
  check_gram(gram, k, kWhere);
  check_channels(x_mean, k, 0, "mean |x|", kWhere);
  if (search.steps < 1 || tokens < 1) {
    fail(ErrorKind::kInvalidArgument, kWhere, "search: ", search.steps, " steps over ", tokens,
         " tokens; expected at least one of each");
  }
  const Tensor x = on_cpu(x_mean), of_weight = search.duo ? weight_mean(weights, spec) : Tensor();

  ScaleSearchResult result;
  Tensor w_hat = at::empty_like(w);
  for (int i = 0; i < search.steps; ++i) {
    throw_if_interrupted(kWhere);
    const double ratio = static_cast<double>(i) / search.steps;
    Tensor s = x.pow(ratio);
    if (search.duo) s = s / (of_weight.pow(1 - ratio) + 1e-4);
    s = s.clamp_min(1e-4);
    s = s / (s.max() * s.min()).sqrt();
    round_rows(w * s, nullptr, spec, search.scale_f16, w_hat);
    const Tensor error = w_hat.div_(s).sub_(w);
    const double loss = quadratic_error(error.to(gram.device()), gram) / static_cast<double>(tokens * n);
    if (!std::isfinite(loss)) {
      fail(ErrorKind::kNumerics, kWhere, "loss of ratio ", ratio, " is ", loss,
           "; expected a finite number; check the Gram matrix, which may have overflowed");
    }
    result.losses.push_back(loss);
    if (i == 0 || loss < result.losses[static_cast<std::size_t>(result.best)]) {
      result.best = i;
      result.scales = s;
    }
  }
  result.ratio = static_cast<double>(result.best) / search.steps;
  return result;
}

Tensor search_clip(const Tensor& w, const Tensor& gram, const quant::AffineSpec& spec,
                   const ClipSearch& search) {
  const at::NoGradGuard no_grad;
  check_weight(w, spec, kWhere);
  const std::int64_t n = w.size(0), k = w.size(1), group = spec.group_of(k), groups = spec.groups(k);
  check_gram(gram, k, kWhere);
  const auto candidates = static_cast<int>(search.max_shrink * search.steps);
  if (search.steps < 1 || !(search.max_shrink < 1) || candidates < 1) {
    fail(ErrorKind::kInvalidArgument, kWhere, "clip search: ", search.steps, " steps, max_shrink ",
         search.max_shrink, "; expected at least one candidate and a shrink below 1");
  }
  const Tensor weight = on_cpu(w);
  const Tensor largest = weight.abs().view({n, groups, group}).amax(-1).contiguous();  // [N, K/G]
  Tensor best = largest.clone(), w_hat = at::empty_like(weight);
  Tensor least = at::full({n, groups}, std::numeric_limits<double>::infinity(), at::kDouble);
  for (int i = 0; i < candidates; ++i) {
    throw_if_interrupted(kWhere);
    const Tensor limits = largest * (1 - static_cast<double>(i) / search.steps);
    round_rows(weight, limits.const_data_ptr<float>(), spec, search.scale_f16, w_hat);
    const Tensor difference = (w_hat - weight).to(gram.device());
    for (std::int64_t j = 0; j < groups; ++j) {
      const Tensor d = difference.narrow(1, j * group, group).to(gram.scalar_type());  // [N, G]
      const Tensor block = gram.narrow(0, j * group, group).narrow(1, j * group, group);
      const Tensor error = (at::mm(d, block) * d).sum(at::IntArrayRef{1}, false, at::kDouble).to(at::kCPU);
      const Tensor better = error < least.select(1, j);
      least.select(1, j).copy_(at::where(better, error, least.select(1, j)));
      best.select(1, j).copy_(at::where(better, limits.select(1, j), best.select(1, j)));
    }
  }
  return best;
}

}  // namespace crumb::methods::awq
