#include "methods/signround/block_training.h"

#include "pipeline/report.h"
#include "pipeline/stages/block_stages.h"

namespace crumb::pipeline {

using recipe::Stage;
namespace signround = methods::signround;

void run_signround(BlockJob& job) {
  const recipe::SignRound& how = job.recipe().signround;
  signround::BlockOptions options;
  options.batch = how.batch;
  options.seed = how.seed;
  options.rounding.iterations = how.iterations;
  // 0 stands for 1 / iterations, which a retry must be able to lower.
  options.rounding.lr = job.lr_factor * (how.lr > 0 ? how.lr : 1.0 / static_cast<double>(how.iterations));
  options.rounding.range_lr = job.lr_factor * how.range_lr;
  options.rounding.tune_ranges = how.tune_ranges;
  options.token_cap = job.recipe().objective.token_cap;
  options.search_start = how.search_start;
  std::optional<methods::InputEnergies> energies;
  if (how.search_start) {
    energies = job.energies();
    options.energies = &*energies;
  }
  signround::BlockResult result = signround::train_block(
      job.block, {job.inputs, job.targets}, job.rope, job.recipe().weights.spec(), options,
      job.context.block_compute, job.context.device, [&](std::int64_t k, const signround::BlockStep& step) {
        job.stepped(Stage::kSignRound, k, how.iterations, {{"loss", step.loss}, {"lr", step.lr}});
      });
  job.finite = result.finite;
  if (!job.finite) return;
  nlohmann::ordered_json row = loss_row(result.steps);
  row["best_iteration"] = result.best_iteration;
  job.row["signround"] = std::move(row);
  job.codes = std::move(result.linears);
}

}  // namespace crumb::pipeline
