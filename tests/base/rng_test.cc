#include "base/rng.h"

#include <gtest/gtest.h>

#include <vector>

namespace crumb {
namespace {

// Recorded from CPython 3.11: random.Random(seed), then getrandbits(32) or randint(low, high).
struct Recorded {
  std::uint64_t seed;
  std::vector<std::uint32_t> words;
  std::vector<std::int64_t> to_4095, from_minus_5_to_5, to_2_40;
  std::int64_t last_of_2000,
      sum_of_2000;  // of randint(0, 1000003): passes the refill of the generator's 624 words
};
const Recorded kRecorded[] = {
    {0,
     {3626764237u, 1654615998u, 3255389356u, 3823568514u},
     {3155, 3445, 331, 2121, 3980, 3317},
     {1, 1, -5, -1, 3, 2},
     {849735321549, 87705687125, 1067347797602, 788025983492},
     734096,
     993274220},
    {2,
     {4106135923u, 3707026329u, 4070888059u, 3646664648u},
     {463, 750, 695, 2957, 1385, 2524},
     {-5, -4, -4, 0, -3, 5},
     {197811381919, 790638504925, 372955627812, 551079249912},
     193750,
     1008657993},
    {42,
     {2746317213u, 478163327u, 107420369u, 3184935163u},
     {912, 204, 2253, 2006, 1828, 1143},
     {5, -4, -5, -1, -2, -2},
     {247559453085, 538052153943, 305901360862, 226501419177},
     991340,
     1009731203},
    {1099511627783u,
     {2635837658u, 3209733218u, 3500038837u, 4028389051u},
     {3898, 2054, 1038, 3074, 2974, 3220},
     {4, 5, 4, 2, -1, 4},
     {551799892330, 797660323531, 972351302369, 819896354548},
     175053,
     1015863478},
};

TEST(PythonRandom, WordsEqualCPythons) {
  for (const Recorded& recorded : kRecorded) {
    PythonRandom random(recorded.seed);
    for (const std::uint32_t word : recorded.words) EXPECT_EQ(random.next32(), word) << recorded.seed;
  }
}

TEST(PythonRandom, RandintEqualsCPythons) {
  for (const Recorded& recorded : kRecorded) {
    PythonRandom small(recorded.seed), negative(recorded.seed), wide(recorded.seed);
    for (const std::int64_t value : recorded.to_4095)
      EXPECT_EQ(small.randint(0, 4095), value) << recorded.seed;
    for (const std::int64_t value : recorded.from_minus_5_to_5)
      EXPECT_EQ(negative.randint(-5, 5), value) << recorded.seed;
    for (const std::int64_t value : recorded.to_2_40)
      EXPECT_EQ(wide.randint(0, std::int64_t{1} << 40), value) << recorded.seed;
  }
}

TEST(PythonRandom, StaysEqualThroughRefills) {
  for (const Recorded& recorded : kRecorded) {
    PythonRandom random(recorded.seed);
    std::int64_t sum = 0, last = 0;
    for (int i = 0; i < 2000; ++i) sum += last = random.randint(0, 1000003);
    EXPECT_EQ(last, recorded.last_of_2000) << recorded.seed;
    EXPECT_EQ(sum, recorded.sum_of_2000) << recorded.seed;
  }
}

TEST(SplitMix64, SequenceIsFixed) {  // the published generator with seed 0
  SplitMix64 random(0);
  EXPECT_EQ(random.next(), 0xe220a8397b1dcdafu);
  EXPECT_EQ(random.next(), 0x6e789e6aa1b965f4u);
  EXPECT_EQ(random.next(), 0x06c45d188009454fu);
}

TEST(SplitMix64, UniformFillsTheHalfOpenUnitInterval) {
  SplitMix64 random(3);
  double low = 1, high = 0, sum = 0;
  constexpr int kCount = 100000;
  for (int i = 0; i < kCount; ++i) {
    const double value = random.uniform();
    low = std::min(low, value);
    high = std::max(high, value);
    sum += value;
  }
  EXPECT_GE(low, 0.0);
  EXPECT_LT(high, 1.0);
  // The mean's standard deviation is sqrt(1/12 / n) = 9.1e-4; five of them.
  EXPECT_NEAR(sum / kCount, 0.5, 5 * 9.2e-4);
  EXPECT_LT(low, 1e-3);
  EXPECT_GT(high, 1 - 1e-3);
}

}  // namespace
}  // namespace crumb
