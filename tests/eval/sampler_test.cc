#include "eval/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "base/error.h"

namespace crumb::eval {
namespace {

const std::vector<float> kLogits = {std::log(0.1f), std::log(0.4f), std::log(0.2f), std::log(0.3f)};

std::vector<double> frequencies(const SamplerOptions& options, int draws) {
  Sampler sampler(options);
  std::vector<double> share(kLogits.size());
  for (int i = 0; i < draws; ++i) share[static_cast<std::size_t>(sampler.next(kLogits))] += 1.0 / draws;
  return share;
}

// 20000 draws: the standard deviation of a share is at most 0.5 / sqrt(20000) = 0.0035; five of them are
// 0.018.
constexpr int kDraws = 20000;
constexpr double kSpread = 0.018;

TEST(Sampler, DrawsWithTheProbabilitiesOfTheLogits) {
  const auto share = frequencies({1.0, 0, 1.0, 7}, kDraws);
  EXPECT_NEAR(share[0], 0.1, kSpread);
  EXPECT_NEAR(share[1], 0.4, kSpread);
  EXPECT_NEAR(share[2], 0.2, kSpread);
  EXPECT_NEAR(share[3], 0.3, kSpread);
}

TEST(Sampler, TemperatureSharpens) {
  const auto share = frequencies({0.5, 0, 1.0, 7}, kDraws);  // p^2 / sum p^2, sum = 0.30
  EXPECT_NEAR(share[1], 0.16 / 0.30, kSpread);
  EXPECT_NEAR(share[0], 0.01 / 0.30, kSpread);
}

TEST(Sampler, TemperatureZeroIsGreedyAndTiesGoToTheLowestId) {
  Sampler sampler({0.0, 0, 0.9, 1});
  for (int i = 0; i < 20; ++i) EXPECT_EQ(sampler.next(kLogits), 1);
  EXPECT_EQ(sampler.next(std::vector<float>{0.5f, 2.0f, 2.0f}), 1);
}

TEST(Sampler, TopKKeepsTheMostLikelyAndRenormalizes) {
  const auto share = frequencies({1.0, 2, 1.0, 7}, kDraws);
  EXPECT_EQ(share[0], 0);
  EXPECT_EQ(share[2], 0);
  EXPECT_NEAR(share[1], 0.4 / 0.7, kSpread);
}

TEST(Sampler, TopPKeepsTheFewestThatReachIt) {
  const auto share = frequencies({1.0, 0, 0.65, 7}, kDraws);  // 0.4 + 0.3 >= 0.65
  EXPECT_EQ(share[0], 0);
  EXPECT_EQ(share[2], 0);
  EXPECT_NEAR(share[1], 0.4 / 0.7, kSpread);
  EXPECT_NEAR(frequencies({1.0, 0, 0.01, 7}, 100)[1], 1.0, 1e-9) << "at least one token is always left";
}

TEST(Sampler, RepeatsWithTheSameSeedOnly) {
  const auto sequence = [](std::uint64_t seed) {
    Sampler sampler({1.0, 0, 1.0, seed});
    std::vector<std::int32_t> tokens;
    for (int i = 0; i < 64; ++i) tokens.push_back(sampler.next(kLogits));
    return tokens;
  };
  EXPECT_EQ(sequence(3), sequence(3));
  EXPECT_NE(sequence(3), sequence(4));
}

TEST(Sampler, RefusesOptionsAndLogitsThatMeanNothing) {
  EXPECT_THROW(Sampler({-1.0, 0, 1.0, 0}), Error);
  EXPECT_THROW(Sampler({std::numeric_limits<double>::quiet_NaN(), 0, 1.0, 0}), Error);
  EXPECT_THROW(Sampler({1.0, -1, 1.0, 0}), Error);
  EXPECT_THROW(Sampler({1.0, 0, 0.0, 0}), Error);
  EXPECT_THROW(Sampler({1.0, 0, 1.1, 0}), Error);
  Sampler greedy({0.0, 0, 1.0, 0});
  EXPECT_THROW(greedy.next(std::vector<float>{0.0f, std::numeric_limits<float>::quiet_NaN()}), Error);
}

}  // namespace
}  // namespace crumb::eval
