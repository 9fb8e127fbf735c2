#include "pipeline/block_job.h"

#include "base/check.h"
#include "base/interrupt.h"
#include "methods/linear_inputs.h"
#include "pipeline/stages/block_stages.h"

namespace crumb::pipeline {

using recipe::Stage;

calib::StoreOptions stream_options(const QuantizeContext& c) {
  const bool f32 = c.recipe.block_ap.store_dtype == recipe::StoreDtype::kF32;
  return {f32 ? calib::StoreDtype::kF32 : calib::StoreDtype::kBf16, c.run->path(), c.ram_limit};
}

methods::ActivationStatistics BlockJob::statistics() const {
  if (float_statistics != nullptr && !transformed) return *float_statistics;
  return methods::collect_activation_statistics(block, inputs, batch(), rope, context.block_compute,
                                                context.device);
}

methods::InputEnergies BlockJob::energies() const {
  return methods::collect_input_energies(block, inputs, batch(), rope, context.block_compute, context.device);
}

std::array<std::optional<methods::Gram>, 4> BlockJob::grams(const nn::DecoderBlock& of,
                                                            const std::array<bool, 4>& wanted) const {
  std::array<std::optional<methods::Gram>, 4> grams;
  const auto add = [&](std::int64_t windows, const nn::DecoderBlock::LinearInputs& in) {
    const auto all = in.all();
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (!wanted[i]) continue;
      if (!grams[i]) grams[i].emplace(all[i]->size(1));
      grams[i]->add(*all[i], windows);
    }
  };
  methods::for_each_linear_inputs(of, inputs, batch(), rope, context.block_compute, context.device,
                                  "pipeline.quantize", add);
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
