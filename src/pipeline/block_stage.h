// EfficientQAT Algorithm 1, lines 1-7: every block in order against its full-precision output.
#pragma once
#include <optional>

#include "calib/activation_store.h"
#include "pipeline/quantize_context.h"

namespace crumb::pipeline {

/// Trains (or only rounds) every block that the run directory does not have yet, and records each there when
/// it is whole. Adds "blocks" and "block_ap" to the report. Returns the teacher of E2E-QP when its loss needs
/// one: its windows' states after the full-precision final norm.
std::optional<calib::ActivationStore> quantize_blocks(QuantizeContext& context);

}  // namespace crumb::pipeline
