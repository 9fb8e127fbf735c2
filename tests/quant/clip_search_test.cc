#include "quant/clip_search.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/half.h"
#include "base/rng.h"
#include "quant/affine.h"

namespace crumb::quant {
namespace {

std::vector<float> weights(std::int64_t count, std::uint64_t seed) {  // roughly normal
  SplitMix64 random(seed);
  std::vector<float> w(static_cast<std::size_t>(count));
  for (float& x : w)
    x = static_cast<float>((random.uniform() + random.uniform() + random.uniform() + random.uniform() - 2) *
                           0.05);
  return w;
}

double error(const std::vector<float>& w, std::int64_t n, std::int64_t k, const AffineSpec& spec,
             const std::vector<float>& s, const std::vector<float>& z, const std::vector<float>& energy) {
  std::vector<float> w_hat(w.size());
  fake_quant(w, s, z, n, k, spec, w_hat);
  double sum = 0;
  for (std::size_t i = 0; i < w.size(); ++i) {
    sum += std::pow(static_cast<double>(w_hat[i]) - w[i], 2) *
           (energy.empty() ? 1 : energy[i % static_cast<std::size_t>(k)]);
  }
  return sum;
}

class ClipSearch : public ::testing::TestWithParam<std::tuple<int, Grid>> {};

TEST_P(ClipSearch, IsNeverWorseThanMinMaxUnderItsOwnMeasure) {
  const auto [bits, grid] = GetParam();
  const AffineSpec spec{bits, 32, grid};
  const std::int64_t n = 6, k = 96;
  for (const bool weighted : {false, true}) {
    auto w = weights(n * k, 3);
    w[40] = 0.15f;  // an outlier group
    std::vector<float> energy(weighted ? static_cast<std::size_t>(k) : 0, 1.0f);
    if (weighted) energy[8] = 1e6f;
    std::vector<float> s(18), z(18), s0(18), z0(18);
    init_minmax(w, n, k, spec, s0, z0);
    init_clip_search(w, n, k, spec, {}, energy, false, s, z);
    EXPECT_LE(error(w, n, k, spec, s, z, energy), error(w, n, k, spec, s0, z0, energy));
    if (bits <= 3) EXPECT_LT(error(w, n, k, spec, s, z, energy), error(w, n, k, spec, s0, z0, energy));
    for (const float zero : z) EXPECT_EQ(zero, effective_zero_point(zero, spec));
  }
}

INSTANTIATE_TEST_SUITE_P(BitsAndGrids, ClipSearch,
                         ::testing::Combine(::testing::Values(2, 3, 4, 8),
                                            ::testing::Values(Grid::kAsym, Grid::kSignedSym)));

TEST(ClipSearchEnergy, KeepsTheWeightThatMattersMost) {
  const AffineSpec spec{2, 32, Grid::kAsym};
  auto w = weights(32, 5);
  w[7] = 0.2f;  // clipped by the plain search, kept by the weighted one
  std::vector<float> energy(32, 1.0f), s(1), z(1), w_hat(32);
  init_clip_search(w, 1, 32, spec, {}, {}, false, s, z);
  fake_quant(w, s, z, 1, 32, spec, w_hat);
  const float plain = std::abs(w_hat[7] - w[7]);
  energy[7] = 1e5f;
  init_clip_search(w, 1, 32, spec, {}, energy, false, s, z);
  fake_quant(w, s, z, 1, 32, spec, w_hat);
  EXPECT_LT(std::abs(w_hat[7] - w[7]), plain / 2);
}

TEST(ClipSearchEnergy, OneStepIsMinMax) {
  const AffineSpec spec{4, 16, Grid::kAsym};
  const auto w = weights(64, 9);
  std::vector<float> s(4), z(4), s0(4), z0(4);
  init_minmax(w, 2, 32, spec, s0, z0);
  init_clip_search(w, 2, 32, spec, {1.0, 1}, {}, false, s, z);
  EXPECT_LE(error(w, 2, 32, spec, s, z, {}), error(w, 2, 32, spec, s0, z0, {}));
  EXPECT_EQ(s, s0);
}

}  // namespace
}  // namespace crumb::quant
