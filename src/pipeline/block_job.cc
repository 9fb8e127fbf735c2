#include "pipeline/block_job.h"

#include <algorithm>

#include "base/check.h"
#include "base/interrupt.h"
#include "pipeline/stages/block_stages.h"

namespace crumb::pipeline {

using model::LinearRole;
using recipe::Stage;

nn::ActivationQuants activation_quants(const recipe::Activations& a) {
  return nn::ActivationQuants::dynamic(a.bits, a.kv_bits, a.symmetric, /*holds_zero=*/true);
}

calib::StoreOptions stream_options(const QuantizeContext& c) {
  const bool f32 = c.recipe.block_ap.store_dtype == recipe::StoreDtype::kF32;
  return {f32 ? calib::StoreDtype::kF32 : calib::StoreDtype::kBf16, c.run->path(), c.ram_limit};
}

std::size_t input_of(LinearRole role) {
  switch (role) {
    case LinearRole::kQ:
    case LinearRole::kK:
    case LinearRole::kV:
      return 0;
    case LinearRole::kO:
      return 1;
    case LinearRole::kGate:
    case LinearRole::kUp:
      return 2;
    case LinearRole::kDown:
      return 3;
  }
  CRUMB_CHECK(false);
}

methods::ActivationStatistics BlockJob::statistics() const {
  if (float_statistics != nullptr && !transformed) return *float_statistics;
  return methods::collect_activation_statistics(block, inputs, batch(), rope, context.block_compute,
                                                context.device);
}

std::array<std::optional<methods::Gram>, 4> BlockJob::grams(const nn::DecoderBlock& of,
                                                            const std::array<bool, 4>& wanted) const {
  const at::NoGradGuard no_grad;
  std::array<std::optional<methods::Gram>, 4> grams;
  for (std::int64_t begin = 0; begin < inputs.windows(); begin += batch()) {
    throw_if_interrupted("pipeline.quantize");
    const std::int64_t count = std::min(batch(), inputs.windows() - begin);
    const auto in =
        of.linear_inputs(inputs.read(begin, count).to(context.device), rope, context.block_compute);
    const std::array<const at::Tensor*, 4> all = {&in.attention_in, &in.o_in, &in.mlp_in, &in.down_in};
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (!wanted[i]) continue;
      if (!grams[i]) grams[i].emplace(all[i]->size(1));
      grams[i]->add(*all[i], count);
    }
  }
  return grams;
}

void BlockJob::stepped(Stage stage, std::int64_t k, std::int64_t steps,
                       nlohmann::ordered_json numbers) const {
  nlohmann::ordered_json line = {{"block", index}, {"stage", recipe::to_string(stage)}, {"step", k}};
  line.update(numbers);
  context.metrics->add(line);
  context.progress->block_step(index, stage, k + 1, steps);
  throw_if_interrupted("pipeline.quantize");
}

BlockStage block_stage(Stage stage) {
  switch (stage) {
    case Stage::kSmoothQuant:
      return run_smoothquant;
    case Stage::kAwq:
      return run_awq;
    case Stage::kOmniQuant:
      return run_omniquant;
    case Stage::kRounding:
      return run_rounding;
    case Stage::kGptq:
      return run_gptq;
    case Stage::kSignRound:
      return run_signround;
    case Stage::kBlockAp:
      return run_block_ap;
    case Stage::kE2eQp:
      break;
  }
  CRUMB_CHECK(false);
}

bool wants_float_statistics(const recipe::Recipe& recipe) {
  return recipe.has(Stage::kSmoothQuant) || (recipe.has(Stage::kOmniQuant) && recipe.omniquant.let);
}

}  // namespace crumb::pipeline
