// Which grids a model's block linears are on, and how they use them.
#pragma once
#include <array>
#include <cstdint>
#include <vector>

#include "formats/checkpoint.h"

namespace crumb::formats {

/// Linears of the same bits and group size.
struct GridSummary {
  quant::AffineSpec spec;
  std::int64_t linears = 0, weights = 0, groups = 0;
  std::array<std::int64_t, 256> zero_points{};  // how many groups have each
  std::int64_t negative_scales = 0;
};

struct ModelGrids {
  std::vector<GridSummary> grids;  // in the order of their first linear
  std::int64_t float_linears = 0;
};

/// Reads every linear that holds codes, one at a time. Throws what the readers throw.
ModelGrids summarize_grids(const Checkpoint& checkpoint);

}  // namespace crumb::formats
