// A finished block on disk: what its linears' codes, zero points and scales are, and its trained norms.
#pragma once
#include <filesystem>

#include "formats/hf_output.h"
#include "nn/decoder_block.h"

namespace crumb::pipeline {

/// Codes are stored as dense words, scales and norms as f32. Written whole or not at all; throws Io.
void save_block_state(const std::filesystem::path& file, const formats::PackedBlock& block);
/// Throws Corrupt when the file does not describe a block of this shape and spec.
formats::PackedBlock load_block_state(const std::filesystem::path& file, const model::ModelConfig& config, const quant::AffineSpec& spec);

/// The result of training: codes chosen with scales rounded to binary16, norms as they are.
formats::PackedBlock finish_block(nn::DecoderBlock& block);
/// Puts a finished block's weights and norms into `block`: as floats (a forward at full speed), or packed.
void apply_block_state(nn::DecoderBlock& block, const formats::PackedBlock& state, const at::Device& device, bool packed);

}  // namespace crumb::pipeline
