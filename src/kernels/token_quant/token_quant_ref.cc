#include <algorithm>
#include <cmath>

#include "kernels/token_quant.h"

namespace crumb::kernels {
namespace {

bool extremes(const float* x, std::int64_t count, float* low, float* high) noexcept {
  bool finite = true;
  *low = *high = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    finite = finite && std::isfinite(x[i]);
    *low = std::min(*low, x[i]);
    *high = std::max(*high, x[i]);
  }
  return finite;
}

std::int32_t codes(const float* x, std::int64_t count, const quant::TokenGrid& grid,
                   std::int8_t* out) noexcept {
  std::int32_t sum = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int32_t code = quant::centered_code(x[i], grid);
    out[i] = static_cast<std::int8_t>(code);
    sum += code;
  }
  return sum;
}

void values(const float* x, std::int64_t count, const quant::TokenGrid& grid, float* y) noexcept {
  for (std::int64_t i = 0; i < count; ++i) y[i] = quant::fake_quant_one(x[i], grid);
}

}  // namespace

const TokenQuantFunctions* token_quant_ref() noexcept {
  static constexpr TokenQuantFunctions kFunctions = {extremes, codes, values};
  return &kFunctions;
}

}  // namespace crumb::kernels
