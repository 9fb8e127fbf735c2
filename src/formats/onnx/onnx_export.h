// The whole decoder as an ONNX graph for ONNX Runtime. docs/formats/onnx.md.
#pragma once
#include "formats/exporter.h"

namespace crumb::formats {

/// "onnx": model.onnx (the graph), model.onnx_data (its tensors), config.json and the companion files. Block
/// linears are MatMulNBits, lossless where a power of two from 16 to 256 divides the group; embedding and
/// head keep the source's float dtype, norms and biases are f32, and so is all arithmetic.
const Exporter& onnx_exporter();

}  // namespace crumb::formats
