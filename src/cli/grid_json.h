// The grids of a model's linears, as inspect and export show them.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "formats/checkpoint.h"

namespace crumb::cli {

/// {"grids": [{"scheme", "bits", "group_size", "linears", "weights", "groups", "zero_points": {"1": n, …},
/// "negative_scales"}], "float_linears"}. Reads every linear that holds codes.
nlohmann::ordered_json grids_json(const formats::Checkpoint& checkpoint);
/// A line for each grid.
std::string grids_text(const nlohmann::ordered_json& grids);

}  // namespace crumb::cli
