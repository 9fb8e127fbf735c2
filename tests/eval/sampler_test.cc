#include "eval/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/error.h"
#include "base/rng.h"

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

TEST(Sampler, MinPKeepsWhatIsNearTheLikeliest) {
  SamplerOptions options{1.0, 0, 1.0, 7};
  options.min_p = 0.6;  // of 0.4: 0.24 and above
  const auto share = frequencies(options, kDraws);
  EXPECT_EQ(share[0], 0);
  EXPECT_EQ(share[2], 0);
  EXPECT_NEAR(share[1], 0.4 / 0.7, kSpread);
  options.min_p = 0.4;  // 0.16 and above
  EXPECT_NEAR(frequencies(options, kDraws)[2], 0.2 / 0.9, kSpread);
  options.min_p = 1;
  EXPECT_NEAR(frequencies(options, 100)[1], 1.0, 1e-9) << "the likeliest is always left";
}

TEST(Sampler, MinPAndTopPSeeTheTemperedProbabilities) {
  // At temperature 0.5 the ratios to the likeliest are 0.0625, 1, 0.25, 0.5625.
  SamplerOptions options{0.5, 0, 1.0, 7};
  options.min_p = 0.3;
  EXPECT_EQ(frequencies(options, kDraws)[2], 0) << "0.25 of the likeliest, though 0.5 before the temperature";
  // p^2 / 0.30 = 0.033, 0.533, 0.133, 0.3: the first two reach 0.8, at temperature 1 they have 0.7.
  EXPECT_EQ(frequencies({0.5, 0, 0.8, 7}, kDraws)[2], 0);
  EXPECT_GT(frequencies({1.0, 0, 0.8, 7}, kDraws)[2], 0);
}

TEST(Sampler, TopPCountsWhatTopKLeft) {
  // Of 0.4, 0.3, 0.2 the first two have 0.78; of all four 0.7.
  EXPECT_EQ(frequencies({1.0, 3, 0.75, 7}, kDraws)[2], 0);
  EXPECT_GT(frequencies({1.0, 0, 0.75, 7}, kDraws)[2], 0);
}

TEST(Sampler, RepetitionPenaltyLowersWhatWasThereOnce) {
  SamplerOptions options{0.0, 0, 1.0, 7};
  options.repetition_penalty = 1.5;
  const std::vector<float> logits = {2.0f, 2.9f, -1.0f, -1.2f};
  Sampler sampler(options);
  EXPECT_EQ(sampler.next(logits), 1);
  EXPECT_EQ(sampler.next(logits), 0) << "2.9 / 1.5 is below 2.0; its own choice counts";
  EXPECT_EQ(sampler.next(logits), 1) << "2.0 / 1.5 is below 2.9 / 1.5, which is divided once, not twice";
  Sampler prompted(options);
  prompted.observe(std::vector<std::int32_t>{1, 1, 1});
  EXPECT_EQ(prompted.next(logits), 0);
  const std::vector<float> negative = {-9.0f, -9.0f, -1.0f, -1.2f};
  Sampler below(options);
  below.observe(std::vector<std::int32_t>{2});
  EXPECT_EQ(below.next(negative), 3) << "-1 * 1.5 is below -1.2; -1 / 1.5 would not be";
  Sampler off({0.0, 0, 1.0, 7});
  off.observe(std::vector<std::int32_t>{1});
  EXPECT_EQ(off.next(logits), 1);
}

TEST(Sampler, APartialRankingDrawsAsAFullOne) {
  // A vocabulary beyond the first ranked part, flat enough that draws reach far; equal logits among them.
  std::vector<float> logits;
  SplitMix64 random(5);
  for (int v = 0; v < 3000; ++v) logits.push_back(std::floor(static_cast<float>(random.uniform()) * 40) / 10);
  for (const SamplerOptions& options :
       {SamplerOptions{1.0, 0, 1.0, 3}, SamplerOptions{1.3, 0, 0.9, 3}, SamplerOptions{1.0, 777, 0.97, 3},
        SamplerOptions{0.7, 0, 1.0, 3, 0.05}, SamplerOptions{1.0, 64, 1.0, 3},
        SamplerOptions{1.0, 5000, 1.0, 3}}) {
    Sampler sampler(options);
    std::vector<std::pair<float, std::int32_t>> ranked;
    for (std::size_t v = 0; v < logits.size(); ++v)
      ranked.emplace_back(-logits[v], static_cast<std::int32_t>(v));
    std::sort(ranked.begin(), ranked.end());
    std::size_t count =
        options.top_k > 0 ? std::min<std::size_t>(static_cast<std::size_t>(options.top_k), 3000) : 3000;
    std::vector<double> weights;
    for (std::size_t i = 0; i < count; ++i)
      weights.push_back(
          std::exp((static_cast<double>(ranked[0].first) - ranked[i].first) / options.temperature));
    double sum = 0, kept = 0;
    for (const double w : weights) sum += w;
    std::size_t n = 0;
    while (n < count && (options.top_p == 1 || kept < options.top_p * sum) && weights[n] >= options.min_p)
      kept += weights[n++];
    SplitMix64 uniform(options.seed);
    for (int draw = 0; draw < 500; ++draw) {
      double left = uniform.uniform() * kept;
      std::size_t i = 0;
      while (i + 1 < n && (left -= weights[i]) >= 0) ++i;
      ASSERT_EQ(sampler.next(logits), ranked[i].second) << "draw " << draw << " of " << n;
    }
  }
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
  EXPECT_THROW(Sampler({1.0, 0, 1.0, 0, -0.1}), Error);
  EXPECT_THROW(Sampler({1.0, 0, 1.0, 0, 1.1}), Error);
  EXPECT_THROW(Sampler({1.0, 0, 1.0, 0, 0.0, 0.0}), Error);
  EXPECT_THROW(Sampler({1.0, 0, 1.0, 0, 0.0, std::numeric_limits<double>::infinity()}), Error);
  Sampler greedy({0.0, 0, 1.0, 0});
  EXPECT_THROW(greedy.next(std::vector<float>{0.0f, std::numeric_limits<float>::quiet_NaN()}), Error);
}

}  // namespace
}  // namespace crumb::eval
