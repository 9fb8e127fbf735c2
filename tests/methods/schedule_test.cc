#include "methods/schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <numeric>

namespace crumb::methods {
namespace {

// Values recomputed from the authors' logs (docs/math.md S1).
TEST(BlockApSchedule, EqualsTheAuthorsRecursion) {
  const auto lr = block_ap_schedule(1e-4, 20, 4096);
  EXPECT_DOUBLE_EQ(lr[0], 1e-4);
  EXPECT_NEAR(lr[1], 9.999997205697588e-05, 1e-18);
  EXPECT_NEAR(lr[2], 9.999990219944e-05, 1e-16);
  EXPECT_NEAR(lr[1024], 8.606182881852e-05, 1e-16);
  EXPECT_NEAR(lr[2048], 5.246359588146619e-05, 1e-18);
  EXPECT_NEAR(lr[3072], 1.888670432170e-05, 1e-16);
  EXPECT_NEAR(lr[4095], 5.0000034929e-06, 1e-15);
  EXPECT_NEAR(std::accumulate(lr.begin(), lr.end(), 0.0), 0.2149926, 1e-6);
}

TEST(BlockApSchedule, DiffersFromTheClosedCosineInShortRuns) {
  const auto lr = block_ap_schedule(1e-4, 20, 64);
  const double eta = 5e-6, closed = eta + (1e-4 - eta) * (1 + std::cos(std::numbers::pi * 60 / 64)) / 2;
  EXPECT_GT(std::abs(lr[60] - closed) / closed, 0.01);
}

TEST(WarmupCosineSchedule, RisesFromZeroAndFallsToZero) {
  const auto lr = warmup_cosine_schedule(1.0, 0.03, 128);  // ceil(3.84) = 4 warm-up steps
  EXPECT_DOUBLE_EQ(lr[0], 0);
  EXPECT_DOUBLE_EQ(lr[1], 0.25);
  EXPECT_DOUBLE_EQ(lr[3], 0.75);
  EXPECT_DOUBLE_EQ(lr[4], 1);
  EXPECT_NEAR(lr[66], 0.5 * (1 + std::cos(std::numbers::pi * 62 / 124)), 1e-15);
  EXPECT_GT(lr[127], 0);
}

TEST(WarmupCosineSchedule, AcceptsOneStepAndNoWarmup) {
  EXPECT_DOUBLE_EQ(warmup_cosine_schedule(2.0, 0, 1)[0], 2.0);
  EXPECT_DOUBLE_EQ(block_ap_schedule(2.0, 20, 1)[0], 2.0);
}

}  // namespace
}  // namespace crumb::methods
