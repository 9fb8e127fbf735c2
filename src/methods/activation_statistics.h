// What the inputs of a block's linears look like over the calibration windows: where OmniQuant, SmoothQuant
// and AWQ start from.
#pragma once
#include <array>

#include "calib/activation_store.h"
#include "nn/decoder_block.h"

namespace crumb::methods {

/// Of one linear's input with K channels; each [K] f32 on the device of the block.
struct ChannelStatistics {
  at::Tensor high, low;  // largest and smallest value
  at::Tensor shift;      // exponential mean over windows of (max + min) / 2 of the window: the first, then
                         // 0.99 of the old + 0.01 of the new (OmniQuant's act_shifts)
  at::Tensor mean_abs;   // mean of |x| (AWQ, arXiv:2306.00978), summed in f64

  /// max |x| (OmniQuant's and SmoothQuant's act_scales).
  at::Tensor abs_max() const;
};

/// In the order of DecoderBlock::LinearInputs.
struct ActivationStatistics {
  std::array<ChannelStatistics, 4> inputs;
  const ChannelStatistics& of(model::LinearRole role) const;
};

/// Runs the block over all windows of `inputs` in their order, `batch` at a time; the result does not depend
/// on `batch` beyond the rounding of matrix products.
ActivationStatistics collect_activation_statistics(const nn::DecoderBlock& block,
                                                   const calib::ActivationStore& inputs, std::int64_t batch,
                                                   const nn::RopeTable& rope, const nn::Compute& compute,
                                                   const at::Device& device);

}  // namespace crumb::methods
