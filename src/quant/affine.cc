#include "quant/affine.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace crumb::quant {
namespace {

float rne(float x) noexcept {
  return std::nearbyint(x);
}  // the default rounding mode is half to even

void check_sizes(std::size_t w, std::size_t groups, std::int64_t n, std::int64_t k, const AffineSpec& spec) {
  CRUMB_CHECK(k % spec.group_of(k) == 0);
  CRUMB_CHECK(w == static_cast<std::size_t>(n * k) && groups == static_cast<std::size_t>(n * spec.groups(k)));
}

}  // namespace

void init_minmax(std::span<const float> w, std::int64_t n, std::int64_t k, const AffineSpec& spec,
                 std::span<float> scales, std::span<float> zero_points) {
  check_sizes(w.size(), scales.size(), n, k, spec);
  const auto group = static_cast<std::size_t>(spec.group_of(k));
  const auto max_code = static_cast<float>(spec.max_code());
  for (std::size_t i = 0; i < scales.size(); ++i) {
    const auto [low, high] = std::minmax_element(w.begin() + i * group, w.begin() + (i + 1) * group);
    scales[i] = std::clamp((*high - *low) / max_code, kMinScale, kMaxScale);
    zero_points[i] = rne(-std::clamp(*low / scales[i], -1e4f, 1e4f));
    if (spec.grid == Grid::kSignedSym) zero_points[i] = effective_zero_point(zero_points[i], spec);
  }
}

float effective_scale(float scale) noexcept {
  return std::clamp(scale, kMinScale, kMaxScale);
}

float effective_zero_point(float zero_point, const AffineSpec& spec) noexcept {
  const float rounded = rne(zero_point);
  if (spec.grid == Grid::kSignedSym) {
    const auto half = static_cast<float>(1 << (spec.bits - 1));
    return std::clamp(rounded, half - 1, half);
  }
  return std::clamp(rounded, 0.0f, static_cast<float>(spec.max_code()));
}

std::int32_t quantize_one(float w, float scale, float zero_point, std::int32_t max_code) noexcept {
  return static_cast<std::int32_t>(
      std::clamp(rne(w / scale) + zero_point, 0.0f, static_cast<float>(max_code)));
}

void quantize(std::span<const float> w, std::span<const float> scales, std::span<const float> zero_points,
              std::int64_t n, std::int64_t k, const AffineSpec& spec, std::span<std::uint8_t> codes) {
  check_sizes(w.size(), scales.size(), n, k, spec);
  CRUMB_CHECK(codes.size() == w.size() && zero_points.size() == scales.size());
  const auto group = static_cast<std::size_t>(spec.group_of(k));
  for (std::size_t i = 0; i < scales.size(); ++i) {
    const float s = effective_scale(scales[i]), z = effective_zero_point(zero_points[i], spec);
    for (std::size_t j = i * group; j < (i + 1) * group; ++j) {
      codes[j] = static_cast<std::uint8_t>(quantize_one(w[j], s, z, spec.max_code()));
    }
  }
}

void dequantize(std::span<const std::uint8_t> codes, std::span<const float> scales,
                std::span<const std::uint8_t> zero_points, std::int64_t n, std::int64_t k,
                const AffineSpec& spec, std::span<float> w_hat) {
  check_sizes(codes.size(), scales.size(), n, k, spec);
  CRUMB_CHECK(w_hat.size() == codes.size() && zero_points.size() == scales.size());
  const auto group = static_cast<std::size_t>(spec.group_of(k));
  for (std::size_t i = 0; i < scales.size(); ++i) {
    for (std::size_t j = i * group; j < (i + 1) * group; ++j) {
      w_hat[j] =
          static_cast<float>(static_cast<int>(codes[j]) - static_cast<int>(zero_points[i])) * scales[i];
    }
  }
}

void fake_quant(std::span<const float> w, std::span<const float> scales, std::span<const float> zero_points,
                std::int64_t n, std::int64_t k, const AffineSpec& spec, std::span<float> w_hat) {
  check_sizes(w.size(), scales.size(), n, k, spec);
  CRUMB_CHECK(w_hat.size() == w.size() && zero_points.size() == scales.size());
  const auto group = static_cast<std::size_t>(spec.group_of(k));
  for (std::size_t i = 0; i < scales.size(); ++i) {
    const float s = effective_scale(scales[i]), z = effective_zero_point(zero_points[i], spec);
    for (std::size_t j = i * group; j < (i + 1) * group; ++j) {
      w_hat[j] = (static_cast<float>(quantize_one(w[j], s, z, spec.max_code())) - z) * s;
    }
  }
}

void fake_quant_backward(std::span<const float> w, std::span<const float> scales,
                         std::span<const float> zero_points, std::span<const float> grad_w_hat,
                         std::int64_t n, std::int64_t k, const AffineSpec& spec, std::span<float> grad_w,
                         std::span<float> grad_scales, std::span<float> grad_zero_points) {
  check_sizes(w.size(), scales.size(), n, k, spec);
  const auto group = static_cast<std::size_t>(spec.group_of(k));
  const auto max_code = static_cast<float>(spec.max_code());
  for (std::size_t i = 0; i < scales.size(); ++i) {
    const float s = effective_scale(scales[i]), z = effective_zero_point(zero_points[i], spec);
    double sum_s = 0, sum_z = 0;
    for (std::size_t j = i * group; j < (i + 1) * group; ++j) {
      const float t = w[j] / s, u = rne(t) + z;
      const float q = std::clamp(u, 0.0f, max_code);
      const bool inside = u == q;
      const double g = grad_w_hat[j];
      grad_w[j] = inside ? grad_w_hat[j] : 0.0f;
      sum_s += g * (inside ? static_cast<double>(rne(t)) - t : static_cast<double>(q) - z);
      sum_z += inside ? 0.0 : -g * s;
    }
    grad_scales[i] = static_cast<float>(sum_s);
    grad_zero_points[i] = static_cast<float>(sum_z);
  }
}

}  // namespace crumb::quant
