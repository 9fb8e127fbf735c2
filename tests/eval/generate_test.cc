#include "eval/generate.h"

#include <gtest/gtest.h>

#include "base/interrupt.h"
#include "eval/fake_model.h"

namespace crumb::eval {
namespace {

using test::FakeModel;
using Tokens = std::vector<std::int32_t>;

/// Always continues with the last token + 1.
FakeModel counter(std::int64_t context) {
  return FakeModel(10, context, [](auto seen, std::int32_t next) {
    return next == (seen.back() + 1) % 10 ? 10.0f : 0.0f;
  });
}

GenerateOptions greedy(std::int64_t count, Tokens stops = {}) {
  GenerateOptions options;
  options.max_tokens = count;
  options.sampler.temperature = 0;
  options.stop_ids = std::move(stops);
  return options;
}

TEST(Generate, ContinuesFromTheLastToken) {
  FakeModel model = counter(100);
  const Generation g = generate(model, Tokens{5, 3}, greedy(4));
  EXPECT_EQ(g.tokens, (Tokens{4, 5, 6, 7}));
  EXPECT_EQ(g.stop, StopReason::kLength);
}

TEST(Generate, StopsAtTheEndOfSequenceAndLeavesItOut) {
  FakeModel model = counter(100);
  const Generation g = generate(model, Tokens{3}, greedy(50, {7}));
  EXPECT_EQ(g.tokens, (Tokens{4, 5, 6}));
  EXPECT_EQ(g.stop, StopReason::kEndOfSequence);
}

TEST(Generate, StopsWhenTheContextIsFull) {
  FakeModel model = counter(5);
  const Generation g = generate(model, Tokens{0, 1, 2}, greedy(50));
  EXPECT_EQ(g.tokens, (Tokens{3, 4, 5})) << "the last one needs no place";
  EXPECT_EQ(g.stop, StopReason::kContextFull);
  EXPECT_THROW(generate(model, Tokens{0, 1, 2, 3, 4}, greedy(1)), Error);
}

TEST(Generate, TheCallbackSeesEachTokenAndMayStop) {
  FakeModel model = counter(100);
  Tokens seen;
  const Generation g = generate(model, Tokens{0}, greedy(50), [&](std::int32_t token) {
    seen.push_back(token);
    return token != 3;
  });
  EXPECT_EQ(seen, (Tokens{1, 2, 3}));
  EXPECT_EQ(g.tokens, seen);
  EXPECT_EQ(g.stop, StopReason::kCallback);
}

TEST(Generate, AnInterruptKeepsWhatIsThere) {
  FakeModel model = counter(100);
  const Generation g = generate(model, Tokens{0}, greedy(50), [](std::int32_t token) {
    if (token == 2) set_interrupted(true);
    return true;
  });
  set_interrupted(false);
  EXPECT_EQ(g.tokens, (Tokens{1, 2}));
  EXPECT_EQ(g.stop, StopReason::kInterrupted);
}

TEST(Generate, RefusesAnEmptyPromptAndForeignIds) {
  FakeModel model = counter(100);
  EXPECT_THROW(generate(model, Tokens{}, greedy(1)), Error);
  EXPECT_THROW(generate(model, Tokens{10}, greedy(1)), Error);
  EXPECT_THROW(generate(model, Tokens{1}, greedy(0)), Error);
}

}  // namespace
}  // namespace crumb::eval
