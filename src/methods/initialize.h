// The start of a block's quantization: scales and zero points of its seven linears.
#pragma once
#include <array>
#include <iterator>

#include "calib/activation_store.h"
#include "nn/decoder_block.h"
#include "recipe/recipe.h"

namespace crumb::methods {

/// Mean square of every input of a block's linears, in the order of DecoderBlock::LinearInputs; each [K] f32.
struct InputEnergies {
  std::array<std::vector<float>, 4> mean_square;  // attention_in (q, k, v), o_in, mlp_in (gate, up), down_in
  const std::vector<float>& of(model::LinearRole role) const;
};

/// Runs the float block over all windows of `inputs`, `batch` at a time; sums in f64.
InputEnergies collect_input_energies(const nn::DecoderBlock& block, const calib::ActivationStore& inputs,
                                     std::int64_t batch, const nn::RopeTable& rope,
                                     const nn::Compute& compute, const at::Device& device);

/// Turns the seven float linears into fake-quant ones (not by kAbsMax: CRUMB_CHECK). `energies` is used by kClipSearchActivation only and
/// may be null otherwise.
void start_block(nn::DecoderBlock& block, const quant::AffineSpec& spec, const recipe::Rounding& how,
                 const InputEnergies* energies);

/// Codes of a block's linears, by LinearRole.
using LinearCodes = std::array<quant::QuantizedLinear, std::size(model::kLinearRoles)>;

/// The same from codes that a method has chosen for the linears' float weights: scales and zero points are
/// theirs, and each weight becomes the nearest to itself that Q1 rounds to its code (0.49 steps from the
/// middle at most; codes 0 and Q have no outer end). The block then computes what the codes say, as far as
/// training's clamp of scales (quant::effective_scale) lets it, and every weight stays as near as that allows
/// to the one that was rounded, so that training can move it on.
void start_from_codes(nn::DecoderBlock& block, const LinearCodes& codes);

}  // namespace crumb::methods
