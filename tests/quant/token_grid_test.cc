#include "quant/token_grid.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "quant/activation_scheme.h"
#include "support/expect_error.h"

namespace crumb::quant {
namespace {

std::vector<int> codes_of(const std::vector<float>& x, int bits, bool symmetric) {
  const TokenGrid grid = token_grid(x, bits, symmetric);
  std::vector<int> out;
  for (const float v : x) out.push_back(centered_code(v, grid));
  return out;
}

TEST(TokenGrid, HasTheCodesOfCasesWorkedOutByHand) {
  // Scale 1. Halves round to even.
  EXPECT_EQ(codes_of({-127, 63.5f, 2.5f, -3.5f, 1}, 8, true), (std::vector<int>{-127, 64, 2, -4, 1}));
  // Scale 15 / 15 = 1, zero point 1: codes 0, 3, 15.
  EXPECT_EQ(codes_of({-1, 2, 14}, 4, false), (std::vector<int>{-1, 2, 14}));
  // The range is widened to hold 0: scale 30 / 15 = 2, zero point 0 or 15.
  EXPECT_EQ(codes_of({30, 17, 16}, 4, false), (std::vector<int>{15, 8, 8}));
  EXPECT_EQ(codes_of({-30, -17, -16}, 4, false), (std::vector<int>{-15, -8, -8}));
  // zero_point = rne(7.5) = 8; the largest, rne(7.5) + 8, is clipped to 15.
  EXPECT_EQ(codes_of({-7.5f, 7.5f, 0.6f}, 4, false), (std::vector<int>{-8, 7, 1}));
  // zero_point = rne(0.5) = 0, so the least is lost: 0.5 beyond the range.
  EXPECT_EQ(codes_of({-0.5f, 14.5f}, 4, false), (std::vector<int>{0, 14}));
  // Two bits symmetric: scale max|x|, codes -1, 0, 1.
  EXPECT_EQ(codes_of({-3, 1.4f, 1.6f, 3}, 2, true), (std::vector<int>{-1, 0, 1, 1}));
}

TEST(TokenGrid, ClampsScalesAndShowsWhatIsNotFinite) {
  const std::vector<float> zeros(5, 0.0f), tiny = {1e-6f, -4e-6f, 6e-6f}, huge = {3e38f, -3e38f, 2e6f, 1e4f};
  EXPECT_EQ(token_grid(zeros, 8, true).scale, 1e-5f);
  EXPECT_EQ(codes_of(zeros, 4, false), std::vector<int>(5, 0));
  EXPECT_EQ(codes_of(tiny, 8, true), (std::vector<int>{0, 0, 1}));
  EXPECT_EQ(token_grid(huge, 8, true).scale, 1e4f);
  EXPECT_EQ(codes_of(huge, 8, true), (std::vector<int>{127, -128, 127, 1}));
  EXPECT_EQ(token_grid(huge, 8, false).scale, 1e4f) << "the range itself overflows f32";
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    const TokenGrid grid = token_grid(std::vector<float>{1, bad, 2}, 8, true);
    EXPECT_TRUE(std::isnan(fake_quant_one(1, grid)));
    EXPECT_EQ(centered_code(1, grid), 0);
  }
}

TEST(TokenGrid, StaysWithinHalfAStep) {
  for (const bool symmetric : {true, false}) {
    for (int bits = 2; bits <= 8; ++bits) {
      const std::vector<float> x = {-1.7f, 0.3f, 0.01f, 2.9f, -0.6f, 1.1f};
      const TokenGrid grid = token_grid(x, bits, symmetric);
      const int top = (1 << bits) - 1;
      EXPECT_EQ(fits_int8(bits, symmetric), symmetric || top <= 127);
      for (const float v : x) {
        // A zero point that rounds away from the range's end takes another half step off one end.
        EXPECT_LE(std::abs(fake_quant_one(v, grid) - v), (symmetric ? 0.5f : 1.0f) * grid.scale * 1.0001f);
        EXPECT_LE(std::abs(centered_code(v, grid)), symmetric ? (top + 1) / 2 : top);
      }
    }
  }
}

TEST(ActivationScheme, NamesItselfAndRefusesOtherBits) {
  EXPECT_EQ(scheme_name({}), "");
  EXPECT_EQ(scheme_name({8, 16, true}), "a8");
  EXPECT_EQ(scheme_name({4, 4, false}), "a4kv4 asym");
  EXPECT_NO_THROW(check_activation_scheme({2, 16, true}, "m"));
  test::expect_error(ErrorKind::kInvalidArgument, {"m", "activations of 9 bits", "2 … 8"}, [] {
    check_activation_scheme({9, 8, true}, "m");
  });
  test::expect_error(ErrorKind::kInvalidArgument, {"keys and values of 1 bits"}, [] {
    check_activation_scheme({8, 1, true}, "m");
  });
}

}  // namespace
}  // namespace crumb::quant
