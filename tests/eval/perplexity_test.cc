#include "eval/perplexity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/interrupt.h"
#include "eval/fake_model.h"

namespace crumb::eval {
namespace {

using test::FakeModel;
using ::testing::HasSubstr;

data::TokenWindows windows_of(std::int64_t rows, std::int64_t columns, std::vector<std::int32_t> ids) {
  data::TokenWindows w;
  w.rows = rows;
  w.columns = columns;
  w.ids = std::move(ids);
  w.source = "test";
  return w;
}

// f32 logits of size x carry 2^-24 |x|; the f32 exponentials add 2^-23 relative to the sum: 1e-6 covers
// logits up to 8.
constexpr double kTolerance = 1e-6;

TEST(Perplexity, OfUniformLogitsIsTheVocabularySize) {
  FakeModel model(37, 64, [](auto, auto) { return 5.0f; });
  const Perplexity p = perplexity(model, windows_of(2, 5, {0, 1, 2, 3, 4, 36, 35, 34, 33, 32}));
  EXPECT_NEAR(p.ppl, 37.0, 37.0 * kTolerance);
  EXPECT_EQ(p.tokens, 8);
  EXPECT_EQ(p.context, 5);
  EXPECT_EQ(p.window_nll.size(), 2u);
}

// The logits favor next == current + 1 by log 9 over 3 tokens: p = 9 / 11 where the window counts up, 1 / 11
// elsewhere.
TEST(Perplexity, IsTheExponentOfTheMeanOfWindowMeans) {
  FakeModel model(3, 64, [](auto context, std::int32_t next) {
    return next == (context.back() + 1) % 3 ? std::log(9.0f) : 0.0f;
  });
  const Perplexity p = perplexity(model, windows_of(2, 4, {0, 1, 2, 0, 0, 0, 1, 2}));
  const double hit = -std::log(9.0 / 11.0), miss = -std::log(1.0 / 11.0);
  EXPECT_NEAR(p.window_nll[0], hit, kTolerance);
  EXPECT_NEAR(p.window_nll[1], (miss + 2 * hit) / 3, kTolerance);
  EXPECT_NEAR(p.ppl, std::exp((p.window_nll[0] + p.window_nll[1]) / 2), p.ppl * kTolerance);
  // Control: a shift by one position would count other pairs.
  EXPECT_GT(std::abs(p.window_nll[1] - miss), 0.1);
}

TEST(Perplexity, DoesNotDependOnHowLogitsAreChunked) {
  const auto formula = [](std::span<const std::int32_t> context, std::int32_t next) {
    return std::sin(static_cast<float>(context.size()) * 0.7f + static_cast<float>(next) +
                    static_cast<float>(context.front()));
  };
  const auto windows = windows_of(2, 7, {0, 5, 3, 2, 7, 1, 4, 6, 6, 1, 0, 2, 3, 3});
  FakeModel whole(8, 16, formula, 16), single(8, 16, formula, 1), three(8, 16, formula, 3);
  const double expected = perplexity(whole, windows).nll;
  EXPECT_EQ(perplexity(single, windows).nll, expected);
  EXPECT_EQ(perplexity(three, windows).nll, expected);
}

TEST(Perplexity, ReportsNonFiniteLogitsWithWindowAndPosition) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    FakeModel model(4, 16, [=](auto context, std::int32_t next) {
      return context.size() == 3 && next == 2 ? bad : 0.0f;
    });
    try {
      perplexity(model, windows_of(1, 5, {0, 1, 2, 3, 0}));
      FAIL() << "non-finite logits were accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kNumerics);
      EXPECT_THAT(error.what(), HasSubstr("window 0, position 2"));
    }
  }
}

TEST(Perplexity, IgnoresTheLastPositionWhichPredictsNothing) {
  FakeModel model(4, 16, [](auto context, auto) {
    return context.size() == 5 ? std::numeric_limits<float>::quiet_NaN() : 0.0f;
  });
  EXPECT_NEAR(perplexity(model, windows_of(1, 5, {0, 1, 2, 3, 0})).ppl, 4.0, 4 * kTolerance);
}

TEST(Perplexity, RefusesWindowsThatTheModelCannotRead) {
  FakeModel model(4, 4, [](auto, auto) { return 0.0f; });
  const auto kind_of = [&](const data::TokenWindows& w) {
    try {
      perplexity(model, w);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_THAT(kind_of(windows_of(1, 5, {0, 0, 0, 0, 0})), HasSubstr("context is 4"));
  EXPECT_THAT(kind_of(windows_of(1, 3, {0, 4, 0})), HasSubstr("token id 4"));
  EXPECT_THAT(kind_of(windows_of(1, 3, {0, 0, -1})), HasSubstr("position 2"));
  EXPECT_THAT(kind_of(windows_of(0, 3, {})), HasSubstr("no windows"));
  EXPECT_THAT(kind_of(windows_of(3, 1, {0, 0, 0})), HasSubstr("at least 2"));
  EXPECT_EQ(kind_of(windows_of(1, 4, {0, 0, 0, 0})), "");
}

TEST(Perplexity, StopsBetweenWindowsWhenInterrupted) {
  FakeModel model(4, 4, [](auto, auto) { return 0.0f; });
  std::int64_t seen = 0;
  const auto progress = [&](std::int64_t done, std::int64_t) {
    seen = done;
    set_interrupted(true);
  };
  EXPECT_THROW(perplexity(model, windows_of(3, 2, {0, 0, 0, 0, 0, 0}), progress), Error);
  set_interrupted(false);
  EXPECT_EQ(seen, 1);
}

TEST(Perplexity, PrintsTheFieldsThatScriptsRead) {
  FakeModel model(4, 4, [](auto, auto) { return 0.0f; });
  const auto json = to_json(perplexity(model, windows_of(1, 2, {0, 1})));
  for (const char* key : {"ppl", "nll", "tokens", "windows", "context", "seconds"})
    EXPECT_TRUE(json.contains(key)) << key;
  EXPECT_EQ(json["windows"], 1);
}

}  // namespace
}  // namespace crumb::eval
