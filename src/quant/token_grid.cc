#include "quant/token_grid.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "quant/affine.h"

namespace crumb::quant {

TokenGrid token_grid(float low, float high, int bits, bool symmetric) noexcept {
  const auto top = static_cast<float>((1 << bits) - 1), half = static_cast<float>(1 << (bits - 1));
  TokenGrid grid{0, half, top};
  const float scale = symmetric ? std::max(high, -low) / (half - 1) : (high - low) / top;
  grid.scale = std::clamp(scale, kMinTokenScale, kMaxTokenScale);
  // + 0 makes a zero point of -0 plain.
  if (!symmetric) grid.zero_point = std::clamp(std::nearbyint(-low / grid.scale), 0.0f, top) + 0.0f;
  return grid;
}

TokenGrid token_grid(std::span<const float> x, int bits, bool symmetric) noexcept {
  float low = 0, high = 0;
  bool finite = true;
  for (const float v : x) {
    finite = finite && std::isfinite(v);
    low = std::min(low, v);
    high = std::max(high, v);
  }
  TokenGrid grid = token_grid(low, high, bits, symmetric);
  if (!finite) grid.scale = std::numeric_limits<float>::quiet_NaN();
  return grid;
}

std::int32_t centered_code(float x, const TokenGrid& grid) noexcept {
  if (std::isnan(grid.scale)) return 0;
  return quantize_one(x, grid.scale, grid.zero_point, static_cast<std::int32_t>(grid.top)) -
         static_cast<std::int32_t>(grid.zero_point);
}

float fake_quant_one(float x, const TokenGrid& grid) noexcept {
  return static_cast<float>(centered_code(x, grid)) * grid.scale;
}

}  // namespace crumb::quant
