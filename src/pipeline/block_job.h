// One block on its way through the stages of a recipe.
#pragma once
#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "calib/activation_store.h"
#include "methods/activation_statistics.h"
#include "methods/gram.h"
#include "methods/initialize.h"
#include "nn/decoder_block.h"
#include "pipeline/quantize_context.h"

namespace crumb::pipeline {

/// How the run keeps its activation streams.
calib::StoreOptions stream_options(const QuantizeContext& context);

/// What the stages of one block are given, and what they leave.
struct BlockJob {
  QuantizeContext& context;
  std::int64_t index;
  /// As the stage before left it: float linears, transformed or not; fake-quant ones after `rounding` and
  /// Block-AP. Its activation quantizers are the recipe's.
  nn::DecoderBlock block;
  const calib::ActivationStore &inputs, &targets;  // X_q, and X_fp after this block
  const calib::ActivationStore &validation_inputs, &validation_targets;
  const nn::RopeTable& rope;
  double lr_factor = 1;  // of every stage that trains
  /// Of the float block on X_fp; there when a stage asks for it (wants_float_statistics).
  const methods::ActivationStatistics* float_statistics = nullptr;

  /// Left by a stage that chose codes while `block` kept its float weights.
  std::optional<methods::LinearCodes> codes = std::nullopt;
  bool transformed = false;  // the block's inputs are no longer those of float_statistics
  bool finite = true;        // false: a training diverged; the rest of the block is void
  nlohmann::ordered_json row = nlohmann::ordered_json::object();  // for the report

  const recipe::Recipe& recipe() const { return context.recipe; }
  std::int64_t batch() const { return context.recipe.block_ap.batch; }  // windows of a forward pass
  std::string where() const { return "block " + std::to_string(index); }

  /// float_statistics as long as they hold, else those of `block` as it is, on X_q.
  methods::ActivationStatistics statistics() const;
  /// Mean squares of the inputs of `block` as it is, on X_q.
  methods::InputEnergies energies() const;
  /// X^T X of the wanted inputs (in the order of DecoderBlock::LinearInputs) of `of`, on X_q; samples are
  /// windows.
  std::array<std::optional<methods::Gram>, 4> grams(const nn::DecoderBlock& of,
                                                    const std::array<bool, 4>& wanted) const;
  /// A line of metrics, the progress bar, and a look at Ctrl-C, after step k (from 0) of `steps` of a stage.
  void stepped(recipe::Stage stage, std::int64_t k, std::int64_t steps, nlohmann::ordered_json numbers) const;
};

/// One stage, from src/pipeline/stages/. A stage of E2E-QP has none.
using BlockStage = void (*)(BlockJob&);
BlockStage block_stage(recipe::Stage stage);

/// Whether a recipe's stages ask for BlockJob::float_statistics.
bool wants_float_statistics(const recipe::Recipe& recipe);

}  // namespace crumb::pipeline
