// What a run will need, before it starts.
#pragma once
#include <cstdint>
#include <vector>

#include "model/config.h"
#include "recipe/recipe.h"

namespace crumb::pipeline {

/// Upper estimates in bytes.
struct MemoryPlan {
  std::int64_t shell = 0;  // embedding and head, f32
  std::int64_t block =
      0;  // one block in training: weight, fake-quant weight, gradient, two moments; activations of a batch
  std::vector<std::int64_t> streams;  // each activation stream, in memory or on disk
  std::int64_t end_to_end =
      0;  // E2E-QP: packed linears, one unpacked linear and its gradient, block inputs, a chunk of logits
  std::int64_t teacher_stream = 0;  // the one of `streams` that is still there in E2E-QP

  /// With every stream above `ram_limit` (0: none) on disk.
  std::int64_t peak_memory(std::int64_t ram_limit) const;
};

MemoryPlan plan_memory(const model::ModelConfig& config, const recipe::Recipe& recipe);

}  // namespace crumb::pipeline
