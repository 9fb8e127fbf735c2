// Where development data lies: CRUMB_SHARED, else ../shared beside the source folder. Tests that need a file of it skip, visibly, when
// it is not there.
#pragma once
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>

namespace crumb::test {

inline std::optional<std::filesystem::path> shared_path(const std::string& relative) {
  const char* set = std::getenv("CRUMB_SHARED");
  const std::filesystem::path root = set != nullptr ? set : std::filesystem::path(CRUMB_SOURCE_DIR) / ".." / "shared";
  const std::filesystem::path path = root / relative;
  if (!std::filesystem::exists(path)) return std::nullopt;
  return path;
}

/// The folder of one method's golden files: CRUMB_GOLDEN_DIR (that folder itself, or the one above it), else shared/golden/<method>.
inline std::optional<std::filesystem::path> golden_dir(const std::string& method) {
  if (const char* set = std::getenv("CRUMB_GOLDEN_DIR")) {
    const std::filesystem::path root = set;
    if (std::filesystem::is_directory(root / method)) return root / method;
    if (std::filesystem::is_directory(root)) return root;
    return std::nullopt;
  }
  return shared_path("golden/" + method);
}

}  // namespace crumb::test

/// Skips the test, saying what is missing.
#define CRUMB_SKIP_WITHOUT(optional_path, what) \
  if (!(optional_path)) GTEST_SKIP() << (what) << " is not here (set CRUMB_SHARED)"
