// One pass over the inputs of a block's linears: what every statistic of them is made in.
#pragma once
#include <functional>

#include "calib/activation_store.h"
#include "nn/decoder_block.h"

namespace crumb::methods {

/// Runs the block over all windows of `inputs` in their order, `batch` at a time and without gradients, and
/// calls `use` with the number of windows and the inputs of the linears. Ctrl-C is asked for in the name of
/// `where`.
void for_each_linear_inputs(
    const nn::DecoderBlock& block, const calib::ActivationStore& inputs, std::int64_t batch,
    const nn::RopeTable& rope, const nn::Compute& compute, const at::Device& device, const char* where,
    const std::function<void(std::int64_t windows, const nn::DecoderBlock::LinearInputs&)>& use);

}  // namespace crumb::methods
