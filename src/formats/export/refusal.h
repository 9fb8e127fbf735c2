// The sentence in which every format refuses what it cannot hold.
#pragma once
#include <string_view>
#include <vector>

#include "formats/exporter.h"

namespace crumb::formats {

/// Throws Unsupported, with the reason, where the format has no place for models of this structure.
void refuse_structure(const Checkpoint& source, const Exporter& format);

/// Throws Unsupported unless `unfit` is empty: up to three of the linears with their reasons, of how many,
/// and what to do. `nowhere`: storing the nearest would not help either.
void refuse_unfit(const Checkpoint& source, std::string_view format, const std::vector<LinearFit>& unfit,
                  std::size_t linears, bool nowhere);

}  // namespace crumb::formats
