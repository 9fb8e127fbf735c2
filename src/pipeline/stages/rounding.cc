#include "methods/awq/awq.h"
#include "methods/initialize.h"
#include "pipeline/stages/block_stages.h"

namespace crumb::pipeline {

// AWQ's symmetric rounding, which at 8 bits a row is SmoothQuant's too: scale = max |w| / (2^(bits-1) - 1),
// zero point 2^(bits-1).
methods::LinearCodes round_by_absmax(const nn::DecoderBlock& block, const quant::AffineSpec& spec) {
  methods::LinearCodes codes;
  for (const model::LinearRole role : block.roles()) {
    codes[static_cast<std::size_t>(role)] =
        methods::awq::round_to_nearest(block.linear(role).weight, {}, spec, /*scale_f16=*/true);
  }
  return codes;
}

void run_rounding(BlockJob& job) {
  const recipe::Rounding& how = job.recipe().rounding;
  if (how.method == recipe::InitMethod::kAbsMax) {
    job.codes = round_by_absmax(job.block, job.recipe().weights.spec());
    return;
  }
  std::optional<methods::InputEnergies> energies;
  if (how.method == recipe::InitMethod::kClipSearchActivation) energies = job.energies();
  methods::start_block(job.block, job.recipe().weights.spec(), how, energies ? &*energies : nullptr);
}

}  // namespace crumb::pipeline
