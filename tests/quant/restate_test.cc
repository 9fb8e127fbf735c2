#include "quant/restate.h"

#include <gtest/gtest.h>

#include "base/half.h"
#include "base/rng.h"

namespace crumb::quant {
namespace {

QuantizedLinear some_linear(const AffineSpec& spec, bool middle_zeros) {
  SplitMix64 random(3);
  QuantizedLinear linear{4, 64, spec, {}, {}, {}};
  for (int i = 0; i < 4 * 64; ++i)
    linear.codes.push_back(
        static_cast<std::uint8_t>(random.next() % static_cast<std::uint64_t>(spec.max_code() + 1)));
  for (std::int64_t i = 0; i < 4 * spec.groups(64); ++i) {
    linear.scales.push_back(round_to_f16(static_cast<float>(0.01 + random.uniform())));
    const int half = 1 << (spec.bits - 1);
    linear.zero_points.push_back(static_cast<std::uint8_t>(
        middle_zeros ? half - static_cast<int>(random.next() >> 63)
                     : static_cast<int>(random.next() % static_cast<std::uint64_t>(spec.max_code() + 1))));
  }
  return linear;
}

class RestateWidths : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Restate, RestateWidths, ::testing::Values(2, 3, 4, 8));

TEST_P(RestateWidths, SymmetricFormHasOneZeroPointAndTheSameWeights) {
  const QuantizedLinear linear = some_linear({GetParam(), 16, Grid::kAsym}, true);
  ASSERT_EQ(asymmetric_groups(linear), 0);
  const QuantizedLinear symmetric = make_symmetric(linear);
  for (const std::uint8_t z : symmetric.zero_points) EXPECT_EQ(z, 1 << (GetParam() - 1));
  EXPECT_EQ(dequantize(symmetric), dequantize(linear));
  EXPECT_NE(symmetric.codes, linear.codes) << "some groups must have been complemented";
  QuantizedLinear other = linear;
  other.zero_points[1] = 0;
  EXPECT_EQ(asymmetric_groups(other), 1);
}

TEST_P(RestateWidths, SplitGroupsAndWiderCodesHaveTheSameWeights) {
  const QuantizedLinear linear = some_linear({GetParam(), -1, Grid::kAsym}, false);
  const QuantizedLinear split = split_groups(linear, 32);
  EXPECT_EQ(split.spec.group_size, 32);
  EXPECT_EQ(split.scales.size(), 8u);
  EXPECT_EQ(dequantize(split), dequantize(linear));
  EXPECT_EQ(dequantize(widen(linear, 8)), dequantize(linear));
}

TEST_P(RestateWidths, TheNearestOnTheSameGridIsNear) {
  const QuantizedLinear linear = some_linear({GetParam(), 16, Grid::kAsym}, true);
  const QuantizedLinear again = requantize(linear, {GetParam(), 16, Grid::kSignedSym});
  check_quantized_linear(again, "again");
  EXPECT_EQ(asymmetric_groups(again), 0);
  // Half a step of each weight, against an RMS of more than a step.
  EXPECT_LT(relative_error(linear, again), 0.5);
  EXPECT_GT(relative_error(linear, some_linear({GetParam(), 16, Grid::kAsym}, false)), 0.5)
      << "negative control";
  for (const float s : again.scales) EXPECT_EQ(round_to_f16(s), s);
}

TEST_P(RestateWidths, TheNearestSymmetricFormLeavesTheOtherGroupsAlone) {
  QuantizedLinear linear = some_linear({GetParam(), 16, Grid::kAsym}, true);
  EXPECT_EQ(dequantize(nearest_symmetric(linear)), dequantize(linear));
  linear.zero_points[5] = 0;
  linear.zero_points[9] = static_cast<std::uint8_t>(linear.spec.max_code());
  const QuantizedLinear nearest = nearest_symmetric(linear);
  check_quantized_linear(nearest, "nearest");
  for (const std::uint8_t z : nearest.zero_points) EXPECT_EQ(z, 1 << (GetParam() - 1));
  const std::vector<float> before = dequantize(linear), after = dequantize(nearest);
  double changed = 0, norm = 0;
  for (std::size_t i = 0; i < before.size(); ++i) {
    const bool other = i / 16 == 5 || i / 16 == 9;
    if (!other) {
      EXPECT_EQ(before[i], after[i]) << i;
      continue;
    }
    changed += (before[i] - after[i]) * (before[i] - after[i]);
    norm += before[i] * before[i];
  }
  EXPECT_GT(changed, 0);
  EXPECT_LT(changed, 0.5 * norm);
}

}  // namespace
}  // namespace crumb::quant
