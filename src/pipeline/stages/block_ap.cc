#include "methods/efficientqat/block_ap.h"

#include "methods/initialize.h"
#include "pipeline/report.h"
#include "pipeline/stages/block_stages.h"

namespace crumb::pipeline {

namespace efficientqat = methods::efficientqat;

namespace {

bool all_finite(nn::DecoderBlock& block) {
  bool finite = true;
  const auto check = [&](const at::Tensor& tensor) {
    finite = finite && at::isfinite(tensor).all().item<bool>();
  };
  for (const model::LinearRole role : block.roles()) {
    const nn::QuantLinear& linear = block.linear(role);
    check(linear.weight);
    check(linear.scale);
    check(linear.zero_point);
  }
  for (auto& [name, norm] : block.norms()) check(*norm);
  return finite;
}

}  // namespace

void run_block_ap(BlockJob& job) {
  const recipe::BlockAp& how = job.recipe().block_ap;
  if (job.codes) {
    methods::start_from_codes(job.block, *job.codes);
    job.codes.reset();
  }
  const std::int64_t steps = how.epochs * job.inputs.windows() / how.batch;
  const efficientqat::BlockApResult result = efficientqat::train_block(
      job.block, {job.inputs, job.targets}, {job.validation_inputs, job.validation_targets}, job.rope, how,
      job.recipe().objective.token_cap, job.lr_factor, job.context.block_compute, job.context.device,
      [&](std::int64_t k, const efficientqat::BlockApStep& step) {
        job.stepped(recipe::Stage::kBlockAp, k, steps,
                    {{"loss", step.loss},
                     {"gradient_norm", step.gradient_norm},
                     {"quant_lr", step.quant_lr},
                     {"weight_lr", step.weight_lr}});
      });
  job.finite = result.finite && all_finite(job.block);  // the last update is followed by no loss
  if (job.finite) job.row.update(block_ap_row(result));
}

}  // namespace crumb::pipeline
