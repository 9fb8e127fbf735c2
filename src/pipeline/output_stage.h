// The result: packed files, report and model card, under their name in one step.
#pragma once
#include <vector>

#include "nn/torch.h"
#include "pipeline/quantize_context.h"
#include "pipeline/report.h"

namespace crumb::pipeline {

/// Writes the directory beside its place, evaluates it as a user would open it, adds "output" and "total" to
/// the report and renames it. `scales` as train_end_to_end() gave them, or empty; `total` has run since the
/// job began.
void write_output(QuantizeContext& context, const std::vector<at::Tensor>& scales, const Meter& total);

}  // namespace crumb::pipeline
