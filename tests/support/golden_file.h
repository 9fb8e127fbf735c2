// Golden files are found by pattern and describe themselves: a new file of the same layout is one more case,
// with no change here.
#pragma once
#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "support/shared_data.h"

namespace crumb::test {

/// Files of golden_dir(method) whose names start with `prefix` and end in .safetensors, sorted; empty when
/// the folder is not there.
inline std::vector<std::filesystem::path> golden_files(const std::string& method, const std::string& prefix) {
  std::vector<std::filesystem::path> files;
  if (const auto folder = golden_dir(method)) {
    for (const auto& entry : std::filesystem::directory_iterator(*folder)) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with(prefix) && name.ends_with(".safetensors")) files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

/// Settings from the file's metadata; a missing one fails the test by exception.
inline double setting(const io::SafetensorsFile& file, const std::string& key) {
  return std::stod(file.metadata().at(key));
}
inline std::int64_t int_setting(const io::SafetensorsFile& file, const std::string& key) {
  return std::stoll(file.metadata().at(key));
}

}  // namespace crumb::test
