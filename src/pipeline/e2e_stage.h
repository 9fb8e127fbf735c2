// E2E-QP over the whole packed model, kept from time to time so that an interrupted run goes on.
#pragma once
#include <optional>
#include <vector>

#include "calib/activation_store.h"
#include "pipeline/quantize_context.h"

namespace crumb::pipeline {

/// Trains the scales of all blocks end to end and returns them in block and role order; adds "e2e_qp" to the
/// report. `teacher` as quantize_blocks() gave it.
std::vector<at::Tensor> train_end_to_end(QuantizeContext& context,
                                         const std::optional<calib::ActivationStore>& teacher);

}  // namespace crumb::pipeline
