#include "quant/affine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "base/half.h"
#include "base/rng.h"

namespace crumb::quant {
namespace {

using Floats = std::vector<float>;
using Codes = std::vector<std::uint8_t>;

// One group of four, worked by hand from Q1 to Q3 (and confirmed with the authors' quantizer).
struct Case {
  const char* name;
  int bits;
  float scale, zero_point;
  Floats w, g;
  Codes codes;
  Floats w_hat, dw;
  double ds, dz;
};
const Floats kOnes = {1, 1, 1, 1};
const Case kCases[] = {
    {"A", 2, .5f, 2, {-1, -.25f, .125f, .625f}, kOnes, {0, 2, 2, 3}, {-1, 0, 0, .5f}, kOnes, 0, 0},
    {"A weighted",
     2,
     .5f,
     2,
     {-1, -.25f, .125f, .625f},
     {1, 2, -1, 4},
     {0, 2, 2, 3},
     {-1, 0, 0, .5f},
     {1, 2, -1, 4},
     .25,
     0},
    {"B ties",
     2,
     .5f,
     1,
     {-.75f, -.25f, .25f, .75f},
     kOnes,
     {0, 1, 1, 3},
     {-.5f, 0, 0, 1},
     {0, 1, 1, 1},
     -.5,
     -.5},
    {"C clips",
     2,
     .5f,
     1,
     {-2, -1, .25f, 1.5f},
     kOnes,
     {0, 0, 1, 3},
     {-.5f, -.5f, 0, 1},
     {0, 0, 1, 0},
     -.5,
     -1.5},
    {"D edge",
     2,
     .5f,
     2,
     {-1, .5f, -1.25f, .75f},
     kOnes,
     {0, 3, 0, 3},
     {-1, .5f, -1, .5f},
     {1, 1, 1, 0},
     1.5,
     -.5},
    {"E z 1.4", 2, .5f, 1.4f, {-.5f, 0, .5f, 1}, kOnes, {0, 1, 2, 3}, {-.5f, 0, .5f, 1}, kOnes, 0, 0},
    {"F z 1.5",
     2,
     .5f,
     1.5f,
     {-.5f, 0, .5f, 1},
     kOnes,
     {1, 2, 3, 3},
     {-.5f, 0, .5f, .5f},
     {1, 1, 1, 0},
     1,
     -.5},
    {"F z 2.5 is even",
     2,
     .5f,
     2.5f,
     {-.5f, 0, .5f, 1},
     kOnes,
     {1, 2, 3, 3},
     {-.5f, 0, .5f, .5f},
     {1, 1, 1, 0},
     1,
     -.5},
    {"G z below",
     2,
     .5f,
     -.75f,
     {-.5f, 0, .5f, 1},
     kOnes,
     {0, 0, 1, 2},
     {0, 0, .5f, 1},
     {0, 1, 1, 1},
     0,
     -.5},
    {"H z above", 2, .5f, 3.6f, {-.5f, 0, .5f, 1}, kOnes, {2, 3, 3, 3}, {-.5f, 0, 0, 0}, {1, 1, 0, 0}, 0, -1},
    {"I scale below",
     2,
     5e-5f,
     1,
     {0, 2e-4f, -1e-4f, 3e-4f},
     kOnes,
     {1, 3, 0, 3},
     {0, 2e-4f, -1e-4f, 2e-4f},
     {1, 1, 1, 0},
     2,
     -1e-4},
    {"J 4 bits",
     4,
     .1f,
     8,
     {-.8f, -.33f, .05f, .7f},
     kOnes,
     {0, 5, 8, 15},
     {-.8f, -.3f, 0, .7f},
     kOnes,
     -.2,
     0},
    {"K 3 bits",
     3,
     .25f,
     4,
     {-.9f, -.3f, .2f, .6f},
     kOnes,
     {0, 3, 5, 6},
     {-1, -.25f, .25f, .5f},
     kOnes,
     -.4,
     0},
};

// All numbers are below 16 and each is a handful of f32 operations: 16 roundings of 2^-24 relative to the
// largest term (8).
constexpr double kTolerance = 16 * 8 * 0x1p-24;

TEST(QuantizeAffine, AgreesWithHandWorkedCases) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    const AffineSpec spec{c.bits, 4};
    const Floats scale = {c.scale}, zero_point = {c.zero_point};
    Codes codes(4);
    Floats w_hat(4);
    quantize(c.w, scale, zero_point, 1, 4, spec, codes);
    EXPECT_EQ(codes, c.codes);
    fake_quant(c.w, scale, zero_point, 1, 4, spec, w_hat);
    for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(w_hat[i], c.w_hat[i], kTolerance * std::abs(c.w_hat[i]));
  }
}

TEST(FakeQuantBackward, AgreesWithHandWorkedCases) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    Floats dw(4), ds(1), dz(1);
    fake_quant_backward(c.w, Floats{c.scale}, Floats{c.zero_point}, c.g, 1, 4, {c.bits, 4}, dw, ds, dz);
    EXPECT_EQ(dw, c.dw);
    EXPECT_NEAR(ds[0], c.ds, kTolerance);
    EXPECT_NEAR(dz[0], c.dz, kTolerance * std::abs(c.dz));
  }
}

TEST(FakeQuantBackward, FollowsAWholeStepOfOneLinear) {
  // y = w_hat x with x = (1, 2, 0, 1): y_fp -0.875, y -0.5, dL/dy = 2 (y - y_fp) = 0.75.
  const Floats w = {-1, -.25f, .125f, .625f}, x = {1, 2, 0, 1};
  Floats w_hat(4), g(4), dw(4), ds(1), dz(1);
  fake_quant(w, Floats{.5f}, Floats{2}, 1, 4, {2, 4}, w_hat);
  float y = 0, y_fp = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    y += w_hat[i] * x[i];
    y_fp += w[i] * x[i];
  }
  EXPECT_EQ(y_fp, -.875f);
  EXPECT_EQ(y, -.5f);
  for (std::size_t i = 0; i < 4; ++i) g[i] = 2 * (y - y_fp) * x[i];
  fake_quant_backward(w, Floats{.5f}, Floats{2}, g, 1, 4, {2, 4}, dw, ds, dz);
  EXPECT_EQ(dw, (Floats{.75f, 1.5f, 0, .75f}));
  EXPECT_EQ(ds[0], .5625f);
  EXPECT_EQ(dz[0], 0.0f);
}

// Where no weight sits near a rounding or clamping threshold, w_hat depends on the scale as (q - z) s with q
// fixed only in the clamped part; inside, the straight-through rule adds -w/s. So finite differences of the
// clamped part alone must agree.
TEST(FakeQuantBackward, ClampedWeightsAgreeWithFiniteDifferences) {
  const Floats w = {-9, 9, -7, 11};  // all clamped at scale 0.5
  const AffineSpec spec{2, 4};
  Floats dw(4), ds(1), dz(1), up(4), down(4);
  fake_quant_backward(w, Floats{.5f}, Floats{1}, kOnes, 1, 4, spec, dw, ds, dz);
  constexpr float kStep = 0x1p-6f;  // exact in f32, so the difference quotient is exact
  fake_quant(w, Floats{.5f + kStep}, Floats{1}, 1, 4, spec, up);
  fake_quant(w, Floats{.5f - kStep}, Floats{1}, 1, 4, spec, down);
  float difference = 0;
  for (std::size_t i = 0; i < 4; ++i) difference += (up[i] - down[i]) / (2 * kStep);
  EXPECT_EQ(ds[0], difference);
  EXPECT_EQ(dw, (Floats{0, 0, 0, 0}));
  fake_quant(w, Floats{.5f}, Floats{2}, 1, 4, spec, up);
  fake_quant(w, Floats{.5f}, Floats{1}, 1, 4, spec, down);
  difference = 0;
  for (std::size_t i = 0; i < 4; ++i) difference += up[i] - down[i];
  EXPECT_EQ(dz[0], difference);
}

struct InitCase {
  int bits;
  Floats w;
  float scale, zero_point;
  Floats w_hat;
};

TEST(InitMinmax, AgreesWithHandWorkedCases) {
  const InitCase cases[] = {
      {2, {-1, -.25f, .125f, .5f}, .5f, 2, {-1, 0, 0, .5f}},
      {2, {-.5f, -.25f, .125f, 1}, .5f, 1, {-.5f, 0, 0, 1}},
      {2, {-.25f, 0, 0, .25f}, 1 / 6.0f, 2, {-1 / 3.0f, 0, 0, 1 / 6.0f}},
      {2, {.5f, .6f, .7f, .8f}, .1f, -5, {.3f, .3f, .3f, .3f}},
      {2, {-.8f, -.7f, -.6f, -.5f}, .1f, 8, {-.3f, -.3f, -.3f, -.3f}},
      {2, {0, 0, 0, 0}, 1e-4f, 0, {0, 0, 0, 0}},
      {2, {.3f, .3f, .3f, .3f}, 1e-4f, -3000, {3e-4f, 3e-4f, 3e-4f, 3e-4f}},
      {2, {-1e-4f, 0, 1e-4f, 1e-4f}, 1e-4f, 1, {-1e-4f, 0, 1e-4f, 1e-4f}},
      {4, {-.7f, .1f, .2f, .8f}, .1f, 7, {-.7f, .1f, .2f, .8f}},
  };
  for (const InitCase& c : cases) {
    const AffineSpec spec{c.bits, 4};
    Floats scale(1), zero_point(1), w_hat(4);
    init_minmax(c.w, 1, 4, spec, scale, zero_point);
    EXPECT_NEAR(scale[0], c.scale, 8 * 0x1p-24 * c.scale);  // max - min cancels at most three bits here
    EXPECT_EQ(zero_point[0], c.zero_point);
    fake_quant(c.w, scale, zero_point, 1, 4, spec, w_hat);
    for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(w_hat[i], c.w_hat[i], 8 * 0x1p-24);
  }
}

TEST(InitMinmax, SignedSymKeepsZeroPointsInTheMiddle) {
  SplitMix64 rng(5);
  for (const int bits : {2, 3, 4, 8}) {
    const AffineSpec spec{bits, 32, Grid::kSignedSym};
    Floats w(8 * 64), scales(8 * 2), zero_points(8 * 2);
    for (float& x : w) x = static_cast<float>(rng.uniform() - 0.3);
    init_minmax(w, 8, 64, spec, scales, zero_points);
    const auto half = static_cast<float>(1 << (bits - 1));
    for (const float z : zero_points) EXPECT_TRUE(z == half || z == half - 1) << z;
  }
}

class EveryWidth : public testing::TestWithParam<std::tuple<int, std::int64_t>> {
 protected:
  static constexpr std::int64_t kN = 6, kK = 128;
  AffineSpec spec() const { return {std::get<0>(GetParam()), std::get<1>(GetParam())}; }
  Floats weights(std::uint64_t seed) const {  // each row another magnitude, all groups of both signs
    SplitMix64 rng(seed);
    Floats w(kN * kK);
    for (std::int64_t i = 0; i < kN * kK; ++i) {
      const double bell = rng.uniform() + rng.uniform() + rng.uniform() - 1.5;
      w[static_cast<std::size_t>(i)] =
          static_cast<float>(bell * std::pow(10.0, static_cast<double>(i / kK) - 2));
    }
    return w;
  }
};

// Min-max: the zero point's rounding moves the grid by up to scale/2, so that an end may saturate by as much.
// A weight that does not saturate is within scale/2; a saturated one within scale/2 of the shifted end plus
// scale/2. The f32 error: |w/s| <= 2^bits, quotient and product round once each, so 2^bits * 2^-23 of a
// scale.
TEST_P(EveryWidth, RoundTripErrorIsHalfAScale) {
  const AffineSpec s = spec();
  const Floats w = weights(11);
  const auto groups = static_cast<std::size_t>(kN * s.groups(kK));
  Floats scales(groups), zero_points(groups), w_hat(w.size());
  init_minmax(w, kN, kK, s, scales, zero_points);
  Codes codes(w.size());
  quantize(w, scales, zero_points, kN, kK, s, codes);
  fake_quant(w, scales, zero_points, kN, kK, s, w_hat);
  const auto group = static_cast<std::size_t>(s.group_of(kK));
  const double rounding = std::ldexp(1.0, s.bits - 23);
  int unsaturated = 0;
  double worst = 0;
  for (std::size_t i = 0; i < w.size(); ++i) {
    const float scale = scales[i / group];
    const float u = std::nearbyint(w[i] / scale) + zero_points[i / group];
    const bool inside = u >= 0 && u <= static_cast<float>(s.max_code());
    unsaturated += inside;
    worst = std::max(worst, std::abs(w_hat[i] - w[i]) / static_cast<double>(scale));
    ASSERT_LE(std::abs(w_hat[i] - w[i]), scale * ((inside ? 0.5 : 1.0) + rounding)) << i;
    ASSERT_LE(codes[i], s.max_code());
  }
  EXPECT_GT(unsaturated, static_cast<int>(w.size() * 9 / 10));  // the tight bound was the one that was tested
  EXPECT_GT(worst, 0.3);                                        // and it is not slack
}

TEST_P(EveryWidth, FakeQuantIsDequantizeAfterQuantize) {
  const AffineSpec s = spec();
  const Floats w = weights(12);
  const auto groups = static_cast<std::size_t>(kN * s.groups(kK));
  Floats scales(groups), zero_points(groups), w_hat(w.size()), by_codes(w.size());
  init_minmax(w, kN, kK, s, scales, zero_points);
  Codes codes(w.size()), zero_codes(groups);
  quantize(w, scales, zero_points, kN, kK, s, codes);
  for (std::size_t i = 0; i < groups; ++i)
    zero_codes[i] = static_cast<std::uint8_t>(effective_zero_point(zero_points[i], s));
  fake_quant(w, scales, zero_points, kN, kK, s, w_hat);
  dequantize(codes, scales, zero_codes, kN, kK, s, by_codes);
  EXPECT_EQ(w_hat, by_codes);
  // Negative control: one code of the largest scale moved by one is seen.
  const auto largest =
      static_cast<std::size_t>(std::max_element(scales.begin(), scales.end()) - scales.begin());
  std::uint8_t& code = codes[largest * static_cast<std::size_t>(s.group_of(kK))];
  code = static_cast<std::uint8_t>(code == 0 ? 1 : code - 1);
  dequantize(codes, scales, zero_codes, kN, kK, s, by_codes);
  EXPECT_NE(w_hat, by_codes);
}

// Weights on the grid come back with their codes: (q - z) s / s rounds to q - z again, since the relative
// error 2^-23 is far below half a step.
TEST_P(EveryWidth, GridPointsKeepTheirCodes) {
  const AffineSpec s = spec();
  SplitMix64 rng(13);
  const auto groups = static_cast<std::size_t>(kN * s.groups(kK));
  Floats scales(groups), zero_points(groups), w(kN * kK);
  Codes codes(w.size()), zero_codes(groups), again(w.size());
  for (float& scale : scales) scale = round_to_f16(static_cast<float>(0.001 + rng.uniform()));
  for (std::size_t i = 0; i < groups; ++i) {
    zero_codes[i] = static_cast<std::uint8_t>(rng.next() % static_cast<std::uint64_t>(s.max_code() + 1));
    zero_points[i] = zero_codes[i];
  }
  for (auto& code : codes)
    code = static_cast<std::uint8_t>(rng.next() % static_cast<std::uint64_t>(s.max_code() + 1));
  dequantize(codes, scales, zero_codes, kN, kK, s, w);
  quantize(w, scales, zero_points, kN, kK, s, again);
  EXPECT_EQ(again, codes);
}

// The straight-through gradients are linear in the upstream gradient, and a saturated weight gives none.
TEST_P(EveryWidth, GradientsAreLinearAndVanishOutside) {
  const AffineSpec s = spec();
  Floats w = weights(14);
  w[0] *= 1000;  // far outside
  const auto groups = static_cast<std::size_t>(kN * s.groups(kK));
  Floats scales(groups), zero_points(groups);
  init_minmax(weights(14), kN, kK, s, scales, zero_points);
  Floats g(w.size(), 1.0f), g2(w.size(), 2.0f), dw(w.size()), ds(groups), dz(groups), dw2(w.size()),
      ds2(groups), dz2(groups);
  fake_quant_backward(w, scales, zero_points, g, kN, kK, s, dw, ds, dz);
  fake_quant_backward(w, scales, zero_points, g2, kN, kK, s, dw2, ds2, dz2);
  EXPECT_EQ(dw[0], 0.0f);
  EXPECT_NE(dz[0], 0.0f);
  EXPECT_GT(std::count(dw.begin(), dw.end(), 1.0f), static_cast<std::int64_t>(w.size() * 9 / 10));
  for (std::size_t i = 0; i < groups; ++i) {  // times 2 is exact in every format
    EXPECT_EQ(2 * ds[i], ds2[i]);
    EXPECT_EQ(2 * dz[i], dz2[i]);
  }
}

INSTANTIATE_TEST_SUITE_P(Affine, EveryWidth,
                         testing::Combine(testing::Values(2, 3, 4, 8), testing::Values(32, 64, 128, -1)),
                         [](const auto& info) {
                           const auto group = std::get<1>(info.param);
                           return scheme_name({std::get<0>(info.param), group});
                         });

TEST(QuantizeOne, SaturatesAtBothEnds) {
  for (const int bits : {2, 3, 4, 8}) {
    const std::int32_t top = (1 << bits) - 1;
    for (const float w : {1e30f, 1e6f, std::numeric_limits<float>::infinity()}) {
      EXPECT_EQ(quantize_one(w, .1f, 1, top), top);
      EXPECT_EQ(quantize_one(-w, .1f, 1, top), 0);
    }
  }
}

TEST(QuantizeOne, TiesGoToEven) {
  const int expected[] = {8, 10, 10, 12};  // w / s = 0.5, 1.5, 2.5, 3.5 around zero point 8
  for (int i = 0; i < 4; ++i) EXPECT_EQ(quantize_one(static_cast<float>(i) + 0.5f, 1, 8, 15), expected[i]);
}

}  // namespace
}  // namespace crumb::quant
