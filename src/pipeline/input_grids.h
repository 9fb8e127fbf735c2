// Static grids of the inputs of a block's linears: found by calibration, and put into a block.
#pragma once
#include <array>
#include <optional>

#include "calib/activation_store.h"
#include "model/family.h"
#include "nn/decoder_block.h"
#include "quant/activation_scheme.h"

namespace crumb::pipeline {

/// By LinearRole; linears that read one input share a grid. All empty where the scheme is dynamic.
using InputGrids = std::array<std::optional<quant::StaticGrid>, std::size(model::kLinearRoles)>;

/// The block's quantizers of a scheme. Where it is static, inputs without a grid are not rounded: so run the
/// stages before calibration. Keys, values and queries are dynamic in every scheme.
nn::ActivationQuants activation_quants(const quant::ActivationScheme& scheme, const InputGrids& grids,
                                       const at::Device& device);

/// Grids for the least and the largest value that each input (per channel: each of its channels) has over all
/// windows of `inputs`, seen by `block` as it will run: its weights are the final ones, its inputs not yet
/// rounded. Empty where the scheme is dynamic.
InputGrids calibrate_input_grids(const nn::DecoderBlock& block, const calib::ActivationStore& inputs,
                                 std::int64_t batch, const nn::RopeTable& rope, const nn::Compute& compute,
                                 const at::Device& device, const quant::ActivationScheme& scheme);

}  // namespace crumb::pipeline
