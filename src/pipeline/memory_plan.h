// What a run will need, before it starts.
#pragma once
#include <cstdint>

#include "model/config.h"
#include "recipe/recipe.h"

namespace crumb::pipeline {

/// Upper estimates in bytes.
struct MemoryPlan {
  std::int64_t shell = 0;       // embedding and head, f32
  std::int64_t block = 0;       // one block in training: weight, fake-quant weight, gradient, two moments; activations of a batch
  std::int64_t streams = 0;     // activation streams, in memory or on disk
  std::int64_t end_to_end = 0;  // E2E-QP: packed linears, one unpacked linear and its gradient, block inputs, a chunk of logits
  /// With streams above `ram_limit` each on disk.
  std::int64_t peak_memory(std::int64_t ram_limit) const;
  std::int64_t largest_stream = 0;
};

MemoryPlan plan_memory(const model::ModelConfig& config, const recipe::Recipe& recipe);

}  // namespace crumb::pipeline
