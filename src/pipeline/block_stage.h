// The stages of a recipe that work on blocks: every block in order against its full-precision output, as
// EfficientQAT's Algorithm 1 (lines 1-7), OmniQuant, GPTQ, AWQ and SignRound all have it.
#pragma once
#include <optional>

#include "calib/activation_store.h"
#include "pipeline/quantize_context.h"

namespace crumb::pipeline {

/// Brings every block that the run directory does not have yet through the recipe's stages, and records each
/// there when it is whole. Adds "blocks" and "block_stages" (their cost) to the report. Returns the teacher of E2E-QP when its loss needs
/// one: its windows' states after the full-precision final norm.
std::optional<calib::ActivationStore> quantize_blocks(QuantizeContext& context);

}  // namespace crumb::pipeline
