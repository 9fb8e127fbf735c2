// The README.md of an output directory: what it is, what was measured, how to use it.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace crumb::pipeline {

/// Markdown with the front matter that model hubs read. `report` as it will lie beside it (docs/report.md),
/// with its "total".
std::string model_card(const nlohmann::ordered_json& report);

}  // namespace crumb::pipeline
