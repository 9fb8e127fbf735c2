// A finished block on disk: what its linears' codes, zero points and scales are, and its changed norms and
// biases.
#pragma once
#include <filesystem>

#include "formats/hf_output.h"
#include "methods/initialize.h"
#include "nn/decoder_block.h"
#include "recipe/recipe.h"

namespace crumb::pipeline {

/// Codes are stored as dense words, scales and norms as f32. Written whole or not at all; throws Io.
void save_block_state(const std::filesystem::path& file, const formats::PackedBlock& block);
/// Throws Corrupt when the file does not describe a block of this shape and spec.
formats::PackedBlock load_block_state(const std::filesystem::path& file, const model::ModelConfig& config,
                                      const quant::AffineSpec& spec);

/// What the stages left: `codes`, or those of the fake-quant linears with scales rounded to binary16 (null),
/// in fields as wide as files have them (recipe::Weights::stored_spec); norms, and biases where the recipe
/// transforms them, as they are.
formats::PackedBlock finish_block(nn::DecoderBlock& block, const methods::LinearCodes* codes,
                                  const recipe::Recipe& recipe);
/// Throws Unsupported when a stage gave the block a bias that the checkpoint's family does not store.
void check_block_state(const formats::PackedBlock& state, const formats::Checkpoint& checkpoint,
                       std::int64_t index);
/// Puts a finished block's weights, norms and biases into `block`: as floats (a forward at full speed), or
/// packed.
void apply_block_state(nn::DecoderBlock& block, const formats::PackedBlock& state, const at::Device& device,
                       bool packed);

}  // namespace crumb::pipeline
