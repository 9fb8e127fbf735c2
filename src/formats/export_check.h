// An export held to its source: opened again as a user would, compared code by code and scale by scale.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "formats/exporter.h"

namespace crumb::formats {

struct ExportCheck {
  std::int64_t linears = 0;  // whose codes and scales agree, or whose weights do where one side has floats
  std::int64_t codes = 0, scales = 0, weights = 0;  // compared one by one
  std::int64_t lossy = 0;                           // linears that lose what the report says
  std::int64_t float_tensors = 0;                   // embedding, norms, biases … that are the same
  /// Float tensors that the format stores otherwise (GGUF's Q8_0 embedding), each with its relative error.
  std::vector<std::pair<std::string, double>> changed_floats;
  /// What must not differ and does; empty when all is well.
  std::vector<std::string> faults;
};

/// Opens `path` and compares it with `source`. Codes may be complemented (with the opposite scale),
/// re-centred, and groups cut: (code - zero point) and scale are compared. A linear of report.lossy must have
/// the relative error that the report says, within 1e-6. Float tensors must be the same where `exact_floats`.
/// Memory: two linears. Throws what Checkpoint::open throws, Unsupported where crumb does not read the
/// format.
ExportCheck check_export(const Checkpoint& source, const std::filesystem::path& path,
                         const ExportReport& report, bool exact_floats);

}  // namespace crumb::formats
