#include "quant/quantized_linear.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "support/expect_error.h"

namespace crumb::quant {
namespace {

using test::expect_error;

QuantizedLinear small() {
  QuantizedLinear linear{2, 64, {2, 32}, std::vector<std::uint8_t>(128), {.5f, -1, 2, .25f}, {0, 1, 2, 3}};
  for (std::size_t i = 0; i < 128; ++i) linear.codes[i] = static_cast<std::uint8_t>(i % 4);
  return linear;
}

TEST(QuantizedLinear, DequantizesEachGroupWithItsOwnScaleAndZeroPoint) {
  const QuantizedLinear linear = small();
  check_quantized_linear(linear, "q_proj");
  const std::vector<float> w = dequantize(linear);
  EXPECT_EQ(w[0], 0.0f);     // (0 - 0) * 0.5
  EXPECT_EQ(w[3], 1.5f);     // (3 - 0) * 0.5
  EXPECT_EQ(w[32], 1.0f);    // (0 - 1) * -1: a scale may be negative
  EXPECT_EQ(w[64], -4.0f);   // (0 - 2) * 2
  EXPECT_EQ(w[127], 0.0f);   // (3 - 3) * 0.25
  EXPECT_EQ(w[96], -0.75f);  // (0 - 3) * 0.25
}

TEST(QuantizedLinear, RefusesWhatDoesNotFit) {
  const auto refuse = [](const auto& damage) {
    QuantizedLinear linear = small();
    damage(linear);
    expect_error(ErrorKind::kCorrupt, {"q_proj"}, [&] { check_quantized_linear(linear, "q_proj"); });
  };
  refuse([](QuantizedLinear& l) { l.codes[77] = 4; });
  refuse([](QuantizedLinear& l) { l.zero_points[3] = 4; });
  refuse([](QuantizedLinear& l) { l.codes.pop_back(); });
  refuse([](QuantizedLinear& l) { l.scales.pop_back(); });
  refuse([](QuantizedLinear& l) { l.zero_points.push_back(0); });
  refuse([](QuantizedLinear& l) { l.scales[2] = std::numeric_limits<float>::infinity(); });
  refuse([](QuantizedLinear& l) { l.scales[2] = std::nanf(""); });
}

}  // namespace
}  // namespace crumb::quant
