#include "methods/initialize.h"
#include "pipeline/stages/block_stages.h"

namespace crumb::pipeline {

void run_rounding(BlockJob& job) {
  const recipe::Rounding& how = job.recipe().rounding;
  std::optional<methods::InputEnergies> energies;
  if (how.method == recipe::InitMethod::kClipSearchActivation) {
    energies = methods::collect_input_energies(job.block, job.inputs, job.batch(), job.rope,
                                               job.context.block_compute, job.context.device);
  }
  methods::start_block(job.block, job.recipe().weights.spec(), how, energies ? &*energies : nullptr);
}

}  // namespace crumb::pipeline
