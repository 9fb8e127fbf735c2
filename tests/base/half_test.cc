#include "base/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/rng.h"

namespace crumb {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(HalfF16, EveryNumberSurvivesTheRoundTrip) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = f16_to_float(static_cast<std::uint16_t>(bits));
    if (std::isnan(value)) {
      EXPECT_TRUE((bits & 0x7c00) == 0x7c00 && (bits & 0x3ff) != 0) << bits;
    } else {
      ASSERT_EQ(float_to_f16(value), bits);
    }
  }
}

TEST(HalfF16, AgreesWithValuesRecordedFromPythonStruct) {
  const std::pair<float, int> recorded[] = {{0.1f, 0x2e66},
                                            {1 / 3.0f, 0x3555},
                                            {65504.0f, 0x7bff},
                                            {65519.0f, 0x7bff},
                                            {6.1e-5f, 0x3ff},
                                            {5.96e-8f, 1},
                                            {2.98e-8f, 0},
                                            {3.1e-8f, 1},
                                            {1e-9f, 0},
                                            {-2.5f, 0xc100},
                                            {1.001220703125f, 0x3c01},
                                            {1.00048828125f, 0x3c00},
                                            {1.00146484375f, 0x3c02}};
  for (const auto& [value, bits] : recorded) EXPECT_EQ(float_to_f16(value), bits) << value;
}

// Between neighbors the nearer one is taken, and in the middle the even one: checked at every midpoint and
// one float beside it.
TEST(HalfF16, RoundsHalfToEvenAtEveryMidpoint) {
  for (std::uint32_t bits = 0; bits < 0x7bff; ++bits) {
    const auto low = static_cast<std::uint16_t>(bits), high = static_cast<std::uint16_t>(bits + 1);
    const float middle = (f16_to_float(low) + f16_to_float(high)) / 2;  // exact: 12 significant bits
    ASSERT_EQ(float_to_f16(middle), (bits & 1) == 0 ? low : high);
    ASSERT_EQ(float_to_f16(std::nextafter(middle, 0.0f)), low);
    ASSERT_EQ(float_to_f16(std::nextafter(middle, kInfinity)), high);
    ASSERT_EQ(float_to_f16(-middle), 0x8000 | float_to_f16(middle));
  }
}

TEST(HalfF16, OverflowsToInfinityAndKeepsNan) {
  EXPECT_EQ(float_to_f16(65520.0f), 0x7c00);
  EXPECT_EQ(float_to_f16(std::nextafter(65520.0f, 0.0f)), 0x7bff);
  EXPECT_EQ(float_to_f16(-1e30f), 0xfc00);
  EXPECT_EQ(float_to_f16(kInfinity), 0x7c00);
  EXPECT_TRUE(std::isnan(f16_to_float(float_to_f16(std::nanf("")))));
  EXPECT_TRUE(std::isnan(f16_to_float(
      float_to_f16(std::bit_cast<float>(0x7f800001u)))));  // the fraction's lost bits are not all
  EXPECT_TRUE(std::signbit(f16_to_float(float_to_f16(-0.0f))));
}

TEST(HalfBf16, RoundsToTheNearestAndTiesToEven) {
  SplitMix64 rng(1);
  for (int i = 0; i < 100000; ++i) {
    const float value = std::bit_cast<float>(static_cast<std::uint32_t>(rng.next()));
    if (!std::isfinite(value)) continue;
    const auto below = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16);
    const auto above = static_cast<std::uint16_t>(below + 1);
    const std::uint32_t rest = std::bit_cast<std::uint32_t>(value) & 0xffffu;
    const std::uint16_t expected = rest < 0x8000u     ? below
                                   : rest > 0x8000u   ? above
                                   : (below & 1) == 0 ? below
                                                      : above;
    ASSERT_EQ(float_to_bf16(value), expected) << value;
  }
  EXPECT_EQ(float_to_bf16(std::bit_cast<float>(0x3f808000u)), 0x3f80);  // tie, even below
  EXPECT_EQ(float_to_bf16(std::bit_cast<float>(0x3f818000u)), 0x3f82);  // tie, even above
  EXPECT_EQ(float_to_bf16(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(std::bit_cast<float>(0x7f800001u)))));
}

}  // namespace
}  // namespace crumb
