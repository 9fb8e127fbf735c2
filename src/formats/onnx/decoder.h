// A decoder-only model as an ONNX graph with its key/value cache as inputs and outputs.
#pragma once
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "formats/onnx/graph.h"
#include "formats/onnx/matmul_nbits.h"
#include "model/config.h"

namespace crumb::formats {

/// Where the graph's tensors come from; each function is called when the tensor's turn comes, or before for
/// its type.
struct DecoderTensors {
  std::function<MatMulNBits(const std::string& linear, std::int64_t n, std::int64_t k)> linear;
  std::function<std::vector<std::byte>(const std::string& linear, const MatMulNBits& op, char part)>
      linear_part;  // 'q' codes, 's' scales, 'z' zero points
  std::function<OnnxType(const std::string& name)> float_type;
  std::function<std::vector<std::byte>(const std::string& name, OnnxType type)> floats;
};

/// Adds to `graph`
///
///   inputs    input_ids i64 [batch, new], attention_mask i64 [batch, all] (all = earlier + new; zeros only
///   at
///             the right end), past_key_values.I.key / .value f32 [batch, kv heads, earlier, head_dim], which
///             may be left out for a batch of one without earlier tokens
///   outputs   logits f32 [batch, new, vocab], present.I.key / .value f32 [batch, kv heads, all, head_dim]
///
/// Arithmetic in f32: MatMulNBits, GroupQueryAttention (with RoPE where the model has it) and
/// SimplifiedLayerNormalization of ONNX Runtime, the rest standard operators of opset 17. Tensors keep their
/// Hugging Face names, those of a linear with .qweight, .scales and .qzeros.
///
/// positions   how many tokens a sequence may have: rows of the cosine and sine tables
void add_decoder(OnnxGraph& graph, const model::ModelConfig& config, std::int64_t positions,
                 const DecoderTensors& tensors);

}  // namespace crumb::formats
