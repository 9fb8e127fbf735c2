#include "pipeline/progress.h"

#include <gtest/gtest.h>

#include <thread>

namespace crumb::pipeline {
namespace {

using namespace std::chrono_literals;

TEST(Progress, GoesFromNothingToAll) {
  const recipe::Recipe recipe;
  Progress progress(recipe, 3);
  EXPECT_EQ(progress.fraction(), 0);
  EXPECT_EQ(progress.seconds_left(), 0);
  double before = 0;
  for (std::int64_t block = 0; block < 3; ++block) {
    for (std::int64_t step = 1; step <= 4; ++step) {
      progress.block_step(block, recipe::Stage::kBlockAp, step, 4);
      EXPECT_GT(progress.fraction(), before);
      before = progress.fraction();
    }
    progress.blocks_done(block + 1, false);
    EXPECT_NEAR(progress.fraction(), before, 1e-12);
  }
  EXPECT_LT(before, 1);
  for (std::int64_t step = 1; step <= recipe.e2e_qp.resolved_steps(); ++step) progress.e2e_step(step);
  EXPECT_NEAR(progress.fraction(), 1, 1e-12);
  EXPECT_NEAR(progress.seconds_left(), 0, 1e-9);
}

TEST(Progress, ABlockTriedAgainDoesNotGoBack) {
  Progress progress({}, 2);
  progress.block_step(0, recipe::Stage::kBlockAp, 3, 4);
  const double before = progress.fraction();
  progress.block_step(0, recipe::Stage::kBlockAp, 1, 4);
  EXPECT_EQ(progress.fraction(), before);
}

TEST(Progress, StagesOfABlockFollowEachOther) {
  recipe::Recipe recipe;
  recipe.stages = {recipe::Stage::kOmniQuant, recipe::Stage::kBlockAp};
  Progress progress(recipe, 1);
  progress.block_step(0, recipe::Stage::kOmniQuant, 4, 4);
  const double trained = progress.fraction();
  EXPECT_GT(trained, 0.3);  // 5 epochs against Block-AP's 2
  EXPECT_LT(trained, 0.8);
  progress.block_step(0, recipe::Stage::kBlockAp, 1, 4);
  EXPECT_GT(progress.fraction(), trained);
  progress.block_step(0, recipe::Stage::kBlockAp, 4, 4);
  progress.blocks_done(1, false);
  EXPECT_NEAR(progress.fraction(), 1, 1e-12);
}

TEST(Progress, WhatWasResumedSaysNothingAboutSpeed) {
  recipe::Recipe recipe;
  recipe.stages.pop_back();
  Progress progress(recipe, 10);
  progress.blocks_done(8, true);
  EXPECT_NEAR(progress.fraction(), 0.8, 1e-12);
  EXPECT_EQ(progress.seconds_left(), 0);
  std::this_thread::sleep_for(20ms);
  progress.blocks_done(9, false);  // one block took 20 ms or more, one is left
  EXPECT_GE(progress.seconds_left(), 0.019);
  EXPECT_NEAR(progress.fraction(), 0.9, 1e-12);
}

}  // namespace
}  // namespace crumb::pipeline
