#include "cli/grid_json.h"

#include <nlohmann/json.hpp>

#include "base/str.h"
#include "formats/grid_summary.h"

namespace crumb::cli {

using nlohmann::ordered_json;

ordered_json grids_json(const formats::Checkpoint& checkpoint) {
  const formats::ModelGrids grids = formats::summarize_grids(checkpoint);
  ordered_json rows = ordered_json::array();
  for (const formats::GridSummary& grid : grids.grids) {
    ordered_json zero_points = ordered_json::object();
    for (std::size_t z = 0; z < grid.zero_points.size(); ++z)
      if (grid.zero_points[z] > 0) zero_points[std::to_string(z)] = grid.zero_points[z];
    rows.push_back({{"scheme", quant::scheme_name(grid.spec)},
                    {"bits", grid.spec.bits},
                    {"group_size", grid.spec.group_size},
                    {"linears", grid.linears},
                    {"weights", grid.weights},
                    {"groups", grid.groups},
                    {"zero_points", std::move(zero_points)},
                    {"negative_scales", grid.negative_scales}});
  }
  return {{"grids", std::move(rows)}, {"float_linears", grids.float_linears}};
}

std::string grids_text(const ordered_json& grids) {
  std::string text;
  for (const auto& grid : grids["grids"]) {
    const auto groups = grid["groups"].get<double>();
    std::string zeros;
    for (const auto& [z, count] : grid["zero_points"].items())
      zeros += cat(zeros.empty() ? "" : ", ", z, ": ", fixed(100 * count.get<double>() / groups, 2), " %");
    text += cat(text.empty() ? "" : "\n", grid["scheme"].get<std::string>(), ": ", grid["linears"].dump(),
                " linears, ", grid["groups"].dump(), " groups, zero points ", zeros, ", ",
                grid["negative_scales"].dump(), " negative scales");
  }
  const auto floats = grids["float_linears"].get<std::int64_t>();
  if (floats > 0) text += cat(text.empty() ? "" : "\n", floats, " linears of floats");
  return text;
}

}  // namespace crumb::cli
