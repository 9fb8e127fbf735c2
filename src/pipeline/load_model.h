// Checkpoints into libtorch: one block at a time for training, whole models for evaluation and generation.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "data/tokenizer.h"
#include "formats/checkpoint.h"
#include "model/language_model.h"
#include "nn/causal_lm.h"

namespace crumb::pipeline {

/// Block `index` with f32 weights; packed linears are dequantized. Throws what Checkpoint throws.
nn::DecoderBlock load_float_block(const formats::Checkpoint& checkpoint, std::int64_t index, const at::Device& device);

/// Block `index` without its linears' weights: biases and norms, for a caller that brings finished linears.
nn::DecoderBlock load_bias_only_block(const formats::Checkpoint& checkpoint, std::int64_t index, const at::Device& device);

/// How the linears of a whole model are held.
enum class Residency {
  kAuto,    // f32 when that takes at most half of the available memory, else kCompact
  kFloat,   // f32, packed linears dequantized
  kCompact  // packed linears packed, float ones in the checkpoint's own 16-bit dtype, widened when used
};

/// Embedding, final norm and head; `blocks` is left empty.
nn::CausalLm load_shell(const formats::Checkpoint& checkpoint, const nn::Compute& compute, const at::Device& device);

/// The whole model, with the activation quantizers that the checkpoint records switched on. Throws OutOfMemory when it cannot fit.
nn::CausalLm load_causal_lm(const formats::Checkpoint& checkpoint, const nn::Compute& compute, const at::Device& device, Residency residency);

struct LoadOptions {
  std::string device = "auto";     // auto | cpu | cuda
  std::string precision = "auto";  // auto | f32 | bf16
  int threads = 0;                 // 0: all cores
};

struct LoadedModel {
  std::unique_ptr<model::LanguageModel> model;
  std::unique_ptr<data::Tokenizer> tokenizer;  // null when the model has no tokenizer files
  std::string description;
};

/// The tokenizer of a model, or null when it has no tokenizer files. Throws what Tokenizer::open throws otherwise.
std::unique_ptr<data::Tokenizer> open_tokenizer(const std::string& path);

/// Opens any of crumb's inputs for `crumb eval` and `crumb generate`.
LoadedModel load_model(const std::string& path, const LoadOptions& options);

/// An f32 CPU tensor that owns `values`.
at::Tensor tensor_from(std::vector<float> values, at::IntArrayRef shape);

}  // namespace crumb::pipeline
