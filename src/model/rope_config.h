// The rope part of a config.json; used by config.cc only.
#pragma once
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "model/config.h"
#include "model/family.h"

namespace crumb::model {

/// Reads rope_parameters (transformers 5), else rope_theta and rope_scaling (4, "type" or "rope_type").
/// Throws Unsupported for other rope types, partial rotation and bases that differ by layer; Corrupt for
/// missing or impossible numbers.
RopeConfig parse_rope(const nlohmann::json& config, const Family& family,
                      std::int64_t max_position_embeddings, std::string_view subject);

}  // namespace crumb::model
