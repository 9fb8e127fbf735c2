// The state of E2E-QP between steps, on disk.
#pragma once
#include <filesystem>

#include "methods/efficientqat/e2e_qp.h"
#include "quant/quantized_linear.h"

namespace crumb::pipeline {

/// Scales and moments as f32, exactly; written whole or not at all.
void save_e2e_checkpoint(const std::filesystem::path& file, const methods::efficientqat::E2eQp::State& state);
methods::efficientqat::E2eQp::State load_e2e_checkpoint(const std::filesystem::path& file);

/// Replaces scales by trained ones, rounded to binary16. `scale` [N, K/G] f32. Throws Numerics when one does not fit.
void set_scales(quant::QuantizedLinear& linear, const at::Tensor& scale);

}  // namespace crumb::pipeline
