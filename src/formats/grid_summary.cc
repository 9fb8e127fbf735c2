#include "formats/grid_summary.h"

#include <algorithm>

#include "base/interrupt.h"
#include "formats/export/directory.h"

namespace crumb::formats {

ModelGrids summarize_grids(const Checkpoint& checkpoint) {
  ModelGrids out;
  for (const std::string& name : block_linears(checkpoint.config())) {
    throw_if_interrupted("formats.grid_summary");
    const auto linear = codes_of(checkpoint, name);
    if (!linear) {
      ++out.float_linears;
      continue;
    }
    auto grid = std::find_if(out.grids.begin(), out.grids.end(),
                             [&](const GridSummary& other) { return same_codes(other.spec, linear->spec); });
    if (grid == out.grids.end()) {
      out.grids.emplace_back().spec = linear->spec;
      grid = out.grids.end() - 1;
    }
    ++grid->linears;
    grid->weights += linear->n * linear->k;
    grid->groups += static_cast<std::int64_t>(linear->scales.size());
    for (const std::uint8_t z : linear->zero_points) ++grid->zero_points[z];
    grid->negative_scales +=
        std::count_if(linear->scales.begin(), linear->scales.end(), [](float s) { return s < 0; });
  }
  return out;
}

}  // namespace crumb::formats
