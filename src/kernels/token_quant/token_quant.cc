#include "kernels/token_quant.h"

#include <cmath>
#include <limits>

#include "base/check.h"

namespace crumb::kernels {

std::span<const Variant<TokenQuantFunctions>> token_quant_variants() {
  static const Variant<TokenQuantFunctions> kVariants[] = {
      {Isa::kAvx512, token_quant_avx512()}, {Isa::kAvx2, token_quant_avx2()}, {Isa::kRef, token_quant_ref()}};
  return kVariants;
}

quant::TokenGrid token_grid(const TokenQuantFunctions& functions, const float* x, std::int64_t count,
                            int bits, bool symmetric, const quant::TokenGrid* fixed) {
  float low = 0, high = 0;
  const bool finite = functions.extremes(x, count, &low, &high);
  quant::TokenGrid grid =
      fixed != nullptr ? *fixed : quant::token_grid(finite ? low : 0, finite ? high : 0, bits, symmetric);
  if (!finite) grid.scale = std::numeric_limits<float>::quiet_NaN();
  return grid;
}

void fake_quant_rows(const TokenQuantFunctions& functions, float* x, std::int64_t rows, std::int64_t count,
                     std::int64_t stride, int bits, bool symmetric, const quant::TokenGrid* fixed) {
  CRUMB_CHECK(rows >= 0 && count >= 0 && bits >= 2 && bits <= 8);
  for (std::int64_t row = 0; row < rows; ++row) {
    float* const at = x + row * stride;
    functions.values(at, count, token_grid(functions, at, count, bits, symmetric, fixed), at);
  }
}

void fake_quant_channels(float* x, std::int64_t rows, std::int64_t count, std::int64_t stride, int bits,
                         const quant::StaticGrid& grids) {
  CRUMB_CHECK(static_cast<std::int64_t>(grids.scales.size()) == count && bits >= 2 && bits <= 8);
  const auto top = static_cast<float>((1 << bits) - 1);
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t i = 0; i < count; ++i) {
      const auto channel = static_cast<std::size_t>(i);
      float& value = x[row * stride + i];
      if (std::isfinite(value))  // others stay, so that they are seen
        value = quant::fake_quant_one(value, {grids.scales[channel], grids.zero_points[channel], top});
    }
  }
}

}  // namespace crumb::kernels
