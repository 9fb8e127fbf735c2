#include "pipeline/input_grids.h"

#include "methods/activation_statistics.h"

namespace crumb::pipeline {

nn::ActivationQuants activation_quants(const quant::ActivationScheme& scheme, const InputGrids& grids,
                                       const at::Device& device) {
  nn::ActivationQuants all =
      nn::ActivationQuants::dynamic(scheme.bits, scheme.kv_bits, scheme.symmetric, /*holds_zero=*/true);
  if (!scheme.is_static()) return all;
  all.linear_inputs.fill({});
  for (const model::LinearRole role : model::kLinearRoles) {
    if (const auto& grid = grids[static_cast<std::size_t>(role)])
      all.linear_inputs[nn::input_of(role)] = nn::static_activation_quant(scheme, *grid, device);
  }
  return all;
}

InputGrids calibrate_input_grids(const nn::DecoderBlock& block, const calib::ActivationStore& inputs,
                                 std::int64_t batch, const nn::RopeTable& rope, const nn::Compute& compute,
                                 const at::Device& device, const quant::ActivationScheme& scheme) {
  InputGrids grids;
  if (!scheme.is_static()) return grids;
  const methods::ActivationStatistics seen =
      methods::collect_activation_statistics(block, inputs, batch, rope, compute, device);
  for (const model::LinearRole role : block.roles()) {
    const methods::ChannelStatistics& channels = seen.of(role);
    grids[static_cast<std::size_t>(role)] = nn::static_grid(nn::static_activation_quant(
        scheme.bits, scheme.inputs, scheme.symmetric, channels.low, channels.high));
  }
  return grids;
}

}  // namespace crumb::pipeline
