#include "eval/divergence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "eval/fake_model.h"
#include "eval/token_loss.h"

namespace crumb::eval {
namespace {

using test::FakeModel;

data::TokenWindows counting(std::int64_t rows, std::int64_t columns, std::int32_t vocabulary) {
  data::TokenWindows w;
  w.rows = rows;
  w.columns = columns;
  for (std::int64_t i = 0; i < rows * columns; ++i)
    w.ids.push_back(static_cast<std::int32_t>(i * 5 % vocabulary));
  return w;
}

const FakeModel::Formula kWavy = [](std::span<const std::int32_t> context, std::int32_t next) {
  return 3 * std::sin(static_cast<float>(context.size() * 7 + static_cast<std::size_t>(next)) +
                      static_cast<float>(context.front()));
};

TEST(Divergence, OfAModelToItselfIsZero) {
  FakeModel a(11, 32, kWavy), b(11, 32, kWavy);
  const Divergence d = divergence(a, b, counting(2, 9, 11));
  EXPECT_NEAR(d.kl_mean, 0, 1e-6);
  EXPECT_EQ(d.top1_agreement, 1.0);
  EXPECT_EQ(d.model.nll, d.reference.nll);
}

// Two tokens: reference p = (3/4, 1/4), model q = (1/4, 3/4): KL = 3/4 ln 3 - 1/4 ln 3 = 1/2 ln 3. In the
// other direction it would be the same, so the second case takes q = (1/2, 1/2): KL(p || q) = ln 2 - H(p),
// KL(q || p) is not that.
TEST(Divergence, MatchesTheClosedFormInTheRightDirection) {
  FakeModel p(2, 32, [](auto, std::int32_t next) { return next == 0 ? std::log(3.0f) : 0.0f; });
  FakeModel swapped(2, 32, [](auto, std::int32_t next) { return next == 1 ? std::log(3.0f) : 0.0f; });
  FakeModel flat(2, 32, [](auto, auto) { return 0.0f; });
  const auto windows = counting(1, 6, 2);
  const Divergence s = divergence(swapped, p, windows);
  EXPECT_NEAR(s.kl_mean, 0.5 * std::log(3.0), 1e-6);
  EXPECT_NEAR(s.kl_p99, s.kl_mean, 1e-12);
  EXPECT_EQ(s.top1_agreement, 0.0);
  const double entropy = -(0.75 * std::log(0.75) + 0.25 * std::log(0.25));
  EXPECT_NEAR(divergence(flat, p, windows).kl_mean, std::log(2.0) - entropy, 1e-6);
  EXPECT_NEAR(divergence(p, flat, windows).kl_mean, std::log(2.0) * -1 - 0.5 * std::log(0.75 * 0.25), 1e-6);
  EXPECT_EQ(divergence(flat, p, windows).top1_agreement, 1.0) << "equal logits rank by id";
}

// One position in 100 departs by a known divergence; the mean is a hundredth of it.
TEST(Divergence, MeanAndPercentileSeeARareDeparture) {
  FakeModel flat(2, 200, [](auto, auto) { return 0.0f; });
  FakeModel rare(2, 200, [](auto context, std::int32_t next) {
    return context.size() == 50 && next == 0 ? std::log(3.0f) : 0.0f;
  });
  const double jump = -std::log(2.0) - 0.5 * std::log(0.75 * 0.25);
  const Divergence d = divergence(rare, flat, counting(1, 101, 2));
  EXPECT_NEAR(d.kl_mean, jump / 100, 1e-7);
  EXPECT_NEAR(d.kl_p99, 0.01 * jump, 1e-7)
      << "rank 98.01 of 0 … 99: one hundredth of the way to the only large value";
}

TEST(Divergence, DoesNotDependOnTheMemoryItMayUse) {
  FakeModel model(11, 32, kWavy, 4);
  FakeModel reference(
      11, 32, [](auto context, std::int32_t next) { return kWavy(context, next + 1); }, 5);
  const auto windows = counting(2, 20, 11);
  const Divergence whole = divergence(model, reference, windows);
  EXPECT_EQ(model.forwards, 2);
  model.forwards = 0;
  const Divergence sliced = divergence(model, reference, windows, {}, 7 * 11 * 4);
  EXPECT_EQ(model.forwards, 2 * 3) << "19 positions in slices of 7";
  EXPECT_EQ(sliced.kl_mean, whole.kl_mean);
  EXPECT_EQ(sliced.kl_p99, whole.kl_p99);
  EXPECT_EQ(sliced.top1_agreement, whole.top1_agreement);
  EXPECT_EQ(sliced.model.nll, whole.model.nll);
  EXPECT_GT(whole.kl_mean, 0.1);
}

TEST(Divergence, ReportsTheSamePerplexityAsPerplexity) {
  FakeModel model(11, 32, kWavy), reference(11, 32, [](auto, auto) { return 0.0f; });
  const auto windows = counting(3, 8, 11);
  const Divergence d = divergence(model, reference, windows);
  EXPECT_EQ(d.model.nll, perplexity(model, windows).nll);
  EXPECT_NEAR(d.reference.ppl, 11, 1e-5);
  const auto json = to_json(d);
  for (const char* key : {"ppl", "kl_mean", "kl_p99", "top1_agreement", "reference_ppl"})
    EXPECT_TRUE(json.contains(key)) << key;
}

TEST(Divergence, RefusesDifferentVocabularies) {
  FakeModel a(11, 32, kWavy), b(12, 32, kWavy);
  EXPECT_THROW(divergence(a, b, counting(1, 4, 11)), Error);
}

TEST(Quantile, InterpolatesBetweenRanks) {
  std::vector<double> v = {3, 0, 1, 2};
  EXPECT_EQ(quantile(v, 0.0), 0);
  EXPECT_EQ(quantile(v, 1.0), 3);
  EXPECT_DOUBLE_EQ(quantile(v, 0.5), 1.5);
  EXPECT_DOUBLE_EQ(quantile(v, 0.99), 2.97);
}

TEST(TokenLoss, StaysFiniteForLargeLogits) {
  const std::vector<float> logits = {30000.0f, 29990.0f, -30000.0f};
  EXPECT_NEAR(log_sum_exp(logits), 30000.0 + std::log1p(std::exp(-10.0)), 1e-6);
  EXPECT_NEAR(cross_entropy(logits, 1), 10.0 + std::log1p(std::exp(-10.0)), 1e-6);
}

}  // namespace
}  // namespace crumb::eval
