#include "pipeline/memory_plan.h"

#include <algorithm>

#include "model/family.h"

namespace crumb::pipeline {

using recipe::Stage;

namespace {

// f32 copies of a block's weights that the hungriest stage keeps: Block-AP weight, gradient, two moments and
// the file's; OmniQuant the float, transformed and quantized weights with their gradients; SignRound offsets
// current and best, quantized weights and gradients.
std::int64_t copies_of_weights(const recipe::Recipe& r) {
  std::int64_t copies = 2;
  for (const Stage stage : r.stages) {
    if (stage == Stage::kAwq || stage == Stage::kGptq) copies = std::max<std::int64_t>(copies, 4);
    if (stage == Stage::kBlockAp) copies = std::max<std::int64_t>(copies, 5);
    if (stage == Stage::kOmniQuant || stage == Stage::kSignRound) copies = std::max<std::int64_t>(copies, 7);
  }
  return copies;
}

// Gram matrices in f64 and, for GPTQ, the work on the largest (methods/gptq/gptq.h).
std::int64_t matrices(const model::ModelConfig& c, const recipe::Recipe& r) {
  const auto square = [](std::int64_t k) { return k * k; };
  const std::int64_t largest = square(c.intermediate_size),
                     all = 2 * square(c.hidden_size) + square(c.num_attention_heads * c.head_dim) + largest;
  std::int64_t bytes = 0;
  if (r.has(Stage::kAwq)) bytes = 16 * all;
  if (r.has(Stage::kGptq)) bytes = std::max(bytes, 8 * (r.gptq.sequential ? largest : all) + 32 * largest);
  return bytes;
}

}  // namespace

std::int64_t MemoryPlan::peak_memory(std::int64_t ram_limit) const {
  const auto in_memory = [&](std::int64_t stream) {
    return ram_limit > 0 && stream > ram_limit ? 0 : stream;
  };
  std::int64_t held = 0;
  for (const std::int64_t stream : streams) held += in_memory(stream);
  return std::max(shell + block + held, end_to_end + in_memory(teacher_stream));
}

MemoryPlan plan_memory(const model::ModelConfig& c, const recipe::Recipe& r) {
  MemoryPlan plan;
  constexpr std::int64_t kFloat = 4;
  const model::ParameterCount count = model::count_parameters(c);
  const std::int64_t block_weights = count.block_linears / std::max<std::int64_t>(1, c.num_hidden_layers);
  plan.shell = count.embeddings * kFloat;
  // Saved activations of one block: two norms, q, k, v, attention output, gate, up and their product, with
  // gradients of the widest.
  std::int64_t windows = r.block_ap.batch;
  if (r.has(Stage::kOmniQuant)) windows = std::max(windows, r.omniquant.batch);
  if (r.has(Stage::kSignRound)) windows = std::max(windows, r.signround.batch);
  const std::int64_t tokens = windows * r.calibration.tokens;
  const std::int64_t q_width = c.num_attention_heads * c.head_dim,
                     kv_width = c.num_key_value_heads * c.head_dim;
  const std::int64_t activations =
      tokens * kFloat * (8 * c.hidden_size + 4 * q_width + 6 * kv_width + 6 * c.intermediate_size);
  plan.block = copies_of_weights(r) * block_weights * kFloat + matrices(c, r) + activations;
  const std::int64_t value = r.block_ap.store_dtype == recipe::StoreDtype::kF32 ? 4 : 2;
  const auto stream = [&](std::int64_t windows, std::int64_t length) {
    return windows * length * c.hidden_size * value;
  };
  const std::int64_t train = stream(r.calibration.samples, r.calibration.tokens),
                     validation = stream(r.calibration.validation_samples, r.calibration.tokens);
  plan.streams = {train, train, validation, validation};
  if (r.has(Stage::kE2eQp)) {
    const std::int64_t e2e_tokens = r.e2e_qp.batch * r.e2e_qp.tokens;
    if (r.e2e_qp.loss == recipe::E2eLoss::kKl) {
      plan.teacher_stream = stream(r.e2e_qp.samples, r.e2e_qp.tokens);
      plan.streams.push_back(plan.teacher_stream);
    }
    const std::int64_t groups = r.weights.group_size > 0 ? count.block_linears / r.weights.group_size : 0;
    plan.end_to_end = plan.shell + count.block_linears * r.weights.bits / 8 + groups * (4 * 4 + 1) +
                      3 * c.hidden_size * c.intermediate_size * kFloat +
                      e2e_tokens * c.hidden_size * kFloat * (c.num_hidden_layers + 8) +
                      2 * std::min(r.performance.logits_chunk_tokens, e2e_tokens) * c.vocab_size * kFloat;
  }
  return plan;
}

}  // namespace crumb::pipeline
