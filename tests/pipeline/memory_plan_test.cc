#include "pipeline/memory_plan.h"

#include <gtest/gtest.h>

namespace crumb::pipeline {
namespace {

model::ModelConfig llama2_7b() {
  model::ModelConfig c;
  c.family = "llama";
  c.hidden_size = 4096;
  c.intermediate_size = 11008;
  c.num_hidden_layers = c.num_attention_heads = c.num_key_value_heads = 32;
  c.head_dim = 128;
  c.vocab_size = 32000;
  return c;
}

TEST(MemoryPlan, KeepsLargeStreamsOnDiskAndSmallOnesInMemory) {
  MemoryPlan plan;
  plan.shell = 5;
  plan.block = 10;
  plan.streams = {100, 100, 3};
  EXPECT_EQ(plan.peak_memory(0), 218);
  EXPECT_EQ(plan.peak_memory(100), 218);
  EXPECT_EQ(plan.peak_memory(99), 18);
  EXPECT_EQ(plan.peak_memory(1), 15);
  plan.end_to_end = 50;
  plan.teacher_stream = 3;
  EXPECT_EQ(plan.peak_memory(99), 53);
}

// The paper's setting: 4096 windows of 2048 tokens, two streams of 137 GB each, and E2E-QP on windows of
// 4096.
TEST(MemoryPlan, FitsA7BModelInto24GigabytesWithStreamsOnDisk) {
  recipe::Recipe r;
  r.calibration.samples = 4096;
  r.calibration.validation_samples = 64;
  r.calibration.tokens = 2048;
  r.block_ap.batch = 2;
  r.e2e_qp.samples = 4096;
  r.e2e_qp.tokens = 4096;
  const MemoryPlan plan = plan_memory(llama2_7b(), r);
  EXPECT_EQ(plan.streams.front(), std::int64_t{4096} * 2048 * 4096 * 4);
  EXPECT_GT(plan.peak_memory(0), 250e9);
  EXPECT_LT(plan.peak_memory(1'000'000'000), 24e9);
  // One block of 202 million weights in training takes five copies of itself at least.
  EXPECT_GT(plan.peak_memory(1), 5 * 4 * 202e6);
}

TEST(MemoryPlan, CountsTheTeachersStreamOnlyForTheKlLoss) {
  recipe::Recipe r;
  const std::size_t with = plan_memory(llama2_7b(), r).streams.size();
  r.e2e_qp.loss = recipe::E2eLoss::kCrossEntropy;
  EXPECT_EQ(plan_memory(llama2_7b(), r).streams.size(), with - 1);
}

}  // namespace
}  // namespace crumb::pipeline
