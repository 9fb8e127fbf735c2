// The tensors of a static activation grid, which lie beside a linear's codes: "….input_scale" F32 and, where
// the scheme is asymmetric, "….input_zero_point" I32, each [1] (per tensor) or [K] (per channel).
// compressed-tensors' names. docs/formats/gptq.md.
#pragma once
#include <string>
#include <vector>

#include "formats/tensor_table.h"
#include "io/safetensors.h"
#include "quant/activation_scheme.h"

namespace crumb::formats {

/// stored_name  of the linear, as the file's family has it
std::vector<io::TensorToWrite> input_grid_tensors(const std::string& stored_name,
                                                  const quant::StaticGrid& grid, bool symmetric);

/// Of a linear with K inputs whose scheme is static. Symmetric grids have zero point 2^(bits-1). Throws
/// NotFound (a missing tensor) and Corrupt.
quant::StaticGrid read_input_grid(const TensorTable& tensors, const std::string& linear,
                                  const quant::ActivationScheme& scheme, std::int64_t k);

}  // namespace crumb::formats
