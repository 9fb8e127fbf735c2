// Recipe files of older versions.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace crumb::recipe {

/// A file of version 1 as one of version 2: the section `initialization` is called `rounding`, and the list
/// `stages` takes the place of `block_ap.enabled` and `e2e_qp.enabled` (both on by default): rounding, then
/// those that were on. Throws InvalidArgument when one of the two is no boolean, or the file has `stages`
/// already.
nlohmann::json migrate_from_1(nlohmann::json recipe, std::string_view subject);

/// What became of a path that version 1 had ("block_ap.enabled", "initialization", "initialization.steps");
/// empty for any other.
std::string since_version_2(std::string_view path);

}  // namespace crumb::recipe
