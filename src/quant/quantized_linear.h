// The canonical quantized weight: every file format and every kernel layout is a function of this.
#pragma once
#include <cstdint>
#include <vector>

#include "quant/spec.h"

namespace crumb::quant {

/// One linear's weight as codes. w_hat[n][k] = (codes[n][k] - zero_points[n][k / G]) * scales[n][k / G].
struct QuantizedLinear {
  std::int64_t n = 0, k = 0;  // out_features, in_features
  AffineSpec spec;
  std::vector<std::uint8_t> codes;  // [N, K], one a byte, <= max_code
  std::vector<float> scales;        // [N, K/G]; numbers that binary16 can hold unless the file stores f32
  std::vector<std::uint8_t> zero_points;  // [N, K/G], <= max_code
};

/// Throws Corrupt unless sizes agree, codes and zero points fit and scales are finite. `name` is used in the
/// message.
void check_quantized_linear(const QuantizedLinear& linear, std::string_view name);

/// Q2 into w_hat [N, K].
std::vector<float> dequantize(const QuantizedLinear& linear);

}  // namespace crumb::quant
