// Evaluation and generation on the engine.
#include "runtime/engine_language_model.h"

#include <gtest/gtest.h>

#include "eval/divergence.h"
#include "eval/generate.h"
#include "eval/perplexity.h"
#include "runtime/packed_model.h"
#include "support/expect_error.h"

namespace crumb::runtime {
namespace {

class EngineModel : public ::testing::Test {
 protected:
  void SetUp() override {
    const test::TinyTensors tensors = test::tiny_tensors();
    test::write_tiny_model(folder_ / "float", {}, tensors);
    plain_ = test::plain_tensors(tensors);
    test::write_packed_model(folder_ / "float", folder_ / "packed", {3, 32, quant::Grid::kAsym}, plain_);
  }
  EngineLanguageModel open(Accuracy accuracy) const {
    EngineOptions options;
    options.accuracy = accuracy;
    options.threads = 2;
    options.chunk_tokens = 70;
    return EngineLanguageModel(Engine::load(folder_ / "packed", options));
  }
  data::TokenWindows windows() const { return {3, 100, test::random_ids(300, 4), "random"}; }
  test::TempDir folder_;
  test::PlainTensors plain_;
};

TEST_F(EngineModel, PerplexityIsThatOfThePlainForward) {
  const data::TokenWindows w = windows();
  EngineLanguageModel exact = open(Accuracy::kExact), fast = open(Accuracy::kInt8);
  double nll = 0;
  for (std::int64_t i = 0; i < w.rows; ++i) {
    const auto logits = test::plain_forward(exact.engine().config(), plain_, w.row(i));
    for (std::size_t p = 0; p + 1 < 100; ++p) {
      double sum = 0;
      for (const double v : logits[p]) sum += std::exp(v);
      nll += std::log(sum) - logits[p][static_cast<std::size_t>(w.row(i)[p + 1])];
    }
  }
  nll /= 3 * 99;
  EXPECT_NEAR(eval::perplexity(exact, w).nll, nll, 1e-5);
  const double int8 = eval::perplexity(fast, w).nll;
  EXPECT_NEAR(int8, nll, 0.02);
  EXPECT_NE(int8, nll);
}

TEST_F(EngineModel, DivergenceOfTheTwoAccuraciesIsSmallAndNotZero) {
  EngineLanguageModel exact = open(Accuracy::kExact), fast = open(Accuracy::kInt8);
  const eval::Divergence d = eval::divergence(fast, exact, windows());
  EXPECT_GT(d.kl_mean, 0);
  EXPECT_LT(d.kl_mean, 0.01);
  EXPECT_GT(d.top1_agreement, 0.9);
  EXPECT_EQ(eval::divergence(exact, exact, windows()).kl_mean, 0);
}

TEST_F(EngineModel, GreedyTokensAreThePlainModels) {
  EngineLanguageModel model = open(Accuracy::kExact);
  const std::vector<std::int32_t> prompt = test::random_ids(12, 5);
  eval::GenerateOptions options;
  options.max_tokens = 10;
  options.sampler.temperature = 0;
  const eval::Generation generation = eval::generate(model, prompt, options);
  std::vector<std::int32_t> all = prompt;
  for (int i = 0; i < 10; ++i) {
    const auto logits = test::plain_forward(model.engine().config(), plain_, all).back();
    all.push_back(static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
  }
  EXPECT_EQ(generation.tokens, std::vector<std::int32_t>(all.begin() + 12, all.end()));
}

TEST_F(EngineModel, ASessionsRowsAreIndependentSequences) {
  EngineLanguageModel model = open(Accuracy::kInt8);
  const std::vector<std::int32_t> ids = test::random_ids(20, 6);
  const auto both = model.open_session(2, 15);
  const std::span<const float> together = both->append(ids, 10);
  const std::vector<float> logits(together.begin(), together.end());
  EXPECT_EQ(both->length(), 10);
  for (std::size_t row = 0; row < 2; ++row) {
    const auto one = model.open_session(1, 15);
    const std::span<const float> alone = one->append(std::span(ids).subspan(row * 10, 10), 10);
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(),
                           logits.begin() + static_cast<std::ptrdiff_t>(row * alone.size())));
  }
  test::expect_error(ErrorKind::kInvalidArgument, {"20 tokens", "15"}, [&] { both->append(ids, 10); });
  test::expect_error(ErrorKind::kInvalidArgument, {"0 sequences"}, [&] { model.open_session(0, 15); });
  test::expect_error(ErrorKind::kInvalidArgument, {"300", "256"}, [&] { model.open_session(1, 300); });
}

}  // namespace
}  // namespace crumb::runtime
