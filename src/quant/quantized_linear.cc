#include "quant/quantized_linear.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "quant/affine.h"

namespace crumb::quant {

void check_quantized_linear(const QuantizedLinear& linear, std::string_view name) {
  constexpr std::string_view kWhere = "quant.check_quantized_linear";
  check_grid(linear.spec, linear.k, name);
  const auto weights = static_cast<std::size_t>(linear.n * linear.k);
  const auto groups = static_cast<std::size_t>(linear.n * linear.spec.groups(linear.k));
  if (linear.codes.size() != weights || linear.scales.size() != groups ||
      linear.zero_points.size() != groups) {
    fail(ErrorKind::kCorrupt, kWhere, name, ": ", linear.codes.size(), " codes, ", linear.scales.size(),
         " scales, ", linear.zero_points.size(), " zero points; expected ", weights, ", ", groups, ", ",
         groups);
  }
  const auto too_large = [&](std::uint8_t code) { return code > linear.spec.max_code(); };
  if (std::any_of(linear.codes.begin(), linear.codes.end(), too_large) ||
      std::any_of(linear.zero_points.begin(), linear.zero_points.end(), too_large)) {
    fail(ErrorKind::kCorrupt, kWhere, name, ": a code or zero point above ", linear.spec.max_code(), " in ",
         linear.spec.bits, " bits");
  }
  const auto bad =
      std::find_if(linear.scales.begin(), linear.scales.end(), [](float s) { return !std::isfinite(s); });
  if (bad != linear.scales.end()) {
    fail(ErrorKind::kCorrupt, kWhere, name, ": scale ", bad - linear.scales.begin(), " is ", *bad,
         "; expected a finite number. The file is damaged or the training that wrote it diverged");
  }
}

std::vector<float> dequantize(const QuantizedLinear& linear) {
  std::vector<float> w_hat(linear.codes.size());
  dequantize(linear.codes, linear.scales, linear.zero_points, linear.n, linear.k, linear.spec, w_hat);
  return w_hat;
}

}  // namespace crumb::quant
